//! The sagas of replicated instances through the battery: the real driver decides, stand-ins obey its orders.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Mutex as AsyncMutex;
use windlass_core::{
    Error,
    command::CommandKind,
    id::{HostId, InstanceId, MemberId, OperationId},
    instance::{InstanceSpec, LifecycleEvent, PlacementRules, Power},
    member::MemberRole,
    operation::{OperationKind, OperationState},
    replication::{Durability, Replication},
    size::Resources,
};
use windlass_db::{
    Guard, PgConnection,
    commands::ClaimedCommand,
    ha::{cluster_insert_tx, cluster_lock_tx, cluster_swap_tx, clusters_of_tx},
    instances::{self, NewInstance},
    members::members_of_tx,
    projects::project_by_name_tx,
    reservations::{self, NewMember},
    shard,
    testing::TestDb,
};
use windlass_logic::ha::{Cluster, Loss, Mode, Patience};
use windlass_proto::agent::v1 as pb;

use super::{
    Registry,
    goal::{Bond, DataSource, member_goal},
    instance_delete::Disposal,
    instance_purge,
    instance_update::RestartPolicy,
    observe, registry, replication,
    runtime::battery::{self, Subject},
};
use crate::{
    app::instances as app,
    ha::{Ha, HaConfig, read, write},
    routes::Routes,
    sagas::Waker,
    testbed::{Agents, PROJECT, ROOM, Replicas, add_host, add_project, admin, ask, catalogue, context, name},
};

/// The operation under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Create,
    AddFirst,
    AddSecond,
    RemoveLast,
    Switchover,
    Failover,
    Stop,
    Start,
    Restart,
    Policy,
    Delete,
    DeleteWithData,
    Undelete,
    Purge,
}

/// The cases of each kind of operation.
pub(super) fn cases(kind: OperationKind) -> Vec<String> {
    let cases: &[Case] = match kind {
        OperationKind::InstanceCreate => &[Case::Create],
        OperationKind::InstanceUpdate => &[Case::Policy],
        OperationKind::InstanceDelete => &[Case::Delete, Case::DeleteWithData],
        OperationKind::InstanceUndelete => &[Case::Undelete],
        OperationKind::InstancePurge => &[Case::Purge],
        OperationKind::InstanceStart => &[Case::Start],
        OperationKind::InstanceStop => &[Case::Stop],
        OperationKind::InstanceRestart => &[Case::Restart],
        OperationKind::InstanceSwitchover => &[Case::Switchover],
        OperationKind::InstanceFailover => &[Case::Failover],
        OperationKind::ReplicaAdd => &[Case::AddFirst, Case::AddSecond],
        OperationKind::ReplicaRemove => &[Case::RemoveLast],
        OperationKind::ObjectApply => &[],
    };
    cases.iter().map(|case| format!("{case:?}")).collect()
}

/// What the instance is before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seeded {
    Running,
    Stopped,
    Deleted,
}

/// What is true of the instance, in words.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    /// Lifecycle and power; `none` when it is gone.
    instance: String,
    /// Members on hosts, in service and in all.
    members: (usize, usize),
    /// Phase, mode and number of ackers; `none` without a cluster.
    cluster: String,
}

fn standing(instance: &str, members: (usize, usize), cluster: &str) -> Standing {
    Standing { instance: instance.to_owned(), members, cluster: cluster.to_owned() }
}

struct Bench {
    case: Case,
    agents: Mutex<Agents>,
    replicas: AsyncMutex<Replicas>,
    ha: Mutex<Option<Ha>>,
}

impl Bench {
    fn agents(&self) -> MutexGuard<'_, Agents> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn driver(&self) -> Ha {
        let ha = self.ha.lock().unwrap_or_else(PoisonError::into_inner);
        ha.clone().expect("a bench has begun")
    }

    async fn settle(&self, test: &TestDb, guard: &Guard) {
        let mut agents = std::mem::take(&mut *self.agents());
        self.replicas.lock().await.settle(&self.driver(), &test.db, guard, &agents).await;
        std::mem::swap(&mut *self.agents(), &mut agents);
    }

    /// An instance `pg-1` with so many members, in service.
    async fn seed(&self, tx: &mut PgConnection, hosts: &[HostId]) -> InstanceId {
        let project = project_by_name_tx(tx, PROJECT).await.expect("read").expect("there");
        let replicas = u32::try_from(hosts.len()).expect("few") - 1;
        let spec = InstanceSpec {
            engine: windlass_core::engine::Engine::Postgres,
            version: "15".into(),
            resources: Resources::DEFAULT,
            power: Power::On,
            parameters: Default::default(),
            placement: PlacementRules::default(),
            deletion_protection: false,
            restarts: 0,
            replication: Replication { replicas, ..Replication::default() },
        };
        let id = InstanceId::new();
        let labels = Default::default();
        let new = NewInstance {
            id,
            project_id: project.id,
            name: "pg-1",
            labels: &labels,
            spec: &spec,
            shard: shard::of(id.0),
        };
        instances::instance_insert_tx(tx, &new).await.expect("instance");
        reservations::project_instances_add_tx(tx, project.id, 1).await.expect("count");
        for (n, host) in hosts.iter().enumerate() {
            let member = NewMember {
                id: MemberId::new(),
                instance_id: id,
                host_id: *host,
                role: if n == 0 { MemberRole::Primary } else { MemberRole::Replica },
                asynchronous: false,
                resources: spec.resources,
            };
            reservations::member_reserve_tx(tx, &member).await.expect("member").expect("a port");
        }
        for event in [LifecycleEvent::CreateBegun, LifecycleEvent::Served] {
            instances::instance_advance_tx(tx, id, event, None).await.expect("legal");
        }
        let row = instances::instance_by_id_tx(tx, id).await.expect("read").expect("there");
        let members = members_of_tx(tx, &[id]).await.expect("read");
        for member in &members {
            let goal = member_goal(&row, member, Bond::of(&members), DataSource::Initialise, None);
            let apply = pb::command::Body::ApplyMember(pb::ApplyMember { goal: Some(goal) });
            let applied = self.agents().carry_out(CommandKind::ApplyMember, &member.id.to_string(), apply);
            observe::facts_tx(tx, member, &applied.expect("works")).await.expect("stored");
        }
        if members.len() > 1 {
            let primary = members.iter().find(|member| member.role == MemberRole::Primary).expect("one").id;
            let known = members.iter().map(|row| (row.id, replication::member(row))).collect();
            let cluster = Cluster::found(known, primary, spec.replication.clone(), uuid::Uuid::new_v4());
            cluster_insert_tx(tx, &write(id, &cluster).expect("json"), 0).await.expect("cluster");
        }
        id
    }

    /// Brings the seeded instance to rest, and on to what it shall be.
    async fn stop(&self, test: &TestDb, guard: &Guard, id: InstanceId, seeded: Seeded) {
        let mut tx = test.db.begin().await.expect("begin");
        let row = cluster_lock_tx(&mut tx, id).await.expect("read").expect("a cluster");
        let next = read(&row).expect("json").rest(OperationId::new()).expect("free");
        let stored = cluster_swap_tx(&mut tx, (row.epoch, row.rev), &write(id, &next).expect("json")).await;
        assert!(stored.expect("stored"));
        tx.commit().await.expect("commit");
        self.driver().changed(id);
        self.settle(test, guard).await;
        let mut tx = test.db.begin().await.expect("begin");
        let members = members_of_tx(&mut tx, &[id]).await.expect("read");
        let mut row = instances::instance_by_id_tx(&mut tx, id).await.expect("read").expect("there");
        match seeded {
            Seeded::Running => {}
            Seeded::Stopped => {
                row.spec.power = Power::Off;
                instances::instance_set_spec_tx(&mut tx, id, &row.spec).await.expect("spec");
                for event in [LifecycleEvent::StopBegun, LifecycleEvent::CameToRest] {
                    instances::instance_advance_tx(&mut tx, id, event, None).await.expect("legal");
                }
                let row = instances::instance_by_id_tx(&mut tx, id).await.expect("read").expect("there");
                for member in &members {
                    let goal = member_goal(&row, member, Bond::Replicated, DataSource::Existing, None);
                    let apply = pb::command::Body::ApplyMember(pb::ApplyMember { goal: Some(goal) });
                    let applied = self.agents().carry_out(CommandKind::ApplyMember, &member.id.to_string(), apply);
                    applied.expect("works");
                }
            }
            Seeded::Deleted => {
                for event in [LifecycleEvent::DeleteBegun, LifecycleEvent::Removed] {
                    instances::instance_advance_tx(&mut tx, id, event, None).await.expect("legal");
                }
                for member in &members {
                    let aside = pb::command::Body::RemoveMember(pb::RemoveMember { purge: false });
                    let removed = self.agents().carry_out(CommandKind::RemoveMember, &member.id.to_string(), aside);
                    removed.expect("works");
                    reservations::member_retain_tx(&mut tx, member.id).await.expect("retained");
                }
                reservations::project_instances_add_tx(&mut tx, row.project_id, -1).await.expect("count");
                let now = jiff::Timestamp::now();
                let purge = now + jiff::SignedDuration::from_hours(1);
                instances::instance_set_deletion_tx(&mut tx, id, Some(now), Some(purge)).await.expect("times");
            }
        }
        tx.commit().await.expect("commit");
    }

    async fn ask_for(&self, test: &TestDb) -> Result<OperationId, Error> {
        let (cx, _keys) = context(&test.db).await;
        let caller = admin();
        let mut tx = test.db.begin().await?;
        let pg = name("pg-1");
        let scaled = |replicas| app::UpdateInstance {
            replication: app::ReplicationChange { replicas: Some(replicas), ..Default::default() },
            ..Default::default()
        };
        let operation = match self.case {
            Case::Create => {
                let replication = Replication { replicas: 1, ..Replication::default() };
                app::create(&cx, &mut tx, &caller, app::CreateInstance { replication, ..ask("pg-1") }).await
            }
            Case::AddFirst => app::add_replica(&mut tx, &caller, &pg, "", &app::NewReplica::default()).await,
            Case::AddSecond => app::update(&mut tx, &caller, &pg, "", scaled(2), RestartPolicy::Wait).await,
            Case::RemoveLast => app::remove_replica(&mut tx, &caller, &pg, "", "").await,
            Case::Switchover => app::switchover(&mut tx, &caller, &pg, "", "", Patience::GiveUp).await,
            Case::Failover => app::failover(&mut tx, &caller, &pg, "", "", Loss::Forbidden).await,
            Case::Stop => app::stop(&mut tx, &caller, &pg, "").await,
            Case::Start => app::start(&mut tx, &caller, &pg, "").await,
            Case::Restart => app::restart(&mut tx, &caller, &pg, "").await,
            Case::Policy => {
                let change = app::ReplicationChange { durability: Some(Durability::Durability), ..Default::default() };
                let ask = app::UpdateInstance { replication: change, ..Default::default() };
                app::update(&mut tx, &caller, &pg, "", ask, RestartPolicy::Wait).await
            }
            Case::Delete => app::delete(&cx, &mut tx, &caller, &pg, "", Disposal::Retain).await,
            Case::DeleteWithData => app::delete(&cx, &mut tx, &caller, &pg, "", Disposal::Purge).await,
            Case::Undelete => app::undelete(&mut tx, &caller, &pg).await,
            Case::Purge => {
                let filter = instances::InstanceFilter { show_deleted: true, ..Default::default() };
                let all = instances::instances_list_tx(&mut tx, &filter, None, 1).await?;
                let request = super::Request {
                    project: Some(all[0].project_id),
                    instance: Some(all[0].id),
                    target: all[0].path(),
                    actor: "system".into(),
                };
                let data = instance_purge::Data { instance: all[0].id };
                super::start::<instance_purge::InstancePurge>(&mut tx, request, &data).await
            }
        }?;
        tx.commit().await?;
        Ok(operation)
    }

    async fn standing(&self, test: &TestDb) -> Standing {
        let guard = guard(test).await;
        self.settle(test, &guard).await;
        let mut tx = test.db.begin().await.expect("begin");
        let filter = instances::InstanceFilter { show_deleted: true, ..Default::default() };
        let all = instances::instances_list_tx(&mut tx, &filter, None, 2).await.expect("listed");
        let instance = match &all[..] {
            [] => "none".to_owned(),
            [one] => format!("{} {}", one.lifecycle, one.spec.power),
            _ => "several".to_owned(),
        };
        let ids: Vec<_> = all.iter().map(|row| row.id).collect();
        let cluster = match &clusters_of_tx(&mut tx, &ids).await.expect("read")[..] {
            [row] => {
                let cluster = read(row).expect("json");
                let rows = members_of_tx(&mut tx, &ids).await.expect("read");
                let stored: Vec<_> =
                    rows.iter().filter(|row| row.role == MemberRole::Primary).map(|row| row.id).collect();
                assert_eq!(stored, cluster.primary().into_iter().collect::<Vec<_>>(), "roles follow the cluster");
                assert_eq!(cluster.members.len(), rows.len(), "the cluster has the members");
                let mode = if cluster.mode() == Mode::Alone { 0 } else { cluster.acks().len() };
                format!("{} {mode}", cluster.phase.word())
            }
            _ => "none".to_owned(),
        };
        let agents = self.agents();
        Standing { instance, members: (agents.live(), agents.count()), cluster }
    }
}

/// The lease as it is held now.
async fn guard(test: &TestDb) -> Guard {
    let lease = test.db.lease_by_name("orchestrator").await.expect("read").expect("held");
    Guard { name: "orchestrator".to_owned(), epoch: lease.epoch }
}

#[async_trait::async_trait]
impl Subject for Bench {
    fn registry(&self) -> Registry {
        registry()
    }

    fn ha(&self, test: &TestDb) -> Ha {
        let ha = Ha::new(test.db.clone(), HaConfig::default(), Waker::new(), Routes::new().0);
        *self.ha.lock().unwrap_or_else(PoisonError::into_inner) = Some(ha.clone());
        ha
    }

    async fn tick(&self, test: &TestDb, guard: &Guard) {
        self.settle(test, guard).await;
    }

    async fn begin(&self, test: &TestDb) -> OperationId {
        *self.agents() = Agents::default();
        *self.replicas.lock().await = Replicas::default();
        let mut hosts = Vec::new();
        for name in ["h1", "h2", "h3"] {
            hosts.push(add_host(&test.db, name, ROOM).await);
        }
        add_project(&test.db, PROJECT, 10).await;
        catalogue(&test.db).await;
        let (members, seeded) = match self.case {
            Case::Create => (0, Seeded::Running),
            Case::AddFirst => (1, Seeded::Running),
            Case::AddSecond
            | Case::RemoveLast
            | Case::Switchover
            | Case::Failover
            | Case::Stop
            | Case::Restart
            | Case::Policy
            | Case::Delete
            | Case::DeleteWithData => (2, Seeded::Running),
            Case::Start => (2, Seeded::Stopped),
            Case::Undelete | Case::Purge => (2, Seeded::Deleted),
        };
        if members > 0 {
            let mut tx = test.db.begin().await.expect("begin");
            let id = self.seed(&mut tx, &hosts[..members]).await;
            tx.commit().await.expect("commit");
            let guard = guard(test).await;
            self.settle(test, &guard).await;
            if seeded != Seeded::Running {
                self.stop(test, &guard, id, seeded).await;
            }
            self.agents().done.clear();
        }
        self.ask_for(test).await.expect("accepted")
    }

    fn answer(&self, command: &ClaimedCommand, body: pb::command::Body) -> pb::MemberFacts {
        let member = command.member.map(|id| id.to_string()).unwrap_or_default();
        self.agents().carry_out(command.kind, &member, body).expect("a healthy agent")
    }

    async fn succeeded(&self, test: &TestDb, operation: OperationId) {
        assert_eq!(test.db.consistency_check().await.expect("check"), []);
        let found = self.standing(test).await;
        let kind = test.db.operation_by_id(operation).await.expect("operation").kind.parse().expect("a known kind");
        assert!(cases(kind).contains(&format!("{:?}", self.case)), "{:?} is not a case of {kind}", self.case);
        let expected = match self.case {
            Case::Create | Case::AddFirst => standing("RUNNING ON", (2, 2), "STEADY 1"),
            Case::AddSecond => standing("RUNNING ON", (3, 3), "STEADY 2"),
            Case::RemoveLast => standing("RUNNING ON", (1, 1), "STEADY 0"),
            Case::Stop => standing("STOPPED OFF", (2, 2), "RESTING 1"),
            Case::Switchover | Case::Failover | Case::Start | Case::Restart | Case::Policy | Case::Undelete => {
                standing("RUNNING ON", (2, 2), "STEADY 1")
            }
            Case::Delete => standing("DELETED ON", (0, 2), "RESTING 1"),
            Case::DeleteWithData | Case::Purge => standing("none", (0, 0), "none"),
        };
        assert_eq!(found, expected, "{:?}", self.case);
        let epoch = test.count("select coalesce(max(epoch), 0)::bigint from ha_cluster").await;
        if matches!(self.case, Case::Switchover | Case::Failover) {
            assert_eq!(epoch, 2);
        }
        let told = "select count(*) from ha_cluster where state->'replication'->>'durability' = 'durability'";
        assert_eq!(test.count(told).await, i64::from(self.case == Case::Policy));
    }

    async fn unwound(&self, test: &TestDb, operation: OperationId) {
        assert_eq!(test.db.consistency_check().await.expect("check"), []);
        let found = self.standing(test).await;
        let state = test.db.operation_by_id(operation).await.expect("operation").state;
        assert!(matches!(state, OperationState::Failed | OperationState::Cancelled));
        let expected = match self.case {
            Case::Create => standing("none", (0, 0), "none"),
            // A cluster that was founded stays.
            Case::AddFirst if found.cluster == "none" => standing("RUNNING ON", (1, 1), "none"),
            Case::AddFirst => standing("RUNNING ON", (1, 1), "STEADY 0"),
            Case::AddSecond
            | Case::RemoveLast
            | Case::Switchover
            | Case::Failover
            | Case::Stop
            | Case::Restart
            | Case::Policy => standing("RUNNING ON", (2, 2), "STEADY 1"),
            Case::Start => standing("STOPPED OFF", (2, 2), "RESTING 1"),
            Case::Undelete => standing("DELETED ON", (0, 2), "RESTING 1"),
            // A delete is not taken back: it is to be asked for again.
            Case::Delete | Case::DeleteWithData => return assert_eq!(found.instance, "ERROR ON"),
            Case::Purge => return assert_eq!(found.instance, "DELETED ON"),
        };
        assert_eq!(found, expected, "{:?}", self.case);
        let wanted =
            test.count("select (spec->'replication'->>'replicas')::bigint from instance union all select 0 limit 1");
        let before = if matches!(self.case, Case::Create | Case::AddFirst) { 0 } else { 1 };
        assert_eq!(wanted.await, before);
    }
}

async fn battery_of(case: Case) {
    let bench = Bench { case, agents: Mutex::default(), replicas: AsyncMutex::default(), ha: Mutex::new(None) };
    battery::run(&bench).await;
}

macro_rules! batteries {
    ($($test:ident: $case:ident;)+) => {$(
        #[tokio::test]
        async fn $test() {
            battery_of(Case::$case).await;
        }
    )+};
}
batteries! {
    create_with_a_replica_passes_the_battery: Create;
    a_first_replica_passes_the_battery: AddFirst;
    a_second_replica_passes_the_battery: AddSecond;
    removing_the_last_replica_passes_the_battery: RemoveLast;
    switchover_passes_the_battery: Switchover;
    forced_failover_passes_the_battery: Failover;
    stopping_several_members_passes_the_battery: Stop;
    starting_several_members_passes_the_battery: Start;
    restarting_several_members_passes_the_battery: Restart;
    a_change_of_policy_passes_the_battery: Policy;
    deleting_several_members_passes_the_battery: Delete;
    deleting_several_members_with_data_passes_the_battery: DeleteWithData;
    undeleting_several_members_passes_the_battery: Undelete;
    purging_several_members_passes_the_battery: Purge;
}

/// A steady cluster decides nothing, and so costs nothing.
#[tokio::test]
async fn a_steady_cluster_stores_nothing() {
    let test = TestDb::create().await;
    let bench =
        Bench { case: Case::Restart, agents: Mutex::default(), replicas: AsyncMutex::default(), ha: Mutex::new(None) };
    bench.ha(&test);
    test.db.lease_acquire("orchestrator", "a", std::time::Duration::from_secs(60)).await.expect("lease");
    bench.begin(&test).await;
    let rev = test.count("select rev from ha_cluster").await;
    let guard = guard(&test).await;
    bench.settle(&test, &guard).await;
    assert_eq!(test.count("select rev from ha_cluster").await, rev);
    let steady = test.count("select count(*) from ha_cluster where state->'phase'->>'name' = 'STEADY'").await;
    assert_eq!(steady, 1);
}
