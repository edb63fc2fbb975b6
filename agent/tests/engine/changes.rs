//! Changing members that run: parameters, restarts, power.

use windlass_core::{Reason, engine::Engine};
use windlass_proto::agent::v1::{self as pb, member_goal::Power};

use crate::{
    client::{query, setting},
    fixture::{Host, apply, free_port, refuse, runs, with},
};

/// A parameter that changes at once, one that needs a restart, and a value that the server refuses.
fn examples(engine: Engine) -> [(&'static str, &'static str, &'static str); 2] {
    match engine {
        Engine::Postgres => [("work_mem", "7MB", "7MB"), ("max_connections", "61", "61")],
        Engine::Mariadb => [("tmp_table_size", "7M", "7340032"), ("back_log", "61", "61")],
    }
}

#[tokio::test]
async fn parameters_change_at_once_or_wait_for_a_restart() {
    for engine in Engine::ALL.iter().copied() {
        let host = Host::new();
        let members = host.open().await;
        let goal = host.goal(&members, engine);
        let first = apply(&members, &goal).await;
        let [dynamic, fixed] = examples(engine);
        let goal = with(&goal, &[(dynamic.0, dynamic.1), (fixed.0, fixed.1)]);
        let second = apply(&members, &goal).await;
        assert_eq!((second.pid, second.generation), (first.pid, 2));
        assert_eq!(second.pending_restart, [fixed.0], "{engine}");
        assert_eq!(setting(&host, &goal, dynamic.0), dynamic.2);
        assert_ne!(setting(&host, &goal, fixed.0), fixed.2);
        // Also an agent that starts only now knows what waits.
        drop(members);
        let members = host.open().await;
        assert_eq!(apply(&members, &goal).await.pending_restart, [fixed.0], "{engine}");
        let goal = pb::MemberGoal { restarts: 1, generation: 3, ..goal };
        let third = apply(&members, &goal).await;
        assert!(third.pid != first.pid && third.restarts == 1 && third.pending_restart.is_empty(), "{third:?}");
        assert_eq!(setting(&host, &goal, fixed.0), fixed.2);
        assert_eq!(apply(&members, &goal).await.pid, third.pid, "a restart is done once");
        let mut goal = pb::MemberGoal { generation: 4, ..goal };
        let before = goal.parameters.remove(dynamic.0);
        assert!(before.is_some());
        apply(&members, &goal).await;
        assert_ne!(setting(&host, &goal, dynamic.0), dynamic.2, "back to the engine's default");
    }
}

#[tokio::test]
async fn a_value_that_the_server_refuses_changes_nothing() {
    for engine in Engine::ALL.iter().copied() {
        let host = Host::new();
        let members = host.open().await;
        let goal = host.goal(&members, engine);
        let first = apply(&members, &goal).await;
        let bad = match engine {
            Engine::Postgres => [("work_mem", "lots"), ("no_such_thing", "1"), ("wal_compression", "zip")],
            Engine::Mariadb => [("tx_isolation", "WILD"), ("no_such_thing", "1"), ("max_connections", "1")],
        };
        for (name, value) in bad {
            let wrong = pb::MemberGoal { restarts: 1, ..with(&goal, &[(name, value)]) };
            let error = refuse(&members, &wrong).await;
            assert_eq!(error.reason, Reason::ParameterInvalid, "{engine} {name}: {error}");
            let facts = members.facts().remove(0);
            assert_eq!((facts.pid, facts.generation), (first.pid, 1), "{engine} {name}");
        }
        let again = apply(&members, &goal).await;
        assert_eq!((again.pid, again.pending_restart), (first.pid, vec![]));
        assert_eq!(query(&host, &goal, "select 1"), "1");
    }
}

/// A value that is legal by itself but with which this server cannot start.
#[tokio::test]
async fn a_restart_that_fails_goes_back_to_what_worked() {
    for engine in Engine::ALL.iter().copied() {
        let host = Host::new();
        let members = host.open().await;
        let goal = host.goal(&members, engine);
        apply(&members, &goal).await;
        let impossible = match engine {
            Engine::Postgres => ("shared_preload_libraries", "no_such_library"),
            Engine::Mariadb => ("innodb_data_home_dir", "/nonexistent"),
        };
        let wrong = pb::MemberGoal { restarts: 1, ..with(&goal, &[impossible]) };
        let error = refuse(&members, &wrong).await;
        assert_eq!(error.reason, Reason::StartFailed, "{engine}: {error}");
        assert!(error.message.contains("its log ends with"), "{error}");
        let facts = members.facts().remove(0);
        assert!(runs(&facts) && facts.generation == 1, "{engine}: {facts:?}");
        assert_eq!(query(&host, &goal, "select 1"), "1");
    }
}

#[tokio::test]
async fn power_is_switched_off_and_on_and_the_data_stays() {
    for engine in Engine::ALL.iter().copied() {
        let host = Host::new();
        let members = host.open().await;
        let goal = host.goal(&members, engine);
        apply(&members, &goal).await;
        query(&host, &goal, "create table kept as select 7 as n");
        let off = pb::MemberGoal { power: Power::Off.into(), generation: 2, ..goal.clone() };
        let facts = apply(&members, &off).await;
        assert_eq!((facts.process(), facts.pid), (pb::member_facts::Process::Stopped, 0));
        assert_eq!(host.servers(&goal), [0i64; 0]);
        assert_eq!(apply(&members, &off).await.process(), pb::member_facts::Process::Stopped);
        let on = pb::MemberGoal { generation: 3, data: pb::member_goal::DataSource::Existing.into(), ..goal.clone() };
        assert!(runs(&apply(&members, &on).await));
        assert_eq!(query(&host, &goal, "select n from kept"), "7");
    }
}

#[tokio::test]
async fn a_member_made_while_off_gets_its_administrator_at_the_first_start() {
    for engine in Engine::ALL.iter().copied() {
        let host = Host::new();
        let members = host.open().await;
        let goal = host.goal(&members, engine);
        let off = pb::MemberGoal { power: Power::Off.into(), ..goal.clone() };
        assert_eq!(apply(&members, &off).await.process(), pb::member_facts::Process::Stopped);
        let on = pb::MemberGoal { generation: 2, port: free_port().into(), ..goal };
        assert!(runs(&apply(&members, &on).await));
        assert_eq!(query(&host, &on, "select 1"), "1");
    }
}
