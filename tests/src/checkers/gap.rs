//! How long clients went without an acknowledgement: the outage as users feel it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Write;

/// The longest time that a client which writes all the time had no acknowledgement, of all clients, from `from` until
/// `until`; both ends count as if there had been one.
pub fn longest(writes: &[Write], from: Duration, until: Duration) -> Duration {
    let mut acks: BTreeMap<u32, Vec<Duration>> = BTreeMap::new();
    for write in writes {
        let times = acks.entry(write.client).or_default();
        times.extend(write.ack.map(|ack| ack.at).filter(|at| (from..=until).contains(at)));
    }
    acks.into_values().map(|times| of_one(times, from, until)).max().unwrap_or_default()
}

fn of_one(mut times: Vec<Duration>, from: Duration, until: Duration) -> Duration {
    times.push(from);
    times.push(until);
    times.sort_unstable();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// The median, 99th percentile and longest of some times; zeros for none.
pub fn summary(times: &[Duration]) -> [Duration; 3] {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |share: f64| {
        let last = sorted.len().saturating_sub(1);
        sorted.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
    };
    [at(0.5), at(0.99), at(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::Ack;

    fn write(client: u32, at: u64) -> Write {
        let at = Duration::from_millis(at);
        Write { client, id: 0, begun: at, ack: Some(Ack { at, epoch: 1 }) }
    }

    #[test]
    fn the_client_that_waited_longest_counts() {
        let writes = [write(1, 10), write(1, 20), write(1, 30), write(2, 10), write(2, 35), write(2, 38)];
        let time = Duration::from_millis;
        assert_eq!(longest(&writes, time(5), time(40)), time(25));
    }

    #[test]
    fn a_client_that_never_came_back_waited_until_the_end() {
        let time = Duration::from_millis;
        assert_eq!(longest(&[write(1, 10)], time(0), time(500)), time(490));
        let never = Write { client: 1, id: 0, begun: time(0), ack: None };
        assert_eq!(longest(&[never], time(0), time(500)), time(500));
    }

    #[test]
    fn a_summary_has_the_middle_and_the_worst() {
        let times: Vec<_> = (1..=101).map(Duration::from_millis).collect();
        assert_eq!(summary(&times), [51, 100, 101].map(Duration::from_millis));
        assert_eq!(summary(&[]), [Duration::ZERO; 3]);
    }
}
