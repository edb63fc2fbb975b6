//! Servers, a proxy in this process before them, and clients. Dropped, all of it ends.

use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use secrecy::SecretString;
use tokio_postgres::{Client, NoTls};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use windlass_core::id::MemberId;
use windlass_kit::tls::{Identity, IdentityStore};
use windlass_wire_pg::scram::Keys;

use crate::{
    Shared,
    accept::{Accept, Listeners},
    config::{Config, Plaintext},
    drain::{Drain, Stage},
    evidence::Evidence,
    hold::Hold,
    limits::Limits,
    metrics::Metrics,
    protocols::postgres::Postgres,
    routes::{self, Backend, Pooling, Route, RouteTable, State},
    tls::{Backends, ServerTls},
};

/// Bound of every wait in these tests.
pub(super) const SOON: Duration = Duration::from_secs(20);

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test CA");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Chain and key of a certificate for this machine.
    fn issue(&self, name: &str, unit: &str, uri: Option<String>) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
        params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
        params.subject_alt_names.extend(uri.map(|uri| SanType::URI(uri.try_into().unwrap())));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn identity(&self, name: &str, unit: &str) -> Identity {
        let (chain, key) = self.issue(name, unit, None);
        Identity::from_pem(&chain, &SecretString::from(key)).unwrap()
    }
}

/// One PostgreSQL server with the roles that the proxy needs, and the user `ada` with password `loom`.
pub(super) struct Server {
    pub(super) member: MemberId,
    pub(super) port: u16,
    directory: tempfile::TempDir,
    process: Option<Child>,
}

fn binaries() -> PathBuf {
    let mut versions: Vec<_> =
        fs::read_dir("/usr/lib/postgresql").unwrap().map(|entry| entry.unwrap().path().join("bin")).collect();
    versions.sort();
    versions.pop().unwrap()
}

/// PostgreSQL refuses to run as root, so root runs it as the system user of databases.
fn as_database_user(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = database_user() {
        command.uid(user).gid(group);
    }
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").current_dir("/");
    command
}

fn database_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let account = ["windlass-db:", "postgres:"]
        .iter()
        .find_map(|name| accounts.lines().find(|line| line.starts_with(name)))
        .expect("run as root, these tests need the system user windlass-db; cargo xtask test makes it");
    let mut fields = account.split(':').skip(2);
    Some((fields.next().unwrap().parse().unwrap(), fields.next().unwrap().parse().unwrap()))
}

fn done(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    fn start(ca: &Ca) -> Self {
        let directory = tempfile::Builder::new().prefix("windlass-proxy-").tempdir_in("/tmp").unwrap();
        let member = MemberId::new();
        let path = directory.path();
        let data = path.join("data");
        if let Some((user, group)) = database_user() {
            std::os::unix::fs::chown(path, Some(user), Some(group)).unwrap();
        }
        done(
            as_database_user(&binaries().join("initdb"))
                .args(["--no-sync", "--auth=trust", "--username=root", "--locale=C.UTF-8", "-D"])
                .arg(&data),
        );
        let (chain, key) =
            ca.issue(&member.to_string(), "windlass-member", Some(format!("windlass://member/{member}")));
        for (name, text) in [("server.crt", &chain), ("server.key", &key), ("ca.crt", &ca.pem)] {
            fs::write(data.join(name), text).unwrap();
            if let Some((user, group)) = database_user() {
                std::os::unix::fs::chown(data.join(name), Some(user), Some(group)).unwrap();
            }
            fs::set_permissions(data.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::write(
            data.join("pg_hba.conf"),
            "local all all trust\n\
             hostssl postgres windlass_proxy all cert clientname=DN map=proxy\n\
             hostssl all all all scram-sha-256\n",
        )
        .unwrap();
        fs::write(data.join("pg_ident.conf"), "proxy \"/^.*OU=windlass-proxy.*$\" windlass_proxy\n").unwrap();
        let port = free_port();
        let mut conf = fs::read_to_string(data.join("postgresql.conf")).unwrap();
        let _ = write!(
            conf,
            "\nport={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{}'\nssl=on\nssl_ca_file='ca.crt'\n\
             fsync=off\nwindlass.epoch='1'\nlog_min_messages=warning\nmax_connections=60\n",
            path.display()
        );
        fs::write(data.join("postgresql.conf"), conf).unwrap();
        let mut server = Self { member, port, directory, process: None };
        server.run();
        // On every server the same, as on members of one instance.
        let verifier = Keys::from_password(b"loom", b"salt of the test", 4096).unwrap().1.to_string_for_storage();
        server.sql(&format!("create role ada login password '{verifier}'"));
        server.sql(
            "create role windlass_proxy login; create database loom owner ada; create schema windlass; \
             create function windlass.verifier(name text) returns text language sql security definer as \
             'select rolpassword from pg_catalog.pg_authid where rolname = name and rolcanlogin'; \
             revoke all on function windlass.verifier from public; grant usage on schema windlass to windlass_proxy; \
             grant execute on function windlass.verifier to windlass_proxy",
        );
        server
    }

    /// Starts the process and waits until it answers.
    pub(super) fn run(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.directory.path().join("log")).unwrap();
        let process = as_database_user(&binaries().join("postgres"))
            .arg("-D")
            .arg(self.directory.path().join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let began = Instant::now();
        while !self.psql("postgres", "select 1").status.success() {
            assert!(began.elapsed() < SOON, "{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Ends it as a crash does.
    pub(super) fn crash(&mut self) {
        let mut process = self.process.take().unwrap();
        let pid = rustix::process::Pid::from_child(&process);
        rustix::process::kill_process(pid, rustix::process::Signal::QUIT).unwrap();
        process.wait().unwrap();
    }

    /// Ends every process of it at once, so that it says nothing to anybody.
    pub(super) fn kill(&mut self) {
        let pids = self.sql("select string_agg(pid::text, ' ') from pg_stat_activity where pid <> pg_backend_pid()");
        let mut process = self.process.take().unwrap();
        // The parent first, or it would tell the others to end.
        process.kill().unwrap();
        for pid in pids.split(' ').filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        process.wait().unwrap();
    }

    /// Ends every session of the client's user and of the proxy, and waits until they are gone.
    pub(super) fn end_sessions(&self) {
        let whose = "usename in ('ada', 'windlass_proxy')";
        self.sql(&format!("select pg_terminate_backend(pid) from pg_stat_activity where {whose}"));
        let began = Instant::now();
        while self.sql(&format!("select count(*) from pg_stat_activity where {whose}")) != "0" {
            assert!(began.elapsed() < SOON, "sessions do not end");
        }
    }

    fn set_gate(&self, line: &str) {
        let path = self.directory.path().join("data/pg_hba.conf");
        let rules = fs::read_to_string(&path).unwrap();
        let rules: Vec<_> = rules.lines().filter(|line| !line.ends_with(" reject")).collect();
        let (first, rest) = rules.split_at(1);
        fs::write(&path, [first, &[line], rest].concat().join("\n") + "\n").unwrap();
        self.sql("select pg_reload_conf()");
    }

    /// Whether a client that comes past the proxy is let in.
    fn lets_in(&self) -> bool {
        let output = Command::new("psql")
            .args(["-X", "-c", "select 1"])
            .arg(format!("host=127.0.0.1 port={} user=ada password=loom dbname=loom sslmode=require", self.port))
            .stdin(Stdio::null())
            .output();
        output.unwrap().status.success()
    }

    /// Refuses everybody and ends all sessions, as the agent does.
    pub(super) fn shut_gate(&self) {
        self.set_gate("hostssl all all all reject");
        let began = Instant::now();
        while self.lets_in() {
            assert!(began.elapsed() < SOON, "the gate does not shut");
        }
        self.end_sessions();
    }

    pub(super) fn open_gate(&self) {
        self.set_gate("");
    }

    fn psql(&self, database: &str, sql: &str) -> Output {
        Command::new("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "root", "-d", database, "-c", sql])
            .arg("-h")
            .arg(self.directory.path())
            .arg(format!("-p{}", self.port))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs statements as the administrator, past the proxy; in `postgres`.
    pub(super) fn sql(&self, sql: &str) -> String {
        self.sql_in("postgres", sql)
    }

    pub(super) fn sql_in(&self, database: &str, sql: &str) -> String {
        let mut answer = String::new();
        for statement in sql.split("; ") {
            let output = self.psql(database, statement);
            assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
            answer = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        }
        answer
    }

    pub(super) fn backend(&self) -> Backend {
        Backend {
            member: self.member,
            host: "here".to_owned(),
            address: "127.0.0.1".to_owned(),
            port: self.port,
            lag_bytes: 0,
            streaming: true,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.crash();
        }
    }
}

/// Servers with a proxy before them.
pub(super) struct World {
    pub(super) servers: Vec<Server>,
    pub(super) shared: Arc<Shared>,
    pub(super) address: SocketAddr,
    pub(super) route: Route,
    stop: CancellationToken,
}

impl World {
    /// One server under epoch 1, and a proxy with this way of pooling.
    pub(super) async fn new(pooling: Pooling) -> Self {
        Self::with(pooling, 1, |_| {}).await
    }

    pub(super) async fn with(pooling: Pooling, servers: usize, change: impl FnOnce(&mut Config)) -> Self {
        let ca = Ca::new();
        let servers: Vec<_> = std::thread::scope(|scope| {
            let starting: Vec<_> = (0..servers).map(|_| scope.spawn(|| Server::start(&ca))).collect();
            starting.into_iter().map(|server| server.join().unwrap()).collect()
        });
        let mut config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            plaintext: Plaintext::Allow,
            domain: "db.test".to_owned(),
            pooling,
            ..Config::default()
        };
        change(&mut config);
        let metrics = Arc::new(Metrics::new());
        let evidence = Arc::new(Evidence::default());
        let routes = RouteTable::new(metrics.clone());
        let route = Route {
            project: "team".to_owned(),
            primary: Some(servers[0].backend()),
            replicas: servers[1..].iter().map(Server::backend).collect(),
            ca_pem: ca.pem.as_str().into(),
            ..routes::testing::route("app", 1, 1)
        };
        routes.put(route.clone());
        let shared = Arc::new(Shared {
            tls: ServerTls::new(ca.identity("db.test", "windlass-proxy"), metrics.clone()).unwrap(),
            backends: Backends::new(IdentityStore::new(ca.identity("proxy", "windlass-proxy")), evidence.clone()),
            hold: Hold::new(config.budget().unwrap(), metrics.clone()),
            limits: Limits::new(config.most()),
            routes,
            evidence,
            metrics,
            drain: Arc::new(Drain::new()),
            postgres: Postgres::new(),
            config,
        });
        let listeners = Arc::new(Listeners::open(&shared.config, Vec::new()).unwrap());
        let address = listeners.main().unwrap();
        let accept = Accept::new(shared.clone(), TaskTracker::new()).unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept.run(listeners)));
        Self { servers, shared, address, route, stop }
    }

    /// Publishes the route after a change.
    pub(super) fn publish(&mut self, change: impl FnOnce(&mut Route)) {
        self.route.rev += 1;
        change(&mut self.route);
        assert!(self.shared.routes.put(self.route.clone()).is_some());
    }

    pub(super) fn instance(&self) -> Arc<crate::routes::Instance> {
        self.shared.routes.by_id(self.route.instance).unwrap()
    }

    /// Another server leads, under the next epoch.
    pub(super) fn promote(&mut self, server: usize) {
        let epoch = self.route.epoch + 1;
        self.servers[server].sql(&format!("alter system set windlass.epoch = '{epoch}'; select pg_reload_conf()"));
        let primary = self.servers[server].backend();
        self.publish(|route| {
            route.epoch = epoch;
            route.primary = Some(primary);
            route.state = State::Open;
        });
    }

    pub(super) fn pause(&mut self) {
        self.publish(|route| route.state = State::Paused("switchover".to_owned()));
    }

    /// Parameters of a client as this user, without TLS.
    pub(super) fn config(&self, user: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.address.port()).user(user).password("loom").dbname("loom");
        config
    }

    pub(super) async fn try_connect(&self, user: &str) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = self.config(user).connect(NoTls).await?;
        // Its end is seen by the client.
        tokio::spawn(connection);
        Ok(client)
    }

    /// A client as `ada`.
    pub(super) async fn connect(&self) -> Client {
        self.try_connect("ada@app.team").await.unwrap()
    }

    /// psql as `ada` through the proxy, with TLS; a script in, what it printed out.
    pub(super) async fn script(&self, user: &str, script: &str) -> String {
        let mut command = tokio::process::Command::new("psql");
        command
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"])
            .arg(format!(
                "host=127.0.0.1 port={} user={user} password=loom dbname=loom sslmode=require connect_timeout=10",
                self.address.port()
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stdin, script.as_bytes()).await.unwrap();
        drop(stdin);
        let output = tokio::time::timeout(SOON, child.wait_with_output()).await.expect("psql ends").unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shared.drain.advance(Stage::Ending);
        self.stop.cancel();
    }
}

/// Waits until something holds.
pub(super) async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < SOON, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The first column of the first row.
pub(super) async fn text(client: &Client, sql: &str) -> String {
    let messages = client.simple_query(sql).await.unwrap();
    let row = messages
        .into_iter()
        .find_map(|message| if let tokio_postgres::SimpleQueryMessage::Row(row) = message { Some(row) } else { None });
    row.and_then(|row| row.get(0).map(str::to_owned)).unwrap_or_default()
}

/// The SQLSTATE that a client was given.
pub(super) fn code<T: std::fmt::Debug>(result: Result<T, tokio_postgres::Error>) -> String {
    let error = result.expect_err("an error is expected");
    error.code().unwrap_or_else(|| panic!("no code: {error:?}")).code().to_owned()
}
