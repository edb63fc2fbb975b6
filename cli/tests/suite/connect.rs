//! `windlass connect` and `windlass connection-string`: the secret reaches the client and nothing else.

use std::{fs, os::unix::fs::PermissionsExt as _};

use windlass_proto::api::v1 as pb;

use crate::bench::{Bench, Run, finish};

const PASSWORD: &str = "pass-w0rd/\"with' odd\\#;chars";
const CA: &str = "-----BEGIN CERTIFICATE-----\nnot really\n-----END CERTIFICATE-----\n";

async fn with_connection(engine: &'static str, client: &'static str, scheme: &'static str) -> Bench {
    let bench = Bench::new().await;
    bench.fake.on("get_connection", move |request: &pb::GetConnectionRequest| {
        Ok(pb::Connection {
            engine: engine.to_owned(),
            host: "10.0.0.7".to_owned(),
            port: 5501,
            user: if request.user.is_empty() { "app".to_owned() } else { request.user.clone() },
            password: PASSWORD.to_owned(),
            database: "app".to_owned(),
            ca_pem: CA.to_owned(),
            uri: format!("{scheme}://app@10.0.0.7:5501/app"),
            client: client.to_owned(),
            state: pb::instance::State::Running.into(),
            via: "direct".to_owned(),
            ..Default::default()
        })
    });
    bench
}

/// Runs `connect` with a shell script in the place of the client.
async fn connect(bench: &Bench, client: &str, script: &str, arguments: &[&str]) -> Run {
    let directory = bench.home.path().join("bin");
    fs::create_dir_all(&directory).expect("directory");
    let program = directory.join(client);
    fs::write(&program, format!("#!/bin/sh\n{script}")).expect("script");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
    let mut command = bench.command(&["connect", "pg-1"]);
    command.args(arguments).env("PATH", format!("{}:/usr/bin:/bin", directory.display())).env("PGHOSTADDR", "10.9.9.9");
    finish(command.spawn().expect("start")).await
}

#[tokio::test]
async fn psql_gets_the_secret_by_environment_and_the_ca_by_a_file_without_a_name() {
    let bench = with_connection("postgres", "psql", "postgresql").await;
    let script = "tr '\\0' '\\n' </proc/$$/cmdline; echo ~~~; env | sort; echo ~~~; readlink \"$PGSSLROOTCERT\"; cat \"$PGSSLROOTCERT\"; exit 42";
    let run = connect(&bench, "psql", script, &["--user", "reader", "--", "-c", "select 1"]).await;
    assert_eq!(run.code, 42, "the client's exit code is ours: {}", run.stderr);
    let parts: Vec<_> = run.stdout.split("~~~\n").collect();
    let [argv, environment, ca] = parts[..] else { panic!("{}", run.stdout) };
    assert!(argv.ends_with("-c\nselect 1\n") && !argv.contains("pass-w0rd"), "{argv}");
    for line in [
        "PGHOST=10.0.0.7",
        "PGPORT=5501",
        "PGUSER=reader",
        "PGDATABASE=app",
        "PGSSLMODE=verify-full",
        &format!("PGPASSWORD={PASSWORD}"),
    ] {
        assert!(environment.lines().any(|own| own == line), "{line} in {environment}");
    }
    assert!(!environment.contains("WINDLASS_TOKEN") && !environment.contains("PGHOSTADDR"), "{environment}");
    assert!(ca.lines().next().is_some_and(|path| path.ends_with("(deleted)")) && ca.ends_with(CA), "{ca}");
}

#[tokio::test]
async fn mariadb_gets_everything_by_an_option_file_without_a_name() {
    let bench = with_connection("mariadb", "mariadb", "mariadb").await;
    let script = "tr '\\0' '\\n' </proc/$$/cmdline; echo ~~~; env; echo ~~~; file=${1#--defaults-extra-file=}; \
                  readlink /proc/self/fd/${file##*/}; stat -L -c %a \"$file\"; \
                  my_print_defaults --defaults-file=\"$file\" client mysql";
    let run = connect(&bench, "mariadb", script, &["--", "-e", "select 1"]).await;
    let parts: Vec<_> = run.stdout.split("~~~\n").collect();
    let [argv, environment, options] = parts[..] else { panic!("{} {}", run.stdout, run.stderr) };
    assert!(!argv.contains("pass-w0rd") && !environment.contains("pass-w0rd"), "{argv}{environment}");
    assert!(argv.ends_with("-e\nselect 1\n"), "{argv}");
    let lines: Vec<_> = options.lines().collect();
    assert!(lines[0].ends_with("(deleted)") && lines[1] == "600", "{options}");
    for line in [
        "--protocol=tcp",
        "--host=10.0.0.7",
        "--port=5501",
        "--user=app",
        "--ssl-verify-server-cert",
        "--database=app",
        &format!("--password={PASSWORD}"),
    ] {
        assert!(lines.contains(&line), "{line} in {options}");
    }
}

#[tokio::test]
async fn a_missing_client_says_what_to_install() {
    let bench = with_connection("postgres", "psql", "postgresql").await;
    let mut command = bench.command(&["connect", "pg-1"]);
    command.env("PATH", bench.home.path());
    let run = finish(command.spawn().expect("start")).await;
    assert!(run.code == 1 && run.stderr.contains("apt install postgresql-client"), "{}", run.stderr);
}

#[tokio::test]
async fn connection_strings_have_the_password_only_when_asked() {
    let bench = with_connection("postgres", "psql", "postgresql").await;
    let uri = bench.run(&["connection-string", "pg-1"]).await;
    assert_eq!(uri.stdout, "postgresql://app@10.0.0.7:5501/app?sslmode=verify-full\n");
    for format in ["uri", "env", "psql"] {
        let run = bench.run(&["connection-string", "pg-1", "--format", format]).await;
        assert!(run.code == 0 && !run.stdout.contains("w0rd"), "{}", run.stdout);
    }
    let full = bench.run(&["connection-string", "pg-1", "--password"]).await;
    assert!(full.stdout.contains("app:pass-w0rd%2F%22with%27%20odd%5C%23%3Bchars@"), "{}", full.stdout);
    let ca = bench.home.path().join("ca.pem");
    let ca_text = ca.display().to_string();
    let env = bench.run(&["connection-string", "pg-1", "-f", "env", "--password", "--ca-file", &ca_text]).await;
    assert_eq!(fs::read_to_string(&ca).expect("written"), CA);
    let shell = format!("{}\nprintf '%s' \"$PGPASSWORD\"", env.stdout);
    let echoed = std::process::Command::new("sh").arg("-c").arg(shell).output().expect("sh");
    assert_eq!(String::from_utf8_lossy(&echoed.stdout), PASSWORD, "a shell reads back the very password");
    assert!(env.stdout.contains(&format!("export PGSSLROOTCERT={ca_text}")), "{}", env.stdout);
}

#[tokio::test]
async fn an_instance_at_rest_is_not_dialled() {
    let bench = Bench::new().await;
    bench.fake.on("get_connection", move |_: &pb::GetConnectionRequest| {
        let state = pb::instance::State::Stopped.into();
        Ok(pb::Connection { client: "psql".to_owned(), state, ..Default::default() })
    });
    let run = connect(&bench, "psql", "echo dialled", &[]).await;
    assert_eq!((run.code, run.stdout.as_str()), (5, ""), "{}", run.stderr);
    assert!(run.stderr.contains("windlass instance start pg-1"), "{}", run.stderr);
}
