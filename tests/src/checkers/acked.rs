//! P1: what was acknowledged is there. What was not may be there or not, but nothing else may.

use std::collections::BTreeSet;

use super::{Row, Write};

/// Compares what clients were told with what is there in the end.
pub fn check(writes: &[Write], rows: &[Row]) -> Vec<String> {
    let there: BTreeSet<i64> = rows.iter().map(|row| row.id).collect();
    let tried: BTreeSet<i64> = writes.iter().map(|write| write.id).collect();
    let lost = writes.iter().filter_map(|write| write.ack.map(|ack| (write, ack)));
    let lost = lost.filter(|(write, _)| !there.contains(&write.id)).map(|(write, ack)| {
        format!(
            "id {} of client {} was acknowledged at {:?} in epoch {} and is lost",
            write.id, write.client, ack.at, ack.epoch
        )
    });
    let strangers = there.difference(&tried).map(|id| format!("id {id} is there and nobody wrote it"));
    let twice = rows.len() - there.len();
    let twice = (twice > 0).then(|| format!("{twice} ids are there more than once"));
    lost.chain(strangers).chain(twice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::Ack;
    use std::time::Duration;

    fn write(id: i64, acked: u64) -> Write {
        let ack = (acked > 0).then_some(Ack { at: Duration::from_millis(acked), epoch: 1 });
        Write { client: 1, id, begun: Duration::ZERO, ack }
    }

    fn row(id: i64) -> Row {
        Row { id, epoch: 1, transaction: id.cast_unsigned() }
    }

    #[test]
    fn what_was_not_acknowledged_may_be_either() {
        assert_eq!(check(&[write(1, 5), write(2, 0), write(3, 0)], &[row(1), row(3)]), Vec::<String>::new());
    }

    #[test]
    fn a_lost_acknowledged_row_is_named() {
        let found = check(&[write(1, 5), write(2, 7)], &[row(1)]);
        assert_eq!(found, ["id 2 of client 1 was acknowledged at 7ms in epoch 1 and is lost"]);
    }

    #[test]
    fn a_row_out_of_nowhere_and_a_double_one_are_named() {
        let found = check(&[write(1, 5)], &[row(1), row(1), row(9)]);
        assert_eq!(found, ["id 9 is there and nobody wrote it", "1 ids are there more than once"]);
    }
}
