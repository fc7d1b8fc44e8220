//! The epoch ticker: it increments the epochs of all engines periodically, and guests yield to Tokio at each increment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmtime::EngineWeak;

/// How long a guest may compute before it yields. It is also the precision of timeouts for a guest that never waits.
const TICK: Duration = Duration::from_millis(5);

/// Increments the epochs of engines in one thread, until all handles to the ticker are dropped. Clones are handles.
#[derive(Clone)]
pub(super) struct EpochTicker(Arc<Mutex<Vec<EngineWeak>>>);

impl EpochTicker {
    pub fn start() -> EpochTicker {
        let ticker = EpochTicker(Arc::default());
        let engines = Arc::downgrade(&ticker.0);
        let tick = move || {
            while let Some(engines) = engines.upgrade() {
                let engines = EpochTicker(engines);
                engines.lock().iter().filter_map(EngineWeak::upgrade).for_each(|engine| engine.increment_epoch());
                drop(engines);
                std::thread::sleep(TICK);
            }
        };
        // The host serves without the ticker, but a guest that never waits then blocks its thread.
        if std::thread::Builder::new().name("epoch".into()).spawn(tick).is_err() {
            tracing::error!("cannot start the epoch ticker: guests that never wait will not be interrupted");
        }
        ticker
    }

    /// Increments the engine's epoch from now on, as long as the engine is in use.
    pub fn add(&self, engine: &wasmtime::Engine) {
        let mut engines = self.lock();
        engines.retain(|engine| engine.upgrade().is_some());
        engines.push(engine.weak());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<EngineWeak>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
