//! What is wrong with a configuration, where, and what to do.

use std::path::PathBuf;

use thiserror::Error;

/// The first thing that is wrong.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The manifest is not there or not readable.
    #[error(
        "the manifest {path} cannot be read: {reason}\n  help: run in the folder that holds it, or name it with --manifest FILE"
    )]
    NoManifest {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// Something in the manifest.
    #[error("{manifest}:{line}:{column}: {problem}\n  help: {help}")]
    Manifest {
        /// The file.
        manifest: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong.
        problem: String,
        /// What to do.
        help: String,
    },
    /// Something in the environment.
    #[error("the environment variable {name}={value} is not understood\n  help: {help}")]
    Variable {
        /// The variable.
        name: String,
        /// Its value.
        value: String,
        /// What is accepted.
        help: String,
    },
}
