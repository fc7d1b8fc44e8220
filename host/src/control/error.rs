//! Why a host does not start, or does not take a changed manifest.

use thiserror::Error;

use crate::component::EngineError;
use crate::config::ConfigError;
use crate::serve::listener::ListenError;
use crate::services::BuildError;
use crate::state::StateError;
use crate::trace::PipelineError;

/// Why the host did not start, or would not. Nothing of it is left running.
#[derive(Debug, Error)]
pub enum StartError {
    /// The manifest or the environment is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// WebAssembly cannot run here.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The state store cannot be opened.
    #[error(transparent)]
    State(#[from] StateError),
    /// A component is missing or wrong.
    #[error("{manifest}: {reason}")]
    Build {
        /// The manifest that names the component.
        manifest: String,
        /// What is wrong.
        reason: BuildError,
    },
    /// More than one thing is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<StartError>),
    /// A port is taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Telemetry cannot be set up.
    #[error("telemetry cannot be set up: {0}")]
    Telemetry(#[from] PipelineError),
    /// The host is asked to stop.
    #[error("the host is stopping")]
    Stopping,
    /// The client for calls that leave the host cannot be made.
    #[error("the HTTP client cannot be set up: {0}")]
    Network(#[from] reqwest::Error),
}

impl StartError {
    /// One error for all of `errors`, none where there are none.
    pub(crate) fn of_all(mut errors: Vec<StartError>) -> Option<StartError> {
        match errors.len() {
            0 => None,
            1 => errors.pop(),
            _ => Some(StartError::Several(errors)),
        }
    }
}
