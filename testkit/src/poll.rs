//! Polling for a condition, with a deadline.

use std::time::{Duration, Instant};

/// The pause between two probes.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);

/// Calls `probe` until it returns a value, for at most `patience`.
pub async fn until<T>(patience: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The same for synchronous code.
pub fn until_blocking<T>(patience: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}
