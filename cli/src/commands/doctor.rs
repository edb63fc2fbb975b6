//! `windlass doctor`: looks at each part between this machine and a working database, and says how to mend it.

use std::{net::ToSocketAddrs as _, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use tonic::transport::Uri;
use windlass_proto::api::v1 as pb;

use crate::{
    api::{Api, PAGE},
    config,
    connect::CLIENTS,
    context::Context,
    failure::Failure,
    names,
    output::Show,
};

/// Clock difference from which certificates and expiries begin to mislead.
const SKEW_LIMIT: Duration = Duration::from_secs(30);
/// A key that expires within this is worth a warning.
const KEY_WARNING: Duration = Duration::from_secs(7 * 86_400);
const DIAL_LIMIT: Duration = Duration::from_secs(5);

/// One check and what came of it.
#[derive(Serialize)]
struct Check {
    check: &'static str,
    verdict: Verdict,
    found: String,
    remedy: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Failed,
}

impl Check {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), remedy: String::new() }
    }

    fn warning(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warning, found: found.into(), remedy: remedy.into() }
    }

    fn failed(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Failed, found: found.into(), remedy: remedy.into() }
    }
}

impl Show for Check {
    const COLUMNS: &'static [&'static str] = &["CHECK", "VERDICT", "FOUND", "REMEDY"];

    fn row(&self, _now: Timestamp) -> Vec<String> {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "FAILED",
        };
        vec![self.check.to_owned(), verdict.to_owned(), self.found.clone(), self.remedy.clone()]
    }

    fn name(&self) -> String {
        self.check.to_owned()
    }
}

pub(super) async fn run(cx: &Context) -> Result<(), Failure> {
    let mut checks = Vec::new();
    if let Some(api) = plane(cx, &mut checks).await {
        fleet(api, &mut checks).await;
    }
    checks.extend(CLIENTS.iter().map(|client| match client.find() {
        Some(path) => Check::ok("client", format!("{} is {}", client.name, path.display())),
        None => Check::warning(
            "client",
            format!("{} is not in PATH", client.name),
            format!("needed by `windlass connect`; on Debian: apt install {}", client.package),
        ),
    }));
    cx.out.list(&checks)?;
    match checks.iter().filter(|check| check.verdict == Verdict::Failed).count() {
        0 => Ok(()),
        failed => Err(Failure::Unhealthy(failed)),
    }
}

/// Configuration, network, TLS, key and clock. Gives the API if it can be called.
async fn plane<'a>(cx: &'a Context, checks: &mut Vec<Check>) -> Option<&'a Api> {
    let settings = match cx.settings() {
        Ok(settings) => settings,
        Err(failure) => {
            checks.push(Check::failed("configuration", failure.to_string(), "correct the file or the flag"));
            return None;
        }
    };
    let file = config::path().map(|path| path.display().to_string()).unwrap_or_default();
    checks.push(Check::ok("configuration", format!("profiles in {file}")));
    let Some(endpoint) = settings.endpoint else {
        checks.push(Check::failed("endpoint", "none is set", "set WINDLASS_ENDPOINT or a profile"));
        return None;
    };
    match dial(&endpoint).await {
        Ok(address) => checks.push(Check::ok("endpoint", format!("{endpoint} answers at {address}"))),
        Err(why) => {
            let remedy = "check the address, that the control plane runs, and what lies between";
            checks.push(Check::failed("endpoint", format!("{endpoint}: {why}"), remedy));
            return None;
        }
    }
    let api = match cx.api().await {
        Ok(api) => api,
        Err(Failure::NoKey) => {
            checks.push(Check::failed("key", "none is set", "set WINDLASS_TOKEN or store one in a profile"));
            return None;
        }
        Err(failure) => {
            let remedy = "use the CA of this installation (ca.pem in the control plane's state directory) and a \
                          host name that its certificate has";
            checks.push(Check::failed("TLS", failure.to_string(), remedy));
            return None;
        }
    };
    checks.push(Check::ok("TLS", if endpoint.starts_with("https") { "the CA vouches for it" } else { "not used" }));
    key(api, checks).await.then_some(api)
}

/// Whether something listens there.
async fn dial(endpoint: &str) -> Result<String, String> {
    let uri: Uri = endpoint.parse().map_err(|_| "not a URL".to_owned())?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
    let looked_up = tokio::task::spawn_blocking(move || (host.as_str(), port).to_socket_addrs());
    let addresses = match tokio::time::timeout(DIAL_LIMIT, looked_up).await {
        Ok(Ok(Ok(addresses))) => addresses.collect::<Vec<_>>(),
        Ok(Ok(Err(error))) => return Err(format!("the name is not known: {error}")),
        Ok(Err(_)) | Err(_) => return Err("the name was not looked up in time".to_owned()),
    };
    match tokio::time::timeout(DIAL_LIMIT, tokio::net::TcpStream::connect(addresses.as_slice())).await {
        Ok(Ok(stream)) => Ok(stream.peer_addr().map(|peer| peer.to_string()).unwrap_or_default()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", DIAL_LIMIT.as_secs())),
    }
}

/// The key, and the clock by the way, from the same answer.
async fn key(api: &Api, checks: &mut Vec<Check>) -> bool {
    let response = match api.keys().who_am_i(pb::WhoAmIRequest {}).await {
        Ok(response) => response,
        Err(status) => {
            let remedy = "set WINDLASS_TOKEN to a valid key; an administrator makes one with `windlass key create`";
            checks.push(Check::failed("key", Failure::from(status).to_string(), remedy));
            return false;
        }
    };
    let now = Timestamp::now();
    let date = response.metadata().get("date").and_then(|date| date.to_str().ok());
    let server = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|zoned| zoned.timestamp());
    checks.push(clock(now, server));
    let key = response.into_inner();
    let scope = if key.project.is_empty() { "the installation" } else { key.project.as_str() };
    let found = format!("{} ({}) for {scope}", key.title, key.role);
    let left = key.expire_time.as_ref().map(|time| time.seconds - now.as_second());
    checks.push(match left {
        Some(left) if left < KEY_WARNING.as_secs() as i64 => {
            let left = crate::units::show_span(left.unsigned_abs());
            Check::warning("key", format!("{found}, expires in {left}"), "make a new one with `windlass key create`")
        }
        Some(_) | None => Check::ok("key", found),
    });
    true
}

fn clock(now: Timestamp, server: Option<Timestamp>) -> Check {
    let Some(server) = server else {
        return Check::warning("clock", "the control plane does not say its time", "compare the clocks by hand");
    };
    let skew = now.as_second().abs_diff(server.as_second());
    if skew > SKEW_LIMIT.as_secs() {
        let remedy = "run a time service (chrony, systemd-timesyncd) on both machines";
        return Check::failed("clock", format!("{skew} s apart from the control plane's"), remedy);
    }
    Check::ok("clock", format!("within {} s of the control plane's", skew.max(1)))
}

/// Hosts and engines.
async fn fleet(api: &Api, checks: &mut Vec<Check>) {
    let request = pb::ListHostsRequest { page_size: PAGE, ..Default::default() };
    match api.hosts().list_hosts(request).await {
        Ok(answer) => checks.push(hosts(&answer.into_inner().hosts)),
        Err(status) if status.code() == tonic::Code::PermissionDenied => {
            checks.push(Check::ok("hosts", "not for this key to see"));
        }
        Err(status) => checks.push(Check::failed("hosts", status.message(), "see the control plane's log")),
    }
    match api.instances().list_engine_versions(pb::ListEngineVersionsRequest {}).await {
        Ok(answer) => {
            let versions = answer.into_inner().versions;
            let found: Vec<_> = versions.iter().map(|v| format!("{} {} ({})", v.engine, v.version, v.hosts)).collect();
            checks.push(if found.is_empty() {
                Check::failed("engines", "no host has one", "install postgresql or mariadb-server on the hosts")
            } else {
                Check::ok("engines", format!("{} (on how many hosts)", found.join(", ")))
            });
        }
        Err(status) => checks.push(Check::failed("engines", status.message(), "see the control plane's log")),
    }
}

fn hosts(hosts: &[pb::Host]) -> Check {
    let in_service: Vec<_> = hosts.iter().filter(|host| host.state() != pb::host::State::Revoked).collect();
    let offline: Vec<_> = in_service
        .iter()
        .filter(|host| host.state() != pb::host::State::Online)
        .map(|host| names::short(&host.name))
        .collect();
    if in_service.is_empty() {
        return Check::failed("hosts", "none is enrolled", "`windlass host token create`, then start an agent with it");
    }
    if !offline.is_empty() {
        let remedy = "look at windlass-agent there: is it running, does it reach the control plane?";
        let found = format!("{} of {} offline: {}", offline.len(), in_service.len(), offline.join(", "));
        let all = offline.len() == in_service.len();
        return if all { Check::failed("hosts", found, remedy) } else { Check::warning("hosts", found, remedy) };
    }
    Check::ok("hosts", format!("{} online", in_service.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_far_apart_are_a_failure() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        assert!(clock(at(100), Some(at(120))).verdict == Verdict::Ok);
        assert!(clock(at(100), Some(at(200))).verdict == Verdict::Failed);
        assert!(clock(at(100), None).verdict == Verdict::Warning);
    }

    #[test]
    fn offline_hosts_are_named() {
        let host = |name: &str, state| {
            let mut host = pb::Host { name: format!("hosts/{name}"), ..Default::default() };
            host.set_state(state);
            host
        };
        use pb::host::State::{Offline, Online, Revoked};
        assert!(hosts(&[]).verdict == Verdict::Failed);
        assert!(hosts(&[host("a", Online), host("b", Revoked)]).verdict == Verdict::Ok);
        let some = hosts(&[host("a", Online), host("b", Offline)]);
        assert!(some.verdict == Verdict::Warning && some.found == "1 of 2 offline: b");
        assert!(hosts(&[host("b", Offline)]).verdict == Verdict::Failed);
    }
}
