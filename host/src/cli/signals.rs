//! The signals that the host handles, and their actions.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

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

    /// Runs `starting` to completion, or returns `None` if a signal to stop comes first. If the start completes shortly
    /// after the signal, its result is returned and [`Signals::next`] returns the signal.
    pub async fn run_until_stopped<T>(&mut self, starting: impl Future<Output = T>) -> Option<T> {
        let mut starting = std::pin::pin!(starting);
        tokio::select! {
            biased;
            () = self.stop() => {
                self.is_stopping = true;
                tokio::time::timeout(START_GRACE, starting).await.ok()
            }
            started = &mut starting => Some(started),
        }
    }

    /// Waits for a signal to stop. A signal to reload stays pending.
    pub async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.quit.recv() => {}
        }
    }
}
