//! Records of the journal and their framing on disk.
//!
//! A journal is [`HEADER`] followed by frames: payload length (u32 LE), CRC-32 of the payload (u32 LE), payload
//! (protobuf of one [`Record`], because that keeps values that a newer control plane sent and this agent does not know). Invariant: decoding stops at the first frame that is not whole and true; what lies before it is
//! exactly what was written.

use prost::{Message, Oneof};
use windlass_core::Error;
use windlass_proto::agent::v1 as pb;

/// First bytes of every journal; the last one is the version of the format.
pub(super) const HEADER: &[u8; 8] = b"WLJRNAL\x01";

const FRAME_HEADER: usize = 8;

/// A record as it is written.
#[derive(Message)]
struct Written {
    #[prost(oneof = "Record", tags = "1, 2, 3, 4, 5")]
    record: Option<Record>,
}

/// One fact of the journal.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Record {
    /// The command will be carried out.
    #[prost(message, tag = "1")]
    Accepted(pb::Command),
    /// It was carried out, with this result.
    #[prost(message, tag = "2")]
    Finished(pb::CommandResult),
    /// The control plane has the result of the command with this uid.
    #[prost(string, tag = "3")]
    Forgotten(String),
    /// The highest epoch seen for an instance, when the command that brought it is forgotten.
    #[prost(message, tag = "4")]
    Epoch(SeenEpoch),
    /// The agent started and found it unfinished.
    #[prost(message, tag = "5")]
    Resumed(Resumed),
}

/// A command and how many starts of the agent it has lived through.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Resumed {
    #[prost(string, tag = "1")]
    pub(super) uid: String,
    #[prost(uint32, tag = "2")]
    pub(super) starts: u32,
}

/// An instance and its epoch.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct SeenEpoch {
    #[prost(string, tag = "1")]
    pub(super) instance_id: String,
    #[prost(uint64, tag = "2")]
    pub(super) epoch: u64,
}

impl Record {
    /// The record as one frame.
    pub(super) fn into_frame(self) -> Result<Vec<u8>, Error> {
        let payload = Written { record: Some(self) }.encode_to_vec();
        let length = u32::try_from(payload.len()).map_err(|_| Error::internal("a journal record exceeds 4 GiB"))?;
        let mut frame = Vec::with_capacity(FRAME_HEADER + payload.len());
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
        frame.extend_from_slice(&payload);
        Ok(frame)
    }
}

/// What a journal's bytes hold: the records and how many bytes they fill, header included.
pub(super) struct Decoded {
    /// The records, oldest first.
    pub(super) records: Vec<Record>,
    /// Bytes up to the end of the last whole frame; what follows is torn.
    pub(super) valid: usize,
}

/// Reads a journal.
///
/// # Errors
/// `INTERNAL` if it is not a journal or if a whole frame holds something this version does not know.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, Error> {
    if bytes.len() < HEADER.len() && HEADER.starts_with(bytes) {
        return Ok(Decoded { records: Vec::new(), valid: 0 });
    }
    if !bytes.starts_with(HEADER) {
        return Err(Error::internal(
            "the journal does not start as one of this version; it belongs to another program or a newer agent",
        ));
    }
    let mut records = Vec::new();
    let mut valid = HEADER.len();
    while let Some(payload) = frame(&bytes[valid..]) {
        let record = Written::decode(payload).ok().and_then(|written| written.record).ok_or_else(|| {
            Error::internal(format!(
                "the journal has a record at byte {valid} that this agent cannot read; was it written by a newer one?"
            ))
        })?;
        records.push(record);
        valid += FRAME_HEADER + payload.len();
    }
    Ok(Decoded { records, valid })
}

/// The payload of the first frame, if it is whole and true. An empty payload is not: zeros after a power loss look so.
fn frame(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let payload = rest.get(..u32::from_le_bytes(*length) as usize)?;
    (!payload.is_empty() && crc32fast::hash(payload) == u32::from_le_bytes(*crc)).then_some(payload)
}
