//! One user of the soak: asks for things on instances of its own and remembers what must be true.
//!
//! A call whose answer was lost is repeated with the same request id until there is an answer, so that the worker
//! always knows which operation is its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rand::RngExt;
use rand::rngs::StdRng;
use tonic::{Code, Response, Status};
use windlass_core::engine::Engine;
use windlass_proto::api::v1::{
    CreateObjectRequest, DatabaseObject, DeleteInstanceRequest, Instance, InstanceVerbRequest, Operation,
    UpdateInstanceRequest, database_object, operation,
};

use super::PROJECT;
use crate::Api;
use crate::api::{create_request, instance_name, request_id};

/// Instances a worker has at most, so that a small machine carries the load.
const MOST: usize = 2;
const ANSWER_LIMIT: Duration = Duration::from_secs(180);
/// While everybody is killed again and again, only so much can be said of how long an operation takes.
const END_LIMIT: Duration = Duration::from_secs(900);

/// What the last ended operation made of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// It runs.
    Running,
    /// It is stopped.
    Stopped,
    /// An operation failed after it may have changed something.
    Unknown,
}

/// What must be true of an instance; no state means it is gone.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) state: Option<Wanted>,
    pub(super) client: &'static str,
}

/// One user.
pub(super) struct Worker {
    number: u64,
    api: Api,
    random: StdRng,
    made: usize,
    known: BTreeMap<String, Expected>,
}

impl Worker {
    pub(super) fn new(number: u64, api: Api, random: StdRng) -> Self {
        Self { number, api, random, made: 0, known: BTreeMap::new() }
    }

    /// Works until told to stop; gives what must be true then.
    pub(super) async fn work(mut self, stop: Arc<AtomicBool>) -> Result<BTreeMap<String, Expected>> {
        while !stop.load(Ordering::Relaxed) {
            let alive: Vec<(String, Wanted)> =
                self.known.iter().filter_map(|(name, expected)| Some((name.clone(), expected.state?))).collect();
            if alive.is_empty() || alive.len() < MOST && self.random.random_bool(0.4) {
                self.create().await?;
                continue;
            }
            let (name, wanted) = alive[self.random.random_range(0..alive.len())].clone();
            match (wanted, self.random.random_range(0..10)) {
                (_, 0..2) | (Wanted::Unknown, _) => self.delete(&name).await?,
                (Wanted::Stopped, _) => self.verb(&name, Verb::Start).await?,
                (Wanted::Running, 2..4) => self.verb(&name, Verb::Stop).await?,
                (Wanted::Running, 4..6) => self.verb(&name, Verb::Restart).await?,
                (Wanted::Running, 6..8) => self.database(&name).await?,
                (Wanted::Running, _) => self.resize(&name).await?,
            }
        }
        Ok(self.known)
    }

    async fn create(&mut self) -> Result<()> {
        let engine = Engine::ALL[self.random.random_range(0..Engine::ALL.len())];
        let id = format!("w{}-{}", self.number, self.made);
        self.made += 1;
        let request = create_request(PROJECT, &id, engine.as_str());
        let operation = answered(async || self.api.instances().create_instance(request.clone()).await).await?;
        let end = self.api.ended_within(END_LIMIT, &operation).await?;
        let state = if end.state() == operation::State::Succeeded { Some(Wanted::Running) } else { None };
        let name = instance_name(PROJECT, &id);
        let failed = state.is_none();
        self.known.insert(name.clone(), Expected { state, client: engine.descriptor().client });
        if failed {
            // A create that failed leaves at most its tombstone.
            self.sweep(&name).await?;
        }
        Ok(())
    }

    /// Deletes an instance that may not exist.
    async fn sweep(&mut self, name: &str) -> Result<()> {
        if self.api.instance(name).await.is_ok() { self.delete(name).await } else { Ok(()) }
    }

    async fn delete(&mut self, name: &str) -> Result<()> {
        let request = DeleteInstanceRequest {
            name: name.to_owned(),
            purge: true,
            request_id: request_id(),
            ..Default::default()
        };
        let operation = answered(async || self.api.instances().delete_instance(request.clone()).await).await?;
        self.end(name, &operation, None).await
    }

    async fn verb(&mut self, name: &str, verb: Verb) -> Result<()> {
        let request = InstanceVerbRequest { name: name.to_owned(), request_id: request_id(), ..Default::default() };
        let operation = answered(async || {
            let request = request.clone();
            match verb {
                Verb::Start => self.api.instances().start_instance(request).await,
                Verb::Stop => self.api.instances().stop_instance(request).await,
                Verb::Restart => self.api.instances().restart_instance(request).await,
            }
        })
        .await?;
        let state = if matches!(verb, Verb::Stop) { Wanted::Stopped } else { Wanted::Running };
        self.end(name, &operation, Some(state)).await
    }

    async fn resize(&mut self, name: &str) -> Result<()> {
        let megabytes = self.random.random_range(2..6) * 128;
        let request = UpdateInstanceRequest {
            instance: Some(Instance {
                name: name.to_owned(),
                resources: Some(windlass_proto::api::v1::Resources {
                    memory_bytes: megabytes << 20,
                    ..Default::default()
                }),
                ..Default::default()
            }),
            update_mask: Some(pbjson_types::FieldMask { paths: vec!["resources.memory_bytes".to_owned()] }),
            request_id: request_id(),
            restart_if_needed: self.random.random_bool(0.5),
            ..Default::default()
        };
        let operation = answered(async || self.api.instances().update_instance(request.clone()).await).await?;
        self.end(name, &operation, Some(Wanted::Running)).await
    }

    async fn database(&mut self, name: &str) -> Result<()> {
        let request = CreateObjectRequest {
            parent: name.to_owned(),
            object_id: format!("db{}", self.random.random_range(0..1_000_000)),
            object: Some(DatabaseObject { kind: database_object::Kind::Database.into(), ..Default::default() }),
            request_id: request_id(),
            ..Default::default()
        };
        let operation = answered(async || self.api.objects().create_object(request.clone()).await).await?;
        self.end(name, &operation, Some(Wanted::Running)).await
    }

    async fn end(&mut self, name: &str, operation: &Operation, state: Option<Wanted>) -> Result<()> {
        let end = self.api.ended_within(END_LIMIT, operation).await?;
        let expected = self.known.get_mut(name).expect("it is one of its own");
        expected.state = if end.state() == operation::State::Succeeded { state } else { Some(Wanted::Unknown) };
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Verb {
    Start,
    Stop,
    Restart,
}

/// Repeats a call until there is an answer to it, which must not be a refusal.
async fn answered(mut call: impl AsyncFnMut() -> Result<Response<Operation>, Status>) -> Result<Operation> {
    let begin = Instant::now();
    loop {
        match call().await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) if begin.elapsed() > ANSWER_LIMIT => bail!("no answer within {ANSWER_LIMIT:?}: {status:?}"),
            Err(status) if lost(&status) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(status) => bail!("refused: {status:?}"),
        }
    }
}

/// Whether the call may not have arrived, or its answer got lost, or a retry is invited.
fn lost(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Aborted | Code::DeadlineExceeded | Code::Cancelled => true,
        // What tonic makes of a connection that broke in the middle of an answer.
        Code::Unknown | Code::Internal => crate::api::reason(status).is_empty(),
        Code::FailedPrecondition => ["INSTANCE_BUSY", "NO_HOST_FITS"].contains(&crate::api::reason(status).as_str()),
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}
