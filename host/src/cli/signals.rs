//! The signals that the host handles, and their actions.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// How long a start may continue after a signal to stop: a host that is about to serve completes its start and then
/// shuts down regularly.
const START_GRACE: Duration = Duration::from_millis(200);

/// The action of a signal.
#[derive(PartialEq, Eq)]
pub enum SignalAction {
    /// Drain the requests in flight and exit.
    Stop,
    /// Reload the manifest.
    Reload,
}

/// The handlers of the signals.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hangup: Signal,
    /// Whether a signal to stop was received during the start.
    is_stopping: bool,
}

impl Signals {
    /// Installs the signal handlers.
    ///
    /// # Errors
    ///
    /// Returns an error if the system rejects a handler.
    pub fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            is_stopping: false,
        })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> SignalAction {
        if std::mem::take(&mut self.is_stopping) {
            return SignalAction::Stop;
        }
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => SignalAction::Stop,
            _ = self.terminate.recv() => SignalAction::Stop,
            _ = self.quit.recv() => SignalAction::Stop,
            _ = self.hangup.recv() => SignalAction::Reload,
        }
    }

    /// Runs `work` to completion, or returns `None` if a signal to stop comes first.
    pub async fn unless_stopped<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.stop() => None,
        }
    }

    /// Runs `starting` to completion, or returns `None` if a signal to stop comes first. If the start completes shortly
    /// after the signal, or has notified `is_serving` by then, its result is returned and [`Signals::next`] returns the
    /// signal.
    pub async fn run_until_stopped<T>(
        &mut self,
        starting: impl Future<Output = T>,
        is_serving: oneshot::Receiver<()>,
    ) -> Option<T> {
        let mut starting = std::pin::pin!(starting);
        tokio::select! {
            biased;
            () = self.stop() => {
                self.is_stopping = true;
                finish_start(starting, is_serving).await
            }
            started = &mut starting => Some(started),
        }
    }

    /// Waits for a signal to stop. A signal to reload stays pending.
    pub async fn stop(&mut self) {
        if std::mem::take(&mut self.is_stopping) {
            return;
        }
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.quit.recv() => {}
        }
    }
}

/// The result of a start that continues after a signal to stop; `None` if it takes long. A host that serves has nothing
/// left to wait for, and must shut down regularly: it may have requests in flight and spans to export.
async fn finish_start<T>(
    mut starting: impl Future<Output = T> + Unpin,
    mut is_serving: oneshot::Receiver<()>,
) -> Option<T> {
    match tokio::time::timeout(START_GRACE, &mut starting).await {
        Ok(started) => Some(started),
        Err(_) if is_serving.try_recv().is_ok() => Some(starting.await),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_host_that_does_not_serve_yet_is_stopped_within_its_start() {
        let (_serves, is_serving) = oneshot::channel();
        assert_eq!(finish_start(std::future::pending::<()>(), is_serving).await, None);
        let (serves, is_serving) = oneshot::channel();
        serves.send(()).unwrap();
        let started = Box::pin(tokio::time::timeout(2 * START_GRACE, std::future::pending::<()>()));
        assert!(finish_start(started, is_serving).await.is_some_and(|started| started.is_err()));
    }
}
