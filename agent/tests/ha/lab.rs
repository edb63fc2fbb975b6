//! Some hosts in one process, each with its own agent parts and one member of the same instance.

use std::{
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use windlass_agent::{
    ha::Replication,
    host::{HostKind, files, proc},
    link::ReplicationTarget,
    members::{IssuedCertificate, MemberCertificates, Members, MembersConfig, WarmPool},
};
use windlass_core::{
    Error,
    engine::Engine,
    id::{InstanceId, MemberId},
    size::Resources,
};
use windlass_kit::{
    clock::BootInstant,
    failpoint::{Action, Failpoints},
    telemetry::{self, Format, TelemetryConfig},
};
use windlass_proto::agent::v1::{self as pb, apply_object::Kind, member_goal, replication_order::Goal};

pub(crate) const PASSWORD: &str = "correct horse";
const PATIENCE: Duration = Duration::from_secs(30);

/// Hosts and an instance.
pub(crate) struct Lab {
    pub(crate) nodes: Vec<Node>,
    pub(crate) instance: InstanceId,
    rev: AtomicU64,
    directory: PathBuf,
    /// Deletes it.
    _own: tempfile::TempDir,
}

/// A host with a member.
pub(crate) struct Node {
    pub(crate) goal: pb::MemberGoal,
    pub(crate) members: Arc<Members>,
    pub(crate) replication: Arc<Replication>,
    pub(crate) failpoints: Failpoints,
    config: MembersConfig,
    directory: PathBuf,
    agent: Option<(CancellationToken, Vec<tokio::task::JoinHandle<()>>)>,
}

struct TestCa(CertifiedIssuer<'static, KeyPair>);

impl Lab {
    /// This many hosts; the first member is initialised, the others are to be copied.
    pub(crate) async fn new(count: usize) -> Self {
        let lab = Self::hosts(count).await;
        for node in &lab.nodes {
            node.apply().await;
        }
        lab
    }

    async fn hosts(count: usize) -> Self {
        // Told only by a test that fails. Another test of this process may have been first.
        let _ = telemetry::init(&TelemetryConfig { level: "warn,windlass_agent=debug".into(), format: Format::Text });
        let own = scratch("wh-");
        let instance = InstanceId::new();
        let mut nodes = Vec::new();
        for index in 0..count {
            nodes.push(Node::new(own.path(), instance, index).await);
        }
        Self { nodes, instance, rev: AtomicU64::new(0), directory: own.path().to_owned(), _own: own }
    }

    /// Two hosts; the first has a member that is no replica of anything.
    pub(crate) async fn single() -> Self {
        let mut lab = Self::hosts(2).await;
        lab.nodes[0].goal.replicated = false;
        for node in &lab.nodes {
            node.apply().await;
        }
        lab
    }

    /// A lab whose first member leads epoch 1 and whose others stream under their epoch names and acknowledge.
    pub(crate) async fn founded(count: usize) -> (Self, String) {
        let lab = Self::new(count).await;
        let nonce = Uuid::new_v4().to_string();
        lab.lead(0, 1, &nonce, &[]).await;
        lab.reaches(0, pb::ReplicaState::Open).await;
        if count > 1 {
            for index in 1..count {
                lab.follow(index, 1, &nonce, 0).await;
            }
            for index in 1..count {
                lab.reaches(index, pb::ReplicaState::Standby).await;
            }
            let acks: Vec<usize> = (1..count).collect();
            lab.lead(0, 1, &nonce, &acks).await;
            lab.enforces(0, &acks).await;
        }
        (lab, nonce)
    }

    /// The next rev.
    pub(crate) fn next_rev(&self) -> u64 {
        self.rev.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn order(&self, index: usize, epoch: u64, goal: Goal) -> pb::ReplicationOrder {
        pb::ReplicationOrder {
            instance_id: self.instance.to_string(),
            member_id: self.nodes[index].goal.member_id.clone(),
            epoch,
            rev: self.next_rev(),
            // No control plane is heard here: only the test of fencing wants it.
            fence_after: Some(pbjson_types::Duration { seconds: 3600, nanos: 0 }),
            goal: Some(goal),
        }
    }

    pub(crate) async fn send(&self, index: usize, order: pb::ReplicationOrder) {
        let orders = pb::ReplicationOrders { orders: vec![order], owner_epoch: 1, ..Default::default() };
        self.nodes[index].replication.take(orders, BootInstant::now()).await;
    }

    pub(crate) fn lead_goal(&self, nonce: &str, acks: &[usize]) -> Goal {
        Goal::Lead(pb::Lead {
            nonce: nonce.to_owned(),
            acks: acks.iter().map(|index| self.nodes[*index].goal.member_id.clone()).collect(),
            acks_needed: u32::from(!acks.is_empty()),
            barrier_rev: self.rev.load(Ordering::Relaxed) + 1,
            members: self.addresses(),
            checkpoint_rev: 0,
        })
    }

    pub(crate) fn follow_goal(&self, nonce: &str, leader: usize) -> Goal {
        Goal::Follow(pb::Follow {
            nonce: nonce.to_owned(),
            leader: Some(self.address(leader)),
            may_acknowledge: true,
            clone_anew: false,
            members: self.addresses(),
            common_lsn: 0,
        })
    }

    pub(crate) async fn lead(&self, index: usize, epoch: u64, nonce: &str, acks: &[usize]) {
        let goal = self.lead_goal(nonce, acks);
        self.send(index, self.order(index, epoch, goal)).await;
    }

    pub(crate) async fn follow(&self, index: usize, epoch: u64, nonce: &str, leader: usize) {
        let goal = self.follow_goal(nonce, leader);
        self.send(index, self.order(index, epoch, goal)).await;
    }

    pub(crate) async fn seal(&self, index: usize, epoch: u64) {
        self.send(index, self.order(index, epoch, Goal::Seal(pb::Seal {}))).await;
    }

    pub(crate) async fn drain(&self, index: usize, epoch: u64) {
        self.send(index, self.order(index, epoch, Goal::Drain(pb::Drain {}))).await;
    }

    pub(crate) async fn rest(&self, index: usize, epoch: u64) {
        self.send(index, self.order(index, epoch, Goal::Rest(pb::Rest {}))).await;
    }

    /// Another agent shows this epoch.
    pub(crate) fn show(&self, index: usize, epoch: u64) {
        let epochs = [pb::InstanceEpoch { instance_id: self.instance.to_string(), epoch }];
        self.nodes[index].replication.shown(&epochs);
    }

    fn address(&self, index: usize) -> pb::MemberAddress {
        let goal = &self.nodes[index].goal;
        pb::MemberAddress { member_id: goal.member_id.clone(), address: "127.0.0.1".to_owned(), port: goal.port }
    }

    fn addresses(&self) -> Vec<pb::MemberAddress> {
        (0..self.nodes.len()).map(|index| self.address(index)).collect()
    }

    pub(crate) fn facts(&self, index: usize) -> Option<pb::ReplicaFacts> {
        self.nodes[index].replication.facts().into_iter().next()
    }

    /// Waits until the facts are so.
    pub(crate) async fn until(
        &self,
        index: usize,
        what: &str,
        so: impl Fn(&pb::ReplicaFacts) -> bool,
    ) -> pb::ReplicaFacts {
        let begun = Instant::now();
        loop {
            let facts = self.facts(index);
            match facts {
                Some(facts) if so(&facts) => return facts,
                facts if begun.elapsed() > PATIENCE => {
                    let log = self.nodes[index].log();
                    panic!("member {index}: not within {PATIENCE:?}: {what}; facts: {facts:#?}; log: {log}")
                }
                Some(_) | None => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }

    pub(crate) async fn reaches(&self, index: usize, state: pb::ReplicaState) -> pb::ReplicaFacts {
        self.until(index, state.as_str_name(), |facts| facts.state() == state).await
    }

    /// The leader waits for exactly these, and its barrier was acknowledged since.
    pub(crate) async fn enforces(&self, index: usize, acks: &[usize]) -> pb::ReplicaFacts {
        let mut wanted: Vec<String> = acks.iter().map(|index| self.nodes[*index].goal.member_id.clone()).collect();
        wanted.sort();
        self.until(index, "enforced and open", |facts| {
            let mut enforced = facts.enforced.clone().unwrap_or_default();
            enforced.acks.sort();
            enforced.acks == wanted && facts.state() == pb::ReplicaState::Open && enforced.rev == facts.applied_rev
        })
        .await
    }

    /// Everything that works below the lab ends now.
    fn sweep(&self) {
        for _ in 0..100 {
            let left = proc::working_under(&self.directory, proc::Which::All);
            if left.is_empty() {
                return;
            }
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whatever happens in a test, its processes end with it: all that work below its directory.
impl Drop for Lab {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some((stop, tasks)) = node.agent.take() {
                stop.cancel();
                tasks.iter().for_each(tokio::task::JoinHandle::abort);
            }
        }
        self.sweep();
    }
}

impl Node {
    async fn new(lab: &Path, instance: InstanceId, index: usize) -> Self {
        let directory = lab.join(index.to_string());
        std::fs::create_dir(&directory).expect("directory");
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).expect("mode");
        let root = nix::unistd::Uid::effective().is_root();
        let config = MembersConfig {
            state_dir: directory.join("state"),
            run_dir: directory.join("run"),
            run_as: root.then(|| "windlass-db".to_owned()),
            process_host: HostKind::Direct,
            bind_address: "127.0.0.1".to_owned(),
            check_every: Duration::from_millis(500),
            disk_floor_bytes: 1 << 20,
            warm_pool: WarmPool::Off,
            ..MembersConfig::default()
        };
        let failpoints = Failpoints::armed();
        let (members, replication) = open(lab, &config, &failpoints).await;
        let versions = members.engines();
        let versions = versions.iter().filter(|known| known.engine == Engine::Postgres);
        let version =
            Engine::Postgres.newest(versions.map(|known| known.version.as_str())).expect("PostgreSQL").to_owned();
        let size = Resources::DEFAULT;
        let source = if index == 0 { member_goal::DataSource::Initialise } else { member_goal::DataSource::Cloned };
        let goal = pb::MemberGoal {
            instance_id: instance.to_string(),
            member_id: MemberId::new().to_string(),
            title: format!("demo/pg-{}", index + 1),
            generation: 1,
            engine: Engine::Postgres.to_string(),
            version,
            port: free_port().into(),
            cpu_millis: size.cpu_millis,
            memory_bytes: size.memory_bytes,
            disk_bytes: size.disk_bytes,
            parameters: (Engine::Postgres.descriptor().defaults)(&size),
            power: member_goal::Power::On.into(),
            restarts: 0,
            replicated: true,
            data: source.into(),
            admin: Some(pb::ApplyObject {
                kind: Kind::User.into(),
                name: "app".into(),
                verifier: postgres_protocol::password::scram_sha_256(PASSWORD.as_bytes()),
                administrator: true,
                ..Default::default()
            }),
        };
        if index == 0 {
            fill_pool(&config, &goal).await;
        }
        let mut node = Self { goal, members, replication, failpoints, config, directory: lab.to_owned(), agent: None };
        node.run();
        node
    }

    fn run(&mut self) {
        let stop = CancellationToken::new();
        let tasks = vec![
            tokio::spawn(self.members.clone().run(stop.clone())),
            tokio::spawn(self.replication.clone().run(stop.clone())),
        ];
        self.agent = Some((stop, tasks));
    }

    /// The agent stops; the server goes on.
    pub(crate) async fn agent_stops(&mut self) {
        let (stop, tasks) = self.agent.take().expect("it runs");
        stop.cancel();
        for task in tasks {
            task.await.expect("agent");
        }
    }

    /// An agent starts on what the last one left.
    pub(crate) async fn agent_starts(&mut self) {
        self.failpoints = Failpoints::armed();
        (self.members, self.replication) = open(&self.directory, &self.config, &self.failpoints).await;
        self.run();
    }

    /// The agent starts again, and looks at its members without cause once an hour.
    pub(crate) async fn supervision_only_when_told(&mut self) {
        self.config.check_every = Duration::from_secs(3600);
        self.agent_stops().await;
        self.agent_starts().await;
    }

    pub(crate) async fn apply(&self) -> pb::MemberFacts {
        let applied = self.members.apply(self.goal.clone(), &CancellationToken::new()).await;
        applied.unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    pub(crate) fn member(&self) -> MemberId {
        self.goal.member_id.parse().expect("member")
    }

    /// The member's directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.config.state_dir.join("members").join(format!("{}-{}", self.goal.engine, self.member().short()))
    }

    /// The postmaster's pid.
    pub(crate) fn pid(&self) -> Option<i32> {
        let text = std::fs::read_to_string(self.root().join("data/postmaster.pid")).ok()?;
        text.lines().next()?.parse().ok()
    }

    /// Ends the server and all its children, as by kill -9.
    pub(crate) fn kill_server(&self) {
        self.signal_server(Signal::SIGKILL);
    }

    /// Signals the server and all its children.
    pub(crate) fn signal_server(&self, signal: Signal) {
        for pid in proc::working_under(&self.root().join("data"), proc::Which::All) {
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// What signals the checkpointer, which alone tells the other processes whether commits wait, and late if it is busy.
    pub(crate) async fn checkpointer(&self) -> impl Fn(Signal) {
        let pid = self.sql("select pid from pg_stat_activity where backend_type = 'checkpointer'").await;
        let pid = Pid::from_raw(pid.expect("a checkpointer").parse().expect("a pid"));
        move |signal| kill(pid, signal).expect("it runs")
    }

    /// Holds the machine at the point; returns when it is there.
    pub(crate) async fn held_at(&self, point: &str) {
        let reached = self.failpoints.paused(point);
        tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("it did not get to {point}"));
    }

    pub(crate) fn hold(&self, point: &str) {
        self.failpoints.set(point, Action::Pause.always());
    }

    pub(crate) fn let_go(&self, point: &str) {
        self.failpoints.set(point, Action::Off.always());
    }

    /// Starts the server behind the agent's back, in a session of its own.
    pub(crate) fn start_by_hand(&self) -> Child {
        let data = self.root().join("data");
        let program = self
            .members
            .engines()
            .iter()
            .find(|known| known.engine == Engine::Postgres)
            .map(|known| known.version.clone());
        let program = format!("/usr/lib/postgresql/{}/bin/postgres", program.expect("PostgreSQL"));
        let mut command = Command::new("setsid");
        if nix::unistd::Uid::effective().is_root() {
            command = Command::new("setpriv");
            command.args(["--reuid", "windlass-db", "--regid", "windlass-db", "--clear-groups", "setsid"]);
        }
        let log = std::fs::File::create(self.root().join("log/by-hand.log")).expect("log");
        command.arg(program).arg("-D").arg(&data).current_dir(&data).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("log")).stderr(log).spawn().expect("it starts")
    }

    fn log(&self) -> String {
        files::tail(&self.root().join("log/server.log"), 0, 20)
    }

    /// Runs a statement as the superuser; the last line of its output, or what psql said.
    pub(crate) async fn sql(&self, sql: &str) -> Result<String, String> {
        let target = format!(
            "host={} port={} user=windlass dbname=postgres connect_timeout=5",
            self.config.run_dir.join(self.member().short()).display(),
            self.goal.port
        );
        psql(&target, None, sql).await
    }

    /// Runs a statement as an application.
    pub(crate) async fn app(&self, sql: &str) -> Result<String, String> {
        let target = format!(
            "host=127.0.0.1 port={} user=app dbname=app sslmode=verify-full sslrootcert={} connect_timeout=5",
            self.goal.port,
            self.directory.join("ca.pem").display()
        );
        psql(&target, Some(PASSWORD), sql).await
    }
}

/// Waits for an answer: a standby shows a moment later what it has acknowledged, and chores are done once a second.
pub(crate) async fn comes(expected: &str, ask: impl AsyncFn() -> Result<String, String>) {
    let begun = Instant::now();
    loop {
        let answer = ask().await;
        if answer.as_deref() == Ok(expected) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {answer:?} instead of {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn psql(target: &str, password: Option<&str>, sql: &str) -> Result<String, String> {
    let mut psql = tokio::process::Command::new("psql");
    psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", target, "-c", sql]).kill_on_drop(true);
    if let Some(password) = password {
        psql.env("PGPASSWORD", password);
    }
    let output = psql.output().await.expect("psql runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout).lines().last().unwrap_or_default().to_owned())
    } else {
        Err(text(&output.stderr))
    }
}

async fn open(lab: &Path, config: &MembersConfig, failpoints: &Failpoints) -> (Arc<Members>, Arc<Replication>) {
    let ca = Arc::new(TestCa::open(lab));
    let members = Members::open(config.clone(), ca, failpoints.clone()).await.expect("members open");
    let replication = Replication::new(members.clone(), failpoints.clone()).expect("replication opens");
    (members, replication)
}

/// A directory as the pool has them, initialised once for all tests of this build.
async fn fill_pool(config: &MembersConfig, goal: &pb::MemberGoal) {
    let program = std::env::current_exe().expect("this program");
    let built = std::fs::metadata(&program).and_then(|it| it.modified()).expect("built");
    let built = built.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    let templates = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let template = templates.join(format!("ha-template-{}-{built}", goal.version));
    let lock = std::fs::File::create(templates.join("ha-template.lock")).expect("lock");
    lock.lock().expect("one at a time");
    if !template.exists() {
        for entry in std::fs::read_dir(templates).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("ha-template-") {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let made = scratch("wt-");
        let config =
            MembersConfig { state_dir: made.path().join("state"), run_dir: made.path().join("run"), ..config.clone() };
        let ca = Arc::new(TestCa::open(made.path()));
        let members = Members::open(config.clone(), ca, Failpoints::none()).await.expect("members open");
        let off = member_goal::Power::Off.into();
        let goal = pb::MemberGoal { power: off, replicated: false, ..goal.clone() };
        members.apply(goal.clone(), &CancellationToken::new()).await.expect("initialised");
        let draft = templates.join("ha-draft");
        let _ = std::fs::remove_dir_all(&draft);
        let member: MemberId = goal.member_id.parse().expect("member");
        copy(&config.state_dir.join(format!("members/postgres-{}/data", member.short())), &draft);
        std::fs::rename(&draft, &template).expect("template");
    }
    drop(lock);
    let pooled = config.state_dir.join("warm").join(format!("postgres-{}", goal.version));
    std::fs::create_dir_all(&pooled).expect("pool");
    copy(&template, &pooled.join("data"));
}

/// A directory that database users may enter. In memory if there is room: the tests are about processes and files, not
/// about the disk.
fn scratch(prefix: &str) -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let roomy = files::free_space(memory).is_ok_and(|free| free > 4 << 30);
    let parent = if roomy { memory } else { Path::new("/tmp") };
    let own = tempfile::Builder::new().prefix(prefix).tempdir_in(parent).expect("directory");
    std::fs::set_permissions(own.path(), std::fs::Permissions::from_mode(0o755)).expect("mode");
    own
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.expect("cp").success());
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port()
}

impl TestCa {
    fn open(directory: &Path) -> Self {
        let path = directory.join("ca.key");
        let key = match std::fs::read_to_string(&path) {
            Ok(pem) => KeyPair::from_pem(&pem).expect("key"),
            Err(_) => {
                let key = KeyPair::generate().expect("key");
                std::fs::write(&path, key.serialize_pem()).expect("write");
                key
            }
        };
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.distinguished_name.push(DnType::CommonName, "CA of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, key).expect("ca");
        std::fs::write(directory.join("ca.pem"), issuer.pem()).expect("write");
        Self(issuer)
    }
}

#[async_trait]
impl MemberCertificates for TestCa {
    async fn issue(&self, member: MemberId) -> Result<IssuedCertificate, Error> {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("params");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, member.to_string());
        params.distinguished_name.push(DnType::OrganizationalUnitName, "windlass-member");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &self.0).expect("sign");
        Ok(IssuedCertificate { chain_pem: leaf.pem(), key_pem: key.serialize_pem(), ca_pem: self.0.pem() })
    }
}
