//! Why a command failed, with messages for the user of the command line.

use thiserror::Error;

use crate::component::{ComponentError, EngineError};
use crate::config::ConfigError;
use crate::host::StartError;
use crate::printable::printable_lines;

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The manifest or the environment is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The environment has values that `run` would ignore.
    #[error("--strict rejects environment variables that are ignored without it:\n  {}", .0.join("\n  "))]
    Ignored(Vec<String>),
    /// The host cannot be started with this manifest.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The system provides no threads or no signal handlers.
    #[error("the system does not provide what the host needs: {0}")]
    System(#[from] std::io::Error),
    /// The WebAssembly engine cannot be created on this machine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file is not a valid component.
    #[error("{path}: {reason}")]
    Component {
        /// The file.
        path: String,
        /// The error of the component.
        reason: ComponentError,
    },
    /// A file cannot be read.
    #[error("{path} cannot be read: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// The error of the operating system.
        reason: std::io::Error,
    },
    /// The client for the console cannot be created.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(#[source] reqwest::Error),
    /// No host answers.
    #[error("no host answers at {url}: {reason}. Is `spandrel run` running, and is this the address of its console?")]
    NoHost {
        /// The URL of the console.
        url: String,
        /// Why the request failed.
        reason: String,
    },
    /// The manifest turns the console off.
    #[error("the manifest has no console: set `listen` under [console], or pass --console URL")]
    NoConsole,
    /// Standard output is a file or a pipe.
    #[error("`spandrel top` requires a terminal; `spandrel top --json` and `spandrel status` do not")]
    NoTerminal,
    /// The host rejected the request, or an argument is invalid.
    #[error("{0}")]
    Rejected(String),
}

/// The text to print for an error. Text of components and manifests in it cannot control the terminal.
pub fn error_text(error: &CommandError) -> String {
    printable_lines(&format!("error: {error}\n")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts_have_no_control_characters() {
        let rejected = CommandError::Rejected("route `/\u{1b}]0;x\u{7}`\n  help: leave it out".to_owned());
        assert_eq!(error_text(&rejected), "error: route `/\u{241b}]0;x\u{2407}`\n  help: leave it out\n");
    }
}
