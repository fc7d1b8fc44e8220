//! The ticker that lets no guest keep a thread to itself: it advances the engine's epoch, and guests yield at each one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a guest may compute before it lets others run. Also how exactly a deadline is met by a guest that spins.
const TICK: Duration = Duration::from_millis(5);

/// Advances the engine's epoch for as long as the engine is in use.
pub(super) struct Ticker {
    stop: Arc<AtomicBool>,
}

impl Ticker {
    pub fn start(engine: wasmtime::Engine) -> Ticker {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let tick = move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                engine.increment_epoch();
            }
        };
        // Without the ticker a spinning guest could not be stopped: better no host than such a host.
        if std::thread::Builder::new().name("epoch".into()).spawn(tick).is_err() {
            tracing::error!("no thread for the epoch ticker: guests that spin will not be interrupted");
        }
        Ticker { stop }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
