//! Configuration from environment variables: the key `flag.discount` is the variable `flag.discount`.

pub use crate::host::types::ConfigError;

pub fn config_get(key: &str) -> Result<Option<String>, ConfigError> {
    match std::env::var(key) {
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error @ std::env::VarError::NotUnicode(_)) => Err(ConfigError::Io(format!("`{key}`: {error}"))),
    }
}
