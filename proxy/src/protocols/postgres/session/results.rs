//! How the statements of a step ended, and what that says of what they did to the session. Pure.
//!
//! A step may end one transaction and begin another, so its last statement does not speak for the others. Where it cannot
//! be said which effects have become true, that is said.

use windlass_wire_pg::backend::TransactionStatus;

/// How a statement ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Last {
    #[default]
    Well,
    Committed,
    RolledBack,
    Failed,
}

/// What came of the statements of a step so far.
#[derive(Debug, Default)]
pub(super) struct Results {
    last: Last,
    /// Before the last one.
    committed: bool,
    rolled_back: bool,
    count: usize,
}

/// What became of the effects of the open transaction and of the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They are true.
    True,
    /// They are not.
    Void,
    /// The transaction will tell.
    Open,
    /// The transaction will tell, but some of them are undone already.
    PartlyVoid,
    /// Some of them are true.
    PartlyTrue,
}

impl Results {
    /// A statement ended well, as this tag says.
    pub(super) fn completed(&mut self, tag: &[u8]) {
        self.ended(match tag {
            b"COMMIT" | b"PREPARE TRANSACTION" => Last::Committed,
            b"ROLLBACK" => Last::RolledBack,
            _ => Last::Well,
        });
    }

    pub(super) fn failed(&mut self) {
        self.ended(Last::Failed);
    }

    fn ended(&mut self, how: Last) {
        self.count += 1;
        match std::mem::replace(&mut self.last, how) {
            Last::Committed => self.committed = true,
            Last::RolledBack => self.rolled_back = true,
            Last::Well | Last::Failed => {}
        }
    }

    pub(super) fn are_several(&self) -> bool {
        self.count > 1
    }

    pub(super) fn has_failed(&self) -> bool {
        self.last == Last::Failed
    }

    pub(super) fn verdict(&self, status: TransactionStatus) -> Verdict {
        let committed = self.committed || self.last == Last::Committed;
        let rolled_back = self.rolled_back || self.last == Last::RolledBack;
        match (status, self.last) {
            (TransactionStatus::Idle, Last::Well | Last::Committed) if self.rolled_back => Verdict::PartlyTrue,
            (TransactionStatus::Idle, Last::Well | Last::Committed) => Verdict::True,
            (TransactionStatus::Idle, Last::RolledBack | Last::Failed) if self.committed || self.rolled_back => {
                Verdict::PartlyTrue
            }
            (TransactionStatus::Idle, Last::RolledBack | Last::Failed) => Verdict::Void,
            // Another transaction has begun.
            (TransactionStatus::Open | TransactionStatus::Failed, _) if committed => Verdict::PartlyTrue,
            // Back to a savepoint, or to before another transaction.
            (TransactionStatus::Open | TransactionStatus::Failed, _) if rolled_back => Verdict::PartlyVoid,
            (TransactionStatus::Open | TransactionStatus::Failed, _) => Verdict::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use TransactionStatus::{Failed, Idle, Open};

    use super::*;

    #[test]
    fn an_end_of_a_transaction_within_a_step_leaves_doubt_unless_all_went_well() {
        for (ends, status, verdict) in [
            ("SET", Idle, Verdict::True),
            ("BEGIN SET COMMIT", Idle, Verdict::True),
            ("SET COMMIT SELECT", Idle, Verdict::True),
            ("BEGIN SET ROLLBACK", Idle, Verdict::Void),
            ("SET error", Idle, Verdict::Void),
            ("COMMIT error", Idle, Verdict::PartlyTrue),
            ("SET COMMIT BEGIN ROLLBACK", Idle, Verdict::PartlyTrue),
            ("ROLLBACK SELECT", Idle, Verdict::PartlyTrue),
            ("SET", Open, Verdict::Open),
            ("ROLLBACK", Open, Verdict::PartlyVoid),
            ("ROLLBACK SELECT", Open, Verdict::PartlyVoid),
            // COMMIT AND CHAIN.
            ("COMMIT", Open, Verdict::PartlyTrue),
            ("COMMIT BEGIN", Open, Verdict::PartlyTrue),
            ("COMMIT BEGIN error", Failed, Verdict::PartlyTrue),
            ("error", Failed, Verdict::Open),
        ] {
            let mut results = Results::default();
            for end in ends.split(' ') {
                match end {
                    "error" => results.failed(),
                    tag => results.completed(tag.as_bytes()),
                }
            }
            assert_eq!(results.verdict(status), verdict, "{ends}, {status:?}");
        }
    }
}
