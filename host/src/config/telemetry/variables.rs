//! Typed reading of the `OTEL_*` variables.

use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::config::environment::Environment;
use crate::config::error::ConfigError;
use crate::trace::Otlp;

pub(super) type Result<T, E = ConfigError> = std::result::Result<T, E>;

/// An error that names the variable, its value and what is accepted.
pub(super) fn wrong(name: &str, value: &str, help: &str) -> ConfigError {
    ConfigError::Variable { name: name.to_owned(), value: value.to_owned(), help: help.to_owned() }
}

/// Typed reading of variables.
pub(super) struct Variables<'a>(pub &'a Environment);

impl<'a> Variables<'a> {
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.0.get(name)
    }

    pub fn number<T: FromStr>(&self, name: &str, help: &str) -> Result<Option<T>> {
        let read = |value: &str| value.parse().map_err(|_| wrong(name, value, help));
        self.get(name).map(read).transpose()
    }

    /// Yes or no, as the specification writes them.
    pub fn truth(&self, name: &str) -> Result<Option<bool>> {
        let read = |value: &str| match value.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(wrong(name, value, "write true or false")),
        };
        self.get(name).map(read).transpose()
    }

    pub fn count(&self, name: &str) -> Result<Option<usize>> {
        self.number(name, "write a whole number")
    }

    /// A length of time, which may be zero.
    pub fn millis(&self, name: &str) -> Result<Option<Duration>> {
        let help = "write a number of milliseconds, up to a year";
        match self.number(name, help)?.map(Duration::from_millis) {
            // Adding a longer one to a point in time might overflow.
            Some(length) if length > Otlp::NO_LIMIT => Err(wrong(name, self.get(name).unwrap_or_default(), help)),
            length => Ok(length),
        }
    }

    /// A length of time in which something must be possible.
    pub fn some_millis(&self, name: &str) -> Result<Option<Duration>> {
        match self.millis(name)? {
            Some(Duration::ZERO) => Err(wrong(name, "0", "write a number of milliseconds above 0")),
            length => Ok(length),
        }
    }

    /// The longest that something may take. Zero means that there is no limit, says the specification.
    pub fn timeout(&self, name: &str) -> Result<Option<Duration>> {
        let timeout = self.millis(name)?;
        Ok(timeout.map(|timeout| if timeout.is_zero() { Otlp::NO_LIMIT } else { timeout }))
    }

    /// One of a few words. They are the same in any case, says the specification.
    pub fn word(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_ascii_lowercase)
    }

    /// A number of things without which nothing goes.
    pub fn some_count(&self, name: &str) -> Result<Option<usize>> {
        match self.count(name)? {
            Some(0) => Err(wrong(name, "0", "write a whole number above 0")),
            count => Ok(count),
        }
    }

    /// The variable for one signal, else the one for all.
    pub fn of_signal(&self, signal: &str, what: &str) -> Option<(String, &'a str)> {
        let names = [format!("OTEL_EXPORTER_OTLP_{signal}_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")];
        names.into_iter().find_map(|name| self.get(&name).map(|value| (name, value)))
    }
}

/// One entry of a list of `key=value` pairs, both percent-decoded. None where it is no such pair.
pub(super) fn pair(text: &str) -> Option<(String, String)> {
    let decode = |text: &str| Some(percent_decode_str(text.trim()).decode_utf8().ok()?.into_owned());
    let (key, value) = text.split_once('=')?;
    Some((decode(key).filter(|key| !key.is_empty())?, decode(value)?))
}

/// The entries of a list with commas between them.
pub(super) fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}
