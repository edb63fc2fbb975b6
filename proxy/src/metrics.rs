//! Counters for Prometheus, `windlass_proxy_…`. What each means is in docs/proxy.md.
//!
//! Hot paths keep their counters (see [`InstanceMetrics`]); looking up labels is for rare events only. Invariant: an
//! instance's series go away with its route.

use std::sync::{PoisonError, RwLock, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use windlass_core::Error;

/// All counters. Shared by reference.
#[derive(Debug)]
pub struct Metrics {
    registry: RwLock<Registry>,
    instances: InstanceFamilies,
    /// Connections accepted, of whatever fate.
    pub accepted: Counter,
    /// Connections that ended before the client was known, by reason.
    refused: Family<ReasonLabel, Counter>,
    /// Clients that are not known yet.
    pub starting: Gauge,
    /// Clients that wait for their route.
    pub held: Gauge,
    /// Bytes that they sent meanwhile.
    pub held_bytes: Gauge,
    /// Routes known.
    pub routes: Gauge,
    /// 1 while the control plane is connected.
    pub connected: Gauge,
    /// Seconds since 1970 at which the certificate that clients see ends.
    pub certificate_end: Gauge,
    /// 1 while this process is to end.
    pub draining: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InstanceLabel {
    /// `instance.project`.
    instance: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug)]
struct InstanceFamilies {
    clients: Family<InstanceLabel, Gauge>,
    held: Family<InstanceLabel, Gauge>,
    holds: Family<InstanceLabel, Counter>,
    holds_failed: Family<InstanceLabel, Counter>,
    transactions: Family<InstanceLabel, Counter>,
    bytes_in: Family<InstanceLabel, Counter>,
    bytes_out: Family<InstanceLabel, Counter>,
    backends: Family<InstanceLabel, Gauge>,
    backends_idle: Family<InstanceLabel, Gauge>,
    connects: Family<InstanceLabel, Counter>,
    connects_failed: Family<InstanceLabel, Counter>,
    refused: Family<InstanceLabel, Counter>,
    waits: Family<InstanceLabel, Histogram, fn() -> Histogram>,
    epoch: Family<InstanceLabel, Gauge<u64, AtomicU64>>,
}

/// The counters of one instance.
#[derive(Debug, Clone)]
pub struct InstanceMetrics {
    /// Clients that are in.
    pub clients: Gauge,
    /// Clients that wait for the route.
    pub held: Gauge,
    /// Times that a client began to wait for the route.
    pub holds: Counter,
    /// Times that it waited in vain.
    pub holds_failed: Counter,
    /// Transactions that ended.
    pub transactions: Counter,
    /// Bytes from clients.
    pub bytes_in: Counter,
    /// Bytes to clients.
    pub bytes_out: Counter,
    /// Connections to databases.
    pub backends: Gauge,
    /// Those that no client uses.
    pub backends_idle: Gauge,
    /// Connections made to databases.
    pub connects: Counter,
    /// Connections to databases that could not be made.
    pub connects_failed: Counter,
    /// Clients turned away by a limit or by the route.
    pub refused: Counter,
    /// Seconds that clients waited for a connection to a database.
    pub waits: Histogram,
    /// The route's epoch.
    pub epoch: Gauge<u64, AtomicU64>,
}

fn waits() -> Histogram {
    // 50 µs to 13 s.
    Histogram::new(exponential_buckets(0.000_05, 4.0, 10))
}

impl Metrics {
    /// All counters at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("windlass_proxy");
        let families = InstanceFamilies::new();
        families.register(&mut registry);
        let metrics = Self {
            registry: RwLock::default(),
            instances: families,
            accepted: Counter::default(),
            refused: Family::default(),
            starting: Gauge::default(),
            held: Gauge::default(),
            held_bytes: Gauge::default(),
            routes: Gauge::default(),
            connected: Gauge::default(),
            certificate_end: Gauge::default(),
            draining: Gauge::default(),
        };
        registry.register("connections", "Connections accepted", metrics.accepted.clone());
        registry.register(
            "connections_refused",
            "Connections ended before the client was known",
            metrics.refused.clone(),
        );
        registry.register("clients_starting", "Clients not known yet", metrics.starting.clone());
        registry.register("waiting_clients", "Clients that wait for a route", metrics.held.clone());
        registry.register("held_bytes", "Bytes that waiting clients sent", metrics.held_bytes.clone());
        registry.register("routes", "Routes known", metrics.routes.clone());
        registry.register(
            "control_plane_connected",
            "1 while the control plane is connected",
            metrics.connected.clone(),
        );
        registry.register(
            "certificate_end_timestamp_seconds",
            "When the certificate that clients see ends",
            metrics.certificate_end.clone(),
        );
        registry.register("draining", "1 while this process is to end", metrics.draining.clone());
        *metrics.registry.write().unwrap_or_else(PoisonError::into_inner) = registry;
        metrics
    }

    /// A connection ended before its client was known.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// The counters of the instance with this `instance.project`.
    pub fn instance(&self, key: &str) -> InstanceMetrics {
        self.instances.of(&InstanceLabel { instance: key.to_owned() })
    }

    /// Drops the counters of an instance that is gone.
    pub fn forget(&self, key: &str) {
        self.instances.forget(&InstanceLabel { instance: key.to_owned() });
    }

    /// Everything in Prometheus' text format (OpenMetrics).
    ///
    /// # Errors
    /// `INTERNAL` if it cannot be written, which a `String` rules out.
    pub fn text(&self) -> Result<String, Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry.read().unwrap_or_else(PoisonError::into_inner))
            .map_err(|error| Error::internal("metrics cannot be written").with_source(error))?;
        Ok(out)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl InstanceFamilies {
    fn new() -> Self {
        Self {
            clients: Family::default(),
            held: Family::default(),
            holds: Family::default(),
            holds_failed: Family::default(),
            transactions: Family::default(),
            bytes_in: Family::default(),
            bytes_out: Family::default(),
            backends: Family::default(),
            backends_idle: Family::default(),
            connects: Family::default(),
            connects_failed: Family::default(),
            refused: Family::default(),
            waits: Family::new_with_constructor(waits),
            epoch: Family::default(),
        }
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("clients", "Clients that are in", self.clients.clone());
        registry.register("clients_held", "Clients that wait for the route", self.held.clone());
        registry.register("holds", "Times that a client began to wait for the route", self.holds.clone());
        registry.register("holds_failed", "Times that it waited in vain", self.holds_failed.clone());
        registry.register("transactions", "Transactions that ended", self.transactions.clone());
        registry.register("client_received_bytes", "Bytes from clients", self.bytes_in.clone());
        registry.register("client_sent_bytes", "Bytes to clients", self.bytes_out.clone());
        registry.register("backends", "Connections to databases", self.backends.clone());
        registry.register("backends_idle", "Connections to databases that no client uses", self.backends_idle.clone());
        registry.register("backend_connects", "Connections made to databases", self.connects.clone());
        registry.register(
            "backend_connects_failed",
            "Connections to databases that could not be made",
            self.connects_failed.clone(),
        );
        registry.register("clients_refused", "Clients turned away by a limit or the route", self.refused.clone());
        registry.register(
            "backend_wait_seconds",
            "How long clients waited for a connection to a database",
            self.waits.clone(),
        );
        registry.register("route_epoch", "Epoch of the route", self.epoch.clone());
    }

    fn of(&self, label: &InstanceLabel) -> InstanceMetrics {
        InstanceMetrics {
            clients: self.clients.get_or_create_owned(label),
            held: self.held.get_or_create_owned(label),
            holds: self.holds.get_or_create_owned(label),
            holds_failed: self.holds_failed.get_or_create_owned(label),
            transactions: self.transactions.get_or_create_owned(label),
            bytes_in: self.bytes_in.get_or_create_owned(label),
            bytes_out: self.bytes_out.get_or_create_owned(label),
            backends: self.backends.get_or_create_owned(label),
            backends_idle: self.backends_idle.get_or_create_owned(label),
            connects: self.connects.get_or_create_owned(label),
            connects_failed: self.connects_failed.get_or_create_owned(label),
            refused: self.refused.get_or_create_owned(label),
            waits: self.waits.get_or_create_owned(label),
            epoch: self.epoch.get_or_create_owned(label),
        }
    }

    fn forget(&self, label: &InstanceLabel) {
        self.clients.remove(label);
        self.held.remove(label);
        self.holds.remove(label);
        self.holds_failed.remove(label);
        self.transactions.remove(label);
        self.bytes_in.remove(label);
        self.bytes_out.remove(label);
        self.backends.remove(label);
        self.backends_idle.remove(label);
        self.connects.remove(label);
        self.connects_failed.remove(label);
        self.refused.remove(label);
        self.waits.remove(label);
        self.epoch.remove(label);
    }
}
