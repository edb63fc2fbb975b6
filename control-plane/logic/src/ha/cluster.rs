//! The stored state of one replicated instance: everything a new owner needs to go on, in one row.
//!
//! Invariant (P2): [`Reign::sets`] has every ack set that the leader may be enforcing at this instant. A set is stored
//! before it is ordered, and an older one is forgotten only when a barrier proves that the leader left it. What an
//! election may assume follows from that list alone, so no crash between two steps can make it assume too much.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use windlass_core::{
    id::{HostId, MemberId},
    replication::{Durability, Replication, Timings},
};

use super::{
    happened::Timeline,
    phase::{Intent, Outcome, Phase, Promotion},
};

/// A replicated instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cluster {
    /// Highest epoch that was ever given out.
    pub epoch: u64,
    /// Grows with each change of this value.
    pub rev: u64,
    /// What is going on.
    pub phase: Phase,
    /// rev at which the phase or its step began.
    #[serde(default)]
    pub step_rev: u64,
    /// The last epoch that was given a leader. While electing it is lower than `epoch`.
    pub reign: Reign,
    /// The reign before, as long as nothing proves that the present one ever let applications in.
    #[serde(default)]
    pub previous: Option<Reign>,
    /// All members.
    pub members: BTreeMap<MemberId, Member>,
    /// What the user wants of replication; the numbers of members in it are not used.
    #[serde(default)]
    pub replication: Replication,
    /// What an operation asked for.
    #[serde(default)]
    pub intent: Intent,
    /// What came of the last intent.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// System identifier of the data; empty until the first leader reported it.
    #[serde(default)]
    pub system: String,
    /// When there was an automatic failover, the last ones.
    #[serde(default)]
    pub failovers: Vec<Timestamp>,
    /// Of the failover or switchover under way.
    #[serde(default)]
    pub timeline: Option<Timeline>,
}

/// Who led an epoch, and what it may make commits wait for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reign {
    /// Epoch.
    pub epoch: u64,
    /// Drawn for it; stands in its barrier rows.
    pub nonce: Uuid,
    /// Who leads or led.
    pub leader: MemberId,
    /// Every set that the leader may be enforcing, oldest first. The last is the one it is ordered to enforce. Never empty.
    pub sets: Vec<AckSet>,
    /// The leader before, if it stopped in order and this one was proven to have all of it.
    #[serde(default)]
    pub handed_over: Option<HandedOver>,
}

/// A leader that stopped in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HandedOver {
    /// Who.
    pub from: MemberId,
    /// Where its log ended.
    pub end: u64,
}

/// Members whose receipt releases a commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AckSet {
    /// rev at which it was decided; also of its barrier.
    pub rev: u64,
    /// Empty: the leader commits alone.
    pub members: BTreeSet<MemberId>,
    /// How many of them must have a commit; 0 if alone.
    pub needed: u32,
}

impl AckSet {
    /// The leader commits alone.
    pub const fn alone(rev: u64) -> Self {
        Self { rev, members: BTreeSet::new(), needed: 0 }
    }

    /// Whether the leader commits alone.
    pub fn is_alone(&self) -> bool {
        self.members.is_empty()
    }
}

windlass_core::words! {
    /// Whether commits wait for anybody.
    pub enum Mode {
        /// They wait for a quorum.
        Quorum = "QUORUM",
        /// The leader commits alone.
        Alone = "ALONE",
    }
}

windlass_core::words! {
    /// Whether a member's receipts may count.
    pub enum Kind {
        /// Acknowledges commits, and may be promoted.
        Synchronous = "synchronous",
        /// Never acknowledges and is never promoted by itself.
        Asynchronous = "asynchronous",
    }
}

windlass_core::words! {
    /// Whether a member belongs here.
    pub enum Stay {
        /// It does.
        Staying = "staying",
        /// It is being removed: out of the ack set first, then to rest.
        Leaving = "leaving",
    }
}

/// One member as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Its host.
    pub host: HostId,
    /// The host's name, for people.
    #[serde(default)]
    pub host_name: String,
    /// Where its peers reach it.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Whether it may acknowledge.
    #[serde(default = "synchronous")]
    pub kind: Kind,
    /// Among equals the higher one is promoted.
    #[serde(default)]
    pub priority: i32,
    /// Whether it is being removed.
    #[serde(default = "staying")]
    pub stay: Stay,
    /// Its data shall be thrown away and copied anew.
    #[serde(default)]
    pub clone_anew: bool,
    /// rev at which its order last changed.
    #[serde(default)]
    pub order_rev: u64,
}

const fn synchronous() -> Kind {
    Kind::Synchronous
}

const fn staying() -> Stay {
    Stay::Staying
}

impl Member {
    /// May it acknowledge and be promoted.
    pub fn counts(&self) -> bool {
        self.kind == Kind::Synchronous && self.stay == Stay::Staying
    }
}

impl Cluster {
    /// A new instance: epoch 1, alone; the primary makes its data, the others copy it once it leads.
    pub fn found(
        members: BTreeMap<MemberId, Member>,
        primary: MemberId,
        replication: Replication,
        nonce: Uuid,
    ) -> Self {
        let members = members.into_iter().map(|(id, member)| (id, Member { order_rev: 1, ..member })).collect();
        Self {
            epoch: 1,
            rev: 1,
            phase: Phase::Promoting(Promotion::Founding),
            step_rev: 1,
            reign: Reign::new(1, nonce, primary, AckSet::alone(1)),
            previous: None,
            members,
            replication,
            intent: Intent::None,
            outcome: None,
            system: String::new(),
            failovers: Vec::new(),
            timeline: None,
        }
    }

    /// Who leads the present epoch; none while one is being elected.
    pub fn primary(&self) -> Option<MemberId> {
        (self.reign.epoch == self.epoch).then_some(self.reign.leader)
    }

    /// Whether commits wait for anybody, as ordered.
    pub fn mode(&self) -> Mode {
        if self.reign.ordered().is_alone() { Mode::Alone } else { Mode::Quorum }
    }

    /// The recorded ackers: whoever may have released a commit of the present reign.
    pub fn acks(&self) -> BTreeSet<MemberId> {
        self.reign.sets.iter().flat_map(|set| set.members.iter().copied()).collect()
    }

    /// How many receipts a commit is known to have had at least.
    pub fn acks_needed(&self) -> u32 {
        self.reign.sets.iter().map(|set| set.needed).min().unwrap_or(0)
    }

    /// Members that may be promoted without loss, if enough others are sealed: those of a set that is in force for sure.
    pub fn candidates(&self) -> BTreeSet<MemberId> {
        match self.reign.sets.as_slice() {
            [only] if self.previous.is_none() => only.members.clone(),
            _ if self.acks_needed() == 0 => BTreeSet::new(),
            [first, ..] => first.members.intersection(&self.reign.ordered().members).copied().collect(),
            [] => BTreeSet::new(),
        }
    }

    /// How many receipts commits should wait for while all synchronous members are there.
    pub fn acks_wanted(&self) -> u32 {
        let replicas = self.members.values().filter(|member| member.stay == Stay::Staying).count().saturating_sub(1);
        let counting = self.members.values().filter(|member| member.counts()).count().saturating_sub(1);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let present = Replication {
            replicas: count(replicas),
            asynchronous: count(replicas.saturating_sub(counting)),
            ..self.replication.clone()
        };
        present.acknowledgements_wanted()
    }

    /// When things are decided.
    pub fn timings(&self) -> Timings {
        self.replication.timings
    }

    /// May the leader commit alone when no acker is left.
    pub fn may_go_alone(&self) -> bool {
        self.replication.durability == Durability::Availability
    }

    /// A member for people: its short id and its host's name.
    pub fn name(&self, member: MemberId) -> String {
        match self.members.get(&member) {
            Some(known) if !known.host_name.is_empty() => format!("{} on {}", member.short(), known.host_name),
            Some(_) | None => member.short(),
        }
    }

    /// Several members for people.
    pub fn names<'a>(&self, members: impl IntoIterator<Item = &'a MemberId>) -> String {
        let names: Vec<_> = members.into_iter().map(|member| self.name(*member)).collect();
        if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
    }
}

impl Reign {
    /// A reign with one set.
    pub fn new(epoch: u64, nonce: Uuid, leader: MemberId, set: AckSet) -> Self {
        Self { epoch, nonce, leader, sets: vec![set], handed_over: None }
    }

    /// The set that the leader is ordered to enforce.
    ///
    /// # Panics
    /// Never: a reign is made with one set, and the newest is never removed.
    pub fn ordered(&self) -> &AckSet {
        self.sets.last().expect("a reign always has the set it was ordered")
    }

    /// The metadata lost who led and which sets were in force: the leader is whoever was found to have most, and the set
    /// is everybody.
    pub fn is_presumed(&self) -> bool {
        self.oldest().rev == 0
    }

    /// The oldest set that may be in force. Whoever is promoted must hold its barrier.
    ///
    /// # Panics
    /// Never, see [`Self::ordered`].
    pub fn oldest(&self) -> &AckSet {
        self.sets.first().expect("a reign always has the set it was ordered")
    }
}
