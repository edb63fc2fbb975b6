//! Every saga through the battery: each step twice, each failure, each crash, each cancel, on the picture of a host.

use std::sync::{Mutex, PoisonError};

use secrecy::SecretString;
use windlass_core::{
    Error,
    command::CommandKind,
    id::OperationId,
    instance::{InstanceSpec, Lifecycle, LifecycleEvent, PlacementRules, Power},
    member::MemberRole,
    object::{ObjectKind, ObjectState},
    operation::{OperationKind, OperationState},
    size::{GIB, Resources},
};
use windlass_db::{
    PgConnection,
    commands::ClaimedCommand,
    instances::{self, NewInstance},
    members::members_of_tx,
    objects::{NewObject, ObjectKey, object_put_tx},
    projects::project_by_name_tx,
    reservations::{self, NewMember},
    shard,
    testing::TestDb,
};
use windlass_proto::agent::v1 as pb;

use super::{
    Registry,
    goal::{Bond, DataSource, member_goal},
    instance_delete::Disposal,
    instance_purge,
    instance_update::RestartPolicy,
    observe, registry, replicated_tests,
    runtime::battery::{self, Subject},
};
use crate::{
    app::{instances as app, objects},
    testbed::{Agents, PROJECT, ROOM, add_host, add_project, admin, ask, catalogue, context, name},
};

/// The operation under test, on an instance that is in the state it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Create,
    Start,
    Stop,
    Restart,
    Resize,
    TuneWithRestart,
    Label,
    Delete,
    DeleteWithData,
    Undelete,
    Purge,
    CreateUser,
    DropDatabase,
}

struct Bench {
    case: Case,
    agents: Mutex<Agents>,
}

impl Bench {
    fn agents(&self) -> std::sync::MutexGuard<'_, Agents> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An instance `pg-1` that has come to `lifecycle`, on its host too.
    async fn seed(&self, tx: &mut PgConnection, host: windlass_core::id::HostId, lifecycle: Lifecycle) {
        let project = project_by_name_tx(tx, PROJECT).await.expect("read").expect("there");
        let power = if lifecycle == Lifecycle::Stopped { Power::Off } else { Power::On };
        let spec = InstanceSpec {
            engine: windlass_core::engine::Engine::Postgres,
            version: "15".into(),
            resources: Resources::DEFAULT,
            power,
            parameters: Default::default(),
            placement: PlacementRules::default(),
            deletion_protection: false,
            restarts: 0,
            replication: windlass_core::replication::Replication::default(),
        };
        let id = windlass_core::id::InstanceId::new();
        let new = NewInstance {
            id,
            project_id: project.id,
            name: "pg-1",
            labels: &Default::default(),
            spec: &spec,
            shard: shard::of(id.0),
        };
        instances::instance_insert_tx(tx, &new).await.expect("instance");
        reservations::project_instances_add_tx(tx, project.id, 1).await.expect("count");
        let member = NewMember {
            id: windlass_core::id::MemberId::new(),
            instance_id: id,
            host_id: host,
            role: MemberRole::Primary,
            asynchronous: false,
            resources: spec.resources,
        };
        reservations::member_reserve_tx(tx, &member).await.expect("member").expect("a port");
        for (kind, of) in [(ObjectKind::User, "app"), (ObjectKind::Database, "app"), (ObjectKind::Database, "orders")] {
            let key = ObjectKey { kind, name: of.to_owned(), database: String::new() };
            let object = NewObject {
                key: &key,
                state: ObjectState::Ready,
                owner: "",
                databases: &[],
                administrator: false,
                verifier: "",
                secret_sealed: None,
            };
            object_put_tx(tx, id, &object).await.expect("object");
        }
        let events: &[LifecycleEvent] = match lifecycle {
            Lifecycle::Stopped => &[LifecycleEvent::CreateBegun, LifecycleEvent::CameToRest],
            Lifecycle::Deleted => &[
                LifecycleEvent::CreateBegun,
                LifecycleEvent::Served,
                LifecycleEvent::DeleteBegun,
                LifecycleEvent::Removed,
            ],
            Lifecycle::Pending
            | Lifecycle::Creating
            | Lifecycle::Running
            | Lifecycle::Modifying
            | Lifecycle::Stopping
            | Lifecycle::Suspended
            | Lifecycle::Deleting
            | Lifecycle::Error => &[LifecycleEvent::CreateBegun, LifecycleEvent::Served],
        };
        for event in events {
            instances::instance_advance_tx(tx, id, *event, None).await.expect("legal");
        }
        let row = instances::instance_by_id_tx(tx, id).await.expect("read").expect("there");
        let members = members_of_tx(tx, &[id]).await.expect("read");
        let goal = member_goal(&row, &members[0], Bond::Single, DataSource::Initialise, None);
        let apply = pb::command::Body::ApplyMember(pb::ApplyMember { goal: Some(goal) });
        let (facts, removed) = {
            let mut agents = self.agents();
            let key = members[0].id.to_string();
            let facts = agents.carry_out(CommandKind::ApplyMember, &key, apply).expect("works");
            let removed = lifecycle == Lifecycle::Deleted;
            if removed {
                let aside = pb::command::Body::RemoveMember(pb::RemoveMember { purge: false });
                agents.carry_out(CommandKind::RemoveMember, &key, aside).expect("works");
            }
            agents.done.clear();
            agents.objects = vec!["DATABASE orders".into()];
            (facts, removed)
        };
        if removed {
            reservations::member_retain_tx(tx, members[0].id).await.expect("retained");
            reservations::project_instances_add_tx(tx, project.id, -1).await.expect("count");
            let now = jiff::Timestamp::now();
            let purge = now + jiff::SignedDuration::from_hours(1);
            instances::instance_set_deletion_tx(tx, id, Some(now), Some(purge)).await.expect("times");
        } else {
            observe::facts_tx(tx, &members[0], &facts).await.expect("stored");
        }
    }

    async fn ask_for(&self, test: &TestDb) -> Result<OperationId, Error> {
        let (cx, _keys) = context(&test.db).await;
        let caller = admin();
        let mut tx = test.db.begin().await?;
        let pg = name("pg-1");
        let update = app::UpdateInstance::default();
        let operation = match self.case {
            Case::Create => app::create(&cx, &mut tx, &caller, ask("pg-1")).await,
            Case::Start => app::start(&mut tx, &caller, &pg, "").await,
            Case::Stop => app::stop(&mut tx, &caller, &pg, "").await,
            Case::Restart => app::restart(&mut tx, &caller, &pg, "").await,
            Case::Resize => {
                let ask = app::UpdateInstance { memory_bytes: Some(GIB), cpu_millis: Some(200), ..update };
                app::update(&mut tx, &caller, &pg, "", ask, RestartPolicy::Wait).await
            }
            Case::TuneWithRestart => {
                self.agents().needs_restart = vec!["shared_buffers".into()];
                let parameters = [("shared_buffers".to_owned(), Some("64MB".to_owned()))].into();
                let ask = app::UpdateInstance { parameters, ..update };
                app::update(&mut tx, &caller, &pg, "", ask, RestartPolicy::IfNeeded).await
            }
            Case::Label => {
                let labels = Some([("team".to_owned(), "core".to_owned())].into());
                let ask = app::UpdateInstance { labels, deletion_protection: Some(true), ..update };
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
            Case::CreateUser => {
                let ask = objects::CreateObject {
                    kind: ObjectKind::User,
                    name: "ann".into(),
                    owner: String::new(),
                    databases: vec!["orders".into()],
                    database: String::new(),
                    password: SecretString::from(""),
                };
                objects::create(&cx, &mut tx, &caller, &pg, ask).await
            }
            Case::DropDatabase => objects::drop(&mut tx, &caller, &pg, ObjectKind::Database, "orders", "").await,
        }?;
        tx.commit().await?;
        Ok(operation)
    }

    /// Lifecycle and power of the instance as words, and how many members the host has live and in all.
    async fn standing(&self, test: &TestDb) -> (String, usize, usize) {
        let mut tx = test.db.begin().await.expect("begin");
        let filter = instances::InstanceFilter { show_deleted: true, ..Default::default() };
        let all = instances::instances_list_tx(&mut tx, &filter, None, 2).await.expect("listed");
        let words = match &all[..] {
            [] => "none".to_owned(),
            [one] => format!("{} {}", one.lifecycle, one.spec.power),
            _ => "several".to_owned(),
        };
        let agents = self.agents();
        (words, agents.live(), agents.count())
    }
}

#[async_trait::async_trait]
impl Subject for Bench {
    fn registry(&self) -> Registry {
        registry()
    }

    async fn begin(&self, test: &TestDb) -> OperationId {
        *self.agents() = Agents::default();
        let host = add_host(&test.db, "h1", ROOM).await;
        add_project(&test.db, PROJECT, 10).await;
        catalogue(&test.db).await;
        let seeded = match self.case {
            Case::Create => None,
            Case::Start => Some(Lifecycle::Stopped),
            Case::Undelete | Case::Purge => Some(Lifecycle::Deleted),
            Case::Stop
            | Case::Restart
            | Case::Resize
            | Case::TuneWithRestart
            | Case::Label
            | Case::Delete
            | Case::DeleteWithData
            | Case::CreateUser
            | Case::DropDatabase => Some(Lifecycle::Running),
        };
        if let Some(lifecycle) = seeded {
            let mut tx = test.db.begin().await.expect("begin");
            self.seed(&mut tx, host, lifecycle).await;
            tx.commit().await.expect("commit");
        }
        self.ask_for(test).await.expect("accepted")
    }

    fn answer(&self, command: &ClaimedCommand, body: pb::command::Body) -> pb::MemberFacts {
        let member = command.member.map(|id| id.to_string()).unwrap_or_default();
        self.agents().carry_out(command.kind, &member, body).expect("a healthy agent")
    }

    async fn succeeded(&self, test: &TestDb, operation: OperationId) {
        assert_eq!(test.db.consistency_check().await.expect("check"), []);
        let (words, live, kept) = self.standing(test).await;
        let kind = test.db.operation_by_id(operation).await.expect("operation").kind.parse().expect("a known kind");
        assert!(cases(kind).contains(&self.case), "{:?} is not a case of {kind}", self.case);
        let expected = match self.case {
            Case::Stop => ("STOPPED OFF", 1, 1),
            Case::Delete => ("DELETED ON", 0, 1),
            Case::DeleteWithData | Case::Purge => ("none", 0, 0),
            Case::Create
            | Case::Start
            | Case::Restart
            | Case::Resize
            | Case::TuneWithRestart
            | Case::Label
            | Case::Undelete
            | Case::CreateUser
            | Case::DropDatabase => ("RUNNING ON", 1, 1),
        };
        assert_eq!((words.as_str(), live, kept), expected, "{:?}", self.case);
        let objects = self.agents().objects.clone();
        if self.case == Case::CreateUser {
            assert_eq!(objects, ["DATABASE orders", "USER ann"]);
        }
        if self.case == Case::DropDatabase {
            assert!(objects.is_empty(), "{objects:?}");
        }
    }

    async fn unwound(&self, test: &TestDb, operation: OperationId) {
        assert_eq!(test.db.consistency_check().await.expect("check"), []);
        let (words, live, kept) = self.standing(test).await;
        let state = test.db.operation_by_id(operation).await.expect("operation").state;
        assert!(matches!(state, OperationState::Failed | OperationState::Cancelled));
        match self.case {
            Case::Create => assert_eq!((words.as_str(), live, kept), ("none", 0, 0)),
            Case::Start => assert_eq!((words.as_str(), kept), ("STOPPED OFF", 1)),
            Case::Stop
            | Case::Restart
            | Case::Resize
            | Case::TuneWithRestart
            | Case::Label
            | Case::CreateUser
            | Case::DropDatabase => assert_eq!((words.as_str(), live, kept), ("RUNNING ON", 1, 1)),
            // A delete is not taken back: it is to be asked for again.
            Case::Delete | Case::DeleteWithData => assert_eq!(words, "ERROR ON"),
            Case::Undelete => assert_eq!((words.as_str(), live, kept), ("DELETED ON", 0, 1)),
            Case::Purge => assert_eq!((words.as_str(), live), ("DELETED ON", 0)),
        }
        if self.case == Case::Resize {
            let reserved = test.count("select reserved_memory from host").await;
            assert_eq!(reserved.unsigned_abs(), Resources::DEFAULT.memory_bytes, "the reservation is as before");
        }
        let labelled = test.count("select count(*) from instance where labels <> '{}'").await;
        assert_eq!(labelled, 0, "labels are as before");
    }
}

async fn battery_of(case: Case) {
    battery::run(&Bench { case, agents: Mutex::default() }).await;
}

/// The cases of each kind of operation. Exhaustive, so that a new kind does not compile without one.
fn cases(kind: OperationKind) -> &'static [Case] {
    match kind {
        OperationKind::InstanceCreate => &[Case::Create],
        OperationKind::InstanceUpdate => &[Case::Resize, Case::TuneWithRestart, Case::Label],
        OperationKind::InstanceDelete => &[Case::Delete, Case::DeleteWithData],
        OperationKind::InstanceUndelete => &[Case::Undelete],
        OperationKind::InstancePurge => &[Case::Purge],
        OperationKind::InstanceStart => &[Case::Start],
        OperationKind::InstanceStop => &[Case::Stop],
        OperationKind::InstanceRestart => &[Case::Restart],
        OperationKind::InstanceSwitchover
        | OperationKind::InstanceFailover
        | OperationKind::ReplicaAdd
        | OperationKind::ReplicaRemove => &[],
        OperationKind::ObjectApply => &[Case::CreateUser, Case::DropDatabase],
    }
}

#[test]
fn every_kind_of_operation_has_a_place_in_the_battery() {
    for kind in OperationKind::ALL {
        assert!(!cases(*kind).is_empty() || !replicated_tests::cases(*kind).is_empty(), "{kind}");
    }
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
    create_passes_the_battery: Create;
    start_passes_the_battery: Start;
    stop_passes_the_battery: Stop;
    restart_passes_the_battery: Restart;
    resize_passes_the_battery: Resize;
    tuning_with_a_restart_passes_the_battery: TuneWithRestart;
    labelling_passes_the_battery: Label;
    delete_passes_the_battery: Delete;
    delete_with_its_data_passes_the_battery: DeleteWithData;
    undelete_passes_the_battery: Undelete;
    purge_passes_the_battery: Purge;
    creating_a_user_passes_the_battery: CreateUser;
    dropping_a_database_passes_the_battery: DropDatabase;
}
