//! The epoch ticker: it increments the engine's epoch periodically, and guests yield to Tokio at each increment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a guest may compute before it yields. It is also the precision of timeouts for a guest that never waits.
const TICK: Duration = Duration::from_millis(5);

/// Increments the engine's epoch as long as the engine is in use.
pub(super) struct EpochTicker {
    stop: Arc<AtomicBool>,
}

impl EpochTicker {
    pub fn start(engine: wasmtime::Engine) -> EpochTicker {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let tick = move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                engine.increment_epoch();
            }
        };
        // The host serves without the ticker, but a guest that never waits then blocks its thread.
        if std::thread::Builder::new().name("epoch".into()).spawn(tick).is_err() {
            tracing::error!("cannot start the epoch ticker: guests that never wait will not be interrupted");
        }
        EpochTicker { stop }
    }
}

impl Drop for EpochTicker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
