//! Clients as users have them: the native programs, by TCP with TLS that checks the server's certificate.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use windlass_core::engine::Engine;
use windlass_proto::agent::v1 as pb;

use crate::fixture::{Host, PASSWORD, engine};

/// Runs a statement as a user; the last line of its output, or what the client said.
pub(crate) fn query_as(
    host: &Host,
    goal: &pb::MemberGoal,
    (user, password): (&str, &str),
    database: &str,
    sql: &str,
) -> Result<String, String> {
    let mut command = command(host, goal, (user, password), database);
    match engine(goal) {
        Engine::Postgres => command.args(["-c", sql]),
        Engine::Mariadb => command.args(["-e", sql]),
    };
    let output = command.output().expect("client runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout).lines().last().unwrap_or_default().to_owned())
    } else {
        Err(text(&output.stderr))
    }
}

/// Runs a statement as the administrator in its database.
pub(crate) fn query(host: &Host, goal: &pb::MemberGoal, sql: &str) -> String {
    query_as(host, goal, ("app", PASSWORD), "app", sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// The value of a setting, as the server shows it to users.
pub(crate) fn setting(host: &Host, goal: &pb::MemberGoal, name: &str) -> String {
    match engine(goal) {
        Engine::Postgres => query(host, goal, &format!("show {name}")),
        Engine::Mariadb => query(host, goal, &format!("select @@global.{name}")),
    }
}

fn command(host: &Host, goal: &pb::MemberGoal, (user, password): (&str, &str), database: &str) -> Command {
    let (ca, port) = (host.ca_file(), goal.port.to_string());
    match engine(goal) {
        Engine::Postgres => {
            let target = format!(
                "host=127.0.0.1 port={port} user={user} dbname={database} sslmode=verify-full sslrootcert={} \
                 connect_timeout=10",
                ca.display()
            );
            let mut psql = Command::new("psql");
            psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", &target]).env("PGPASSWORD", password);
            psql
        }
        Engine::Mariadb => {
            let mut mariadb = Command::new("mariadb");
            mariadb.args(["--no-defaults", "--protocol=tcp", "-h", "127.0.0.1", "-P", &port, "-u", user, "-N", "-B"]);
            mariadb.arg(format!("--ssl-ca={}", ca.display())).arg("--ssl-verify-server-cert");
            mariadb.args(["-D", database]).env("MYSQL_PWD", password);
            mariadb
        }
    }
}

/// A connection that stays open: the native client, fed line by line.
pub(crate) struct Session {
    engine: Engine,
    child: tokio::process::Child,
    input: tokio::process::ChildStdin,
    output: Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Host {
    /// Connects as the administrator and stays.
    pub(crate) async fn client(&self, goal: &pb::MemberGoal) -> Session {
        let engine = engine(goal);
        let mut command = tokio::process::Command::from(command(self, goal, ("app", PASSWORD), "app"));
        if engine == Engine::Mariadb {
            command.arg("--unbuffered");
        }
        command.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("client runs");
        let input = child.stdin.take().expect("input");
        let output = BufReader::new(child.stdout.take().expect("output")).lines();
        let mut session = Session { engine, child, input, output };
        assert_eq!(session.ask("select 5").await, "5");
        session
    }
}

impl Session {
    async fn ask(&mut self, sql: &str) -> String {
        self.input.write_all(format!("{sql};\n").as_bytes()).await.expect("the client lives");
        let line = tokio::time::timeout(Duration::from_secs(30), self.output.next_line()).await;
        line.expect("in time").expect("output").unwrap_or_else(|| panic!("the client is gone: {:?}", self.child))
    }

    /// Leaves something in the session that only it has.
    pub(crate) async fn set_variable(&mut self) {
        let sql = match self.engine {
            Engine::Postgres => "select set_config('windlass_test.mark', 'here', false)",
            Engine::Mariadb => "select @mark := 'here'",
        };
        assert_eq!(self.ask(sql).await, "here");
    }

    /// Whether it is still there.
    pub(crate) async fn variable_is_set(&mut self) -> bool {
        let sql = match self.engine {
            Engine::Postgres => "select current_setting('windlass_test.mark', true)",
            Engine::Mariadb => "select @mark",
        };
        self.ask(sql).await == "here"
    }
}
