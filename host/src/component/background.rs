//! Guests that go on after their response, over all services and all their generations: the host's end waits for them,
//! and stops those that take too long.

use tokio::sync::watch;

/// The guests at work after their response. Clones are the same.
#[derive(Clone)]
pub struct BackgroundWork(watch::Sender<bool>);

/// One guest at work after its response, until this is dropped.
pub(super) struct BackgroundGuest(watch::Receiver<bool>);

impl Default for BackgroundWork {
    fn default() -> BackgroundWork {
        BackgroundWork(watch::Sender::new(false))
    }
}

impl BackgroundWork {
    /// Counts a guest that goes on from here.
    pub(super) fn begin(&self) -> BackgroundGuest {
        BackgroundGuest(self.0.subscribe())
    }

    /// Waits until no guest works any more.
    pub async fn ended(&self) {
        self.0.closed().await;
    }

    /// Stops the guests that work, and those that begin to from here on.
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
    fn the_end_is_when_the_last_guest_has_ended() {
        let background = BackgroundWork::default();
        assert!(background.ended().now_or_never().is_some());
        let (one, other) = (background.begin(), background.begin());
        drop(one);
        assert!(background.ended().now_or_never().is_none());
        drop(other);
        assert!(background.ended().now_or_never().is_some());
    }

    #[test]
    fn a_stop_holds_for_guests_that_begin_later_too() {
        let background = BackgroundWork::default();
        let mut early = background.begin();
        assert!(early.stopped().now_or_never().is_none());
        background.stop();
        assert!(early.stopped().now_or_never().is_some());
        assert!(background.begin().stopped().now_or_never().is_some());
    }
}
