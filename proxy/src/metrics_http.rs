//! Where Prometheus asks: `GET /metrics`, and `GET /healthz` for load balancers, by plain HTTP/1.1.
//!
//! Small on purpose: one answer per connection, bounded in time, bytes and number.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use crate::{
    accept::Listeners,
    drain::{Drain, Stage},
    metrics::Metrics,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions at once.
const MOST: usize = 16;
/// Largest request.
const REQUEST: usize = 8192;

/// Answers until this process leaves: then its successor does.
pub(crate) async fn serve(listeners: Arc<Listeners>, metrics: Arc<Metrics>, drain: Arc<Drain>) {
    let Some(listener) = listeners.metrics() else { return };
    let places = Arc::new(Semaphore::new(MOST));
    let answering = async {
        loop {
            // The semaphore is never closed.
            let Ok(place) = places.clone().acquire_owned().await else { continue };
            let Ok((stream, _)) = listener.accept().await else { continue };
            let (metrics, drain) = (metrics.clone(), drain.clone());
            tokio::spawn(async move {
                // A client that went away is no news.
                let _ = timeout(PATIENCE, answer(stream, &metrics, &drain)).await;
                drop(place);
            });
        }
    };
    tokio::select! {
        () = answering => {}
        () = drain.reached(Stage::Leaving) => {}
    }
}

async fn answer(mut stream: TcpStream, metrics: &Metrics, drain: &Drain) -> std::io::Result<()> {
    let mut request = Vec::with_capacity(512);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > REQUEST || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let (status, kind, body) = match line {
        b"GET /metrics HTTP/1.1" | b"GET /metrics HTTP/1.0" => match metrics.text() {
            Ok(text) => ("200 OK", "application/openmetrics-text; version=1.0.0; charset=utf-8", text),
            Err(error) => ("500 Internal Server Error", "text/plain", error.message),
        },
        b"GET /healthz HTTP/1.1" | b"GET /healthz HTTP/1.0" => match drain.stage() {
            Stage::Serving => ("200 OK", "text/plain", "serving\n".to_owned()),
            Stage::Leaving | Stage::Ending => ("503 Service Unavailable", "text/plain", "leaving\n".to_owned()),
        },
        _ => ("404 Not Found", "text/plain", "ask for /metrics or /healthz\n".to_owned()),
    };
    let mut head = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        head,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}
