//! Every fault that is tried, by its number in the failure matrix.

use std::pin::Pin;
use std::time::Duration;

use anyhow::Result;

use super::round::Round;
use super::{control, hosts, network, processes, replication};
use crate::workload::{EVERY, Mix};

/// What a fault does to an instance, and heals; it ends when the instance may be expected to mend itself.
type Act = for<'a, 's> fn(&'a mut Round<'s>) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// One fault.
pub struct Scenario {
    /// Its number in the failure matrix and, if there are several forms, a letter.
    pub number: &'static str,
    /// What happens.
    pub name: &'static str,
    /// Replicas of the instance that it happens to.
    pub replicas: u32,
    /// What is expected beside what always is.
    pub expected: Expected,
    /// Who works meanwhile.
    pub mix: Mix,
    /// The fault.
    pub act: Act,
}

/// What is expected of a round beside what always is.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Of who leads.
    pub leader: Leader,
    /// The longest time without an acknowledgement, from the fault to the end of the round. A bound that holds on a
    /// machine under load, not what is aimed at.
    pub gap: Duration,
}

/// What is expected of who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leader {
    /// The epoch does not change.
    Stays,
    /// Another epoch begins.
    Moves,
    /// Both are right.
    Either,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.number, self.name)
    }
}

const USUAL: Mix = Mix { writers: 2, cancellers: 0, appenders: 1, bankers: 1, every: EVERY };
const STORM: Mix = Mix { writers: 1, cancellers: 3, appenders: 1, bankers: 0, every: EVERY };

macro_rules! scenario {
    ($number:literal, $name:literal, $replicas:literal, $leader:ident, $gap:literal, $mix:ident, $act:path) => {
        Scenario {
            number: $number,
            name: $name,
            replicas: $replicas,
            expected: Expected { leader: Leader::$leader, gap: Duration::from_secs($gap) },
            mix: $mix,
            act: |round| Box::pin($act(round)),
        }
    };
}

/// All of them.
pub const ALL: &[Scenario] = &[
    scenario!("1", "the primary's postmaster is killed", 1, Either, 8, USUAL, processes::postmaster),
    scenario!("2", "a backend of the primary dies of SIGSEGV", 1, Either, 8, USUAL, processes::backend),
    scenario!("3", "the primary's PostgreSQL stands still, its agent lives", 1, Moves, 15, USUAL, processes::stopped),
    scenario!("5", "the primary's agent is killed and comes back", 1, Stays, 3, USUAL, processes::agent),
    scenario!("8", "the candidate's agent dies before it promotes", 2, Either, 40, USUAL, processes::before_promote),
    scenario!("9", "the candidate's agent dies after it promoted", 2, Either, 40, USUAL, processes::after_promote),
    scenario!("10", "the killed postmaster stays a zombie for a while", 1, Either, 15, USUAL, processes::zombie),
    scenario!("4", "the primary's host is paused and thawed", 1, Moves, 10, USUAL, hosts::paused),
    scenario!("11", "the primary's host loses power", 1, Moves, 10, USUAL, hosts::power),
    scenario!("12", "the only standby's host is lost", 1, Stays, 10, USUAL, hosts::standby),
    scenario!("13", "one of two standbys' hosts is lost", 2, Stays, 3, USUAL, hosts::standby),
    scenario!("14", "primary and one of two standbys are lost at once", 2, Either, 60, USUAL, hosts::two_at_once),
    scenario!("15", "a standby is lost, and the primary a second later", 2, Either, 60, USUAL, hosts::one_by_one),
    scenario!("16", "a lone primary dies and the old standby returns first", 1, Stays, 60, USUAL, hosts::stale_first),
    scenario!("17", "every host loses power and all return in any order", 2, Either, 60, USUAL, hosts::everything),
    scenario!("18", "the primary's host reboots at once", 1, Either, 15, USUAL, hosts::reboot),
    scenario!(
        "19",
        "the primary's host reboots while the control plane is down",
        1,
        Stays,
        40,
        USUAL,
        hosts::reboot_alone
    ),
    scenario!("20", "the primary is cut off from everybody and lives", 2, Moves, 10, USUAL, network::isolated),
    scenario!("21", "no link between primary and control plane", 1, Stays, 3, USUAL, network::no_control),
    scenario!("22", "no link between primary and its only standby", 1, Stays, 10, USUAL, network::no_replication),
    scenario!("23", "no link between standby and control plane", 1, Stays, 3, USUAL, network::standby_no_control),
    scenario!("24", "the primary sends and receives nothing", 1, Either, 40, USUAL, network::deaf),
    scenario!("25", "the primary receives and sends nothing", 1, Moves, 15, USUAL, network::mute),
    scenario!("26", "the primary with a proxy and clients against the rest", 2, Moves, 40, USUAL, network::two_sides),
    scenario!("27", "each control plane sees only one side", 1, Either, 40, USUAL, network::half_blind),
    scenario!("28", "the primary's link comes and goes each second", 1, Either, 40, USUAL, network::flapping),
    scenario!("29", "a fifth of all packets is lost", 2, Stays, 15, USUAL, network::lossy),
    scenario!("29b", "every packet between machines takes 100 ms", 1, Stays, 15, USUAL, network::slow),
    scenario!("30", "only the database's port is blocked", 1, Either, 40, USUAL, network::port),
    scenario!("31", "connections to databases are reset again and again", 1, Stays, 15, USUAL, network::resets),
    scenario!("32", "long packets are lost", 1, Either, 40, USUAL, network::long_packets),
    scenario!("40", "a member's state is cut short, then gone", 1, Either, 15, USUAL, processes::state_lost),
    scenario!("42", "the control plane dies at a step of a switchover", 1, Either, 40, USUAL, control::dies_at_step),
    scenario!("43", "orders come twice, late and out of order", 1, Moves, 10, USUAL, replication::orders_again),
    scenario!("44", "the control plane is down", 1, Stays, 3, USUAL, control::down),
    scenario!("45", "the metadata stands still, then is gone", 1, Stays, 3, USUAL, control::metadata),
    scenario!("48", "a control plane and the primary's host die together", 1, Moves, 20, USUAL, control::with_primary),
    scenario!("49", "the control plane's own network dies", 1, Stays, 3, USUAL, control::cut_off),
    scenario!(
        "50",
        "statements are cancelled while commits wait, then a failover",
        1,
        Either,
        20,
        STORM,
        replication::cancels
    ),
    scenario!(
        "51",
        "a diverged primary follows by hand under its old name",
        2,
        Moves,
        20,
        USUAL,
        replication::old_name
    ),
    scenario!("52", "the rewind of the old primary is killed", 1, Moves, 10, USUAL, replication::rewind_killed),
    scenario!(
        "53",
        "a candidate dies promoted and another is promoted",
        2,
        Either,
        60,
        USUAL,
        replication::same_timeline
    ),
    scenario!("54", "a long read on the candidate", 1, Moves, 10, USUAL, replication::long_read),
    scenario!("55", "switchover", 1, Moves, 5, USUAL, replication::switchover),
    scenario!(
        "55b",
        "switchover with a transaction that does not end",
        1,
        Either,
        10,
        USUAL,
        replication::idle_in_transaction
    ),
    scenario!("55c", "the candidate's host dies in a switchover", 2, Either, 20, USUAL, replication::candidate_dies),
    scenario!("56", "a failover while a replica is being cloned", 2, Either, 20, USUAL, replication::during_clone),
    scenario!("57", "the new primary dies within seconds", 2, Either, 60, USUAL, replication::twice),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_one_of_its_own() {
        let mut numbers: Vec<_> = ALL.iter().map(|scenario| scenario.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), ALL.len());
    }
}
