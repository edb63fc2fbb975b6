//! Samples of a measurement, and the line of JSON that `cargo xtask bench` reads.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

/// What was measured, in the order of measuring.
#[derive(Debug, Clone)]
pub struct Samples {
    name: String,
    unit: &'static str,
    baseline: Option<String>,
    aim: Aim,
    values: Vec<f64>,
}

/// What is aimed at: the most that each figure may be, in the series' unit.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Aim {
    #[serde(skip_serializing_if = "Option::is_none")]
    median: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99: Option<f64>,
}

/// One measurement as the page of benchmarks needs it.
#[derive(Debug, Serialize)]
struct Line<'a> {
    name: &'a str,
    unit: &'a str,
    median: f64,
    p99: f64,
    worst: f64,
    runs: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<&'a str>,
    aim: Aim,
}

impl Samples {
    /// An empty series.
    pub fn new(name: &str, unit: &'static str) -> Self {
        Self { name: name.to_owned(), unit, baseline: None, aim: Aim::default(), values: Vec::new() }
    }

    /// The series whose median this one's is compared to.
    #[must_use]
    pub fn against(mut self, baseline: &str) -> Self {
        self.baseline = Some(baseline.to_owned());
        self
    }

    /// The median is to be at most this, in the series' unit.
    #[must_use]
    pub fn aim(mut self, median: f64) -> Self {
        self.aim.median = Some(median);
        self
    }

    /// The 99th percentile is to be at most this, in the series' unit.
    #[must_use]
    pub fn aim_p99(mut self, p99: f64) -> Self {
        self.aim.p99 = Some(p99);
        self
    }

    /// Adds a value in the series' unit.
    pub fn add(&mut self, value: f64) {
        self.values.push(value);
    }

    /// Adds a duration; the unit must be milliseconds.
    pub fn add_time(&mut self, time: Duration) {
        debug_assert_eq!(self.unit, "ms");
        self.add(time.as_secs_f64() * 1000.0);
    }

    /// Measures how long something takes and adds it.
    ///
    /// # Errors
    /// What the work gave.
    pub async fn time<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let begin = Instant::now();
        let result = work.await?;
        self.add_time(begin.elapsed());
        Ok(result)
    }

    /// Prints the line.
    ///
    /// # Errors
    /// There are no values.
    pub fn print(&self) -> Result<()> {
        anyhow::ensure!(!self.values.is_empty(), "nothing was measured for {}", self.name);
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
        let line = Line {
            name: &self.name,
            unit: self.unit,
            median: at(0.5),
            p99: at(0.99),
            worst: at(1.0),
            runs: sorted.len(),
            baseline: self.baseline.as_deref(),
            aim: self.aim,
        };
        println!("{}", serde_json::to_string(&line)?);
        Ok(())
    }
}
