//! Guests that continue after their response, across all services and generations. Shutdown waits for them and stops
//! those that take too long.

use tokio::sync::watch;

/// The guests that continue after their response. Clones are handles to the same set.
#[derive(Clone)]
pub struct BackgroundWork(watch::Sender<bool>);

/// One guest that continues after its response, until this is dropped.
pub(super) struct BackgroundGuest(watch::Receiver<bool>);

impl Default for BackgroundWork {
    fn default() -> BackgroundWork {
        BackgroundWork(watch::Sender::new(false))
    }
}

impl BackgroundWork {
    /// Registers a guest that continues.
    pub(super) fn begin(&self) -> BackgroundGuest {
        BackgroundGuest(self.0.subscribe())
    }

    /// Waits until no guest is registered.
    pub async fn ended(&self) {
        self.0.closed().await;
    }

    /// Stops the registered guests, and those that are registered later.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl BackgroundGuest {
    /// Resolves when the guest must stop.
    pub async fn stopped(&mut self) {
        if self.0.wait_for(|stopped| *stopped).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn background_work_ends_with_its_last_guest() {
        let background = BackgroundWork::default();
        assert!(background.ended().now_or_never().is_some());
        let (one, other) = (background.begin(), background.begin());
        drop(one);
        assert!(background.ended().now_or_never().is_none());
        drop(other);
        assert!(background.ended().now_or_never().is_some());
    }

    #[test]
    fn a_stop_applies_to_guests_that_begin_later() {
        let background = BackgroundWork::default();
        let mut early = background.begin();
        assert!(early.stopped().now_or_never().is_none());
        background.stop();
        assert!(early.stopped().now_or_never().is_some());
        assert!(background.begin().stopped().now_or_never().is_some());
    }
}
