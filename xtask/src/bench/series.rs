//! One series of a benchmark, as its program prints it and the page shows it.

use serde::{Deserialize, Serialize};

/// One series.
#[derive(Deserialize, Serialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    unit: String,
    median: f64,
    p99: f64,
    worst: Option<f64>,
    runs: u64,
    baseline: Option<String>,
    #[serde(default)]
    aim: Aim,
}

/// The most that each figure may be.
#[derive(Default, Deserialize, Serialize)]
struct Aim {
    median: Option<f64>,
    p99: Option<f64>,
}

impl Series {
    /// A row of the page's table: name, median, p99, worst, runs, baseline, ratio, aim. `all` are the series of the same
    /// run, among them the baseline.
    pub(crate) fn row(&self, all: &[Self]) -> String {
        let baseline = self.baseline.as_ref().and_then(|name| all.iter().find(|other| other.name == *name));
        let (baseline, ratio) = match baseline {
            Some(other) => (self.value(other.median), format!("{:.2}", self.median / other.median)),
            None => (String::new(), String::new()),
        };
        let worst = self.worst.map_or_else(String::new, |worst| self.value(worst));
        let cells = [
            self.name.clone(),
            self.value(self.median),
            self.value(self.p99),
            worst,
            self.runs.to_string(),
            baseline,
            ratio,
            self.verdict(),
        ];
        format!("| {} |", cells.join(" | "))
    }

    fn verdict(&self) -> String {
        let one = |what: &str, aim: Option<f64>, is: f64| {
            aim.map(|most| {
                let verdict = if is <= most { "met" } else { "missed" };
                format!("{what} ≤ {} {}: {verdict}", plain(most), self.unit)
            })
        };
        let both = [one("median", self.aim.median, self.median), one("p99", self.aim.p99, self.p99)];
        both.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    fn value(&self, value: f64) -> String {
        format!("{} {}", rounded(value), self.unit)
    }
}

fn plain(value: f64) -> String {
    format!("{value}")
}

fn rounded(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_the_ratio_and_whether_each_aim_is_met() {
        let text = r#"[{"name":"ours","unit":"ms","median":2.0,"p99":12.5,"worst":101.4,"runs":9,"baseline":"theirs",
                        "aim":{"median":3,"p99":10}},
                       {"name":"theirs","unit":"ms","median":4.0,"p99":4.0,"runs":9}]"#;
        let all: Vec<Series> = serde_json::from_str(text).expect("series");
        let row =
            "| ours | 2.00 ms | 12.5 ms | 101 ms | 9 | 4.00 ms | 0.50 | median ≤ 3 ms: met, p99 ≤ 10 ms: missed |";
        assert_eq!(all[0].row(&all), row);
        assert_eq!(all[1].row(&all), "| theirs | 4.00 ms | 4.00 ms |  | 9 |  |  |  |");
    }
}
