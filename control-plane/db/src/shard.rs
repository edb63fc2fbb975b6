//! Shards: the units in which ownership of instances will be spread over nodes.

use uuid::Uuid;

/// How many shards there are; fixed for the life of an installation.
pub const SHARDS: i16 = 256;

/// The shard of an id: its last byte, which is random in every version of UUID that we make.
pub fn of(id: Uuid) -> i16 {
    i16::from(id.as_bytes()[15])
}
