//! Errors in the settings of an OTLP exporter.

use std::path::Path;

use thiserror::Error;

/// Errors in the settings of an OTLP exporter.
#[derive(Debug, Error)]
pub enum TransportError {
    /// The endpoint is invalid.
    #[error("the OTLP endpoint `{endpoint}` is invalid: {reason}")]
    Endpoint {
        /// The endpoint, without secrets.
        endpoint: String,
        /// The reason.
        reason: String,
    },
    /// A certificate or key cannot be read.
    #[error("the file {path} for TLS to the collector cannot be used: {reason}")]
    Certificate {
        /// The path of the file.
        path: String,
        /// The reason.
        reason: String,
    },
    /// A configured header is invalid.
    #[error("the OTLP header `{0}` cannot be sent")]
    Header(String),
}

/// Reads a certificate or key.
pub(super) fn pem(path: &Path) -> Result<Vec<u8>, TransportError> {
    std::fs::read(path).map_err(|error| bad_file(path, &error))
}

/// The error for a certificate or key that cannot be used.
pub(super) fn bad_file(path: &Path, error: &dyn std::fmt::Display) -> TransportError {
    TransportError::Certificate { path: path.display().to_string(), reason: error.to_string() }
}
