//! A leader is lost; another member takes its place with everything that was acknowledged.

use std::time::Instant;

use uuid::Uuid;
use windlass_proto::agent::v1 as pb;

use crate::lab::Lab;

#[tokio::test]
async fn a_pair_fails_over_without_loss_and_the_former_leader_comes_back() {
    let (lab, _) = Lab::founded(2).await;
    lab.nodes[0].app("create table t(n int); insert into t select generate_series(1, 100)").await.expect("write");
    // The leader is gone, and its agent too.
    let begun = Instant::now();
    lab.nodes[0].failpoints.set("ha.before_start", windlass_kit::failpoint::Action::Pause.always());
    lab.nodes[0].kill_server();
    lab.seal(1, 2).await;
    let sealed = lab.reaches(1, pb::ReplicaState::Sealed).await;
    let seal_took = begun.elapsed();
    assert_eq!((sealed.max_epoch, sealed.role_epoch, sealed.barrier_epoch), (2, 2, 1));
    let nonce = Uuid::new_v4().to_string();
    let promoted = Instant::now();
    lab.lead(1, 2, &nonce, &[]).await;
    lab.reaches(1, pb::ReplicaState::Open).await;
    let took = promoted.elapsed();
    assert_eq!(
        lab.nodes[1].app("insert into t values (101) returning (select count(*) from t)").await.as_deref(),
        Ok("100")
    );
    eprintln!("sealed after {seal_took:?}, promoted to open in {took:?}");
    lab.nodes[0].failpoints.set("ha.before_start", windlass_kit::failpoint::Action::Off.always());
    lab.follow(0, 2, &nonce, 1).await;
    let begun = Instant::now();
    lab.reaches(0, pb::ReplicaState::Standby).await;
    eprintln!("rejoined in {:?}", begun.elapsed());
    lab.lead(1, 2, &nonce, &[0]).await;
    lab.enforces(1, &[0]).await;
    assert_eq!(lab.nodes[1].app("insert into t values (102) returning 1").await.as_deref(), Ok("1"));
    assert_eq!(lab.nodes[0].app("select count(*) from t").await.as_deref(), Ok("102"));
}
