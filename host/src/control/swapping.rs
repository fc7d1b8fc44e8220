//! Swaps of one service, on behalf of the watcher, the manifest and the console.
//!
//! A swap runs in its own task. It completes even if its caller is dropped, because a partial swap is useless, and a
//! panic in it fails that swap only.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::file_stamp::FileStamp;
use super::handle::Control;
use super::readiness::Readiness;
use super::swap::{ComponentSource, SwapError, SwapOptions, Swapped};
use crate::services::Service;

/// How long a requested swap waits for the watcher to handle a manifest that has changed.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// How often the manifest is checked meanwhile.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The result of a swap of a file. It has already been logged.
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
    /// Replaces the component of a service on request. An earlier change of the manifest is applied first.
    pub(crate) async fn swap(
        self: &Arc<Self>,
        service: &Arc<Service>,
        bytes: Arc<[u8]>,
        options: SwapOptions,
    ) -> Result<Swapped, SwapError> {
        self.wait_for_watcher().await;
        self.swap_in_task(service, ComponentSource::Bytes(bytes), options).await
    }

    /// Swaps to the version in the service's component file.
    pub(super) async fn swap_file(self: &Arc<Self>, service: &Arc<Service>) -> FileSwap {
        match self.swap_in_task(service, ComponentSource::File, SwapOptions::default()).await {
            Err(SwapError::Superseded) => FileSwap::Superseded,
            Ok(_) | Err(_) => FileSwap::Ended,
        }
    }

    /// Promotes the canary of a service: it serves all requests.
    pub(crate) async fn promote(self: &Arc<Self>, service: &Arc<Service>) -> Result<Swapped, SwapError> {
        let ended = self.swapper.promote(service).await;
        self.apply_pending_config(service, &ended);
        ended
    }

    /// Aborts the canary of a service.
    pub(crate) async fn abort(self: &Arc<Self>, service: &Arc<Service>) -> Result<Swapped, SwapError> {
        let ended = self.swapper.abort(service).await;
        self.apply_pending_config(service, &ended);
        ended
    }

    /// Applies the configuration that the manifest got while a canary ran, when it could not be applied. The component
    /// stays the promoted or kept one, whatever its file contains.
    fn apply_pending_config(self: &Arc<Self>, service: &Arc<Service>, ended: &Result<Swapped, SwapError>) {
        if ended.is_err() || !self.has_pending_config(service) {
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
        let ended = run_in_task(async move {
            let result = control.swapper.swap(&swapped, component, options).await;
            if result.is_ok() && swapped.runs_as_declared() {
                control.record_applied(&swapped);
            }
            result
        });
        let ended = ended.await;
        if let Err(error @ SwapError::Failed(_)) = &ended {
            self.swapper.record_failure(service, &error.to_string());
        }
        ended
    }

    /// Waits until the watcher has handled the manifest as it is on disk. Without a watcher, and during the start, this
    /// returns at once, and a swap uses the manifest that was read last.
    async fn wait_for_watcher(&self) {
        let config = self.config.load_full();
        let began = Instant::now();
        let is_watched = config.swap.watch && self.readiness() != Readiness::Starting;
        while is_watched && began.elapsed() < MAX_WAIT {
            let now = FileStamp::of(&config.manifest).await;
            if now.is_none() || now == *self.handled_manifest.borrow() {
                return;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// Runs a swap in its own task.
async fn run_in_task(
    swap: impl Future<Output = Result<Swapped, SwapError>> + Send + 'static,
) -> Result<Swapped, SwapError> {
    let ended = tokio::spawn(swap).await;
    ended.unwrap_or_else(|failed| {
        let reason = failed.try_into_panic().map_or_else(|failed| failed.to_string(), |panic| panic_message(&*panic));
        Err(SwapError::Failed(reason))
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_swap_is_reported_as_its_failure() {
        let error = run_in_task(async { panic!("index {} is out of bounds", 1) }).await.unwrap_err();
        assert!(matches!(error, SwapError::Failed(_)), "{error:?}");
        assert!(error.to_string().contains("index 1 is out of bounds"), "{error}");
    }
}
