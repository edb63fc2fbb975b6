//! Databases, users and extensions.

use windlass_core::{Reason, engine::Engine};
use windlass_proto::agent::v1::{self as pb, apply_object::Kind};

use crate::{
    client::{query, query_as},
    fixture::{Host, apply, member, user},
};

fn database(name: &str) -> pb::ApplyObject {
    pb::ApplyObject { kind: Kind::Database.into(), name: name.into(), ..Default::default() }
}

fn extension(name: &str) -> pb::ApplyObject {
    pb::ApplyObject { kind: Kind::Extension.into(), name: name.into(), database: "app".into(), ..Default::default() }
}

fn dropped(object: &pb::ApplyObject) -> pb::ApplyObject {
    pb::ApplyObject { drop: true, ..object.clone() }
}

#[tokio::test]
async fn users_reach_the_databases_they_may_use_and_no_others() {
    for engine in Engine::ALL.iter().copied() {
        let host = Host::new();
        let members = host.open().await;
        let goal = host.goal(&members, engine);
        apply(&members, &goal).await;
        let id = member(&goal);
        let one =
            user(engine, "one", "pw 1", pb::ApplyObject { databases: vec!["sales".into()], ..Default::default() });
        let all = user(engine, "all-of-it", "pw 2", pb::ApplyObject::default());
        for object in [database("sales"), database("s_les"), one.clone(), all.clone(), database("later")] {
            for _ in 0..2 {
                members
                    .apply_object(id, object.clone())
                    .await
                    .unwrap_or_else(|e| panic!("{engine} {}: {}", object.name, e.chain()));
            }
        }
        let as_one = |database: &str, sql: &str| query_as(&host, &goal, ("one", "pw 1"), database, sql);
        let as_all = |database: &str, sql: &str| query_as(&host, &goal, ("all-of-it", "pw 2"), database, sql);
        as_one("sales", "create table t (n int)").expect("its own database");
        as_one("sales", "insert into t values (1)").expect("its own table");
        for other in ["s_les", "later", "app"] {
            as_one(other, "select 1").expect_err(other);
        }
        for database in ["sales", "s_les", "later", "app"] {
            as_all(database, "create table mine (n int)").unwrap_or_else(|e| panic!("{engine} {database}: {e}"));
        }
        query(&host, &goal, "create table made_by_app (n int)");
        as_all("app", "insert into made_by_app values (1)").expect("what the administrator makes");
        query_as(&host, &goal, ("app", crate::fixture::PASSWORD), "sales", "select 1").expect("the administrator");
        query_as(&host, &goal, ("one", "wrong"), "sales", "select 1").expect_err("wrong password");
        // A new password, and a shorter list.
        let changed =
            user(engine, "one", "pw 3", pb::ApplyObject { databases: vec!["later".into()], ..Default::default() });
        members.apply_object(id, changed).await.expect("change");
        query_as(&host, &goal, ("one", "pw 3"), "later", "select 1").expect("new list");
        query_as(&host, &goal, ("one", "pw 3"), "sales", "select 1").expect_err("taken away");
        for object in [dropped(&one), dropped(&database("sales"))] {
            for _ in 0..2 {
                members
                    .apply_object(id, object.clone())
                    .await
                    .unwrap_or_else(|e| panic!("{engine} {}: {}", object.name, e.chain()));
            }
        }
        query_as(&host, &goal, ("one", "pw 3"), "later", "select 1").expect_err("dropped");
        as_all("sales", "select 1").expect_err("dropped");
    }
}

#[tokio::test]
async fn the_administrator_cannot_get_at_the_host() {
    for engine in Engine::ALL.iter().copied() {
        let host = Host::new();
        let members = host.open().await;
        let goal = host.goal(&members, engine);
        apply(&members, &goal).await;
        let forbidden: &[&str] = match engine {
            Engine::Postgres => &[
                "grant pg_execute_server_program to app",
                "copy (select 1) to program 'true'",
                "select pg_read_file('/etc/passwd')",
                "create role boss superuser",
                "alter role windlass password 'x'",
                "select rolpassword from pg_authid",
            ],
            Engine::Mariadb => &[
                "select load_file('/etc/passwd') into outfile '/tmp/never-written'",
                "create user boss",
                "update mysql.global_priv set priv = '{}'",
                "set global read_only = 1",
                "grant super on *.* to app",
                "alter user root@localhost identified by 'x'",
            ],
        };
        for sql in forbidden {
            query_as(&host, &goal, ("app", crate::fixture::PASSWORD), "app", sql).expect_err(sql);
        }
    }
}

#[tokio::test]
async fn verifiers_reach_no_log_and_no_statistics() {
    for engine in Engine::ALL.iter().copied() {
        let host = Host::new();
        let members = host.open().await;
        let mut goal = host.goal(&members, engine);
        match engine {
            Engine::Postgres => goal.parameters.insert("log_statement".into(), "all".into()),
            Engine::Mariadb => goal.parameters.insert("general_log".into(), "ON".into()),
        };
        apply(&members, &goal).await;
        let order = user(engine, "one", "pw", pb::ApplyObject::default());
        let secret = order.verifier.rsplit(['$', '*']).next().expect("text").to_owned();
        members.apply_object(member(&goal), order).await.expect("user");
        query(&host, &goal, "select 'a marker'");
        let root = host.root(&goal);
        let mut logs = vec![root.join("log/server.log")];
        logs.extend(
            std::fs::read_dir(root.join("data"))
                .expect("data")
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|e| e == "log")),
        );
        let text: String =
            logs.iter().map(|log| String::from_utf8_lossy(&std::fs::read(log).expect("log")).into_owned()).collect();
        assert!(text.contains("a marker"), "{engine}: the log has statements");
        assert!(!text.contains(&secret), "{engine}: the verifier is in a log");
        if engine == Engine::Postgres {
            let found =
                query(&host, &goal, &format!("select count(*) from pg_stat_statements where query like '%{secret}%'"));
            assert_eq!(found, "0");
        }
    }
}

#[tokio::test]
async fn extensions_are_made_and_what_cannot_be_made_is_explained() {
    let host = Host::new();
    let members = host.open().await;
    let goal = host.goal(&members, Engine::Postgres);
    apply(&members, &goal).await;
    let id = member(&goal);
    for object in [extension("pg_trgm"), extension("pg_trgm"), extension("earthdistance")] {
        members.apply_object(id, object).await.expect("extension");
    }
    assert_eq!(query(&host, &goal, "select similarity('word', 'word')"), "1");
    let error = members.apply_object(id, extension("pg_trgrm")).await.expect_err("a slip");
    assert!(error.message.contains("did you mean pg_trgm?"), "{error}");
    for _ in 0..2 {
        members.apply_object(id, dropped(&extension("pg_trgm"))).await.expect("drop");
    }
    let elsewhere = pb::ApplyObject { database: "nowhere".into(), ..extension("hstore") };
    assert_eq!(members.apply_object(id, elsewhere).await.expect_err("no database").reason, Reason::NotFound);
}

#[tokio::test]
async fn an_object_of_a_member_that_is_off_is_refused() {
    let host = Host::new();
    let members = host.open().await;
    let goal = pb::MemberGoal { power: pb::member_goal::Power::Off.into(), ..host.goal(&members, Engine::Mariadb) };
    apply(&members, &goal).await;
    let error = members.apply_object(member(&goal), database("x")).await.expect_err("off");
    assert_eq!(error.reason, Reason::StateForbids);
}
