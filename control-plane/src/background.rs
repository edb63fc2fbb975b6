//! The work that goes on without a caller: the lease, the queue, hosts' health, sagas, reconciling, forgetting.
//!
//! Each is a vital task: if one ends before its time the whole process stops in order, and a supervisor restarts it.

use std::sync::Arc;

use windlass_kit::{
    failpoint::Failpoints,
    shutdown::{Shutdown, TaskKind},
};

use crate::{
    app::{Context, proxies},
    config::Config,
    gc::Collector,
    ha::HaConfig,
    health::HealthConfig,
    lease::{Keeper, LeaseConfig},
    metadata::Embedded,
    queue::{Queue, QueueConfig, Wakeups},
    reconcile::Reconciler,
    routes,
    sagas::{Advance, Executor, Tuning},
};

/// Starts everything; gives the queue, which the agents' services use.
pub(crate) fn spawn(
    context: &Arc<Context>,
    node: String,
    wakeups: Wakeups,
    failpoints: Failpoints,
    shutdown: &Shutdown,
) -> Queue {
    let token = || shutdown.token().clone();
    let keeper = Keeper::new(context.db.vital(), LeaseConfig::orchestrator(node));
    let ownership = keeper.ownership();
    shutdown.spawn("lease", TaskKind::Vital, keeper.run(token()));

    let config = QueueConfig {
        hold: context.config.cadence.poll_hold.unsigned_abs(),
        keep: context.config.retention.commands,
        ..QueueConfig::default()
    };
    let (queue, engine) = Queue::new(context.db.clone(), config, context.hosts.clone(), wakeups, context.sagas.clone());
    let (running, owner, stop) = (queue.clone(), ownership.clone(), token());
    shutdown.spawn("queue", TaskKind::Vital, async move { Box::pin(running.run(engine, owner, stop)).await });

    let health = context.health.clone().run(ownership.clone(), token());
    shutdown.spawn("host-health", TaskKind::Vital, health);

    let advance = Advance {
        db: context.db.clone(),
        registry: context.registry.clone(),
        hosts: context.hosts.clone(),
        watch: context.watch.clone(),
        routes: context.routes.clone(),
        ha: context.ha.clone(),
        failpoints,
    };
    let executor = Executor::new(advance, ownership.clone(), context.sagas.clone(), Tuning::default());
    shutdown.spawn("executor", TaskKind::Vital, executor.run(token()));

    let driver = context.ha.clone().run(ownership.clone(), token());
    shutdown.spawn("replication", TaskKind::Vital, driver);

    let reconciler = Reconciler { db: context.db.clone(), hosts: context.hosts.clone(), sagas: context.sagas.clone() };
    shutdown.spawn("reconciler", TaskKind::Vital, reconciler.run(ownership.clone(), token()));

    let silence = proxies::silence(&context.config).unsigned_abs();
    let endpoints = routes::endpoints::keep(context.db.clone(), context.routes.clone(), ownership, silence, token());
    shutdown.spawn("endpoints", TaskKind::Vital, endpoints);

    let collector = Collector::new(context.db.clone(), context.config.retention.clone());
    shutdown.spawn("collector", TaskKind::Vital, collector.run(token()));
    queue
}

/// Keeps the routes that proxies are told.
pub(crate) fn keep_routes(context: &Arc<Context>, wakes: routes::Wakes, shutdown: &Shutdown) {
    let keeper = routes::Keeper::new(context.db.clone(), context.routes.clone(), wakes);
    shutdown.spawn("routes", TaskKind::Vital, keeper.run(shutdown.token().clone()));
}

/// Keeps the embedded metadata database running.
pub(crate) fn watch_metadata(server: Embedded, shutdown: &Shutdown) {
    let token = shutdown.token().clone();
    shutdown.spawn("metadata", TaskKind::Vital, async move {
        token.run_until_cancelled(server.keep_running()).await;
        Ok(())
    });
}

/// Watches are held as long as polls.
pub(crate) fn ha_config(config: &Config) -> HaConfig {
    HaConfig { hold: config.cadence.poll_hold.unsigned_abs() }
}

/// Agents get twice their usual silence, and the time that they spread their reconnects over, after a start.
pub(crate) fn health_config(config: &Config) -> HealthConfig {
    let offline_after = config.cadence.offline_after.unsigned_abs();
    let spread = config.cadence.reconnect_spread.unsigned_abs();
    HealthConfig { offline_after, start_grace: offline_after * 2 + spread, ..HealthConfig::default() }
}
