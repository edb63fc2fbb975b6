//! The embedded metadata database: a real PostgreSQL in a directory of its own.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use windlass_control_plane::{
    config::Config,
    metadata::{self, Embedded, embedded::Start},
};

/// A state directory that the database's user can reach.
fn state() -> (TempDir, Config) {
    let dir = tempfile::Builder::new().prefix("wl-md-").tempdir_in("/tmp").expect("temp dir");
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("chmod");
    let config = Config { state_dir: dir.path().to_owned(), ..Config::default() };
    (dir, config)
}

/// Stops the server even when the test fails.
struct Cleanup(Embedded);

impl Drop for Cleanup {
    fn drop(&mut self) {
        if let Some(pid) = self.0.running() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_made_adopted_started_again_after_a_crash_and_stopped() {
    let (_dir, config) = state();
    let server = Embedded::locate(&config).expect("locate");
    let _cleanup = Cleanup(server.clone());
    assert_eq!(server.running(), None);

    let stop = CancellationToken::new();
    let first = metadata::open(&config, &stop).await.expect("the first start initialises it");
    let pid = server.running().expect("it runs");
    first.db.ping().await.expect("it answers");

    // Another value of the same state directory, as after a crash of the control plane: no second server.
    let again = Embedded::locate(&config).expect("locate again");
    assert_eq!(again.start().await.expect("adopt"), Start::Adopted);
    assert_eq!(again.running(), Some(pid));

    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill -9 the server");
    let gone = async {
        while server.running().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("it dies");
    assert_eq!(server.start().await.expect("start again over the stale pid file"), Start::Started);
    assert_ne!(server.running(), Some(pid));
    let answers = async {
        while first.db.ping().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), answers).await.expect("the pool connects again");

    first.db.close().await;
    server.stop().await.expect("stop");
    assert_eq!(server.running(), None);
    server.stop().await.expect("stopping twice is fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_state_directory_still_gets_a_socket() {
    let (dir, mut config) = state();
    config.state_dir = dir.path().join("x".repeat(90));
    std::fs::create_dir(&config.state_dir).expect("create");
    let server = Embedded::locate(&config).expect("locate");
    let _cleanup = Cleanup(server.clone());
    let opened = metadata::open(&config, &CancellationToken::new()).await.expect("open");
    opened.db.ping().await.expect("it answers");
    opened.db.close().await;
    server.stop().await.expect("stop");
}
