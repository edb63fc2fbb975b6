//! The health of an instance, from what is wanted of it and what is known of its members.
//!
//! Unknown is a state of its own: a host that does not answer says nothing about its databases, which go on without
//! it. Of an instance with replicas the primary's health is the instance's; a replica that is not well degrades it.
//! Invariant: HEALTHY has no reasons, every other health has at least one.

use windlass_core::{
    instance::{Health, Power},
    member::{MemberRole, Process},
};

/// What is known of one member.
#[derive(Debug, Clone, Copy)]
pub struct MemberView<'a> {
    /// Name of its host, for the reasons.
    pub host: &'a str,
    /// What it is to its instance.
    pub role: MemberRole,
    /// Whether the host's agent answers.
    pub online: bool,
    /// What the agent last said of the process.
    pub process: Process,
    /// What the agent says is wrong, empty if nothing.
    pub problem: &'a str,
}

/// The health of an instance and why it is not HEALTHY.
pub fn assess(power: Power, members: &[MemberView<'_>]) -> (Health, Vec<String>) {
    if members.is_empty() {
        return (Health::Unknown, vec!["it has no member yet".to_owned()]);
    }
    let mut worst = Health::Healthy;
    let mut reasons = Vec::new();
    let mut add = |health, reason| {
        worst = if rank(health) > rank(worst) { health } else { worst };
        reasons.push(reason);
    };
    if power == Power::On && members.iter().all(|member| member.role == MemberRole::Replica) {
        add(Health::Unhealthy, "no member takes writes now".to_owned());
    }
    for member in members {
        match (fault(power, member), member.role) {
            (None, _) => {}
            (Some((health, reason)), MemberRole::Primary) => add(health, reason),
            (Some((_, reason)), MemberRole::Replica) => add(Health::Degraded, format!("a replica: {reason}")),
        }
    }
    (worst, reasons)
}

fn rank(health: Health) -> u8 {
    match health {
        Health::Healthy => 0,
        Health::Degraded => 1,
        Health::Unknown => 2,
        Health::Unhealthy => 3,
    }
}

fn fault(power: Power, member: &MemberView<'_>) -> Option<(Health, String)> {
    let MemberView { host, role: _, online, process, problem } = *member;
    if !online {
        return Some((Health::Unknown, format!("host {host} does not answer; the last report was {process}")));
    }
    let because = if problem.is_empty() { String::new() } else { format!(": {problem}") };
    match (power, process) {
        (_, Process::Unknown) => Some((Health::Unknown, format!("host {host} has not reported on it yet"))),
        (Power::On, Process::Running) | (Power::Off, Process::Stopped | Process::Absent) => {
            (!problem.is_empty()).then(|| (Health::Degraded, format!("on host {host}{because}")))
        }
        (Power::On, Process::Absent) => {
            Some((Health::Unhealthy, format!("host {host} has neither its process nor its data{because}")))
        }
        (Power::On, Process::Stopped) => {
            Some((Health::Unhealthy, format!("its process on host {host} does not run{because}")))
        }
        (Power::On, Process::Starting) => {
            Some((Health::Unhealthy, format!("its process on host {host} is coming up{because}")))
        }
        (Power::On, Process::Failed) => {
            Some((Health::Unhealthy, format!("its process on host {host} does not come up{because}")))
        }
        (Power::Off, Process::Starting | Process::Running | Process::Failed) => {
            Some((Health::Degraded, format!("it shall rest, but its process on host {host} is {process}{because}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(online: bool, process: Process) -> MemberView<'static> {
        MemberView { host: "h1", role: MemberRole::Primary, online, process, problem: "" }
    }

    #[test]
    fn a_replica_that_is_not_well_degrades_and_a_missing_primary_is_unhealthy() {
        let well = member(true, Process::Running);
        let replica = |online, process| MemberView { role: MemberRole::Replica, ..member(online, process) };
        let of = |members: &[MemberView<'_>]| assess(Power::On, members).0;
        assert_eq!(of(&[well, replica(true, Process::Running)]), Health::Healthy);
        assert_eq!(of(&[well, replica(true, Process::Stopped)]), Health::Degraded);
        assert_eq!(of(&[well, replica(false, Process::Running)]), Health::Degraded);
        assert_eq!(of(&[member(true, Process::Stopped), replica(true, Process::Running)]), Health::Unhealthy);
        assert_eq!(of(&[replica(true, Process::Running), replica(true, Process::Running)]), Health::Unhealthy);
    }

    #[test]
    fn the_table_is_exactly_this() {
        let table: Vec<String> = [Power::On, Power::Off]
            .into_iter()
            .map(|power| {
                let row: Vec<_> = Process::ALL
                    .iter()
                    .map(|process| format!("{process}={}", assess(power, &[member(true, *process)]).0))
                    .collect();
                format!("{power}: {}", row.join(" "))
            })
            .collect();
        assert_eq!(
            table,
            [
                "ON: UNKNOWN=UNKNOWN ABSENT=UNHEALTHY STOPPED=UNHEALTHY STARTING=UNHEALTHY RUNNING=HEALTHY FAILED=UNHEALTHY",
                "OFF: UNKNOWN=UNKNOWN ABSENT=HEALTHY STOPPED=HEALTHY STARTING=DEGRADED RUNNING=DEGRADED FAILED=DEGRADED",
            ]
        );
    }

    #[test]
    fn silence_is_unknown_whatever_was_said_last() {
        for process in Process::ALL {
            let (health, reasons) = assess(Power::On, &[member(false, *process)]);
            assert_eq!(health, Health::Unknown);
            assert!(reasons[0].contains("does not answer"), "{reasons:?}");
        }
        assert_eq!(assess(Power::On, &[]).0, Health::Unknown);
    }

    #[test]
    fn a_problem_degrades_what_runs_and_healthy_has_no_reasons() {
        let sick = MemberView { problem: "the disk is nearly full", ..member(true, Process::Running) };
        let (health, reasons) = assess(Power::On, &[sick, member(true, Process::Running)]);
        assert_eq!((health, reasons.len()), (Health::Degraded, 1));
        assert!(reasons[0].contains("nearly full"));
        assert_eq!(assess(Power::On, &[member(true, Process::Running)]), (Health::Healthy, vec![]));
    }
}
