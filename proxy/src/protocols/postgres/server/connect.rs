//! Making a connection: TCP, TLS, login with keys or by certificate, and the proof of the epoch.
//!
//! Why the proof: a route says who leads, but the host behind it may not know yet that it does not any more. A primary
//! shows its term as `windlass.epoch`; one that shows a lower term than the route's is not written to.
//!
//! The same look tells whether the user's or the database's defaults keep warnings from the session. The warning that a
//! commit is in doubt must arrive, so such a session is begun anew with another default.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use windlass_core::Error;
use windlass_kit::random::bytes;
use windlass_wire_pg::{
    Report,
    backend::{self, Authentication, tag},
    frontend,
    scram::{ClientFinal, ClientFirst, Keys, SCRAM_SHA_256},
    startup,
};

use super::{Done, Server};
use crate::{
    Shared,
    pool::Place,
    protocols::postgres::sql::{LOUD, QUIET, Value},
    routes::{Backend, Instance, Route},
};

/// How long a login may take, once TLS stands.
const LOGIN: Duration = Duration::from_secs(5);

/// How to log in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Credentials<'a> {
    /// By what a client proved to have.
    Keys(&'a Keys),
    /// By the proxy's certificate.
    Certificate,
}

/// Where to log in, and as whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) instance: &'a Instance,
    pub(crate) route: &'a Route,
    pub(crate) backend: &'a Backend,
    pub(crate) user: &'a str,
    pub(crate) database: &'a str,
    pub(crate) credentials: Credentials<'a>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It cannot be reached, broke, or is not what the route says.
    Unreachable(Error),
    /// The server's ErrorResponse, without its header.
    ByServer(Vec<u8>),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Unreachable(error)
    }
}

/// Makes a connection.
pub(crate) async fn connect(shared: &Shared, target: Target<'_>, place: Place) -> Result<Box<Server>, Refused> {
    let (server, warnings) = begin(shared, target, place, None).await?;
    match warnings {
        Warnings::Told => Ok(server),
        Warnings::Silenced => Ok(begin(shared, target, server.give_up()?, Some((QUIET, LOUD))).await?.0),
    }
}

/// Whether warnings reach a session as it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Warnings {
    Told,
    Silenced,
}

/// Begins a session, with a default of its own if one is given: it holds through RESET and DISCARD.
async fn begin(
    shared: &Shared,
    target: Target<'_>,
    place: Place,
    default: Option<(&str, &str)>,
) -> Result<(Box<Server>, Warnings), Refused> {
    let broken = |error| Refused::Unreachable(shared.backends.failed(target.instance, target.backend, error));
    let mut stream = shared.backends.dial(target.instance, target.backend).await?;
    let mut request = Vec::new();
    startup::write_ssl_request(&mut request);
    stream.write_all(&request).await.map_err(broken)?;
    let answer = timeout(LOGIN, stream.read_u8()).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    if answer.map_err(broken)? != b'S' {
        return Err(Error::unavailable("the database server does not offer TLS").into());
    }
    let stream = shared.backends.secure(target.instance, target.route, target.backend, stream).await?;
    let mut server = Box::new(Server::new(stream, place, target.backend.member));
    let login = async {
        log_in(&mut server, target, default).await?;
        prove_epoch(&mut server, target).await
    };
    let warnings = match timeout(LOGIN, login).await {
        Ok(done) => done?,
        Err(_) => return Err(Error::unavailable("the database server did not finish the login in time").into()),
    };
    // Buffers of the login are not needed for long.
    server.inbox = Vec::new();
    Ok((server, warnings))
}

async fn log_in(server: &mut Server, target: Target<'_>, default: Option<(&str, &str)>) -> Result<(), Refused> {
    let parameters = [("user", target.user), ("database", target.database)];
    startup::write_startup(server.outbox.buffer(), parameters.into_iter().chain(default));
    server.send().await?;
    let first = ClientFirst::new(&hex::encode(bytes::<18>()));
    let mut last: Option<ClientFinal> = None;
    let mut proven = false;
    loop {
        let (tag, body) = server.message().await?;
        match tag {
            tag::ERROR => return Err(Refused::ByServer(body)),
            tag::AUTHENTICATION => match Authentication::parse(&body)? {
                Authentication::Ok => {
                    if last.is_some() && !proven {
                        return Err(Error::unavailable("the database server broke off the authentication").into());
                    }
                }
                Authentication::Sasl(offer) if offer.offers(SCRAM_SHA_256) => {
                    frontend::write_sasl_initial(server.outbox.buffer(), SCRAM_SHA_256, first.message().as_bytes());
                    server.send().await?;
                }
                Authentication::SaslContinue(data) => {
                    let Credentials::Keys(keys) = target.credentials else {
                        return Err(Error::unavailable("the database server did not accept the certificate").into());
                    };
                    let (next, message) = first.answer(keys, data)?;
                    last = Some(next);
                    frontend::write_sasl_response(server.outbox.buffer(), message.as_bytes());
                    server.send().await?;
                }
                Authentication::SaslFinal(data) => {
                    if let Some(last) = &last {
                        last.check(data)?;
                        proven = true;
                    }
                }
                Authentication::Sasl(_) | Authentication::Other(_) => {
                    let what = "the database server asks for a kind of password other than SCRAM-SHA-256";
                    return Err(Error::unavailable(what).into());
                }
            },
            tag::BACKEND_KEY => server.key = backend::backend_key(&body)?,
            tag::READY => return Ok(()),
            _ => {}
        }
    }
}

async fn prove_epoch(server: &mut Server, target: Target<'_>) -> Result<Warnings, Refused> {
    // By functions alone, and those of the system: the user's path may have operators of its own.
    const PROOF: &str = "SELECT pg_catalog.concat_ws(' ', pg_catalog.current_setting('client_min_messages'), \
        pg_catalog.current_setting('windlass.epoch', true))";
    let is_primary = target.route.primary.as_ref().is_some_and(|primary| primary.member == target.backend.member);
    if !target.route.is_replicated() || !is_primary {
        return Ok(Warnings::Told);
    }
    let answer = match server.run(PROOF).await? {
        Done::Well(value) => value.and_then(|value| String::from_utf8(value).ok()).unwrap_or_default(),
        Done::Failed(report) => {
            tracing::debug!(error = Report::parse(&report)?.message, "the server shows no epoch");
            String::new()
        }
    };
    let (level, shown) = answer.split_once(' ').unwrap_or((&answer, ""));
    server.epoch = shown.trim().parse().unwrap_or(0);
    if server.epoch < target.route.epoch {
        let what = format!(
            "the server at {}:{} is not the primary of epoch {} (it shows {})",
            target.backend.address, target.backend.port, target.route.epoch, server.epoch
        );
        return Err(Error::unavailable(what).into());
    }
    let silenced = Value::Raw(level.into()).silences(QUIET);
    Ok(if silenced { Warnings::Silenced } else { Warnings::Told })
}
