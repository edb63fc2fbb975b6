//! Reading SQL as far as a pooler must: what a text does to the session that runs it. Pure.

mod effect;
mod effects;
mod lexer;
mod settings;

pub(crate) use effect::{Effect, LOUD, PATH, Pin, QUIET, REPORTED, Value, is_read_by};
pub(crate) use effects::{Effects, LONGEST_READ};
pub(crate) use settings::{Settings, literal};
