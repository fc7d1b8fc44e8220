//! What is wrong with a configuration, where, and what to do.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What is wrong. Shown whole, each thing is one message with its place and, on a second line, its cure.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The manifest is not there or not readable.
    #[error(
        "{}\n  help: run in the folder that holds the manifest, or name it with --manifest FILE",
        unreadable(path, reason)
    )]
    NoManifest {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The manifest is there, with nothing in it: somebody is about to write it, or made a mistake.
    #[error("the manifest {} is empty\n  help: name at least one service, under [[service]]", path.display())]
    EmptyManifest {
        /// The file.
        path: PathBuf,
    },
    /// Something in the manifest.
    #[error("{manifest}:{line}:{column}: {problem}\n  help: {help}")]
    Manifest {
        /// The file.
        manifest: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1, in characters.
        column: usize,
        /// What is wrong.
        problem: String,
        /// What to do.
        help: String,
    },
    /// More than one thing.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<ConfigError>),
    /// Something in the environment that is no UTF-8.
    #[error("the environment variable {name} holds bytes that are no text\n  help: write it in UTF-8")]
    NoText {
        /// The variable.
        name: String,
    },
    /// A file that a variable names.
    #[error("the file {path} that the environment variable {name} names cannot be used: {reason}\n  help: {help}")]
    NamedFile {
        /// The variable.
        name: String,
        /// Its value.
        path: String,
        /// What is wrong with the file.
        reason: String,
        /// What is accepted.
        help: String,
    },
    /// Something in the environment.
    #[error("the environment variable {name}={value} is not understood\n  help: {help}")]
    Variable {
        /// The variable.
        name: String,
        /// Its value, or what stands for one that may be secret.
        value: String,
        /// What is accepted.
        help: String,
    },
}

impl ConfigError {
    /// One error for all of `errors`, none where there are none.
    pub(super) fn of_all(mut errors: Vec<ConfigError>) -> Option<ConfigError> {
        match errors.len() {
            0 => None,
            1 => errors.pop(),
            _ => Some(ConfigError::Several(errors)),
        }
    }
}

/// Names the whole path, because a relative one says nothing about the folder that the command ran in.
fn unreadable(path: &Path, reason: &std::io::Error) -> String {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match reason.kind() {
        ErrorKind::NotFound => format!("there is no manifest at {}", whole.display()),
        _ => format!("the manifest {} cannot be read: {reason}", whole.display()),
    }
}
