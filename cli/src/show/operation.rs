//! Operations and their steps.

use jiff::Timestamp;
use windlass_proto::api::v1::Operation;

use super::text::{exact, flag, when, word};
use crate::{names, output::Show};

impl Show for Operation {
    const COLUMNS: &'static [&'static str] = &["UID", "KIND", "TARGET", "STATE", "STEP", "AGE"];

    fn row(&self, now: Timestamp) -> Vec<String> {
        let step = self.steps.iter().rfind(|_| !self.done).map_or_else(String::new, |step| step.title.clone());
        vec![
            names::short(&self.name).to_owned(),
            self.kind.clone(),
            self.target.clone(),
            word(self.state().as_str_name()),
            step,
            when(self.create_time.as_ref(), now),
        ]
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn details(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let steps: Vec<_> = self
            .steps
            .iter()
            .map(|step| {
                let detail = if step.detail.is_empty() { String::new() } else { format!(" ({})", step.detail) };
                format!("{:<8} {}{detail}", step.state().as_str_name(), step.title)
            })
            .collect();
        let error = self.error.as_ref().map_or_else(String::new, |e| format!("{} ({})", e.message, e.reason));
        vec![
            ("Name", self.name.clone()),
            ("Kind", self.kind.clone()),
            ("Target", self.target.clone()),
            ("State", word(self.state().as_str_name())),
            ("Error", error),
            ("Steps", steps.join("\n")),
            ("Cancellable", flag(self.cancellable)),
            ("Asked by", self.actor.clone()),
            ("Begun", exact(self.create_time.as_ref(), now)),
            ("Ended", exact(self.end_time.as_ref(), now)),
        ]
    }
}
