//! Why a swap did not happen.

use thiserror::Error;

use crate::component::ComponentError;
use crate::services::BuildError;

/// Why a swap did not happen. The serving version keeps serving.
#[derive(Debug, Error)]
pub enum SwapError {
    /// The bytes are not a component that this host can serve.
    #[error("{0}")]
    Component(#[from] ComponentError),
    /// The component file cannot be read.
    #[error("{0}")]
    Unreadable(#[from] BuildError),
    /// The candidate lacks routes that callers may be using.
    #[error("the new version drops {}. Pass --allow-dropped-routes if that is intended", .0.join(", "))]
    DroppedRoutes(Vec<String>),
    /// The candidate did not answer its probe with success.
    #[error("the probe GET {path} of the new version {reason}")]
    Probe {
        /// The path of the probe.
        path: String,
        /// What was received instead of a successful response.
        reason: String,
    },
    /// A newer swap of the same service was requested.
    #[error("a newer swap of this service superseded it")]
    Superseded,
    /// The host was asked to stop.
    #[error("the host is stopping")]
    Stopping,
    /// The service is no longer in the manifest.
    #[error("the service was removed from the manifest")]
    Removed,
    /// The host's limit on instances does not allow the candidate's instances.
    #[error("no instance of the new version could be created: {0}")]
    NoInstance(String),
    /// A canary is running; it must be promoted or aborted before the next swap.
    #[error("generation {0} runs as a canary. End it with `spandrel promote` or `spandrel abort` first")]
    CanaryRunning(u64),
    /// There is no canary to promote or abort.
    #[error("no canary is running for this service: `spandrel swap SERVICE FILE.wasm --canary 10%` starts one")]
    NoCanary,
    /// There is no earlier generation to roll back to.
    #[error("there is no earlier generation to roll back to")]
    NoEarlierGeneration,
    /// The swap failed because of an error inside the host.
    #[error("the swap failed because of an internal error: {0}")]
    Failed(String),
}
