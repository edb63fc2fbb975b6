//! At any time at most one server acknowledges.
//!
//! Two looks, neither of which compares clocks of machines. In the data: along the history (by transaction number) epochs
//! never go back. At the clients, which share one clock: once anybody had an acknowledgement of an epoch, no write that
//! begins later is acknowledged by a lower one.

use super::{Row, Write};

/// Holds both looks.
pub fn check(writes: &[Write], rows: &[Row]) -> Vec<String> {
    let mut found = Vec::new();
    let mut history = rows.to_vec();
    history.sort_by_key(|row| row.transaction);
    for pair in history.windows(2) {
        if pair[1].epoch < pair[0].epoch {
            found.push(format!(
                "transaction {} was written in epoch {} and the later {} in epoch {}",
                pair[0].transaction, pair[0].epoch, pair[1].transaction, pair[1].epoch
            ));
        }
    }
    let mut acks: Vec<_> = writes.iter().filter_map(|write| write.ack.map(|ack| (ack.at, ack.epoch))).collect();
    acks.sort_unstable();
    // The highest epoch that anybody knew at each acknowledgement.
    let mut highest = 0;
    for ack in &mut acks {
        highest = highest.max(ack.1);
        ack.1 = highest;
    }
    for write in writes {
        let Some(ack) = write.ack else { continue };
        let before = acks.partition_point(|(at, _)| *at < write.begun);
        let known = before.checked_sub(1).map_or(0, |last| acks[last].1);
        if ack.epoch < known {
            found.push(format!(
                "id {} began at {:?}, when epoch {known} had acknowledged, and was acknowledged by epoch {}",
                write.id, write.begun, ack.epoch
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::Ack;
    use std::time::Duration;

    fn write(id: i64, begun: u64, at: u64, epoch: u64) -> Write {
        let time = Duration::from_millis;
        Write { client: 1, id, begun: time(begun), ack: Some(Ack { at: time(at), epoch }) }
    }

    #[test]
    fn a_late_answer_of_the_old_writer_to_an_early_question_is_no_second_writer() {
        assert_eq!(check(&[write(1, 0, 50, 1), write(2, 10, 40, 2)], &[]), Vec::<String>::new());
    }

    #[test]
    fn an_old_writer_that_still_acknowledges_is_named() {
        let found = check(&[write(1, 10, 40, 2), write(2, 41, 50, 1)], &[]);
        assert_eq!(found, ["id 2 began at 41ms, when epoch 2 had acknowledged, and was acknowledged by epoch 1"]);
    }

    #[test]
    fn a_history_whose_epochs_go_back_is_named() {
        let row = |transaction, epoch| Row { id: 0, epoch, transaction };
        assert_eq!(check(&[], &[row(9, 2), row(5, 1), row(7, 2)]), Vec::<String>::new());
        let found = check(&[], &[row(9, 1), row(5, 1), row(7, 2)]);
        assert_eq!(found, ["transaction 7 was written in epoch 2 and the later 9 in epoch 1"]);
    }
}
