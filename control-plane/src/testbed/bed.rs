//! The bed itself: database, context, caller, executor by hand.

use std::sync::Arc;

use tempfile::TempDir;
use windlass_core::{
    Error,
    engine::Engine,
    host::HostState,
    id::{ApiKeyId, HostId, InstanceId, OperationId},
    operation::OperationState,
    role::{Role, Scope},
};
use windlass_db::{
    Db, Guard, Tx,
    agents::hosts_move_tx,
    consistency::{Violation, consistency_check_tx},
    operations::OperationRow,
    testing::TestDb,
};
use windlass_kit::failpoint::Failpoints;

use super::{Agents, add_host, add_project, catalogue, fleet::ROOM};
use crate::{
    app::{
        Caller, Context,
        instances::{self, CreateInstance, InstanceName, InstanceView},
    },
    config::Config,
    ha::{Ha, HaConfig},
    health::{Health, HealthConfig},
    installation,
    queue::HostWaker,
    reconcile::Reconciler,
    routes::Routes,
    sagas::{self, Advance, OperationWatch},
    secrets::Sealer,
};

/// More rounds than any operation of a test takes.
const MOST: usize = 300;
/// The project of every bed.
pub(crate) const PROJECT: &str = "shop";

/// A control plane with one project `shop` and hosts `h1`, `h2`, ….
pub(crate) struct Bed {
    pub(crate) test: TestDb,
    pub(crate) cx: Arc<Context>,
    pub(crate) caller: Caller,
    pub(crate) agents: Agents,
    pub(crate) hosts: Vec<HostId>,
    pub(crate) guard: Guard,
    advance: Advance,
    _keys: TempDir,
}

impl Bed {
    /// A bed with so many hosts.
    pub(crate) async fn new(hosts: usize) -> Self {
        let test = TestDb::create().await;
        let db = test.db.clone();
        let (cx, keys) = context(&db).await;
        let advance = Advance {
            db: db.clone(),
            registry: cx.registry.clone(),
            hosts: cx.hosts.clone(),
            watch: cx.watch.clone(),
            routes: cx.routes.clone(),
            ha: cx.ha.clone(),
            failpoints: Failpoints::none(),
        };
        let guard = db
            .lease_acquire("orchestrator", "test", std::time::Duration::from_secs(600))
            .await
            .expect("lease")
            .expect("it is free");
        let mut ids = Vec::new();
        for n in 1..=hosts {
            ids.push(add_host(&db, &format!("h{n}"), ROOM).await);
        }
        add_project(&db, PROJECT, 100).await;
        catalogue(&db).await;
        let caller = admin();
        Self { test, cx, caller, agents: Agents::default(), hosts: ids, guard, advance, _keys: keys }
    }

    /// A transaction for a use case.
    pub(crate) async fn tx(&self) -> Tx {
        self.cx.db.begin().await.expect("begin")
    }

    /// Asks for an instance; committed when accepted.
    pub(crate) async fn try_create(&self, ask: CreateInstance) -> Result<OperationId, Error> {
        let mut tx = self.tx().await;
        let operation = instances::create(&self.cx, &mut tx, &self.caller, ask).await?;
        tx.commit().await?;
        Ok(operation)
    }

    /// Creates an instance, to the end.
    pub(crate) async fn created(&mut self, id: &str) -> InstanceView {
        let operation = self.try_create(ask(id)).await.expect("accepted");
        self.succeed(operation).await;
        self.get(id).await
    }

    /// The instance of this name or uid.
    pub(crate) async fn get(&self, id: &str) -> InstanceView {
        self.find(id).await.expect("it exists")
    }

    /// The instance of this name or uid.
    pub(crate) async fn find(&self, id: &str) -> Result<InstanceView, Error> {
        instances::get(&self.cx, &self.caller, &name(id)).await
    }

    /// Runs sagas and agents until the operation has ended, skipping the time that sagas wait for.
    pub(crate) async fn end(&mut self, operation: OperationId) -> OperationRow {
        for _ in 0..MOST {
            self.round().await;
            let row = self.cx.db.operation_by_id(operation).await.expect("operation");
            if row.state.done() {
                return row;
            }
        }
        let row = self.cx.db.operation_by_id(operation).await.expect("operation");
        panic!("{operation} does not end: {row:?}");
    }

    /// Everything that is due, once.
    pub(crate) async fn round(&mut self) {
        let db = &self.cx.db;
        for saga in db.sagas_due(&[], 100).await.expect("due") {
            self.advance.once(&self.guard, saga).await.expect("advances");
        }
        self.agents.work(db).await;
        self.test.execute("update saga set wake_at = now() where wake_at is not null and not done").await;
    }

    /// Runs it to its end, which must be a success; then the metadata must agree with itself.
    pub(crate) async fn succeed(&mut self, operation: OperationId) {
        let row = self.end(operation).await;
        assert_eq!(row.state, OperationState::Succeeded, "{row:?}");
        self.check().await;
    }

    /// Runs it to its end, which must be a failure; then the metadata must agree with itself.
    pub(crate) async fn fail(&mut self, operation: OperationId) -> Error {
        let row = self.end(operation).await;
        assert_eq!(row.state, OperationState::Failed, "{row:?}");
        self.check().await;
        row.error.expect("a failed operation has an error")
    }

    /// The metadata agrees with itself.
    pub(crate) async fn check(&self) {
        assert_eq!(self.cx.db.consistency_check().await.expect("check"), []);
    }

    /// What the metadata's check finds after a statement that breaks it; the statement is undone.
    pub(crate) async fn broken_by(&self, statement: &str) -> Vec<Violation> {
        let mut tx = self.tx().await;
        self.test.execute_tx(&mut tx, statement).await;
        let found = consistency_check_tx(&mut tx).await.expect("check");
        tx.rollback().await.expect("rollback");
        found
    }

    /// One look of the reconciler.
    pub(crate) async fn reconcile(&self) -> usize {
        let reconciler =
            Reconciler { db: self.cx.db.clone(), hosts: self.cx.hosts.clone(), sagas: self.cx.sagas.clone() };
        reconciler.look(&self.guard).await.expect("look")
    }

    /// Hosts come and go.
    pub(crate) async fn set_host(&mut self, index: usize, state: HostState) {
        let host = self.hosts[index];
        match state {
            HostState::Online => self.agents.silent.remove(&host),
            HostState::Offline | HostState::Revoked => self.agents.silent.insert(host),
        };
        let mut tx = self.tx().await;
        hosts_move_tx(&mut tx, &[host], state).await.expect("moves");
        tx.commit().await.expect("commit");
    }

    /// A whole number that a query gives.
    pub(crate) async fn count(&self, query: &str) -> i64 {
        self.test.count(query).await
    }
}

/// What use cases need, with keys in a directory that must outlive it.
pub(crate) async fn context(db: &Db) -> (Arc<Context>, TempDir) {
    let keys = tempfile::tempdir().expect("dir");
    let config = Config::default();
    let sealer = Sealer::open_file(&keys.path().join("kek")).expect("keys");
    let authority = installation::authority(db, &sealer, &config.certificates).await.expect("authority");
    let (waker, routes) = (sagas::Waker::new(), Routes::new().0);
    let context = Context {
        db: db.clone(),
        sealer,
        authority: Arc::new(authority),
        registry: Arc::new(sagas::registry()),
        sagas: waker.clone(),
        hosts: HostWaker::new().0,
        ha: Ha::new(db.clone(), HaConfig::default(), waker, routes.clone()),
        routes,
        health: Health::new(db.clone(), HealthConfig::default()),
        watch: OperationWatch::new(),
        config,
    };
    (Arc::new(context), keys)
}

/// A key that may do everything.
pub(crate) fn admin() -> Caller {
    Caller { key: ApiKeyId::new(), role: Role::Admin, scope: Scope::Installation }
}

/// A PostgreSQL instance of the default size.
pub(crate) fn ask(id: &str) -> CreateInstance {
    CreateInstance {
        project: PROJECT.to_owned(),
        instance_id: id.to_owned(),
        engine: Engine::Postgres.to_string(),
        ..CreateInstance::default()
    }
}

/// An instance of the bed's project.
pub(crate) fn name(id: &str) -> InstanceName {
    InstanceName { project: PROJECT.to_owned(), instance: id.to_owned() }
}

/// The uid as a name.
pub(crate) fn by_uid(id: InstanceId) -> InstanceName {
    name(&id.to_string())
}
