//! Waiting on a level with a bound, instead of sleeping for luck.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const PAUSE: Duration = Duration::from_millis(25);

/// Looks again and again until `look` gives something.
///
/// # Errors
/// The limit passed; the message ends with what was seen last.
pub async fn wait_until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let begin = Instant::now();
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(last) if begin.elapsed() > limit => bail!("not within {limit:?}: {what}; last seen: {last:#}"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_seen_last_is_in_the_message() {
        let mut count = 0;
        let result: Result<()> = wait_until("a miracle", Duration::from_millis(60), async || {
            count += 1;
            bail!("look number {count}")
        })
        .await;
        let message = result.expect_err("never").to_string();
        assert!(message.contains("a miracle; last seen: look number"), "{message}");
    }
}
