//! Why a swap did not happen, in words that name what was wrong.

use thiserror::Error;

use crate::component::ComponentError;
use crate::services::BuildError;

/// Why a swap did not happen. The version that served goes on serving.
#[derive(Debug, Error)]
pub enum SwapError {
    /// The bytes are no component that this host can serve.
    #[error("{0}")]
    Component(#[from] ComponentError),
    /// The component file cannot be read.
    #[error("{0}")]
    Unreadable(#[from] BuildError),
    /// The candidate no longer has routes that callers may be using.
    #[error("the new version drops {}. Pass --allow-dropped-routes if that is meant", .0.join(", "))]
    DroppedRoutes(Vec<String>),
    /// The candidate did not answer its probe as a healthy service does.
    #[error("the probe GET {path} of the new version {reason}")]
    Probe {
        /// The path that was asked for.
        path: String,
        /// What came instead of a healthy answer.
        reason: String,
    },
    /// A newer swap of the same service came in.
    #[error("a newer swap of this service took over")]
    Superseded,
    /// The host is asked to stop.
    #[error("the host is stopping")]
    Stopping,
    /// The service is no longer in the manifest.
    #[error("the service was taken out of the manifest")]
    Removed,
    /// The host has no room for the candidate's instances.
    #[error("no instance of the new version could be made: {0}")]
    NoInstance(String),
    /// A canary must end before the next version comes.
    #[error("generation {0} is on trial as a canary. End it with `spandrel promote` or `spandrel abort` first")]
    CanaryRunning(u64),
    /// There is no canary to promote or abort.
    #[error("no canary is running for this service: `spandrel swap SERVICE FILE.wasm --canary 10%` starts one")]
    NoCanary,
    /// There is nothing to go back to.
    #[error("there is no earlier generation to go back to")]
    NoEarlierGeneration,
    /// The host itself failed in the middle of it.
    #[error("the swap failed for a fault of the host's own: {0}")]
    Failed(String),
}
