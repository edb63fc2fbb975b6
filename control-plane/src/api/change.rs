//! Mutations: one transaction around the effect, its events and the stored answer.
//!
//! Invariants:
//! 1. With a `request_id`, the effect happens once per key and id: a repeat gets the stored answer, a twin at the same
//!    time waits for it. The same id with another request is refused. Errors are not stored: their transaction is
//!    rolled back, the id with it.
//! 2. `validate_only` runs the very same effect and rolls it back.
//! 3. Answers are sealed before they are stored, because some carry secrets (a new key, a join token).
//!
//! A crash before the commit leaves nothing; after it, a repeat finds the answer.

use futures::future::BoxFuture;
use prost::Message;
use sha2::{Digest as _, Sha256};
use tonic::{Request, Response, Status};
use windlass_core::{Error, ErrorKind, Reason};
use windlass_db::{
    Tx,
    idempotency::{idempotency_answer_tx, idempotency_find_tx, idempotency_take_tx},
};

use super::{Api, error::status, gate::Call};
use crate::app::{Caller, Context};

/// Longest request id, in characters.
const REQUEST_ID_MAX: usize = 64;
const HASH: usize = 32;

/// A request that changes something.
pub(super) trait Change: Message {
    /// The caller's id for the request; empty if repeats do not matter.
    fn request_id(&self) -> &str;
    /// Whether to check only.
    fn validate_only(&self) -> bool {
        false
    }
}

impl Api {
    /// Runs a mutation; see the module.
    pub(super) async fn change<M, R>(
        &self,
        request: Request<M>,
        effect: impl for<'a> FnOnce(&'a Context, &'a mut Tx, &'a Caller, M) -> BoxFuture<'a, Result<R, Error>> + Send,
    ) -> Result<Response<R>, Status>
    where
        M: Change,
        R: Message + Default,
    {
        self.try_change(request, effect).await.map(Response::new).map_err(|error| status(&error))
    }

    async fn try_change<M, R>(
        &self,
        request: Request<M>,
        effect: impl for<'a> FnOnce(&'a Context, &'a mut Tx, &'a Caller, M) -> BoxFuture<'a, Result<R, Error>> + Send,
    ) -> Result<R, Error>
    where
        M: Change,
        R: Message + Default,
    {
        let caller = caller(&request)?;
        let method = request.extensions().get::<Call>().map(|call| call.method.clone()).unwrap_or_default();
        let message = request.into_inner();
        check_request_id(message.request_id())?;
        let mut tx = self.ctx.db.begin().await?;
        if message.validate_only() {
            let answer = effect(&self.ctx, &mut tx, &caller, message).await?;
            tx.rollback().await?;
            return Ok(answer);
        }
        if message.request_id().is_empty() {
            let answer = effect(&self.ctx, &mut tx, &caller, message).await?;
            tx.commit().await?;
            return Ok(answer);
        }
        let slot = Slot {
            principal: caller.actor(),
            request_id: message.request_id().to_owned(),
            hash: Sha256::new()
                .chain_update(&method)
                .chain_update([0])
                .chain_update(message.encode_to_vec())
                .finalize()
                .into(),
        };
        let retention = self.ctx.config.retention.idempotency;
        if !idempotency_take_tx(&mut tx, &slot.principal, &slot.request_id, &method, retention).await? {
            return slot.earlier(&self.ctx, &mut tx).await;
        }
        let answer = effect(&self.ctx, &mut tx, &caller, message).await?;
        let sealed = self.ctx.sealer.seal(&slot.place(), &[&slot.hash[..], &answer.encode_to_vec()].concat());
        idempotency_answer_tx(&mut tx, &slot.principal, &slot.request_id, &sealed).await?;
        tx.commit().await?;
        Ok(answer)
    }
}

/// One request id of one key.
struct Slot {
    principal: String,
    request_id: String,
    hash: [u8; HASH],
}

impl Slot {
    fn place(&self) -> String {
        format!("idempotency/{}/{}/answer", self.principal, self.request_id)
    }

    /// The answer that an earlier request with this id got.
    async fn earlier<R: Message + Default>(&self, ctx: &Context, tx: &mut Tx) -> Result<R, Error> {
        use secrecy::ExposeSecret as _;
        let Some(stored) = idempotency_find_tx(tx, &self.principal, &self.request_id).await? else {
            // It expired and was removed between the two statements.
            return Err(Error::new(ErrorKind::Aborted, Reason::Conflict, "a concurrent change won; try again"));
        };
        let opened = ctx.sealer.open(&self.place(), &stored.answer)?;
        let (hash, answer) = opened
            .expose_secret()
            .split_at_checked(HASH)
            .ok_or_else(|| Error::internal("a stored answer is too short"))?;
        if hash != self.hash {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                Reason::RequestIdReused,
                format!(
                    "request_id {} was used by this key for another request ({}); use a fresh one for each request",
                    self.request_id, stored.method
                ),
            ));
        }
        R::decode(answer).map_err(|error| Error::internal("a stored answer cannot be read").with_source(error))
    }
}

/// The caller that the gate found.
pub(super) fn caller<M>(request: &Request<M>) -> Result<Caller, Error> {
    let found = request.extensions().get::<Caller>().cloned();
    found.ok_or_else(|| Error::internal("a call came past the gate without a caller"))
}

fn check_request_id(id: &str) -> Result<(), Error> {
    if id.len() > REQUEST_ID_MAX || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::invalid(
            "request_id",
            format!("must be 0 to {REQUEST_ID_MAX} visible ASCII characters; a UUID is best"),
        ));
    }
    Ok(())
}

macro_rules! changes {
    ($($name:ident $(+ $validate:ident)?),+ $(,)?) => {$(
        impl Change for windlass_proto::api::v1::$name {
            fn request_id(&self) -> &str {
                &self.request_id
            }
            $(fn validate_only(&self) -> bool {
                self.$validate
            })?
        }
    )+};
}
changes!(
    CreateProjectRequest + validate_only,
    UpdateProjectRequest + validate_only,
    DeleteProjectRequest,
    CreateInstanceRequest + validate_only,
    UpdateInstanceRequest + validate_only,
    DeleteInstanceRequest,
    UndeleteInstanceRequest,
    InstanceVerbRequest,
    SwitchoverInstanceRequest,
    FailoverInstanceRequest,
    AddReplicaRequest,
    RemoveReplicaRequest,
    CreateObjectRequest + validate_only,
    DropObjectRequest,
    UpdateHostRequest + validate_only,
    HostVerbRequest,
    CreateJoinTokenRequest,
    RevokeJoinTokenRequest,
    RevokeProxyRequest,
    CreateApiKeyRequest,
    RevokeApiKeyRequest,
);
