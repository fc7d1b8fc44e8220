//! Why a host does not start, or does not apply a changed manifest.

use thiserror::Error;

use crate::component::EngineError;
use crate::config::ConfigError;
use crate::serve::listener::ListenError;
use crate::services::BuildError;
use crate::state::StateError;
use crate::trace::PipelineError;

/// Why the host did not start, why the manifest was not applied, or why `spandrel check` failed.
#[derive(Debug, Error)]
pub enum StartError {
    /// The manifest or the environment is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The WebAssembly engine cannot be created on this machine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The state store cannot be opened.
    #[error(transparent)]
    State(#[from] StateError),
    /// A component is missing or invalid.
    #[error("{manifest}: {reason}")]
    Build {
        /// The manifest that names the component.
        manifest: String,
        /// The error of the component.
        reason: BuildError,
    },
    /// Several errors.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<StartError>),
    /// A port is already in use.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Telemetry cannot be set up.
    #[error("telemetry cannot be set up: {0}")]
    Telemetry(#[from] PipelineError),
    /// The task of the start has panicked.
    #[error("the start has failed unexpectedly: {0}")]
    Panicked(String),
    /// The host was asked to stop.
    #[error("the host is stopping")]
    Stopping,
    /// The client for outbound network calls cannot be created.
    #[error("TLS for outgoing requests cannot be set up: {0}")]
    Network(#[from] rustls::Error),
}

impl StartError {
    /// Combines `errors` into one error. `None` if there are none.
    pub(crate) fn of_all(mut errors: Vec<StartError>) -> Option<StartError> {
        match errors.len() {
            0 => None,
            1 => errors.pop(),
            _ => Some(StartError::Several(errors)),
        }
    }
}
