//! Reading SQL as far as a pooler must: what a text does to the session that runs it. Pure.

mod effects;
mod lexer;
mod settings;

pub(crate) use effects::{Effect, Effects, LONGEST_READ, Pin, Value};
pub(crate) use settings::{Settings, literal};
