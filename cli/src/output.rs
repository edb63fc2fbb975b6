//! Printing results to stdout: tables for people, the API's own JSON (or the same as YAML), or names for scripts.
//!
//! Invariant: stdout carries data only; notes and progress go to stderr.

use std::io::{IsTerminal as _, Write as _, stderr, stdout};

use clap::ValueEnum;
use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde::Serialize;

use crate::failure::Failure;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for people.
    #[default]
    Table,
    /// The API's JSON; lists are arrays.
    Json,
    /// The same as YAML.
    Yaml,
    /// Full names, one a line; a new secret alone.
    Name,
}

/// A resource as tables show it. Its JSON is its own.
pub(crate) trait Show: Serialize {
    /// Titles of the columns of a list.
    const COLUMNS: &'static [&'static str];
    /// The cells of a list, one per column.
    fn row(&self, now: Timestamp) -> Vec<String>;
    /// Full name.
    fn name(&self) -> String;
    /// Everything, as title and text, when it is shown alone.
    fn details(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        Self::COLUMNS.iter().copied().zip(self.row(now)).collect()
    }
}

/// The printer of one invocation.
pub(crate) struct Output {
    format: Format,
    quiet: bool,
}

impl Output {
    pub(crate) fn new(format: Format, quiet: bool) -> Self {
        Self { format, quiet }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Whether a person looks on: then commands wait and may ask.
    pub(crate) fn terminal(&self) -> bool {
        stderr().is_terminal()
    }

    pub(crate) fn quiet(&self) -> bool {
        self.quiet
    }

    /// A remark for people, to stderr.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            eprintln!("{}", text.as_ref());
        }
    }

    /// A list.
    pub(crate) fn list<T: Show>(&self, items: &[T]) -> Result<(), Failure> {
        match self.format {
            Format::Table if items.is_empty() => {
                self.note("none");
                Ok(())
            }
            Format::Table => {
                let now = Timestamp::now();
                print(&table(T::COLUMNS, items.iter().map(|item| item.row(now))))
            }
            Format::Name => print(&items.iter().map(Show::name).collect::<Vec<_>>().join("\n")),
            Format::Json | Format::Yaml => self.document(&items),
        }
    }

    /// One resource, with everything there is to say of it.
    pub(crate) fn one<T: Show>(&self, item: &T) -> Result<(), Failure> {
        match self.format {
            Format::Table => {
                let details = item.details(Timestamp::now());
                let rows = details.into_iter().filter(|(_, text)| !text.is_empty());
                print(&table(&[], rows.map(|(title, text)| vec![format!("{title}:"), text])))
            }
            Format::Name => print(&item.name()),
            Format::Json | Format::Yaml => self.document(item),
        }
    }

    /// A secret that is shown this once: alone for people and scripts, else within its resource.
    pub(crate) fn secret(&self, secret: &str, resource: &impl Serialize) -> Result<(), Failure> {
        match self.format {
            Format::Table | Format::Name => print(secret),
            Format::Json | Format::Yaml => self.document(resource),
        }
    }

    /// Plain text, where only `json` and `yaml` want a document.
    pub(crate) fn text(&self, text: &str, document: &impl Serialize) -> Result<(), Failure> {
        match self.format {
            Format::Table | Format::Name => print(text),
            Format::Json | Format::Yaml => self.document(document),
        }
    }

    /// Nothing for people, who have read a note; else the document.
    pub(crate) fn document_only<T: Show>(&self, item: &T) -> Result<(), Failure> {
        match self.format {
            Format::Table => Ok(()),
            Format::Name => print(&item.name()),
            Format::Json | Format::Yaml => self.document(item),
        }
    }

    fn document(&self, value: &impl Serialize) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Local(format!("cannot print the answer: {error}"));
        let text = if self.format == Format::Yaml {
            serde_norway::to_string(value).map_err(|error| failed(&error))?
        } else {
            serde_json::to_string_pretty(value).map_err(|error| failed(&error))?
        };
        print(&text)
    }
}

/// Aligned columns without borders.
pub(crate) fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if !header.is_empty() {
        table.set_header(header.to_vec());
    }
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Writes to stdout. A reader that has gone away (`| head`) is not an error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let text = text.trim_end_matches('\n');
    if text.is_empty() {
        return Ok(());
    }
    match writeln!(stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Local(format!("cannot write to stdout: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
