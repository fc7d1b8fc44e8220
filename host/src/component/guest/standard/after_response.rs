//! What happens to a guest after its response: the rest of its work, and the return of its instance.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::call::Held;
use super::execution::GuestExecution;
use crate::component::background::{BackgroundGuest, BackgroundWork};
use crate::trace::{Attribute, Severity, SharedRecorder};

/// How long a response body may last after its guest has ended, until the instance is dropped instead of reused. This
/// ends a body that the guest has left unfinished: it would otherwise last until `idle_timeout`.
pub(super) const UNFINISHED_BODY: Duration = Duration::from_secs(1);

/// A guest that has ended.
pub(super) struct EndedGuest<I> {
    /// The instance, and whether it serves further requests. `None` if the guest has failed.
    pub instance: Option<(I, bool)>,
    pub return_to_pool: Arc<dyn Fn(I) + Send + Sync>,
    /// The concurrency permit and the lease of the request. Released last: by then the request's spans are handed over,
    /// and the instance is dropped or back in its pool.
    pub _held: (Held, Held),
}

impl<I> EndedGuest<I> {
    /// Whether its instance serves further requests.
    pub fn is_reused(&self) -> bool {
        self.instance.as_ref().is_some_and(|(_, is_reused)| *is_reused)
    }

    /// Returns the instance to its pool.
    pub fn release(mut self) {
        if let Some((instance, _)) = self.instance.take() {
            (self.return_to_pool)(instance);
        }
    }

    /// Returns the instance to its pool when the response body has ended. Drops it if that takes longer than
    /// [`UNFINISHED_BODY`], and at shutdown.
    async fn release_after_body(mut self, execution: &GuestExecution, mut registration: BackgroundGuest) {
        if self.is_reused() {
            tokio::select! {
                () = execution.body_ended() => {}
                () = tokio::time::sleep(UNFINISHED_BODY) => self.instance = None,
                () = registration.stopped() => self.instance = None,
            }
        }
        self.release();
    }
}

/// What the task needs that runs a guest after its response.
pub(super) struct BackgroundRun {
    pub recorder: SharedRecorder,
    pub execution: Arc<GuestExecution>,
    pub background: BackgroundWork,
}

impl BackgroundRun {
    /// Waits for the end of the response body of a guest that has ended, then releases it.
    pub async fn release_after_body<I>(self, guest: EndedGuest<I>) {
        let registration = self.background.begin();
        guest.release_after_body(&self.execution, registration).await;
    }

    /// Runs the guest until it has ended, until `limit` after the end of the response body, or until shutdown.
    pub async fn finish<I>(self, mut work: BoxFuture<'static, EndedGuest<I>>, limit: Duration) {
        let BackgroundRun { recorder, execution, background } = self;
        let mut registration = background.begin();
        drop(background);
        let grace_period = async {
            execution.body_ended().await;
            tokio::time::sleep(limit).await;
        };
        let reason = tokio::select! {
            guest = &mut work => return guest.release_after_body(&execution, registration).await,
            () = grace_period => stop_reason(limit),
            () = registration.stopped() => "the host is shutting down".to_owned(),
        };
        log_stopped(&recorder, &reason);
        execution.end(None, &recorder);
        // The work releases the permit and the lease, after the spans were handed over.
        drop(recorder);
        drop(work);
    }
}

pub(super) fn stop_reason(limit: Duration) -> String {
    format!("it was still running {limit:?} after its response")
}

/// Adds a log record to the request's trace which says that the guest was stopped after its response.
pub(super) fn log_stopped(recorder: &SharedRecorder, reason: &str) {
    let kind = Attribute::new("error.type", "guest_stopped");
    recorder.with(|recorder| {
        recorder.log_of_host(Severity::Warn, format!("the guest was stopped: {reason}"), &[kind], None);
    });
}
