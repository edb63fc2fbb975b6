//! A control plane that answers as a test says and remembers what it was asked, and the real binary run against it.

use std::{path::PathBuf, process::Stdio, sync::Arc};

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::fake::Fake;

/// The key that the fake accepts.
pub(crate) const KEY: &str = "wl_0123abcd.secret-secret-secret-secret-secret-secret-s";

/// What a run of the command left.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A fake control plane and a home directory of its own.
pub(crate) struct Bench {
    pub(crate) fake: Arc<Fake>,
    pub(crate) endpoint: String,
    pub(crate) home: TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let fake = Arc::new(Fake::default());
        let address = fake.serve().await;
        let home = tempfile::tempdir().expect("temporary home");
        Self { fake, endpoint: format!("http://{address}"), home }
    }

    /// The command with endpoint, key and project in the environment, and nothing else of ours.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(arguments);
        command.env("WINDLASS_ENDPOINT", &self.endpoint).env("WINDLASS_TOKEN", KEY).env("WINDLASS_PROJECT", "demo");
        command
    }

    /// The command with a home directory and a PATH only.
    pub(crate) fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Run {
        finish(self.command(arguments).spawn().expect("start windlass")).await
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.home.path().join(".config/windlass/config.toml")
    }
}

/// Waits for the end of a run.
pub(crate) async fn finish(child: Child) -> Run {
    let limit = std::time::Duration::from_secs(60);
    let output = tokio::time::timeout(limit, child.wait_with_output()).await.expect("ends within 60 s").expect("wait");
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}
