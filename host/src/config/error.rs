//! Errors of the configuration, each with its location and a remedy.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// An error of the configuration. Its text contains the location and, on a second line, a remedy.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The manifest does not exist or cannot be read.
    #[error("{}\n  help: run in the folder of the manifest, or pass --manifest FILE", unreadable(path, reason))]
    NoManifest {
        /// The path of the manifest.
        path: PathBuf,
        /// The error of the operating system.
        reason: std::io::Error,
    },
    /// The manifest is empty, possibly because it is being written.
    #[error("the manifest {} is empty\n  help: add at least one service under [[service]]", path.display())]
    EmptyManifest {
        /// The file.
        path: PathBuf,
    },
    /// An error in the manifest.
    #[error("{manifest}:{line}:{column}: {problem}\n  help: {help}")]
    Manifest {
        /// The file.
        manifest: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1, in characters.
        column: usize,
        /// The description of the error.
        problem: String,
        /// The remedy.
        help: String,
    },
    /// Several errors.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<ConfigError>),
    /// The value of an environment variable is not valid UTF-8.
    #[error("the environment variable {name} is not valid UTF-8\n  help: encode it in UTF-8")]
    NotUtf8 {
        /// The variable.
        name: String,
    },
    /// A file named by an environment variable cannot be used.
    #[error("the file {path} that the environment variable {name} names cannot be used: {reason}\n  help: {help}")]
    NamedFile {
        /// The variable.
        name: String,
        /// Its value.
        path: String,
        /// Why the file cannot be used.
        reason: String,
        /// The accepted values.
        help: String,
    },
    /// The value of an environment variable is invalid.
    #[error("the environment variable {name}={value} is invalid\n  help: {help}")]
    Variable {
        /// The variable.
        name: String,
        /// Its value, or a placeholder if it may be secret.
        value: String,
        /// The accepted values.
        help: String,
    },
}

impl ConfigError {
    /// Combines `errors` into one error. `None` if there are none.
    pub(super) fn combine(mut errors: Vec<ConfigError>) -> Option<ConfigError> {
        match errors.len() {
            0 => None,
            1 => errors.pop(),
            _ => Some(ConfigError::Several(errors)),
        }
    }
}

/// The message contains the absolute path, because a relative one does not show the current folder.
fn unreadable(path: &Path, reason: &std::io::Error) -> String {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match reason.kind() {
        ErrorKind::NotFound => format!("there is no manifest at {}", whole.display()),
        _ => format!("the manifest {} cannot be read: {reason}", whole.display()),
    }
}
