//! Events.

use windlass_db::events::EventRow;
use windlass_proto::api::v1 as pb;

use super::{operations, time};

/// An event for the wire.
pub(in crate::api) fn event(row: EventRow) -> pb::Event {
    pb::Event {
        id: row.id.unsigned_abs(),
        time: Some(time(row.time)),
        severity: row.severity.to_string(),
        kind: row.kind,
        target: row.target,
        message: row.message,
        actor: row.actor,
        operation: row.operation.map(operations::full).unwrap_or_default(),
        data: row.data,
    }
}
