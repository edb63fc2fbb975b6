//! Taking members away, bringing their data back, and deleting it.

use windlass_agent::members::Disposal;
use windlass_core::{engine::Engine, id::MemberId};
use windlass_proto::agent::v1 as pb;

use crate::{
    client::query,
    fixture::{Host, apply, member, runs},
};

#[tokio::test]
async fn retained_data_comes_back_or_is_purged_and_repeats_succeed() {
    for engine in Engine::ALL.iter().copied() {
        let host = Host::new();
        let members = host.open().await;
        let goal = host.goal(&members, engine);
        let id = member(&goal);
        apply(&members, &goal).await;
        query(&host, &goal, "create table kept as select 7 as n");
        for _ in 0..2 {
            let facts = members.remove(id, Disposal::Retain).await.expect("remove");
            assert_eq!(facts.process(), pb::member_facts::Process::Absent);
            assert!(members.facts().is_empty());
            assert_eq!((host.names("retained").len(), host.names("members").len()), (1, 0));
        }
        let back = pb::MemberGoal { data: pb::member_goal::DataSource::Retained.into(), generation: 5, ..goal.clone() };
        assert!(runs(&apply(&members, &back).await));
        assert_eq!(query(&host, &goal, "select n from kept"), "7");
        members.remove(id, Disposal::Retain).await.expect("remove");
        for _ in 0..2 {
            members.purge(id).await.expect("purge");
        }
        members.remove(MemberId::new(), Disposal::Purge).await.expect("nothing there");
        host.assert_clean();
    }
}

/// A create that was to bring data back and fails must not lose the data.
#[tokio::test]
async fn a_failed_undelete_puts_the_data_back() {
    let host = Host::new();
    let members = host.open().await;
    let goal = host.goal(&members, Engine::Postgres);
    apply(&members, &goal).await;
    members.remove(member(&goal), Disposal::Retain).await.expect("remove");
    let mut back = pb::MemberGoal { data: pb::member_goal::DataSource::Retained.into(), generation: 2, ..goal };
    back.parameters.insert("no_such_parameter".into(), "1".into());
    crate::fixture::refuse(&members, &back).await;
    assert_eq!((host.names("retained").len(), host.names("members").len()), (1, 0));
    back.parameters.remove("no_such_parameter");
    assert!(runs(&apply(&members, &back).await));
}

#[tokio::test]
async fn a_server_that_does_not_stop_is_killed() {
    for engine in Engine::ALL.iter().copied() {
        let mut host = Host::new();
        host.config.stop_grace = std::time::Duration::from_millis(300);
        let members = host.open().await;
        let goal = host.goal(&members, engine);
        let facts = apply(&members, &goal).await;
        let pid = nix::unistd::Pid::from_raw(i32::try_from(facts.pid).expect("pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).expect("stop");
        members.remove(member(&goal), Disposal::Purge).await.expect("remove");
        host.assert_clean();
    }
}
