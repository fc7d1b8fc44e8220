//! Detects when a peer has to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Returns when this process receives SIGTERM.
pub(super) async fn terminated() {
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => signal.recv().await,
        Err(_) => std::future::pending().await,
    };
}
