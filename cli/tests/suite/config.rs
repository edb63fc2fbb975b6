//! Settings: precedence, profiles, and keys that stay secret.

use std::{fs, os::unix::fs::PermissionsExt as _};

use windlass_proto::api::v1 as pb;

use crate::{
    bench::{Bench, KEY, finish},
    samples::key,
};

async fn listing() -> Bench {
    let bench = Bench::new().await;
    bench.fake.on("list_instances", |_: &pb::ListInstancesRequest| Ok(pb::ListInstancesResponse::default()));
    bench
}

fn parents(bench: &Bench) -> Vec<String> {
    bench.fake.requests("list_instances").into_iter().map(|r: pb::ListInstancesRequest| r.parent).collect()
}

fn write_config(bench: &Bench, text: &str) {
    let path = bench.config();
    fs::create_dir_all(path.parent().expect("a directory")).expect("directory");
    fs::write(&path, text).expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
}

#[tokio::test]
async fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let bench = listing().await;
    let text = format!(
        "current = \"one\"\n[profiles.one]\nendpoint = \"{0}\"\ntoken = \"{KEY}\"\nproject = \"from-file\"\n\
         [profiles.two]\nendpoint = \"{0}\"\ntoken = \"{KEY}\"\nproject = \"from-two\"\n",
        bench.endpoint
    );
    write_config(&bench, &text);
    let list = ["instance", "list"];
    for (flags, environment) in [
        (&[][..], None),
        (&["--profile", "two"], None),
        (&[], Some("from-env")),
        (&["--project", "from-flag"], Some("from-env")),
    ] {
        let mut command = bench.bare(&list);
        command.args(flags);
        if let Some(project) = environment {
            command.env("WINDLASS_PROJECT", project);
        }
        let run = finish(command.spawn().expect("start")).await;
        assert_eq!(run.code, 0, "{}", run.stderr);
    }
    assert_eq!(parents(&bench), ["projects/from-file", "projects/from-two", "projects/from-env", "projects/from-flag"]);
}

#[tokio::test]
async fn the_project_is_the_keys_own_or_the_only_one() {
    let bench = listing().await;
    let without_project = || {
        let mut command = bench.command(&["instance", "list"]);
        command.env_remove("WINDLASS_PROJECT");
        command
    };
    bench.fake.on("who_am_i", |_: &pb::WhoAmIRequest| Ok(pb::ApiKey { project: "projects/own".to_owned(), ..key() }));
    assert_eq!(finish(without_project().spawn().expect("start")).await.code, 0);
    bench.fake.on("who_am_i", |_: &pb::WhoAmIRequest| Ok(key()));
    let projects = |names: &'static [&'static str]| {
        move |_: &pb::ListProjectsRequest| {
            let project = |name: &&str| pb::Project { name: format!("projects/{name}"), ..Default::default() };
            Ok(pb::ListProjectsResponse { projects: names.iter().map(project).collect(), ..Default::default() })
        }
    };
    bench.fake.on("list_projects", projects(&["only"]));
    assert_eq!(finish(without_project().spawn().expect("start")).await.code, 0);
    bench.fake.on("list_projects", projects(&["a", "b"]));
    let run = finish(without_project().spawn().expect("start")).await;
    assert!(run.code == 2 && run.stderr.contains("(a, b)"), "{}", run.stderr);
    assert_eq!(parents(&bench), ["projects/own", "projects/only"]);
}

#[tokio::test]
async fn a_profile_is_stored_used_and_listed_without_its_key() {
    let bench = listing().await;
    assert_eq!(bench.run(&["profile", "set", "prod"]).await.code, 0);
    let mode = fs::metadata(bench.config()).expect("file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let run = finish(bench.bare(&["instance", "list"]).spawn().expect("start")).await;
    assert_eq!(run.code, 0, "the first profile is the current one: {}", run.stderr);
    for format in ["table", "json", "yaml", "name"] {
        let run = bench.run(&["profile", "list", "-o", format]).await;
        assert!(run.code == 0 && run.stdout.contains("prod") && !run.stdout.contains("secret"), "{}", run.stdout);
    }
    let unknown = bench.run(&["profile", "use", "prd"]).await;
    assert!(unknown.code == 2 && unknown.stderr.contains("known: prod"), "{}", unknown.stderr);
}

#[tokio::test]
async fn a_file_with_a_key_that_others_may_read_is_refused() {
    let bench = listing().await;
    write_config(&bench, "[profiles.x]\ntoken = \"wl_x\"\n");
    fs::set_permissions(bench.config(), fs::Permissions::from_mode(0o644)).expect("chmod");
    let run = bench.run(&["instance", "list"]).await;
    assert!(run.code == 2 && run.stderr.contains("chmod 600"), "{}", run.stderr);
    assert!(parents(&bench).is_empty());
}

#[tokio::test]
async fn the_key_is_never_shown() {
    let bench = listing().await;
    for arguments in [&["--help"][..], &["instance", "list", "--help"], &["instance", "list"], &["doctor"], &["x"]] {
        let run = bench.run(arguments).await;
        assert!(!run.stdout.contains("secret-") && !run.stderr.contains("secret-"), "{arguments:?}");
    }
}
