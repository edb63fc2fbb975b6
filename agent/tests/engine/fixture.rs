//! One host of its own for each test: directories, ports, a CA, and members that are gone afterwards.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use sha1::{Digest, Sha1};
use tokio_util::sync::CancellationToken;
use windlass_agent::{
    host::{HostKind, files, proc},
    members::{Disposal, IssuedCertificate, MemberCertificates, Members, MembersConfig, WarmPool},
};
use windlass_core::{
    Error,
    engine::Engine,
    id::{InstanceId, MemberId},
    size::Resources,
};
use windlass_kit::failpoint::Failpoints;
use windlass_proto::agent::v1::{self as pb, apply_object::Kind, member_goal};

pub(crate) const PASSWORD: &str = "correct horse";

/// A host of its own.
pub(crate) struct Host {
    directory: PathBuf,
    /// Deletes it; None in an agent that only visits.
    own: Option<tempfile::TempDir>,
    pub(crate) config: MembersConfig,
    pub(crate) failpoints: Failpoints,
}

/// A data directory to fill the pool with.
pub(crate) struct Template {
    directory: PathBuf,
    pooled: PathBuf,
}

impl Template {
    /// The next create takes a copy.
    pub(crate) fn fill_pool(&self) {
        let data = self.pooled.join("data");
        if !data.exists() {
            std::fs::create_dir_all(&self.pooled).expect("pool");
            copy(&self.directory, &data);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.expect("cp").success());
}

/// A CA that lives in the host's directory, so that agents in other processes use the same.
pub(crate) struct TestCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Host {
    pub(crate) fn new() -> Self {
        // In memory if there is room: the tests are about processes and files, not about the disk.
        let memory = Path::new("/dev/shm");
        let roomy = files::free_space(memory).is_ok_and(|free| free > 4 << 30);
        let parent = if roomy { memory } else { Path::new("/tmp") };
        let own = tempfile::Builder::new().prefix("wl-").tempdir_in(parent).expect("directory");
        std::fs::set_permissions(own.path(), std::fs::Permissions::from_mode(0o755)).expect("mode");
        let mut host = Self::at(own.path());
        host.own = Some(own);
        host
    }

    /// The host of another process.
    pub(crate) fn at(directory: &Path) -> Self {
        let root = nix::unistd::Uid::effective().is_root();
        let config = MembersConfig {
            state_dir: directory.join("state"),
            run_dir: directory.join("run"),
            run_as: root.then(|| "windlass-db".to_owned()),
            process_host: HostKind::Direct,
            bind_address: "127.0.0.1".to_owned(),
            check_every: Duration::from_millis(200),
            disk_floor_bytes: 1 << 20,
            warm_pool: WarmPool::Off,
            ..MembersConfig::default()
        };
        Self { directory: directory.to_owned(), own: None, config, failpoints: Failpoints::armed() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.config.state_dir.clone()
    }

    /// An agent's start.
    pub(crate) async fn open(&self) -> Arc<Members> {
        self.try_open().await.expect("members open")
    }

    pub(crate) async fn try_open(&self) -> Result<Arc<Members>, Error> {
        Members::open(self.config.clone(), Arc::new(TestCa::open(self.path())), self.failpoints.clone()).await
    }

    /// A goal for a new member of the newest installed version.
    pub(crate) fn goal(&self, members: &Members, engine: Engine) -> pb::MemberGoal {
        let installed = members.engines();
        let versions = installed.iter().filter(|known| known.engine == engine).map(|known| known.version.as_str());
        let size = Resources::DEFAULT;
        pb::MemberGoal {
            instance_id: InstanceId::new().to_string(),
            member_id: MemberId::new().to_string(),
            title: format!("demo/{engine}-1"),
            generation: 1,
            engine: engine.to_string(),
            version: engine.newest(versions).expect("an installed version").to_owned(),
            port: free_port().into(),
            cpu_millis: size.cpu_millis,
            memory_bytes: size.memory_bytes,
            disk_bytes: size.disk_bytes,
            parameters: (engine.descriptor().defaults)(&size),
            power: member_goal::Power::On.into(),
            restarts: 0,
            replicated: false,
            data: member_goal::DataSource::Initialise.into(),
            admin: Some(user(engine, "app", PASSWORD, pb::ApplyObject { administrator: true, ..Default::default() })),
        }
    }

    /// The directory of a member.
    pub(crate) fn root(&self, goal: &pb::MemberGoal) -> PathBuf {
        self.state().join("members").join(format!("{}-{}", goal.engine, member(goal).short()))
    }

    /// Pids of the member's server processes that are no child of another.
    pub(crate) fn servers(&self, goal: &pb::MemberGoal) -> Vec<i64> {
        let pids = proc::working_under(&self.root(goal).join("data"), proc::Which::All);
        let is_root = |pid: &&i32| proc::stat(**pid).is_some_and(|stat| !pids.contains(&stat.parent));
        pids.iter().filter(is_root).map(|pid| i64::from(*pid)).collect()
    }

    /// A data directory as the pool has them, to be put there again and again: initialising takes most of a create's
    /// time, and tests that are not about it need no identity of their own.
    pub(crate) async fn template(&self, engine: Engine) -> Template {
        let members = self.open().await;
        let goal = self.goal(&members, engine);
        let off = pb::MemberGoal { power: member_goal::Power::Off.into(), ..goal };
        apply(&members, &off).await;
        let directory = self.path().join(format!("template-{engine}"));
        copy(&self.root(&off).join("data"), &directory);
        members.remove(member(&off), Disposal::Purge).await.expect("remove");
        Template { directory, pooled: self.state().join("warm").join(format!("{engine}-{}", off.version)) }
    }

    /// The PEM file of the CA.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.path().join("ca.pem")
    }

    /// Names in a directory of the state; none if it does not exist.
    pub(crate) fn names(&self, directory: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.state().join(directory)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Nothing of any member is left: no directory, process, socket or record.
    pub(crate) fn assert_clean(&self) {
        for directory in ["members", "units", "retained"] {
            assert_eq!(self.names(directory), [""; 0], "{directory}");
        }
        let run: Vec<_> = std::fs::read_dir(&self.config.run_dir).expect("run").flatten().map(|e| e.path()).collect();
        assert!(run.is_empty(), "{run:?}");
        let left = proc::working_under(self.path(), proc::Which::All);
        assert!(left.is_empty(), "processes are left: {left:?}");
    }
}

/// Whatever happens in a test, its processes end with it: all that work below its directory.
impl Drop for Host {
    fn drop(&mut self) {
        if self.own.is_none() {
            return;
        }
        for _ in 0..100 {
            let left = proc::working_under(self.path(), proc::Which::All);
            if left.is_empty() {
                return;
            }
            for pid in left {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl TestCa {
    pub(crate) fn open(directory: &Path) -> Self {
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
        Self { issuer }
    }
}

#[async_trait]
impl MemberCertificates for TestCa {
    async fn issue(&self, _member: MemberId) -> Result<IssuedCertificate, Error> {
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("params");
        let leaf = params.signed_by(&key, &self.issuer).expect("sign");
        Ok(IssuedCertificate { chain_pem: leaf.pem(), key_pem: key.serialize_pem(), ca_pem: self.issuer.pem() })
    }
}

/// An order for a user with this password, as the control plane would make it.
pub(crate) fn user(engine: Engine, name: &str, password: &str, order: pb::ApplyObject) -> pb::ApplyObject {
    let verifier = match engine {
        Engine::Postgres => postgres_protocol::password::scram_sha_256(password.as_bytes()),
        Engine::Mariadb => {
            let once: [u8; 20] = Sha1::digest(password.as_bytes()).into();
            let twice: [u8; 20] = Sha1::digest(once).into();
            format!("*{}", hex::encode_upper(twice))
        }
    };
    pb::ApplyObject { kind: Kind::User.into(), name: name.to_owned(), verifier, ..order }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port()
}

/// The id in a goal.
pub(crate) fn member(goal: &pb::MemberGoal) -> MemberId {
    goal.member_id.parse().expect("member id")
}

/// The engine of a goal.
pub(crate) fn engine(goal: &pb::MemberGoal) -> Engine {
    goal.engine.parse().expect("engine")
}

/// Applies a goal that must succeed.
pub(crate) async fn apply(members: &Members, goal: &pb::MemberGoal) -> pb::MemberFacts {
    members.apply(goal.clone(), &CancellationToken::new()).await.unwrap_or_else(|error| panic!("{}", error.chain()))
}

/// Applies a goal that must fail.
pub(crate) async fn refuse(members: &Members, goal: &pb::MemberGoal) -> Error {
    let result = members.apply(goal.clone(), &CancellationToken::new()).await;
    result.map(|facts| panic!("applied: {facts:?}")).expect_err("refused")
}

/// The goal with other parameters and the next generation.
pub(crate) fn with(goal: &pb::MemberGoal, parameters: &[(&str, &str)]) -> pb::MemberGoal {
    let more = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let parameters: BTreeMap<String, String> = goal.parameters.clone().into_iter().chain(more).collect();
    pb::MemberGoal { generation: goal.generation + 1, parameters, ..goal.clone() }
}

/// Waits until the facts of the member are so, at most 30 s.
pub(crate) async fn eventually(
    members: &Members,
    what: &str,
    so: impl Fn(&pb::MemberFacts) -> bool,
) -> pb::MemberFacts {
    let mut changed = members.changed();
    let wait = async {
        loop {
            if let Some(facts) = members.facts().into_iter().find(&so) {
                return facts;
            }
            let _ = tokio::time::timeout(Duration::from_millis(50), changed.changed()).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
    waited.unwrap_or_else(|_| panic!("not within 30 s: {what}; facts: {:?}", members.facts()))
}

/// Whether facts say that the server accepts connections.
pub(crate) fn runs(facts: &pb::MemberFacts) -> bool {
    facts.process() == pb::member_facts::Process::Running
}
