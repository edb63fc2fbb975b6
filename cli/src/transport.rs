//! The connection to the control plane.
//!
//! Invariant: a key never travels in the clear: without TLS only addresses of this machine are dialled.

use std::{net::IpAddr, path::Path, time::Duration};

use tonic::transport::{Channel, Endpoint};
use windlass_kit::tls::{self, Trust};

use crate::failure::{Failure, root_cause};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects, trusting the CA of the file.
pub(crate) async fn connect(endpoint: &str, ca: Option<&Path>) -> Result<Channel, Failure> {
    let wrong =
        |why: &str| Failure::Usage(format!("the endpoint {endpoint:?} {why}; write for example https://host:7400"));
    let dial = Endpoint::from_shared(endpoint.to_owned()).map_err(|_| wrong("is not a URL"))?;
    match dial.uri().scheme_str() {
        Some("https") => {
            let trust = trust(ca)?;
            tls::connect(endpoint, &trust, None).await.map_err(|error| match error.violations.is_empty() {
                true => unreachable(endpoint, &error),
                false => Failure::Usage(error.message),
            })
        }
        Some("http") if dial.uri().host().is_some_and(is_this_machine) => {
            dial.connect_timeout(CONNECT_TIMEOUT).connect().await.map_err(|error| unreachable(endpoint, &error))
        }
        Some("http") => Err(wrong("would send the key in the clear")),
        _ => Err(wrong("has no scheme")),
    }
}

fn trust(ca: Option<&Path>) -> Result<Trust, Failure> {
    let ca = ca.ok_or_else(|| {
        Failure::Usage(
            "no CA certificate to check the control plane by; set WINDLASS_CA or --ca to its PEM file (the control \
             plane's state directory has it as ca.pem; for a publicly trusted certificate use the system's bundle)"
                .to_owned(),
        )
    })?;
    let pem = std::fs::read_to_string(ca)
        .map_err(|error| Failure::Usage(format!("cannot read the CA certificate {}: {error}", ca.display())))?;
    Trust::from_pem(&pem).map_err(|error| Failure::Usage(format!("{}: {}", ca.display(), error.message)))
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn unreachable(endpoint: &str, error: &dyn std::error::Error) -> Failure {
    Failure::Unreachable { endpoint: endpoint.to_owned(), cause: root_cause(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(endpoint: &str) -> String {
        connect(endpoint, None).await.expect_err("refused").to_string()
    }

    #[tokio::test]
    async fn keys_do_not_travel_in_the_clear() {
        assert!(refusal("http://example.com:1").await.contains("in the clear"));
        assert!(refusal("http://10.0.0.1:1").await.contains("in the clear"));
        assert!(refusal("example.com:1").await.contains("for example https://"));
        assert!(refusal("https://example.com:1").await.contains("WINDLASS_CA"));
        for host in ["127.0.0.1", "[::1]", "localhost"] {
            assert!(is_this_machine(host), "{host}");
        }
    }
}
