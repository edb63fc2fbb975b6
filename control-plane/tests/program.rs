//! The program itself, with the embedded metadata: crashes, adoption, refusals, keys made on its machine.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tonic::{Code, Request, transport::Channel};
use windlass_control_plane::{config::Config, metadata::Embedded};
use windlass_kit::tls::{self, Trust};
use windlass_proto::api::v1::{self as pb, project_service_client::ProjectServiceClient};

const LIMIT: Duration = Duration::from_secs(60);

/// A state directory and the programs that work on it; whatever still runs is killed at the end.
struct Node {
    dir: TempDir,
    child: Option<Child>,
    logs: usize,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("wl-cp-").tempdir_in("/tmp").expect("temp dir");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("chmod");
        let node = Self { dir, child: None, logs: 0 };
        node.write_config("listen = \"127.0.0.1:0\"\n");
        node
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn write_config(&self, more: &str) {
        let text = format!("state_dir = {:?}\n{more}", self.state());
        fs::write(self.dir.path().join("config.toml"), text).expect("write config");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass-control-plane"));
        command.env_remove("WINDLASS_LISTEN").env("WINDLASS_LOG", "info");
        command.arg("--config").arg(self.dir.path().join("config.toml")).args(arguments).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("run")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join(format!("log-{}", self.logs))
    }

    /// Starts the control plane; gives its port once it is ready.
    async fn start(&mut self) -> u16 {
        self.logs += 1;
        let log = File::create(self.log()).expect("log");
        self.child = Some(self.command(&["run"]).stderr(log).stdout(Stdio::null()).spawn().expect("spawn"));
        let path = self.log();
        wait("the control plane is ready", || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let line = text.lines().find(|line| line.contains("the control plane is ready"))?;
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            event["address"].as_str()?.rsplit(':').next()?.parse().ok()
        })
        .await
    }

    fn signal(&mut self, signal: Signal) {
        let mut child = self.child.take().expect("runs");
        kill(Pid::from_raw(i32::try_from(child.id()).expect("pid")), signal).expect("signal");
        child.wait().expect("ends");
    }

    fn metadata(&self) -> Embedded {
        Embedded::locate(&Config { state_dir: self.state(), ..Config::default() }).expect("locate")
    }

    fn key(&self) -> String {
        let output = self.run(&["key", "create", "--role", "admin", "--title", "test"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("text");
        assert_eq!(text.lines().count(), 1, "stdout has the key only: {text}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains(text.trim()), "stderr shows the key");
        text.trim().to_owned()
    }

    async fn connect(&self, port: u16) -> Channel {
        let pem = fs::read_to_string(self.state().join("ca.pem")).expect("ca.pem");
        let trust = Trust::from_pem(&pem).expect("trust");
        tls::connect(&format!("https://localhost:{port}"), &trust, None).await.expect("connect")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(pid) = self.metadata().running() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
        }
    }
}

/// Waits, with a bound, until `look` finds something.
async fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "no {what} within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn list(channel: &Channel, key: &str) -> Result<Vec<String>, tonic::Status> {
    let mut request = Request::new(pb::ListProjectsRequest::default());
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().expect("header"));
    let answer = ProjectServiceClient::new(channel.clone()).list_projects(request).await?;
    Ok(answer.into_inner().projects.into_iter().map(|project| project.name).collect())
}

async fn create(channel: &Channel, key: &str, name: &str) {
    let mut request = Request::new(pb::CreateProjectRequest { project_id: name.to_owned(), ..Default::default() });
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().expect("header"));
    ProjectServiceClient::new(channel.clone()).create_project(request).await.expect("project");
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_the_next_one_adopts_the_database_and_everything_is_there() {
    let mut node = Node::new();
    let port = node.start().await;
    let log = fs::read_to_string(node.log()).expect("log");
    let hint = wait("hint at the first key", || log_line(&node.log(), "there is no API key yet")).await;
    assert!(hint.contains("key create --role admin"), "{log}");
    let key = node.key();
    create(&node.connect(port).await, &key, "shop").await;
    let ca = fs::read(node.state().join("ca.pem")).expect("ca");
    let database = node.metadata().running().expect("runs");

    node.signal(Signal::SIGKILL);
    assert_eq!(node.metadata().running(), Some(database), "the database survives");
    let port = node.start().await;
    assert_eq!(node.metadata().running(), Some(database), "the database was adopted");
    assert!(log_line(&node.log(), "adopted the running metadata database").is_some());
    assert_eq!(list(&node.connect(port).await, &key).await.expect("list"), ["projects/shop"]);
    assert_eq!(fs::read(node.state().join("ca.pem")).expect("ca"), ca, "the CA is the same");

    node.signal(Signal::SIGTERM);
    assert_eq!(node.metadata().running(), None, "an orderly stop leaves nothing running");
    let port = node.start().await;
    assert_eq!(list(&node.connect(port).await, &key).await.expect("list"), ["projects/shop"]);
}

fn log_line(log: &Path, text: &str) -> Option<String> {
    fs::read_to_string(log).ok()?.lines().find(|line| line.contains(text)).map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_database_comes_back_and_callers_are_told_to_try_again() {
    let mut node = Node::new();
    let port = node.start().await;
    let key = node.key();
    let channel = node.connect(port).await;
    create(&channel, &key, "shop").await;
    let database = node.metadata().running().expect("runs");
    kill(Pid::from_raw(database), Signal::SIGKILL).expect("kill");
    let start = Instant::now();
    loop {
        match list(&channel, &key).await {
            Ok(projects) if node.metadata().running().is_some_and(|pid| pid != database) => {
                assert_eq!(projects, ["projects/shop"]);
                break;
            }
            Ok(_) => {}
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
        assert!(start.elapsed() < LIMIT, "the database does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(node.child.as_mut().expect("runs").try_wait().expect("wait").is_none(), "the control plane died");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_one_on_the_same_directory_is_refused() {
    let mut node = Node::new();
    node.start().await;
    let output = node.run(&["run"]);
    assert!(!output.status.success());
    let pid = node.child.as_ref().expect("runs").id();
    assert!(
        stderr(&output).contains(&format!("another control plane (process {pid}) works in")),
        "{}",
        stderr(&output)
    );
    node.key();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_without_a_running_control_plane_and_leaves_nothing_running() {
    let mut node = Node::new();
    let key = node.key();
    assert_eq!(node.metadata().running(), None);
    let port = node.start().await;
    assert!(list(&node.connect(port).await, &key).await.expect("the key is good").is_empty());
    let output = node.run(&["key", "create", "--project", "nowhere"]);
    assert!(stderr(&output).contains("projects/nowhere does not exist"), "{}", stderr(&output));
    let output = node.run(&["key", "create", "--role", "boss"]);
    assert!(stderr(&output).contains("viewer, operator, admin"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_says_why_and_leaves_nothing_running() {
    let node = Node::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    let address = taken.local_addr().expect("address");
    node.write_config(&format!("listen = \"{address}\"\n"));
    let output = node.run(&["run"]);
    assert!(!output.status.success());
    assert!(stderr(&output).contains(&format!("cannot listen on {address}")), "{}", stderr(&output));
    assert_eq!(node.metadata().running(), None);

    fs::write(node.state().join("kek"), format!("1 {}\n", "ab".repeat(32))).expect("another key file");
    node.write_config("listen = \"127.0.0.1:0\"\n");
    let output = node.run(&["run"]);
    assert!(stderr(&output).contains("does not open with the key file `kek`"), "{}", stderr(&output));
    assert_eq!(node.metadata().running(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_database_that_is_away_is_waited_for_and_its_password_shown_nowhere() {
    let mut node = Node::new();
    node.write_config("listen = \"127.0.0.1:0\"\n[metadata]\nurl = \"postgres://me:hunter2@127.0.0.1:1/x\"\n");
    node.logs = 1;
    let log = File::create(node.log()).expect("log");
    node.child = Some(node.command(&["run"]).stderr(log).stdout(Stdio::null()).spawn().expect("spawn"));
    let path = node.log();
    wait("a word on the absent database", || log_line(&path, "the metadata database cannot be reached yet")).await;
    assert!(node.child.as_mut().expect("runs").try_wait().expect("wait").is_none(), "it gave up");
    node.signal(Signal::SIGTERM);
    let text = fs::read_to_string(&path).expect("log");
    assert!(text.contains("stopped while waiting for the metadata database"), "{text}");
    let shown = node.run(&["check-config"]);
    for text in [text, String::from_utf8_lossy(&shown.stdout).into_owned()] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_wrong_configuration_is_refused_with_line_and_remedy() {
    let node = Node::new();
    for (text, expected) in [
        ("\nlisten = \"127.0.0.1:0\"\nlimit = 3\n", "line 4"),
        ("undelete_window = \"9000h\"\n", "undelete_window: 9000h is outside 0s to 2160h"),
        ("[cadence]\nheartbeat_every = \"soon\"\n", "cadence.heartbeat_every"),
        ("listen = \"nowhere\"\n", "listen"),
        ("[metadata]\nrun_as = \"no-such-user-here\"\n", "metadata.run_as"),
    ] {
        node.write_config(text);
        let verb = if text.contains("run_as") { "run" } else { "check-config" };
        let output = node.run(&[verb]);
        assert!(!output.status.success(), "{text}");
        assert!(stderr(&output).contains(expected), "{text}: {}", stderr(&output));
    }
    node.write_config("listen = \"127.0.0.1:7400\"\n");
    let output = node.run(&["--listen", "127.0.0.1:7411", "check-config"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("listen = 127.0.0.1:7411"), "{output:?}");
    let output = node.run(&["--version"]);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("windlass-control-plane "), "{output:?}");
}
