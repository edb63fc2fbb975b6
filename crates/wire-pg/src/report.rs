//! ErrorResponse and NoticeResponse: typed fields, each a letter and a string.

use windlass_core::Result;

use crate::frame::{write, write_cstr};
use crate::read::Read;
use crate::sqlstate::SqlState;

/// How bad it is; the word is not translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The session is over.
    Fatal,
    /// The statement goes on.
    Warning,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Warning => "WARNING",
        }
    }
}

/// Appends an error or a notice of our own. An empty hint is left out.
pub fn write_report(out: &mut Vec<u8>, severity: Severity, code: SqlState, message: &str, hint: &str) {
    let tag = match severity {
        Severity::Error | Severity::Fatal => b'E',
        Severity::Warning => b'N',
    };
    write(out, tag, |out| {
        let fields = [(b'S', severity.word()), (b'V', severity.word()), (b'C', code.0), (b'M', message), (b'H', hint)];
        for (letter, text) in fields {
            if !text.is_empty() {
                out.push(letter);
                write_cstr(out, text.as_bytes());
            }
        }
        out.push(0);
    });
}

/// The fields of a report that are looked at; texts that are not UTF-8 read as empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report<'a> {
    /// Untranslated severity where the server gives one, else the translated.
    pub severity: &'a str,
    /// SQLSTATE.
    pub code: &'a str,
    /// For people.
    pub message: &'a str,
    /// The function of the server's source that raised it.
    pub routine: &'a str,
}

impl<'a> Report<'a> {
    /// Reads the body of an ErrorResponse or a NoticeResponse.
    ///
    /// # Errors
    /// If a field has no end.
    pub fn parse(body: &'a [u8]) -> Result<Self> {
        let mut read = Read::new("report", body);
        let mut report = Self::default();
        let mut translated = "";
        loop {
            let letter = read.u8()?;
            if letter == 0 {
                break;
            }
            let text = std::str::from_utf8(read.cstr()?).unwrap_or_default();
            match letter {
                b'S' => translated = text,
                b'V' => report.severity = text,
                b'C' => report.code = text,
                b'M' => report.message = text,
                b'R' => report.routine = text,
                _ => {}
            }
        }
        if report.severity.is_empty() {
            report.severity = translated;
        }
        Ok(report)
    }

    /// Whether it says that a commit stopped waiting for its replicas, so that the success that may follow is none.
    #[must_use]
    pub fn ended_commit_wait(&self) -> bool {
        self.routine == "SyncRepWaitForLSN"
    }

    /// Whether the session ends with it.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity, "FATAL" | "PANIC")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_ours_reads_back() {
        let mut out = Vec::new();
        write_report(&mut out, Severity::Fatal, SqlState::CANNOT_CONNECT_NOW, "held too long", "try again");
        let report = Report::parse(&out[5..]).unwrap();
        assert_eq!(report, Report { severity: "FATAL", code: "57P03", message: "held too long", routine: "" },);
        assert!(report.is_fatal() && !report.ended_commit_wait());
    }

    #[test]
    fn a_zero_byte_in_a_message_does_not_end_the_report() {
        let mut out = Vec::new();
        write_report(&mut out, Severity::Error, SqlState::INTERNAL, "a\0b", "");
        assert_eq!(Report::parse(&out[5..]).unwrap().message, "ab");
    }

    #[test]
    fn a_cancelled_commit_wait_is_told_by_its_routine() {
        let body = b"SWARNUNG\0VWARNING\0C01000\0Mcanceling wait\0RSyncRepWaitForLSN\0\0";
        assert!(Report::parse(body).unwrap().ended_commit_wait());
        assert!(Report::parse(b"SWARNING\0").is_err());
    }
}
