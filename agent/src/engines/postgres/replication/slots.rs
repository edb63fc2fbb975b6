//! Physical slots: a leader keeps one for each other member, a follower none.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;
use windlass_core::{Error, id::MemberId, replication::slot_name};

use crate::engines::postgres::run::refused;

/// What is to be done about slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slots {
    /// To be made.
    pub make: Vec<String>,
    /// To be dropped: of a member that left, or one that lost what its follower needs.
    pub drop: Vec<String>,
}

impl Slots {
    /// The difference between what is there and what these members need. A slot that lost its log is made anew: its
    /// follower has to be copied again anyway.
    pub fn difference(there: &BTreeMap<String, bool>, members: &[MemberId]) -> Self {
        let wanted: BTreeSet<String> = members.iter().map(|member| slot_name(*member)).collect();
        let good = |name: &String| there.get(name) == Some(&true);
        Self {
            make: wanted.iter().filter(|name| !good(name)).cloned().collect(),
            drop: there.keys().filter(|name| !wanted.contains(*name) || !good(name)).cloned().collect(),
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
        let make = "select pg_create_physical_replication_slot($1::text::name, true) \
            where not exists (select from pg_replication_slots where slot_name = $1::text::name)";
        for name in &self.make {
            client.execute(make, &[name]).await.map_err(refused)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_follow_the_members() {
        let (stays, comes, lost) = (MemberId::new(), MemberId::new(), MemberId::new());
        let there =
            BTreeMap::from([(slot_name(stays), true), (slot_name(lost), false), ("m000000000000".to_owned(), true)]);
        let slots = Slots::difference(&there, &[stays, comes, lost]);
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        assert_eq!(sorted(slots.make), sorted(vec![slot_name(comes), slot_name(lost)]));
        assert_eq!(sorted(slots.drop), sorted(vec![slot_name(lost), "m000000000000".to_owned()]));
        assert!(Slots::difference(&BTreeMap::new(), &[]).is_empty());
    }
}
