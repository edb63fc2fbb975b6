//! Records of the journal and their framing on disk.
//!
//! A journal is [`HEADER`] followed by frames: payload length (u32 LE), CRC-32 of the payload (u32 LE), payload (JSON
//! of one [`Record`]). Invariant: decoding stops at the first frame that is not whole and true; what lies before it is
//! exactly what was written.

use serde::{Deserialize, Serialize};
use windlass_core::Error;
use windlass_proto::agent::v1 as pb;

/// First bytes of every journal; the last one is the version of the format.
pub(super) const HEADER: &[u8; 8] = b"WLJRNAL\x01";

const FRAME_HEADER: usize = 8;

/// One fact of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// The command will be carried out.
    Accepted(pb::Command),
    /// It was carried out, with this result.
    Finished(pb::CommandResult),
    /// The control plane has the result.
    Forgotten {
        /// Uid of the command.
        uid: String,
    },
    /// The highest epoch seen for an instance, when the command that brought it is forgotten.
    Epoch {
        /// The instance.
        instance_id: String,
        /// Its epoch.
        epoch: u64,
    },
}

impl Record {
    /// The record as one frame.
    pub(super) fn encode(&self) -> Result<Vec<u8>, Error> {
        let payload = serde_json::to_vec(self)
            .map_err(|e| Error::internal("cannot write a journal record as JSON").with_source(e))?;
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
        let record = serde_json::from_slice(payload).map_err(|e| {
            Error::internal(format!(
                "the journal has a record at byte {valid} that this agent cannot read; was it written by a newer one?"
            ))
            .with_source(e)
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
