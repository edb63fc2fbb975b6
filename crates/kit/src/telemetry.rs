//! Logs: `tracing` events to stderr, as text for a person or as JSON for a collector.
//!
//! Invariant: [`init`] is called once, by `main`; libraries only emit events. Stdout stays free for a program's output.

use std::io::{self, IsTerminal};

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use windlass_core::Error;

/// The `[log]` table of every configuration file.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Filter in the syntax of tracing's `EnvFilter`, for example `info` or `info,windlass_agent=debug`.
    /// `WINDLASS_LOG`, then `RUST_LOG`, win over it.
    pub level: String,
    /// How events are written.
    pub format: Format,
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Auto }
    }
}

/// Installs the process's log subscriber.
///
/// # Errors
/// `INVALID_FIELD` if the filter is wrong; `INTERNAL` if one is installed already.
pub fn init(config: &TelemetryConfig) -> Result<(), Error> {
    let (origin, directives) = ["WINDLASS_LOG", "RUST_LOG"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| (name, text)))
        .unwrap_or_else(|| ("log.level", config.level.clone()));
    let filter = filter(origin, &directives)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let terminal = io::stderr().is_terminal();
    let done = if is_json(config.format, terminal) {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    } else {
        builder.with_ansi(terminal).try_init()
    };
    done.map_err(|error| Error::internal(format!("cannot install the log subscriber: {error}")))
}

fn is_json(format: Format, terminal: bool) -> bool {
    match format {
        Format::Auto => !terminal,
        Format::Text => false,
        Format::Json => true,
    }
}

fn filter(origin: &str, directives: &str) -> Result<EnvFilter, Error> {
    EnvFilter::builder().parse(directives).map_err(|error| {
        Error::invalid(
            origin,
            format!(
                "{directives:?} is not a log filter ({error}); write for example info or info,windlass_agent=debug"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_for_terminals_unless_the_file_says_otherwise() {
        assert!(!is_json(Format::Auto, true) && is_json(Format::Auto, false));
        assert!(is_json(Format::Json, true) && !is_json(Format::Text, false));
    }

    #[test]
    fn a_wrong_filter_is_named_with_an_example() {
        filter("log.level", "info,windlass_agent=debug").expect("good");
        let error = filter("WINDLASS_LOG", "windlass=louder").expect_err("no such level");
        assert!(error.message.starts_with("WINDLASS_LOG: \"windlass=louder\" is not a log filter"), "{error}");
    }

    #[test]
    fn the_table_reads_with_defaults() {
        let config: TelemetryConfig = crate::config::parse("format = \"json\"", "x").expect("good");
        assert_eq!((config.level.as_str(), config.format), ("info", Format::Json));
    }
}
