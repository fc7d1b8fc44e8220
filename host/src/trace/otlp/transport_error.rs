//! Why OTLP cannot be spoken as the settings say.

use std::path::Path;

use thiserror::Error;

/// Why OTLP cannot be spoken as the settings say.
#[derive(Debug, Error)]
pub enum TransportError {
    /// The endpoint is no URL.
    #[error("the OTLP endpoint `{endpoint}` is of no use: {reason}")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate or key cannot be read.
    #[error("the file {path} for TLS to the collector cannot be used: {reason}")]
    Certificate {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A header cannot be sent.
    #[error("the OTLP header `{0}` cannot be sent")]
    Header(String),
}

/// Reads a certificate or key.
pub(super) fn pem(path: &Path) -> Result<Vec<u8>, TransportError> {
    std::fs::read(path).map_err(|error| bad_file(path, &error))
}

/// The error of a certificate or key that is of no use.
pub(super) fn bad_file(path: &Path, error: &dyn std::fmt::Display) -> TransportError {
    TransportError::Certificate { path: path.display().to_string(), reason: error.to_string() }
}
