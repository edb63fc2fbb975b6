//! A member that forgot what it promised is not trusted.

use windlass_proto::agent::v1::{self as pb, replication_order::Goal};

use crate::lab::Lab;

#[tokio::test]
async fn data_without_memory_is_kept_aside_until_a_copy_is_ordered() {
    let (mut lab, nonce) = Lab::founded(2).await;
    for spoilt in [false, true] {
        lab.nodes[1].agent_stops().await;
        for file in ["ha.state.0", "ha.state.1"] {
            let path = lab.nodes[1].root().join(file);
            if spoilt {
                std::fs::write(&path, "rubbish").expect("spoil");
            } else {
                std::fs::remove_file(&path).expect("lose");
            }
        }
        lab.nodes[1].agent_starts().await;
        let distrusted = lab.reaches(1, pb::ReplicaState::Quarantine).await;
        assert!(
            distrusted.reason.contains("memory") || distrusted.reason.contains("no order"),
            "{}",
            distrusted.reason
        );
        // Nothing but a copy makes it good.
        lab.follow(1, 1, &nonce, 0).await;
        lab.until(1, "refuses", |facts| facts.reason.contains("memory")).await;
        let Goal::Follow(follow) = lab.follow_goal(&nonce, 0) else { panic!("follow") };
        let anew = Goal::Follow(pb::Follow { clone_anew: true, ..follow });
        lab.send(1, lab.order(1, 1, anew)).await;
        lab.reaches(1, pb::ReplicaState::Standby).await;
        lab.nodes[0].app("select 1").await.expect("the leader goes on");
    }
}

#[tokio::test]
async fn one_lost_generation_does_no_harm() {
    let (mut lab, _) = Lab::founded(1).await;
    lab.nodes[0].agent_stops().await;
    // The newer one is half written.
    let newest = ["ha.state.0", "ha.state.1"]
        .map(|file| lab.nodes[0].root().join(file))
        .into_iter()
        .max_by_key(|path| std::fs::metadata(path).and_then(|it| it.modified()).expect("time"))
        .expect("two");
    let text = std::fs::read(&newest).expect("read");
    std::fs::write(&newest, &text[..text.len() / 2]).expect("tear");
    lab.nodes[0].agent_starts().await;
    lab.reaches(0, pb::ReplicaState::Open).await;
}
