//! Members are held to their goals without orders.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio_util::sync::CancellationToken;
use windlass_core::engine::Engine;
use windlass_proto::agent::v1::{self as pb, member_goal::Power};

use crate::{
    client::query,
    fixture::{Host, apply, eventually, runs},
};

fn signal(facts: &pb::MemberFacts, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(facts.pid).expect("pid")), signal).expect("signal");
}

#[tokio::test]
async fn what_ends_is_started_again_and_told() {
    for engine in Engine::ALL.iter().copied() {
        let host = Host::new();
        let members = host.open().await;
        let mut told = members.happenings();
        let shutdown = CancellationToken::new();
        let run = tokio::spawn(members.clone().run(shutdown.clone()));
        let goal = host.goal(&members, engine);
        let first = apply(&members, &goal).await;
        signal(&first, Signal::SIGKILL);
        let second = eventually(&members, "restarted", |facts| runs(facts) && facts.pid != first.pid).await;
        assert_eq!(query(&host, &goal, "select 1"), "1");
        let crash = told.recv().await.expect("happening");
        assert_eq!(crash.kind, "member.crashed");
        assert!(crash.message.contains("ended by signal 9"), "{}", crash.message);
        assert_eq!(told.recv().await.expect("happening").kind, "member.restarted");
        // Stopped by hand, as by an administrator of the machine.
        signal(&second, Signal::SIGTERM);
        eventually(&members, "started again", |facts| runs(facts) && facts.pid != second.pid).await;
        assert_eq!(told.recv().await.expect("happening").kind, "member.stopped");
        shutdown.cancel();
        run.await.expect("run");
    }
}

#[tokio::test]
async fn what_ended_while_the_agent_was_away_is_started_and_what_is_off_stays_off() {
    for engine in Engine::ALL.iter().copied() {
        let host = Host::new();
        let members = host.open().await;
        let (on, off) = (host.goal(&members, engine), host.goal(&members, engine));
        let first = apply(&members, &on).await;
        let off = pb::MemberGoal { power: Power::Off.into(), ..off };
        apply(&members, &off).await;
        drop(members);
        signal(&first, Signal::SIGKILL);
        let members = host.open().await;
        let shutdown = CancellationToken::new();
        let run = tokio::spawn(members.clone().run(shutdown.clone()));
        eventually(&members, "started", |facts| runs(facts) && facts.member_id == on.member_id).await;
        assert_eq!(query(&host, &on, "select 1"), "1");
        assert_eq!(host.servers(&off), [0i64; 0]);
        shutdown.cancel();
        run.await.expect("run");
    }
}

#[tokio::test]
async fn files_that_were_changed_or_deleted_by_hand_are_put_back_without_a_restart() {
    for engine in Engine::ALL.iter().copied() {
        let host = Host::new();
        let members = host.open().await;
        let mut told = members.happenings();
        let goal = host.goal(&members, engine);
        let first = apply(&members, &goal).await;
        let root = host.root(&goal);
        let owned = match engine {
            Engine::Postgres => vec!["conf/windlass.conf", "conf/pg_hba.conf", "data/postgresql.conf"],
            Engine::Mariadb => vec!["conf/windlass.cnf"],
        };
        let before: Vec<String> =
            owned.iter().map(|file| std::fs::read_to_string(root.join(file)).expect(file)).collect();
        std::fs::write(root.join(owned[0]), "rubbish").expect("write");
        for file in &owned[1..] {
            std::fs::remove_file(root.join(file)).expect(file);
        }
        std::fs::remove_file(root.join("tls/server.key")).expect("key");
        let shutdown = CancellationToken::new();
        let run = tokio::spawn(members.clone().run(shutdown.clone()));
        let repaired = told.recv().await.expect("happening");
        assert_eq!(repaired.kind, "config.repaired");
        assert!(repaired.message.contains(owned[0].trim_start_matches("conf/")), "{}", repaired.message);
        let after: Vec<String> =
            owned.iter().map(|file| std::fs::read_to_string(root.join(file)).expect(file)).collect();
        assert_eq!(after, before);
        assert!(root.join("tls/server.key").exists());
        let facts = eventually(&members, "runs", runs).await;
        assert_eq!(facts.pid, first.pid);
        assert_eq!(query(&host, &goal, "select 1"), "1");
        shutdown.cancel();
        run.await.expect("run");
    }
}

#[tokio::test]
async fn facts_follow_the_server() {
    for engine in Engine::ALL.iter().copied() {
        let host = Host::new();
        let members = host.open().await;
        let goal = host.goal(&members, engine);
        apply(&members, &goal).await;
        let shutdown = CancellationToken::new();
        let run = tokio::spawn(members.clone().run(shutdown.clone()));
        let idle = eventually(&members, "measured", |facts| runs(facts) && facts.disk_used_bytes > 1 << 20).await;
        assert!(idle.connections == 0 && idle.memory_used_bytes > 1 << 20, "{idle:?}");
        let _session = host.client(&goal).await;
        query(&host, &goal, "create table t as select 1 as n");
        let moved = |facts: &pb::MemberFacts| facts.connections == 1 && facts.position != idle.position;
        eventually(&members, "one connection, further on", moved).await;
        shutdown.cancel();
        run.await.expect("run");
    }
}
