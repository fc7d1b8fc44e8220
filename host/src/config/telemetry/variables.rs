//! Typed reading of the `OTEL_*` variables.
//!
//! An invalid value is recorded and counts as unset, as the OpenTelemetry specification requires of SDKs: operators often
//! set one value for all containers. Only invalid endpoints, headers and TLS files
//! ([`is_strict`](super::strict::is_strict)) are errors: with a default instead, telemetry could go to the wrong receiver.

use std::cell::RefCell;
use std::fmt::Display;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::ignored_value::Ignored;
use crate::config::environment::Environment;
use crate::config::error::ConfigError;
use crate::trace::Otlp;

pub(super) type Result<T, E = ConfigError> = std::result::Result<T, E>;

const COUNT_HELP: &str = "write a whole number";
const MILLIS_HELP: &str = "write a number of milliseconds, up to a year";

/// An error with the variable, its value and the accepted values.
pub(super) fn invalid(name: &str, value: &str, help: &str) -> ConfigError {
    ConfigError::Variable { name: name.to_owned(), value: value.to_owned(), help: help.to_owned() }
}

/// Typed access to variables, with the invalid values found so far.
pub(super) struct Variables<'a> {
    environment: &'a Environment,
    ignored: RefCell<Vec<Ignored>>,
}

impl<'a> Variables<'a> {
    pub fn new(environment: &'a Environment) -> Variables<'a> {
        Variables { environment, ignored: RefCell::default() }
    }

    /// The invalid values that counted as unset, in the order in which they were read.
    pub fn into_ignored(self) -> Vec<Ignored> {
        self.ignored.into_inner()
    }

    /// Records an invalid value that counts as unset. Duplicates are recorded once.
    pub fn ignore(&self, ignored: Ignored) {
        let mut known = self.ignored.borrow_mut();
        if !known.contains(&ignored) {
            known.push(ignored);
        }
    }

    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.environment.get(name)
    }

    /// Parses a variable. `None` if it is unset or invalid; then `instead` describes the value that is used.
    pub fn read<T>(
        &self,
        name: &str,
        help: &str,
        instead: impl Display,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(name)?;
        let parsed = parse(value);
        if parsed.is_none() {
            self.ignore(Ignored::value(name, value, help, instead));
        }
        parsed
    }

    /// A boolean. As the specification requires, any value other than `true` is false.
    pub fn boolean(&self, name: &str) -> bool {
        let read = |value: &str| match value.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        self.read(name, "write true or false", "false", read).unwrap_or(false)
    }

    /// A count, possibly zero.
    pub fn count(&self, name: &str, default: usize) -> usize {
        self.count_or(name, default).unwrap_or(default)
    }

    /// A count without a default of its own.
    pub fn count_or(&self, name: &str, instead: impl Display) -> Option<usize> {
        self.read(name, COUNT_HELP, instead, |value| value.parse().ok())
    }

    /// A count above zero.
    pub fn positive_count(&self, name: &str, default: usize) -> usize {
        let read = |value: &str| value.parse::<usize>().ok().filter(|count| *count > 0);
        self.read(name, "write a whole number above 0", default, read).unwrap_or(default)
    }

    /// A duration in milliseconds, possibly zero.
    pub fn millis(&self, name: &str, default: Duration) -> Duration {
        self.read(name, MILLIS_HELP, Millis(default), millis).unwrap_or(default)
    }

    /// A duration in milliseconds above zero.
    pub fn positive_millis(&self, name: &str, default: Duration) -> Duration {
        let read = |value: &str| millis(value).filter(|length| !length.is_zero());
        let help = "write a number of milliseconds above 0, up to a year";
        self.read(name, help, Millis(default), read).unwrap_or(default)
    }

    /// A timeout in milliseconds. As the specification defines, zero means no limit.
    pub fn timeout(&self, name: &str, instead: impl Display) -> Option<Duration> {
        self.read(name, MILLIS_HELP, instead, timeout)
    }

    /// A list of case-insensitive words, without those that `find` does not know. `None` if the variable is unset or
    /// contains no known word.
    pub fn list<T: PartialEq>(
        &self,
        name: &str,
        help: &str,
        instead: &str,
        find: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let text = self.get(name)?.to_ascii_lowercase();
        let (nothing, words): (Vec<_>, Vec<_>) = entries(&text).partition(|word| *word == "none");
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        for word in words {
            match find(word) {
                Some(known) if found.contains(&known) => {}
                Some(known) => found.push(known),
                None => unknown.push(word),
            }
        }
        let counts = unknown.is_empty() || !found.is_empty() || !nothing.is_empty();
        let instead = if counts { "the rest of the list" } else { instead };
        unknown.into_iter().for_each(|word| self.ignore(Ignored::value(name, word, help, instead)));
        counts.then_some(found)
    }

    /// The per-signal variable or, if it is unset, the common one.
    pub fn of_signal(&self, signal: &str, what: &str) -> Option<(String, &'a str)> {
        signal_names(signal, what).into_iter().find_map(|name| self.get(&name).map(|value| (name, value)))
    }

    /// Parses the per-signal variable or, if it is unset or invalid, the common one.
    pub fn read_of_signal<T>(
        &self,
        signal: &str,
        what: &str,
        help: &str,
        default: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let [own, general] = signal_names(signal, what);
        let own = self.read(&own, help, format_args!("{general}, or {default} without it"), &parse);
        own.or_else(|| self.read(&general, help, default, &parse))
    }
}

fn signal_names(signal: &str, what: &str) -> [String; 2] {
    [format!("OTEL_EXPORTER_OTLP_{signal}_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")]
}

/// Formats a duration in milliseconds.
struct Millis(Duration);

impl Display for Millis {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0.as_millis())
    }
}

fn millis(value: &str) -> Option<Duration> {
    // A longer duration could overflow when added to a time.
    value.parse().ok().map(Duration::from_millis).filter(|length| *length <= Otlp::NO_LIMIT)
}

pub(super) fn timeout(value: &str) -> Option<Duration> {
    millis(value).map(|timeout| if timeout.is_zero() { Otlp::NO_LIMIT } else { timeout })
}

/// Parses a `key=value` pair, both percent-encoded. `None` if it is malformed.
pub(super) fn pair(text: &str) -> Option<(String, String)> {
    let decode = |text: &str| Some(percent_decode_str(text.trim()).decode_utf8().ok()?.into_owned());
    let (key, value) = text.split_once('=')?;
    Some((decode(key).filter(|key| !key.is_empty())?, decode(value)?))
}

/// The entries of a comma-separated list.
pub(super) fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}
