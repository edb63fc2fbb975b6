//! Quotas of a project: whether what is asked still fits beside what is reserved.
//!
//! The caller holds the project's row locked, so that the answer is still true when it writes the new usage.
//! Invariant: arithmetic saturates, so an absurd request is refused and never wraps into a small one.

use serde::{Deserialize, Serialize};
use windlass_core::{
    Error, ErrorKind, Reason,
    size::{Resources, format_bytes},
};

/// A number of instances and the sum of their sizes: a limit, a usage, or what is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Amount {
    /// Instances.
    pub instances: u64,
    /// Sum of what their members reserve.
    pub resources: Resources,
}

/// Checks that `asked` fits under `limit` beside `used`. What is not asked for is not checked, so that a project above
/// a lowered quota can still shrink.
///
/// # Errors
/// `QUOTA_EXCEEDED`, with the limit, the usage and the request of each part that does not fit.
pub fn check(project: &str, limit: &Amount, used: &Amount, asked: &Amount) -> Result<(), Error> {
    let part = |name, show: fn(u64) -> String, of: fn(&Amount) -> u64| Part {
        name,
        show,
        limit: of(limit),
        used: of(used),
        asked: of(asked),
    };
    let parts = [
        part("instances", |count| count.to_string(), |amount| amount.instances),
        part("cpu", |millis| format!("{} cores", millis as f64 / 1000.0), |amount| amount.resources.cpu_millis),
        part("memory", format_bytes, |amount| amount.resources.memory_bytes),
        part("disk", format_bytes, |amount| amount.resources.disk_bytes),
    ];
    let exceeded: Vec<_> = parts.iter().filter(|part| part.exceeded()).collect();
    if exceeded.is_empty() {
        return Ok(());
    }
    let sentences: Vec<_> = exceeded.iter().map(|part| part.sentence()).collect();
    let names: Vec<_> = exceeded.iter().map(|part| part.name).collect();
    Err(Error::new(
        ErrorKind::ResourceExhausted,
        Reason::QuotaExceeded,
        format!(
            "the quota of project {project} does not allow it ({}); ask for less, delete something, or have the quota raised",
            sentences.join("; ")
        ),
    )
    .with_metadata("quota", names.join(",")))
}

/// One part of an amount, as limited, used and asked for.
struct Part {
    name: &'static str,
    show: fn(u64) -> String,
    limit: u64,
    used: u64,
    asked: u64,
}

impl Part {
    fn exceeded(&self) -> bool {
        self.asked > 0 && self.used.saturating_add(self.asked) > self.limit
    }

    fn sentence(&self) -> String {
        let left = (self.show)(self.limit.saturating_sub(self.used));
        format!("{}: {} asked, {left} of {} left", self.name, (self.show)(self.asked), (self.show)(self.limit))
    }
}

#[cfg(test)]
mod tests {
    use windlass_core::size::GIB;

    use super::*;

    const LIMIT: Amount =
        Amount { instances: 2, resources: Resources { cpu_millis: 2000, memory_bytes: 4 * GIB, disk_bytes: 10 * GIB } };
    const ONE: Amount =
        Amount { instances: 1, resources: Resources { cpu_millis: 1000, memory_bytes: 2 * GIB, disk_bytes: 5 * GIB } };

    #[test]
    fn the_last_fitting_request_passes_and_the_next_is_refused_with_numbers() {
        check("p", &LIMIT, &ONE, &ONE).expect("exactly full");
        let error = check("p", &LIMIT, &LIMIT, &ONE).expect_err("full");
        assert_eq!(error.reason, Reason::QuotaExceeded);
        assert!(error.message.contains("memory: 2 GiB asked, 0 B of 4 GiB left"), "{error}");
        assert!(error.message.contains("cpu: 1 cores asked, 0 cores of 2 cores left"), "{error}");
        assert_eq!(error.metadata["quota"], "instances,cpu,memory,disk");
    }

    #[test]
    fn a_project_over_a_lowered_quota_may_change_what_it_does_not_grow() {
        let lowered = Amount { instances: 0, resources: Resources { cpu_millis: 100, ..LIMIT.resources } };
        let more_disk =
            Amount { resources: Resources { disk_bytes: GIB, ..Resources::default() }, ..Amount::default() };
        check("p", &lowered, &ONE, &more_disk).expect("only disk grows, and it fits");
    }

    #[test]
    fn absurd_requests_do_not_wrap() {
        let absurd = Amount { instances: u64::MAX, resources: Resources::default() };
        check("p", &LIMIT, &ONE, &absurd).expect_err("saturates");
    }
}
