//! What to do about a member that is not as wanted although nobody is working on it.
//!
//! Level-triggered: looks at what is wanted and what is known, never at what changed. The agent holds its goals by
//! itself; this is for what an agent cannot know (it was away when the goal changed, its memory was lost, its host came
//! back from the dead with a member that was deleted meanwhile).
//!
//! Invariant: nothing is done while an operation or a command is under way, nor on a host that does not answer, nor
//! for an instance in ERROR, which waits for its user.

use windlass_core::{
    instance::{Lifecycle, Power},
    member::Process,
};

/// What is wanted of a member and what is known of it.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "columns of a row, each true or false by itself")]
pub struct MemberView {
    /// The instance's lifecycle.
    pub lifecycle: Lifecycle,
    /// Whether it is to run.
    pub power: Power,
    /// Generation of what is wanted.
    pub generation: i64,
    /// Generation that it has reached.
    pub observed_generation: i64,
    /// State of its process.
    pub process: Process,
    /// Whether its host's agent answers.
    pub online: bool,
    /// Whether an operation works on the instance.
    pub operation: bool,
    /// Whether a command for the member has not ended.
    pub command: bool,
    /// It is one of several: whether its server runs follows replication orders, which its agent holds it to.
    pub replicated: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing: it is as wanted, or it is not the time.
    Nothing,
    /// Send the goal again, for this reason.
    Apply(&'static str),
    /// Stop it and put its data aside: its instance was deleted.
    PutAside,
}

/// Decides.
pub fn remedy(member: &MemberView) -> Remedy {
    if member.operation || member.command || !member.online {
        return Remedy::Nothing;
    }
    match member.lifecycle {
        Lifecycle::Running | Lifecycle::Stopped | Lifecycle::Suspended => drift(member),
        Lifecycle::Deleted => match member.process {
            Process::Stopped | Process::Starting | Process::Running | Process::Failed => Remedy::PutAside,
            Process::Unknown | Process::Absent => Remedy::Nothing,
        },
        Lifecycle::Pending
        | Lifecycle::Creating
        | Lifecycle::Modifying
        | Lifecycle::Stopping
        | Lifecycle::Deleting
        | Lifecycle::Error => Remedy::Nothing,
    }
}

fn drift(member: &MemberView) -> Remedy {
    if member.process == Process::Absent {
        return Remedy::Apply("its host does not know it");
    }
    if member.observed_generation < member.generation {
        return Remedy::Apply("its host has an older goal");
    }
    if member.replicated {
        return Remedy::Nothing;
    }
    match (member.power, member.process) {
        (Power::On, Process::Stopped) => Remedy::Apply("it shall run and does not"),
        (Power::On, Process::Failed) => Remedy::Apply("it shall run and does not come up"),
        (Power::Off, Process::Starting | Process::Running) => Remedy::Apply("it shall rest and runs"),
        (Power::On, Process::Unknown | Process::Absent | Process::Starting | Process::Running)
        | (Power::Off, Process::Unknown | Process::Absent | Process::Stopped | Process::Failed) => Remedy::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: MemberView = MemberView {
        lifecycle: Lifecycle::Running,
        power: Power::On,
        generation: 4,
        observed_generation: 4,
        process: Process::Running,
        online: true,
        operation: false,
        command: false,
        replicated: false,
    };

    #[test]
    fn what_is_as_wanted_is_left_alone() {
        assert_eq!(remedy(&FINE), Remedy::Nothing);
        let resting =
            MemberView { lifecycle: Lifecycle::Stopped, power: Power::Off, process: Process::Stopped, ..FINE };
        assert_eq!(remedy(&resting), Remedy::Nothing);
    }

    #[test]
    fn drift_is_answered_with_the_goal() {
        for drifted in [
            MemberView { observed_generation: 3, ..FINE },
            MemberView { process: Process::Absent, ..FINE },
            MemberView { process: Process::Stopped, ..FINE },
            MemberView { process: Process::Failed, ..FINE },
            MemberView { lifecycle: Lifecycle::Stopped, power: Power::Off, ..FINE },
        ] {
            assert!(matches!(remedy(&drifted), Remedy::Apply(_)), "{drifted:?}");
        }
    }

    #[test]
    fn whether_a_replicated_member_runs_is_not_decided_here() {
        let stopped = MemberView { replicated: true, process: Process::Stopped, ..FINE };
        assert_eq!(remedy(&stopped), Remedy::Nothing);
        let behind = MemberView { observed_generation: 3, ..stopped };
        assert!(matches!(remedy(&behind), Remedy::Apply(_)));
    }

    #[test]
    fn a_deleted_member_that_came_back_is_put_aside_and_never_started() {
        for process in Process::ALL {
            let deleted = MemberView { lifecycle: Lifecycle::Deleted, process: *process, ..FINE };
            let expected =
                if matches!(process, Process::Unknown | Process::Absent) { Remedy::Nothing } else { Remedy::PutAside };
            assert_eq!(remedy(&deleted), expected, "{process}");
        }
    }

    /// Every combination: with work under way, silence or ERROR nothing is ever done.
    #[test]
    fn nobody_is_disturbed_at_work() {
        for lifecycle in Lifecycle::ALL {
            for process in Process::ALL {
                let drifted = MemberView { lifecycle: *lifecycle, process: *process, observed_generation: 0, ..FINE };
                let busy = [
                    MemberView { operation: true, ..drifted },
                    MemberView { command: true, ..drifted },
                    MemberView { online: false, ..drifted },
                    MemberView { lifecycle: Lifecycle::Error, ..drifted },
                ];
                assert!(busy.iter().all(|view| remedy(view) == Remedy::Nothing), "{drifted:?}");
                if lifecycle.transient() {
                    assert_eq!(remedy(&drifted), Remedy::Nothing, "{lifecycle}");
                }
            }
        }
    }
}
