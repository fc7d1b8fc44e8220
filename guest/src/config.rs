//! Configuration: the strings under `[service.config]` in the host's manifest, read through `wasi:config`.

use crate::{host, spans};

/// Why a configuration value is not available.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest does not set this key.
    #[error("the configuration key `{0}` is not set")]
    Missing(String),
    /// The host could not read its configuration.
    #[error("the configuration cannot be read: {0}")]
    Unreadable(String),
}

impl From<host::ConfigError> for Error {
    fn from(error: host::ConfigError) -> Self {
        match error {
            host::ConfigError::Upstream(reason) | host::ConfigError::Io(reason) => Self::Unreadable(reason),
        }
    }
}

/// The value of `key`, or `None` if the manifest does not set it.
///
/// # Errors
/// [`Error::Unreadable`] if the host cannot read its configuration.
pub fn get(key: &str) -> Result<Option<String>, Error> {
    Ok(host::config_get(key)?)
}

/// The value of `key`, which is required.
///
/// # Errors
/// [`Error::Missing`] if the manifest does not set it, [`Error::Unreadable`] as for [`get`].
pub fn require(key: &str) -> Result<String, Error> {
    get(key)?.ok_or_else(|| Error::Missing(key.to_owned()))
}

/// Whether the feature flag `name` is on, that is, whether the value of the key `flag.<name>` is exactly `true`.
///
/// A flag that is not set or cannot be read is off. The result is recorded on the current span as the boolean attribute
/// `feature_flag.<name>`.
pub fn flag(name: &str) -> bool {
    let on = match get(&format!("flag.{name}")) {
        Ok(value) => value.as_deref() == Some("true"),
        Err(error) => {
            tracing::warn!(%error, "feature flag {name} counts as off");
            false
        }
    };
    spans::record_on_current(&format!("feature_flag.{name}"), host::Value::Boolean(on));
    on
}
