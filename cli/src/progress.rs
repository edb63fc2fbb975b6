//! Live progress of an operation on stderr: one line per step, moving on a terminal, plain elsewhere.

use std::{collections::BTreeMap, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use windlass_proto::api::v1::{Operation, operation::Step, operation::step::State};

use crate::output::Output;

/// The display of one operation.
pub(crate) enum Progress {
    /// Nothing is shown.
    Silent,
    /// A line whenever a step has ended. Holds what was printed of each step.
    Plain(BTreeMap<String, State>),
    /// A line per step, with a spinner while it runs.
    Live { lines: MultiProgress, steps: BTreeMap<String, ProgressBar> },
}

impl Progress {
    pub(crate) fn new(out: &Output) -> Self {
        match (out.quiet(), out.terminal()) {
            (true, _) => Self::Silent,
            (false, false) => Self::Plain(BTreeMap::new()),
            (false, true) => Self::Live { lines: MultiProgress::new(), steps: BTreeMap::new() },
        }
    }

    /// Shows where the operation stands.
    pub(crate) fn update(&mut self, operation: &Operation) {
        for step in operation.steps.iter().filter(|step| step.state() != State::Pending) {
            match self {
                Self::Silent => {}
                Self::Plain(printed) => {
                    let told = ended(step.state()) || step.state() == State::Undoing;
                    if told && printed.insert(step.name.clone(), step.state()) != Some(step.state()) {
                        eprintln!("{}", line(step));
                    }
                }
                Self::Live { lines, steps } => {
                    let bar = steps.entry(step.name.clone()).or_insert_with(|| spinner(lines));
                    if ended(step.state()) {
                        bar.set_style(text_only());
                        bar.finish_with_message(line(step));
                    } else {
                        bar.set_message(line(step));
                    }
                }
            }
        }
    }

    /// Leaves the last lines standing and the cursor below them.
    pub(crate) fn close(self) {
        if let Self::Live { steps, .. } = self {
            for bar in steps.into_values().filter(|bar| !bar.is_finished()) {
                bar.abandon();
            }
        }
    }
}

fn spinner(lines: &MultiProgress) -> ProgressBar {
    let bar = lines.add(ProgressBar::new_spinner().with_style(text_only()));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn text_only() -> ProgressStyle {
    ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn ended(state: State) -> bool {
    match state {
        State::Done | State::Failed | State::Undone => true,
        State::Unspecified | State::Pending | State::Running | State::Waiting | State::Undoing => false,
    }
}

fn line(step: &Step) -> String {
    let mark = match step.state() {
        State::Done => "✓ ",
        State::Failed => "✗ ",
        State::Undoing => "↶ undoing: ",
        State::Undone => "↶ undone: ",
        State::Unspecified | State::Pending | State::Running | State::Waiting => "",
    };
    let detail = if step.detail.is_empty() { String::new() } else { format!(": {}", step.detail) };
    let took = match (&step.start_time, &step.end_time) {
        (Some(start), Some(end)) => {
            let millis = (end.seconds - start.seconds) * 1000 + i64::from(end.nanos - start.nanos) / 1_000_000;
            format!(" ({:.1}s)", millis.max(0) as f64 / 1000.0)
        }
        (Some(_) | None, _) => String::new(),
    };
    format!("{mark}{}{detail}{took}", step.title)
}

#[cfg(test)]
mod tests {
    use pbjson_types::Timestamp;

    use super::*;

    #[test]
    fn a_line_says_what_came_of_the_step_and_how_long_it_took() {
        let at = |seconds, nanos| Some(Timestamp { seconds, nanos });
        let mut step = Step {
            name: "place".to_owned(),
            title: "Choosing a host".to_owned(),
            detail: "host-1".to_owned(),
            start_time: at(10, 900_000_000),
            end_time: at(12, 100_000_000),
            ..Step::default()
        };
        step.set_state(State::Done);
        assert_eq!(line(&step), "✓ Choosing a host: host-1 (1.2s)");
        step.set_state(State::Waiting);
        step.end_time = None;
        assert_eq!(line(&step), "Choosing a host: host-1");
    }
}
