//! Swaps of one service, on behalf of the watcher, the manifest and the console.
//!
//! A swap runs in a task of its own: it goes on where its caller goes away, since half a swap would help nobody, and a
//! panic in it is a failure of that swap alone.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::handle::Control;
use super::stamp::Stamp;
use super::swap::{ComponentSource, SwapError, SwapOptions, Swapped};
use crate::services::Service;

/// How long a swap by hand waits for a manifest that is being written.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it looks.
const PERIOD: Duration = Duration::from_millis(50);

/// What came of a swap of a file. What there is to tell of it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileSwap {
    Ended,
    Superseded,
}

impl FileSwap {
    pub fn is_superseded(self) -> bool {
        self == FileSwap::Superseded
    }
}

impl Control {
    /// Replaces the component of a service by hand. A manifest that was written before is applied first.
    pub(crate) async fn swap(
        self: &Arc<Self>,
        service: &Arc<Service>,
        bytes: Arc<[u8]>,
        options: SwapOptions,
    ) -> Result<Swapped, SwapError> {
        self.manifest_in_step().await;
        self.swap_in_task(service, ComponentSource::Bytes(bytes), options).await
    }

    /// Brings the version in a service's file.
    pub(super) async fn swap_file(self: &Arc<Self>, service: &Arc<Service>) -> FileSwap {
        match self.swap_in_task(service, ComponentSource::File, SwapOptions::default()).await {
            Err(SwapError::Superseded) => FileSwap::Superseded,
            Ok(_) | Err(_) => FileSwap::Ended,
        }
    }

    /// Makes the canary of a service the version that serves everybody.
    pub(crate) async fn promote(self: &Arc<Self>, service: &Arc<Service>) -> Result<Swapped, SwapError> {
        let ended = self.swapper.promote(service).await;
        self.apply_what_waited(service, &ended);
        ended
    }

    /// Ends the canary of a service.
    pub(crate) async fn abort(self: &Arc<Self>, service: &Arc<Service>) -> Result<Swapped, SwapError> {
        let ended = self.swapper.abort(service).await;
        self.apply_what_waited(service, &ended);
        ended
    }

    /// Brings what the manifest said of a service while its canary ran, and could not be done then. The component stays the
    /// one that was decided for, whatever its file holds.
    fn apply_what_waited(self: &Arc<Self>, service: &Arc<Service>, ended: &Result<Swapped, SwapError>) {
        if ended.is_err() || !self.has_refused(service) {
            return;
        }
        let (control, service) = (self.clone(), service.clone());
        tokio::spawn(async move {
            control.swap_in_task(&service, ComponentSource::Serving, SwapOptions::default()).await.ok();
        });
    }

    async fn swap_in_task(
        self: &Arc<Self>,
        service: &Arc<Service>,
        component: ComponentSource,
        options: SwapOptions,
    ) -> Result<Swapped, SwapError> {
        let (control, swapped) = (self.clone(), service.clone());
        let ended = finished(async move {
            let result = control.swapper.swap(&swapped, component, options).await;
            if result.is_ok() && swapped.runs_as_declared() {
                control.note_applied(&swapped);
            }
            result
        });
        let ended = ended.await;
        if let Err(error @ SwapError::Failed(_)) = &ended {
            self.swapper.note_failure(service, &error.to_string());
        }
        ended
    }

    /// Waits until the watcher has acted upon the manifest as it is on the disk. Where nobody watches, nothing is waited
    /// for, and a swap takes what was read last.
    async fn manifest_in_step(&self) {
        let config = self.config.load_full();
        let began = Instant::now();
        while config.swap.watch && began.elapsed() < PATIENCE {
            let now = Stamp::of(&config.manifest).await;
            if now.is_none() || now == *self.manifest_seen.borrow() {
                return;
            }
            tokio::time::sleep(PERIOD).await;
        }
    }
}

/// Runs a swap in a task of its own.
async fn finished(
    swap: impl Future<Output = Result<Swapped, SwapError>> + Send + 'static,
) -> Result<Swapped, SwapError> {
    let ended = tokio::spawn(swap).await;
    ended.unwrap_or_else(|failed| {
        let reason = failed.try_into_panic().map_or_else(|failed| failed.to_string(), |panic| message(&*panic));
        Err(SwapError::Failed(reason))
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_swap_is_a_failure_that_says_so() {
        let error = finished(async { panic!("the shelf fell down {}", 1) }).await.unwrap_err();
        assert!(matches!(error, SwapError::Failed(_)), "{error:?}");
        assert!(error.to_string().contains("the shelf fell down 1"), "{error}");
    }
}
