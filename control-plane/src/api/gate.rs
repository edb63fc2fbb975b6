//! The tower layer that every call passes: request id and span, who is calling and whether they may, rate limit,
//! deadline, panics, and errors that tonic made itself.
//!
//! Invariants: a call of the public API reaches its handler only with a [`Caller`] and a [`Call`] in its extensions; a
//! panic of a handler costs one answer and never the server; every answer carries `x-request-id`, and every error of
//! the public API an `ErrorInfo`.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use futures::{FutureExt as _, future::BoxFuture};
use tonic::{
    Code, Status,
    body::Body,
    codegen::http::{HeaderMap, HeaderName, HeaderValue, Request, Response},
};
use tower::{Layer, Service};
use tracing::Instrument as _;
use uuid::Uuid;
use windlass_core::{Error, Reason, error::ErrorKind};

use super::{
    access::{self, Access},
    auth::Authenticator,
    error::{status, unknown_call},
    limit::Limiter,
};
use crate::app::Caller;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// Longest call of the public API: a wait of 60 s and some room.
const LONGEST: Duration = Duration::from_secs(70);
/// We answer so much before the caller's deadline, so that our words and not the transport's arrive.
const EARLY: Duration = Duration::from_millis(5);

/// What the gate knows of a call, for its handler.
#[derive(Debug, Clone)]
pub struct Call {
    /// HTTP path, which names service and method.
    pub method: String,
}

/// Makes gates.
#[derive(Debug, Clone)]
pub struct GateLayer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    authenticator: Arc<Authenticator>,
    limiter: Limiter,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Gate<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl GateLayer {
    /// A layer whose gates share keys and rate limits.
    pub fn new(authenticator: Arc<Authenticator>, limiter: Limiter) -> Self {
        Self { shared: Arc::new(Shared { authenticator, limiter }) }
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;
    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, shared: self.shared.clone() }
    }
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that was polled ready must be the one that is called.
        let fresh = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, fresh);
        let shared = self.shared.clone();
        let id = request_id(request.headers());
        let span = tracing::info_span!("call", request_id = %id, method = request.uri().path());
        async move {
            let work = AssertUnwindSafe(shared.handle(inner, request)).catch_unwind();
            let mut response = work.await.unwrap_or_else(|_| {
                tracing::error!("a handler panicked");
                refuse(&Error::internal(format!("the call failed inside the control plane; its log has {id}")))
            });
            if let Ok(value) = HeaderValue::from_str(&id) {
                response.headers_mut().insert(REQUEST_ID, value);
            }
            Ok(response)
        }
        .instrument(span)
        .boxed()
    }
}

impl Shared {
    async fn handle<S>(&self, mut inner: S, mut request: Request<Body>) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let method = request.uri().path().to_owned();
        let access = access::required(&method);
        if access == Some(Access::Agent) {
            return inner.call(request).await.unwrap_or_else(|never| match never {});
        }
        if let Err(refusal) = self.admit(access, &mut request).await {
            return refusal.into_http();
        }
        let limit = deadline(request.headers());
        request.extensions_mut().insert(Call { method: method.clone() });
        match tokio::time::timeout(limit, inner.call(request)).await {
            Ok(Ok(response)) => explain(&method, response),
            Ok(Err(never)) => match never {},
            Err(_) => refuse(&Error::new(
                ErrorKind::DeadlineExceeded,
                Reason::DeadlineExceeded,
                "the call was not done before its deadline; its effect may or may not have happened: repeat it with the same request_id",
            )),
        }
    }

    async fn admit(&self, access: Option<Access>, request: &mut Request<Body>) -> Result<(), Status> {
        if access == Some(Access::Open) {
            return Ok(());
        }
        let caller = self.known(access, request.headers()).await.map_err(|error| status(&error))?;
        if access.is_none() {
            return Err(unknown_call(request.uri().path()));
        }
        request.extensions_mut().insert(caller);
        Ok(())
    }

    async fn known(&self, access: Option<Access>, headers: &HeaderMap) -> Result<Caller, Error> {
        let caller = self.authenticator.caller(headers).await?;
        self.limiter.take(caller.key, Instant::now())?;
        if let Some(Access::Key(permission)) = access {
            caller.check(permission, caller.own_project())?;
        }
        Ok(caller)
    }
}

/// The caller's own id if it is a sensible one, else a fresh one.
fn request_id(headers: &HeaderMap) -> String {
    let sensible = |text: &&str| {
        (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(sensible);
    given.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// How long the call may take: its `grpc-timeout`, at most [`LONGEST`].
fn deadline(headers: &HeaderMap) -> Duration {
    let asked = headers.get(GRPC_TIMEOUT).and_then(|value| parse_timeout(value.to_str().ok()?));
    asked.map_or(LONGEST, |limit| limit.saturating_sub(EARLY).min(LONGEST))
}

/// A number of at most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

fn refuse(error: &Error) -> Response<Body> {
    status(error).into_http()
}

/// Puts errors that tonic made itself (a message that cannot be read or is too big) into our words.
fn explain(method: &str, response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    if !method.starts_with("/windlass.") || !headers.contains_key(GRPC_STATUS) || headers.contains_key(DETAILS) {
        return response;
    }
    match Status::from_header_map(headers) {
        Some(made) if made.code() != Code::Ok => refuse(&translate(&made)),
        Some(_) | None => response,
    }
}

fn translate(made: &Status) -> Error {
    let text = made.message();
    let unreadable = |what: &str| Error::invalid("request", format!("{what} ({text})"));
    if text.contains("message length too large") {
        return unreadable("the message is larger than 4 MiB; send less at once");
    }
    if text.contains("decode Protobuf") || text.contains("decompress") || text.contains("compression flag") {
        return unreadable("the message is not one of this call's type; check the client's version");
    }
    if made.code() == Code::Internal || made.code() == Code::Unknown {
        return Error::internal("the call failed inside the control plane").with_source(made.clone());
    }
    unreadable("the call cannot be understood")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, expected) in [
            ("5S", Some(Duration::from_secs(5))),
            ("100m", Some(Duration::from_millis(100))),
            ("1H", Some(Duration::from_secs(3600))),
            ("123456789S", None),
            ("S", None),
            ("", None),
            ("5x", None),
            ("5ü", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text}");
        }
    }

    #[test]
    fn request_ids_are_taken_over_only_if_sensible() {
        let with = |value: &'static str| HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(value))]);
        assert_eq!(request_id(&with("abc-1")), "abc-1");
        assert_ne!(request_id(&with("a b")), "a b");
        assert_eq!(request_id(&HeaderMap::new()).len(), 36);
    }
}
