//! One call: as every program of ours makes it.

pub(super) use windlass_kit::call::{ANSWER, call, is_refusal};
