//! Why a command failed, in words for whoever typed it.

use thiserror::Error;

use crate::component::{ComponentError, EngineError};
use crate::config::ConfigError;
use crate::host::StartError;
use crate::printable::printable_lines;

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The manifest or the environment is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The environment has values that `run` would ignore.
    #[error("--strict refuses values of the environment that are ignored without it:\n  {}", .0.join("\n  "))]
    Ignored(Vec<String>),
    /// Something that the manifest names is wrong.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There are no threads to run on, or no way to hear signals.
    #[error("the system refuses what the host needs: {0}")]
    System(#[from] std::io::Error),
    /// WebAssembly cannot run here.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file is no component.
    #[error("{path}: {reason}")]
    Component {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: ComponentError,
    },
    /// A file cannot be read.
    #[error("{path} cannot be read: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        reason: std::io::Error,
    },
    /// No host answers.
    #[error("no host answers at {url}: {reason}. Is `spandrel run` running, and does the manifest name its console?")]
    NoHost {
        /// Where it was looked for.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The manifest turns the console off.
    #[error("the manifest has no console to talk to: set `listen` under [console], or pass --console URL")]
    NoConsole,
    /// Standard output is a file or a pipe.
    #[error("`spandrel top` needs a terminal; `spandrel top --json` and `spandrel status` do not")]
    NoTerminal,
    /// The host said no.
    #[error("{0}")]
    Refused(String),
}

/// What to print of a failure. It may have text of a component or a manifest in it, which is not to control the terminal.
pub fn error_text(error: &CommandError) -> String {
    printable_lines(&format!("error: {error}\n")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_does_not_control_the_terminal() {
        let refused = CommandError::Refused("route `/\u{1b}]0;x\u{7}`\n  help: leave it out".to_owned());
        assert_eq!(error_text(&refused), "error: route `/\u{241b}]0;x\u{2407}`\n  help: leave it out\n");
    }
}
