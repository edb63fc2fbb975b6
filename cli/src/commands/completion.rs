//! `windlass completion`

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use crate::{args::Cli, failure::Failure, output::print};

#[derive(Args)]
pub(crate) struct CompletionCommand {
    /// bash: source <(windlass completion bash)
    shell: Shell,
}

impl CompletionCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "windlass", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}
