//! Events.

use jiff::Timestamp;
use windlass_proto::api::v1::Event;

use super::text::when;
use crate::{names, output::Show};

impl Show for Event {
    const COLUMNS: &'static [&'static str] = &["AGE", "SEVERITY", "KIND", "TARGET", "MESSAGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![
            when(self.time.as_ref(), now),
            self.severity.clone(),
            self.kind.clone(),
            names::short(&self.target).to_owned(),
            self.message.clone(),
        ]
    }

    fn name(&self) -> String {
        self.id.to_string()
    }
}
