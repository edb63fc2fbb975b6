//! Physical slots: every member has one for each other member. A leader's keep the log that its follower still needs; a
//! follower's keep nothing, and are there so that a new leader's followers connect without waiting for the disk.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use tokio_postgres::Client;
use windlass_core::{Error, id::MemberId, replication::slot_name};

use crate::engines::postgres::run::refused;

/// What a slot is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// It keeps the log from somewhere on.
    Keeps,
    /// Nobody has used it yet, and it keeps nothing.
    Empty,
    /// It lost what its follower needs.
    Lost,
}

/// What is to be done about slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    /// To be made.
    pub make: Vec<String>,
    /// To be dropped: of a member that left, or one that is of no use.
    pub drop: Vec<String>,
    /// What those that are made are to be.
    made: SlotState,
}

impl Slots {
    /// What the followers of a leader that is not open yet lack. A slot that lost its log is made anew: its follower has
    /// to be copied again anyway.
    pub fn to_connect(there: &BTreeMap<String, SlotState>, followers: &[MemberId]) -> Self {
        Self::difference(there, followers, &[SlotState::Keeps, SlotState::Empty], SlotState::Keeps)
    }

    /// What a leader lacks: it keeps the log for a follower that is away too.
    pub fn to_lead(there: &BTreeMap<String, SlotState>, followers: &[MemberId]) -> Self {
        Self::difference(there, followers, &[SlotState::Keeps], SlotState::Keeps)
    }

    /// What a follower lacks, or has from when it led: nothing moves its slots on, so they must not keep anything.
    pub fn to_follow(there: &BTreeMap<String, SlotState>, others: &[MemberId]) -> Self {
        Self::difference(there, others, &[SlotState::Empty], SlotState::Empty)
    }

    fn difference(
        there: &BTreeMap<String, SlotState>,
        members: &[MemberId],
        good: &[SlotState],
        made: SlotState,
    ) -> Self {
        let wanted: BTreeSet<String> = members.iter().map(|member| slot_name(*member)).collect();
        let is_good = |name: &String| there.get(name).is_some_and(|state| good.contains(state));
        Self {
            make: wanted.iter().filter(|name| !is_good(name)).cloned().collect(),
            drop: there.keys().filter(|name| !wanted.contains(*name) || !is_good(name)).cloned().collect(),
            made,
        }
    }

    /// Whether there is nothing to be done.
    pub fn is_empty(&self) -> bool {
        self.make.is_empty() && self.drop.is_empty()
    }

    /// Does it. A slot in use is left for the next time.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the connection is gone, `DATABASE_REFUSED` if there are too many.
    pub async fn settle(&self, client: &Client) -> Result<(), Error> {
        let drop =
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1 and not active";
        for name in &self.drop {
            client.execute(drop, &[name]).await.map_err(refused)?;
        }
        let make = "select pg_create_physical_replication_slot($1::text::name, $2) \
            where not exists (select from pg_replication_slots where slot_name = $1::text::name)";
        let keeps = self.made == SlotState::Keeps;
        for name in &self.make {
            client.execute(make, &[name, &keeps]).await.map_err(refused)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(mut names: Vec<String>) -> Vec<String> {
        names.sort();
        names
    }

    #[test]
    fn slots_follow_the_members() {
        let (stays, comes, lost) = (MemberId::new(), MemberId::new(), MemberId::new());
        let there = BTreeMap::from([
            (slot_name(stays), SlotState::Keeps),
            (slot_name(lost), SlotState::Lost),
            ("m000000000000".to_owned(), SlotState::Keeps),
        ]);
        let slots = Slots::to_lead(&there, &[stays, comes, lost]);
        assert_eq!(sorted(slots.make), sorted(vec![slot_name(comes), slot_name(lost)]));
        assert_eq!(sorted(slots.drop), sorted(vec![slot_name(lost), "m000000000000".to_owned()]));
        assert!(Slots::to_lead(&BTreeMap::new(), &[]).is_empty());
    }

    #[test]
    fn what_a_follower_has_is_enough_to_connect_and_keeps_log_only_for_a_leader() {
        let (one, two) = (MemberId::new(), MemberId::new());
        let there = |state| BTreeMap::from([(slot_name(one), state), (slot_name(two), SlotState::Empty)]);
        assert!(Slots::to_connect(&there(SlotState::Empty), &[one, two]).is_empty());
        assert_eq!(Slots::to_connect(&there(SlotState::Lost), &[one, two]).make, [slot_name(one)]);
        let opened = Slots::to_lead(&there(SlotState::Keeps), &[one, two]);
        assert_eq!((&opened.make, &opened.drop), (&vec![slot_name(two)], &vec![slot_name(two)]));
        let led = Slots::to_follow(&there(SlotState::Keeps), &[one, two]);
        assert_eq!((&led.make, &led.drop), (&vec![slot_name(one)], &vec![slot_name(one)]));
    }
}
