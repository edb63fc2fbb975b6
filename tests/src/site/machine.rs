//! A host of the lab with one of our programs on it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::lab::Node;
use crate::program::Program;

/// A host and its program.
#[derive(Debug)]
pub struct Machine {
    node: Node,
    program: Program,
    directory: PathBuf,
    environment: Vec<(String, String)>,
}

impl Machine {
    pub(super) fn new(node: Node, binary: &Path, arguments: &[&str], directory: &Path, log: &str) -> Self {
        let mut words = node.words();
        let first = PathBuf::from(words.remove(0));
        words.push(binary.to_string_lossy().into_owned());
        words.extend(arguments.iter().map(|word| (*word).to_owned()));
        let file = directory.with_extension("log");
        let program = Program::new(node.name(), first, words, file);
        let environment = vec![("RUST_LOG".to_owned(), log.to_owned())];
        Self { node, program, directory: directory.to_owned(), environment }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.node.name()
    }

    /// Its host in the lab.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Its directory, with `state` and `run` below.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its program.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Starts the program if it does not run.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self) -> Result<()> {
        self.start_with(&[])
    }

    /// As [`Machine::start`], with more in its environment this time.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_with(&mut self, more: &[(&str, &str)]) -> Result<()> {
        if self.program.running() {
            return Ok(());
        }
        let own = self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let all: Vec<_> = own.chain(more.iter().copied()).collect();
        self.program.start(&all)
    }

    /// Kills every process of the host, as the loss of power does. Its disk stays.
    ///
    /// # Errors
    /// The system refused.
    pub fn power_off(&mut self) -> Result<()> {
        self.node.signal(Signal::SIGKILL);
        self.program.kill()
    }
}
