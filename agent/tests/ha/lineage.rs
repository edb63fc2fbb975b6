//! A member whose history is not the leader's acknowledges nothing, and becomes a part of it again.

use std::time::{Duration, Instant};

use uuid::Uuid;
use windlass_proto::agent::v1 as pb;

use crate::lab::{Lab, comes};

/// The leader has a commit that nobody acknowledged, and is gone; the other member leads epoch 2.
async fn diverged(lab: &Lab, bytes: u32) -> String {
    let setup = "create table t(k text); create table filler(f text); insert into t values ('both')";
    lab.nodes[0].app(setup).await.expect("write");
    lab.nodes[1].hold("ha.before_start");
    lab.nodes[1].kill_server();
    lab.until(0, "no follower", |facts| facts.downstream.is_empty()).await;
    let write = format!(
        "insert into t values ('alone'); insert into filler select repeat('x', 500) from generate_series(1, {bytes} / 500)"
    );
    let node = &lab.nodes[0];
    tokio::select! {
        done = node.app(&write) => panic!("acknowledged by nobody: {done:?}"),
        () = async {
            let waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
            while node.sql(waits).await.as_deref() != Ok("1") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => {}
    }
    lab.nodes[0].hold("ha.before_start");
    lab.nodes[0].kill_server();
    lab.nodes[1].let_go("ha.before_start");
    lab.seal(1, 2).await;
    lab.reaches(1, pb::ReplicaState::Sealed).await;
    let nonce = Uuid::new_v4().to_string();
    lab.lead(1, 2, &nonce, &[0]).await;
    nonce
}

#[tokio::test]
async fn a_diverged_leader_is_rewound_after_the_checkpoint_and_reports_what_it_lost() {
    let (lab, _) = Lab::founded(2).await;
    lab.nodes[1].hold("ha.before_checkpoint");
    let nonce = diverged(&lab, 2_000_000).await;
    lab.reaches(1, pb::ReplicaState::Gated).await;
    lab.nodes[0].let_go("ha.before_start");
    lab.follow(0, 2, &nonce, 1).await;
    // A rewind now would find nothing to do.
    lab.until(0, "waits for the checkpoint", |facts| facts.reason.contains("no checkpoint")).await;
    assert_eq!(lab.facts(1).expect("facts").state(), pb::ReplicaState::Gated, "nobody acknowledged the barrier");
    let begun = Instant::now();
    lab.nodes[1].let_go("ha.before_checkpoint");
    let back = lab.reaches(0, pb::ReplicaState::Standby).await;
    println!("figure: rewound and streaming in {:?}", begun.elapsed());
    assert!(back.lost_writes.contains("1 transactions"), "{}", back.lost_writes);
    lab.reaches(1, pb::ReplicaState::Open).await;
    lab.nodes[1].app("insert into t values ('new')").await.expect("acknowledged");
    for node in &lab.nodes {
        assert_eq!(node.app("select string_agg(k, ',' order by k) from t").await.as_deref(), Ok("both,new"));
    }
    let kept = std::fs::read_dir(lab.nodes[0].root().join("quarantine/1")).expect("quarantine").count();
    assert!(kept > 0, "its log behind the fork is kept");
}

/// Finding 2 of the design: by a plain name a diverged member may acknowledge what it does not have.
#[tokio::test]
async fn a_diverged_member_under_a_former_name_acknowledges_nothing() {
    let (lab, _) = Lab::founded(2).await;
    let _nonce = diverged(&lab, 8_000_000).await;
    lab.reaches(1, pb::ReplicaState::Gated).await;
    // Somebody starts it as it is, as a standby of the new leader, under the name of its former epoch.
    let root = lab.nodes[0].root();
    let conf = root.join("conf/replication.conf");
    let text = std::fs::read_to_string(&conf).expect("configuration");
    let member = lab.nodes[0].member();
    let follower = std::fs::read_to_string(lab.nodes[1].root().join("conf/replication.conf")).expect("configuration");
    assert!(!follower.contains("application_name"), "it leads");
    let name = windlass_core::replication::epoch_name(member, 1);
    let tls = root.join("tls");
    let conninfo = format!(
        "host=127.0.0.1 port={} user=windlass_replication application_name={name} sslmode=verify-full \
         sslrootcert={tls}/ca.crt sslcert={tls}/server.crt sslkey={tls}/server.key",
        lab.nodes[1].goal.port,
        tls = tls.display(),
    );
    std::fs::write(&conf, format!("{text}primary_conninfo = '{conninfo}'\nsynchronous_standby_names = ''\n"))
        .expect("write");
    std::fs::write(root.join("data/standby.signal"), "").expect("signal");
    let mut by_hand = lab.nodes[0].start_by_hand();
    let seen = lab.until(1, "it connects", |facts| !facts.downstream.is_empty()).await;
    assert_eq!(seen.downstream[0].epoch, 1);
    // Long enough for a false receipt, which takes less than a second.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        let facts = lab.facts(1).expect("facts");
        assert_eq!(facts.state(), pb::ReplicaState::Gated, "the barrier was acknowledged by a member without it");
        assert!(facts.downstream.iter().all(|member| !member.acknowledges), "{facts:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lab.nodes[0].kill_server();
    by_hand.wait().expect("it ended");
}

/// It was promoted and died before its barrier; another member made the same timeline again.
#[tokio::test]
async fn a_timeline_that_was_made_twice_is_copied_anew() {
    let (lab, _) = Lab::founded(3).await;
    lab.nodes[0].app("create table t(n int); insert into t values (1)").await.expect("write");
    lab.nodes[0].hold("ha.before_start");
    lab.nodes[0].kill_server();
    for index in [1, 2] {
        lab.seal(index, 2).await;
        lab.reaches(index, pb::ReplicaState::Sealed).await;
    }
    lab.nodes[1].hold("ha.after_promote");
    lab.lead(1, 2, &Uuid::new_v4().to_string(), &[2]).await;
    lab.nodes[1].held_at("ha.after_promote").await;
    lab.nodes[1].kill_server();
    lab.seal(2, 3).await;
    lab.reaches(2, pb::ReplicaState::Sealed).await;
    let nonce = Uuid::new_v4().to_string();
    lab.lead(2, 3, &nonce, &[]).await;
    let leader = lab.reaches(2, pb::ReplicaState::Open).await;
    lab.nodes[1].let_go("ha.after_promote");
    lab.follow(1, 3, &nonce, 2).await;
    lab.until(1, "copied", |facts| facts.state() == pb::ReplicaState::Cloning).await;
    let back = lab.reaches(1, pb::ReplicaState::Standby).await;
    assert_eq!(back.lineage.map(|l| l.fork_lsn), leader.lineage.map(|l| l.fork_lsn));
    assert!(lab.nodes[1].root().join("quarantine/1/data/PG_VERSION").exists(), "the other history is kept");
    lab.nodes[2].app("insert into t values (2)").await.expect("write");
    comes("2", async || lab.nodes[1].app("select count(*) from t").await).await;
}

#[tokio::test]
async fn a_rewind_that_was_cut_short_is_not_trusted() {
    let (lab, _) = Lab::founded(2).await;
    let nonce = diverged(&lab, 1_000_000).await;
    lab.nodes[0].let_go("ha.before_start");
    lab.nodes[0].hold("ha.after_marker");
    lab.follow(0, 2, &nonce, 1).await;
    lab.nodes[0].held_at("ha.after_marker").await;
    let mut lab = lab;
    lab.nodes[0].agent_stops().await;
    lab.nodes[0].agent_starts().await;
    lab.until(0, "copied", |facts| facts.state() == pb::ReplicaState::Cloning).await;
    lab.reaches(0, pb::ReplicaState::Standby).await;
    assert!(!lab.nodes[0].root().join("rewinding").exists());
    assert_eq!(lab.nodes[0].app("select string_agg(k, ',' order by k) from t").await.as_deref(), Ok("both"));
}
