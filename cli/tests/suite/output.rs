//! What people and scripts read on stdout.

use windlass_proto::api::v1 as pb;

use crate::{
    bench::Bench,
    samples::{host, instance, key},
};

async fn with_instances() -> Bench {
    let bench = Bench::new().await;
    bench.fake.on("list_instances", |request: &pb::ListInstancesRequest| {
        // Two pages, so that a list is seen to be whole.
        Ok(match request.page_token.as_str() {
            "" => pb::ListInstancesResponse { instances: vec![instance("pg-1")], next_page_token: "more".to_owned() },
            _ => pb::ListInstancesResponse {
                instances: vec![pb::Instance {
                    engine: "mariadb".to_owned(),
                    version: "10.11".to_owned(),
                    ..instance("a-much-longer-name")
                }],
                next_page_token: String::new(),
            },
        })
    });
    bench.fake.on("get_instance", |_: &pb::GetInstanceRequest| Ok(instance("pg-1")));
    bench
}

#[tokio::test]
async fn a_list_is_a_table_of_aligned_columns() {
    let bench = with_instances().await;
    let run = bench.run(&["instance", "list"]).await;
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    insta::assert_snapshot!(run.stdout, @r#"
    NAME                ENGINE         STATE    HEALTH   ENDPOINT       SIZE                                  AGE
    pg-1                postgres 15    RUNNING  HEALTHY  10.0.0.7:5501  500m cpu, 512 MiB memory, 2 GiB disk  3h ago
    a-much-longer-name  mariadb 10.11  RUNNING  HEALTHY  10.0.0.7:5501  500m cpu, 512 MiB memory, 2 GiB disk  3h ago
    "#);
    let again = bench.run(&["instances", "ls"]).await;
    assert_eq!(again.stdout, run.stdout, "the plural and the short verb mean the same");
}

#[tokio::test]
async fn one_resource_is_shown_with_everything_there_is_to_say() {
    let bench = with_instances().await;
    let run = bench.run(&["instance", "get", "pg-1"]).await;
    let text = run.stdout.lines().filter(|line| !line.starts_with("Created")).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(text, @r#"
    Name:        pg-1
    Project:     demo
    UID:         0190a000-0000-7000-8000-000000000001
    Engine:      postgres 15
    State:       RUNNING
    Health:      HEALTHY
    Endpoint:    10.0.0.7:5501
    Size:        500m cpu, 512 MiB memory, 2 GiB disk
    Members:     primary on host-1, port 5501: RUNNING (2m ago), 3 connections, 30 MiB memory, 40 MiB disk
    Parameters:  work_mem=8MB
    Labels:      team=shop
    Generation:  2
    "#);
}

#[tokio::test]
async fn json_is_the_json_of_the_api_and_lists_are_arrays() {
    let bench = with_instances().await;
    let run = bench.run(&["instance", "get", "pg-1", "-o", "json"]).await;
    let got: pb::Instance = serde_json::from_str(&run.stdout).expect("the API's JSON");
    assert_eq!(got.name, instance("pg-1").name);
    let list = bench.run(&["instance", "list", "-o", "json"]).await;
    let list: Vec<pb::Instance> = serde_json::from_str(&list.stdout).expect("an array");
    assert_eq!(list.len(), 2);
    let yaml = bench.run(&["instance", "get", "pg-1", "-o", "yaml"]).await;
    let yaml: serde_json::Value = serde_norway::from_str(&yaml.stdout).expect("YAML");
    assert_eq!(yaml["state"], "RUNNING");
    assert_eq!(yaml["resources"]["memory_bytes"], "536870912");
}

#[tokio::test]
async fn names_are_one_a_line_and_are_accepted_back() {
    let bench = with_instances().await;
    let run = bench.run(&["instance", "list", "-o", "name"]).await;
    assert_eq!(run.stdout, "projects/demo/instances/pg-1\nprojects/demo/instances/a-much-longer-name\n");
    let back = bench.run(&["instance", "get", "projects/demo/instances/pg-1", "-o", "name"]).await;
    assert_eq!(back.stdout, "projects/demo/instances/pg-1\n");
    let asked: Vec<pb::GetInstanceRequest> = bench.fake.requests("get_instance");
    assert_eq!(asked[0].name, "projects/demo/instances/pg-1");
}

#[tokio::test]
async fn an_empty_list_prints_nothing_to_stdout() {
    let bench = Bench::new().await;
    bench.fake.on("list_hosts", |_: &pb::ListHostsRequest| Ok(pb::ListHostsResponse::default()));
    let run = bench.run(&["host", "list"]).await;
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "", "none\n"));
    let json = bench.run(&["host", "list", "-o", "json", "-q"]).await;
    assert_eq!((json.stdout.as_str(), json.stderr.as_str()), ("[]\n", ""));
}

#[tokio::test]
async fn filters_are_put_together() {
    let bench = with_instances().await;
    bench.run(&["instance", "list", "-l", "team=shop", "--state", "RUNNING", "--filter", "engine=postgres"]).await;
    let asked: Vec<pb::ListInstancesRequest> = bench.fake.requests("list_instances");
    assert_eq!(asked[0].filter, "engine=postgres AND label.team=shop AND state=RUNNING");
    assert_eq!(asked[0].parent, "projects/demo");
}

#[tokio::test]
async fn an_explanation_lists_the_hosts_with_their_verdicts() {
    let bench = Bench::new().await;
    bench.fake.on("explain_instance", |_: &pb::ExplainInstanceRequest| {
        let chosen = pb::HostVerdict {
            host: "hosts/host-1".to_owned(),
            chosen: true,
            score: 0.75,
            score_parts: [("calm".to_owned(), 0.5), ("cost".to_owned(), 1.0)].into(),
            ..Default::default()
        };
        let rejected = pb::HostVerdict {
            host: "hosts/host-2".to_owned(),
            rejections: vec!["it is cordoned; uncordon it to use it".to_owned(), "it is in zone z2, not z1".to_owned()],
            ..Default::default()
        };
        Ok(pb::ExplainInstanceResponse {
            summary: vec!["it is RUNNING and HEALTHY".to_owned()],
            hosts: vec![chosen, rejected],
        })
    });
    let run = bench.run(&["instance", "explain", "pg-1"]).await;
    insta::assert_snapshot!(run.stdout, @r#"
    it is RUNNING and HEALTHY

    The last placement:
    HOST    VERDICT   SCORE  WHY
    host-1  chosen    0.750  calm 0.50, cost 1.00
    host-2  rejected         it is cordoned; uncordon it to use it
                             it is in zone z2, not z1
    "#);
}

#[tokio::test]
async fn hosts_show_what_is_reserved_of_what_they_have() {
    let bench = Bench::new().await;
    bench.fake.on("list_hosts", |_: &pb::ListHostsRequest| {
        let cordoned = pb::Host { cordoned: true, ..host("host-2") };
        Ok(pb::ListHostsResponse { hosts: vec![host("host-1"), cordoned], ..Default::default() })
    });
    let run = bench.run(&["host", "list"]).await;
    insta::assert_snapshot!(run.stdout, @r#"
    NAME    STATE             ZONE      ENGINES      MEMBERS  CPU        MEMORY          DISK              SEEN
    host-1  ONLINE            north/z1  postgres 15  2        1500m / 8  2 GiB / 16 GiB  10 GiB / 200 GiB  2m ago
    host-2  ONLINE, cordoned  north/z1  postgres 15  2        1500m / 8  2 GiB / 16 GiB  10 GiB / 200 GiB  2m ago
    "#);
}

#[tokio::test]
async fn a_new_secret_is_alone_on_stdout() {
    let bench = Bench::new().await;
    bench.fake.on("create_join_token", |request: &pb::CreateJoinTokenRequest| {
        let token = request.join_token.clone().unwrap_or_default();
        Ok(pb::JoinToken { name: "joinTokens/t".to_owned(), token: "wlj_secret".to_owned(), ..token })
    });
    bench.fake.on("create_api_key", |request: &pb::CreateApiKeyRequest| {
        Ok(pb::CreateApiKeyResponse { api_key: request.api_key.clone(), key: "wl_secret".to_owned() })
    });
    for format in ["table", "name"] {
        let run = bench.run(&["host", "token", "create", "--name", "host-9", "--ttl", "2h", "-o", format]).await;
        assert_eq!(run.stdout, "wlj_secret\n", "{}", run.stderr);
    }
    let run = bench.run(&["key", "create", "ci", "--role", "operator"]).await;
    assert_eq!(run.stdout, "wl_secret\n", "{}", run.stderr);
    let asked: Vec<pb::CreateJoinTokenRequest> = bench.fake.requests("create_join_token");
    assert_eq!(asked[0].ttl.as_ref().map(|ttl| ttl.seconds), Some(7200));
    assert_eq!(asked[0].join_token.as_ref().map(|token| token.host_name.as_str()), Some("host-9"));
    let asked: Vec<pb::CreateApiKeyRequest> = bench.fake.requests("create_api_key");
    assert_eq!(asked[0].api_key.as_ref().map(|key| key.project.as_str()), Some("projects/demo"));
}

#[tokio::test]
async fn whoami_shows_the_key_in_use() {
    let bench = Bench::new().await;
    bench.fake.on("who_am_i", |_: &pb::WhoAmIRequest| Ok(key()));
    let run = bench.run(&["whoami"]).await;
    assert!(run.stdout.contains("Role:") && run.stdout.contains("admin") && run.stdout.contains("installation"));
}

#[tokio::test]
async fn completions_are_valid_scripts() {
    let bench = Bench::new().await;
    for shell in ["bash", "zsh", "fish"] {
        let run = bench.run(&["completion", shell]).await;
        assert!(run.code == 0 && run.stdout.contains("connection-string"), "{shell}");
    }
    let script = bench.home.path().join("completion.bash");
    std::fs::write(&script, bench.run(&["completion", "bash"]).await.stdout).expect("write");
    let status = std::process::Command::new("bash").arg("-n").arg(&script).status().expect("bash");
    assert!(status.success());
}

#[tokio::test]
async fn the_doctor_names_each_part_and_fails_if_one_does() {
    let bench = Bench::new().await;
    bench.fake.on("who_am_i", |_: &pb::WhoAmIRequest| Ok(key()));
    bench.fake.on("list_engine_versions", |_: &pb::ListEngineVersionsRequest| {
        let version = pb::EngineVersion { engine: "postgres".to_owned(), version: "15".to_owned(), hosts: 2 };
        Ok(pb::ListEngineVersionsResponse { versions: vec![version] })
    });
    bench.fake.on("list_hosts", |_: &pb::ListHostsRequest| {
        Ok(pb::ListHostsResponse { hosts: vec![host("host-1")], ..Default::default() })
    });
    let run = bench.run(&["doctor", "-o", "json"]).await;
    assert_eq!(run.code, 0, "{} {}", run.stdout, run.stderr);
    let checks: Vec<serde_json::Value> = serde_json::from_str(&run.stdout).expect("an array");
    let names: Vec<_> = checks.iter().filter_map(|check| check["check"].as_str()).collect();
    assert_eq!(names, ["configuration", "endpoint", "TLS", "clock", "key", "hosts", "engines", "client", "client"]);
    bench.fake.on("list_hosts", |_: &pb::ListHostsRequest| Ok(pb::ListHostsResponse::default()));
    let run = bench.run(&["doctor"]).await;
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("none is enrolled") && run.stdout.contains("host token create"), "{}", run.stdout);
}
