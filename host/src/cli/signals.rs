//! The signals that the host listens to, and what they ask for.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long a start that is nearly through is given where a signal asks for the host's end: the host may serve already,
/// and then it ends like any other.
const NEARLY_STARTED: Duration = Duration::from_millis(200);

/// What a signal asks for.
#[derive(PartialEq, Eq)]
pub enum Asked {
    /// The end of the host, once what is in flight has finished.
    Stop,
    /// That the manifest is read again.
    Reload,
}

/// The signals that the host listens to.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hangup: Signal,
    /// Whether a signal that was met during the start asks for the end.
    is_stopping: bool,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    ///
    /// Where the system refuses a handler.
    pub fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            is_stopping: false,
        })
    }

    /// Waits for a signal.
    pub async fn next(&mut self) -> Asked {
        if std::mem::take(&mut self.is_stopping) {
            return Asked::Stop;
        }
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.quit.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// Waits for a start. Gives none where a signal asks for the host's end first; where the start gets through in the same
    /// moment, the signal is what comes next.
    pub async fn stop_or<T>(&mut self, starting: impl Future<Output = T>) -> Option<T> {
        let mut starting = std::pin::pin!(starting);
        tokio::select! {
            biased;
            () = self.stop() => {
                self.is_stopping = true;
                tokio::time::timeout(NEARLY_STARTED, starting).await.ok()
            }
            started = &mut starting => Some(started),
        }
    }

    /// Waits for a signal that asks for the host's end. One that asks for a reload is kept for later.
    pub async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.quit.recv() => {}
        }
    }
}
