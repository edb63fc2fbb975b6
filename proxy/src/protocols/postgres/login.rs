//! From a start to a session: which instance is meant, and whether the client is who it says.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use windlass_core::{Error, engine::Engine};
use windlass_kit::random;
use windlass_wire_pg::{
    Header, SqlState, backend, frontend,
    scram::{Binding, Keys, MAX_SCRAM, Outcome, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ServerFirst, Verifier},
    startup::Startup,
};

use super::{
    parameters,
    refusal::Refusal,
    session::{Session, Who},
    sql::Settings,
    stream::Stream,
};
use crate::{
    Shared,
    accept::Startup as Patience,
    routes::{Destination, Entrance, State},
};

/// A client that wants a session.
pub(super) struct Guest<'a> {
    pub(super) entrance: &'a Entrance,
    pub(super) sni: Option<&'a str>,
    pub(super) startup: &'a Startup,
    pub(super) binding: &'a Binding,
    pub(super) patience: Patience,
}

/// Lets a client in, or tells it why not.
///
/// # Errors
/// Why not, for the log.
pub(super) async fn enter(shared: &Arc<Shared>, guest: Guest<'_>, stream: Stream) -> Result<Box<Session>, Error> {
    let mut stream = stream;
    match prove(shared, &guest, &mut stream).await {
        Ok((who, settings)) => {
            let place = match shared.limits.admit(&who.instance, &who.user) {
                Ok(place) => place,
                Err(error) => {
                    who.instance.metrics.refused.inc();
                    return Err(tell(&mut stream, &error.into()).await);
                }
            };
            guest.patience.known();
            let seat = shared.postgres.sessions().enter(shared, &who.instance);
            let mut session = Session::new(shared.clone(), who, seat, place, stream, Arc::new(settings));
            match session.greet().await {
                Ok(()) => Ok(session),
                Err(stop) => Err(session.leave(stop).await.err().unwrap_or_else(|| Error::unavailable("it left"))),
            }
        }
        Err(refusal) => Err(tell(&mut stream, &refusal).await),
    }
}

/// Tells a client why it is not let in.
pub(super) async fn tell(stream: &mut Stream, refusal: &Refusal) -> Error {
    // One that does not read it does not need it; the time that it has is bounded by who called.
    let _ = stream.write_all(refusal.bytes()).await;
    let _ = stream.shutdown().await;
    Error::unavailable(refusal.message())
}

/// Has the client prove that it is who it says.
async fn prove(shared: &Arc<Shared>, guest: &Guest<'_>, stream: &mut Stream) -> Result<(Who, Settings), Refusal> {
    let startup = guest.startup;
    let Some(user) = startup.parameter("user").filter(|user| !user.is_empty()) else {
        return Err(Refusal::new(SqlState::INVALID_AUTHORIZATION, "the start names no user", ""));
    };
    let settings = parameters::settings(startup)?;
    let destination = shared.routes.find(guest.entrance, guest.sni, user, &shared.config.domain)?;
    let route = destination.instance.route();
    if route.engine != Engine::Postgres {
        let message = format!("instance {} does not speak PostgreSQL's protocol", route.key());
        return Err(Refusal::new(SqlState::NOT_SUPPORTED, &message, "Connect with a client of its engine."));
    }
    if let State::Closed(reason) = &route.state {
        destination.instance.metrics.refused.inc();
        let message = format!("instance {} is not open: {reason}", route.key());
        return Err(Refusal::new(SqlState::CANNOT_CONNECT_NOW, &message, ""));
    }
    if startup.minor > 0 || !startup.protocol_options.is_empty() {
        let mut answer = Vec::new();
        backend::write_negotiate(&mut answer, &startup.protocol_options);
        stream.write_all(&answer).await.map_err(|error| gone(&error))?;
    }
    let ours = guest.patience.ours();
    let verifier = verifier(shared, &destination).await?;
    drop(ours);
    let Some(keys) = exchange(stream, &verifier, guest.binding).await? else {
        shared.postgres.verifiers().forget(destination.instance.id(), &destination.user);
        let message = format!("password authentication failed for user \"{}\"", destination.user);
        return Err(Refusal::new(SqlState::INVALID_PASSWORD, &message, ""));
    };
    let database = startup.parameter("database").filter(|database| !database.is_empty());
    let who = Who {
        database: database.unwrap_or(&destination.user).to_owned(),
        instance: destination.instance,
        access: destination.access,
        user: destination.user,
        keys,
        pooling: route.settings.pooling.unwrap_or(shared.config.pooling),
    };
    Ok((who, settings))
}

/// The verifier to check against. While it is not known and nobody can be asked, the client waits.
async fn verifier(shared: &Shared, destination: &Destination) -> Result<Arc<Verifier>, Refusal> {
    let Destination { instance, access, user } = destination;
    let began = Instant::now();
    loop {
        let error = match shared.postgres.verifiers().of(shared, instance, *access, user).await {
            Ok(Some(verifier)) => {
                instance.scout.reached();
                return Ok(verifier);
            }
            Ok(None) => return Ok(Arc::new(shared.postgres.doomed(user))),
            Err(error) => error,
        };
        let route = instance.route();
        let limit =
            route.settings.hold.unwrap_or_else(|| Duration::try_from(shared.config.hold.time).unwrap_or_default());
        if matches!(route.state, State::Closed(_)) || began.elapsed() >= limit {
            instance.metrics.refused.inc();
            let message = format!("instance {} cannot be entered: {error}", route.key());
            return Err(Refusal::new(SqlState::CANNOT_CONNECT_NOW, &message, "Try again in a moment."));
        }
        instance.scout.pause().await;
    }
}

/// SCRAM. `None` if the proof is wrong.
async fn exchange(stream: &mut Stream, verifier: &Verifier, binding: &Binding) -> Result<Option<Keys>, Refusal> {
    let protocol = |error: Error| Refusal::protocol(&error);
    let mut out = Vec::new();
    let offer = match binding {
        Binding::None => &[SCRAM_SHA_256][..],
        Binding::EndPoint(_) => &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256],
    };
    backend::write_sasl(&mut out, offer);
    stream.write_all(&out).await.map_err(|error| gone(&error))?;
    let body = answer(stream).await?;
    let (mechanism, data) = frontend::sasl_initial(&body).map_err(protocol)?;
    let fresh = hex::encode(random::bytes::<18>());
    let (first, reply) = ServerFirst::answer(verifier, binding, mechanism, data, &fresh).map_err(protocol)?;
    out.clear();
    backend::write_sasl_continue(&mut out, reply.as_bytes());
    stream.write_all(&out).await.map_err(|error| gone(&error))?;
    let body = answer(stream).await?;
    match first.check(&body).map_err(protocol)? {
        Outcome::Wrong => Ok(None),
        Outcome::Right { keys, reply } => {
            out.clear();
            backend::write_sasl_final(&mut out, reply.as_bytes());
            backend::write_authentication_ok(&mut out);
            stream.write_all(&out).await.map_err(|error| gone(&error))?;
            Ok(Some(keys))
        }
    }
}

/// The body of the client's next answer.
async fn answer(stream: &mut Stream) -> Result<Vec<u8>, Refusal> {
    let mut header = [0; 5];
    stream.read_exact(&mut header).await.map_err(|error| gone(&error))?;
    let header = Header::read(&header, MAX_SCRAM).map_err(|error| Refusal::protocol(&error))?;
    let Some(header) = header.filter(|header| header.tag == frontend::tag::PASSWORD) else {
        return Err(Refusal::new(SqlState::PROTOCOL_VIOLATION, "an answer to the authentication is expected", ""));
    };
    let mut body = vec![0; header.len - 5];
    stream.read_exact(&mut body).await.map_err(|error| gone(&error))?;
    Ok(body)
}

fn gone(error: &std::io::Error) -> Refusal {
    Refusal::new(SqlState::PROTOCOL_VIOLATION, &format!("the client left during the login: {error}"), "")
}
