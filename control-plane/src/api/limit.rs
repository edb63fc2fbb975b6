//! Rate limit per API key: a token bucket each, in memory of this node.
//!
//! Invariant: at most [`KEYS_MAX`] buckets; a full table forgets buckets that are full again, which changes nothing.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use windlass_core::{Error, Reason, error::ErrorKind, id::ApiKeyId};

use super::error::RETRY_AFTER_MS;
use crate::config::LimitConfig;

const KEYS_MAX: usize = 10_000;

/// The buckets.
#[derive(Debug)]
pub struct Limiter {
    rate: f64,
    burst: f64,
    buckets: Mutex<HashMap<ApiKeyId, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Limiter {
    /// Buckets of this rate and size.
    pub fn new(config: &LimitConfig) -> Self {
        Self {
            rate: f64::from(config.calls_per_second),
            burst: f64::from(config.burst),
            buckets: Mutex::new(HashMap::new()),
        }
    }

    /// Takes one call of `key` at `now`.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait.
    pub fn take(&self, key: ApiKeyId, now: Instant) -> Result<(), Error> {
        // A panic while the lock was held leaves whole values: the map is still good.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= KEYS_MAX && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| self.level(bucket, now) < self.burst);
        }
        let bucket = buckets.entry(key).or_insert(Bucket { tokens: self.burst, at: now });
        let level = self.level(bucket, now);
        if level < 1.0 {
            let wait = ((1.0 - level) / self.rate * 1000.0).ceil();
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                Reason::RateLimited,
                format!("this key made more than {} calls per second; try again in {wait} ms", self.rate),
            )
            .with_metadata(RETRY_AFTER_MS, wait));
        }
        *bucket = Bucket { tokens: level - 1.0, at: now };
        Ok(())
    }

    fn level(&self, bucket: &Bucket, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * self.rate;
        (bucket.tokens + gained).min(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds_and_keys_do_not_share() {
        let limiter = Limiter::new(&LimitConfig { calls_per_second: 10, burst: 3 });
        let (key, other, start) = (ApiKeyId::new(), ApiKeyId::new(), Instant::now());
        for _ in 0..3 {
            limiter.take(key, start).expect("burst");
        }
        let error = limiter.take(key, start).expect_err("empty");
        assert_eq!((error.reason, error.metadata[RETRY_AFTER_MS].as_str()), (Reason::RateLimited, "100"));
        limiter.take(other, start).expect("another key");
        limiter.take(key, start + Duration::from_millis(100)).expect("one more after a tenth of a second");
        limiter.take(key, start + Duration::from_millis(150)).expect_err("not yet");
    }
}
