//! Typed reading of the `OTEL_*` variables.
//!
//! A value that is of no use is noted and counts as not set, as the OpenTelemetry specification asks of SDKs: operators
//! set one value for all containers at once. Only what says where telemetry goes, with which secrets and under which
//! protection ([`is_strict`](super::strict::is_strict)) is an error: something else in its place might send it to somebody else.

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

/// An error that names the variable, its value and what is accepted.
pub(super) fn wrong(name: &str, value: &str, help: &str) -> ConfigError {
    ConfigError::Variable { name: name.to_owned(), value: value.to_owned(), help: help.to_owned() }
}

/// Typed reading of variables, and what was of no use in them.
pub(super) struct Variables<'a> {
    environment: &'a Environment,
    ignored: RefCell<Vec<Ignored>>,
}

impl<'a> Variables<'a> {
    pub fn new(environment: &'a Environment) -> Variables<'a> {
        Variables { environment, ignored: RefCell::default() }
    }

    /// What counted as not set, in the order in which it was read.
    pub fn into_ignored(self) -> Vec<Ignored> {
        self.ignored.into_inner()
    }

    /// Notes a value that counts as not set, once.
    pub fn ignore(&self, ignored: Ignored) {
        let mut known = self.ignored.borrow_mut();
        if !known.contains(&ignored) {
            known.push(ignored);
        }
    }

    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.environment.get(name)
    }

    /// What `parse` makes of a variable. `instead` is what holds where that is nothing.
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

    /// Yes or no. What is neither `true` nor `false` is no, says the specification.
    pub fn truth(&self, name: &str) -> bool {
        let read = |value: &str| match value.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        self.read(name, "write true or false", "false", read).unwrap_or(false)
    }

    /// A number of things, which may be none.
    pub fn count(&self, name: &str, standard: usize) -> usize {
        self.count_or(name, standard).unwrap_or(standard)
    }

    /// A number of things, in whose place something else may hold.
    pub fn count_or(&self, name: &str, instead: impl Display) -> Option<usize> {
        self.read(name, COUNT_HELP, instead, |value| value.parse().ok())
    }

    /// A number of things without which nothing goes.
    pub fn some_count(&self, name: &str, standard: usize) -> usize {
        let read = |value: &str| value.parse::<usize>().ok().filter(|count| *count > 0);
        self.read(name, "write a whole number above 0", standard, read).unwrap_or(standard)
    }

    /// A length of time, which may be zero.
    pub fn millis(&self, name: &str, standard: Duration) -> Duration {
        self.read(name, MILLIS_HELP, Millis(standard), millis).unwrap_or(standard)
    }

    /// A length of time in which something must be possible.
    pub fn some_millis(&self, name: &str, standard: Duration) -> Duration {
        let read = |value: &str| millis(value).filter(|length| !length.is_zero());
        let help = "write a number of milliseconds above 0, up to a year";
        self.read(name, help, Millis(standard), read).unwrap_or(standard)
    }

    /// The longest that something may take. Zero means that there is no limit, says the specification.
    pub fn timeout(&self, name: &str, instead: impl Display) -> Option<Duration> {
        self.read(name, MILLIS_HELP, instead, timeout)
    }

    /// A list of words, which are the same in any case, without those that `find` does not know. None where there is no
    /// list, or nothing in it is known.
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

    /// The variable for one signal, else the one for all.
    pub fn of_signal(&self, signal: &str, what: &str) -> Option<(String, &'a str)> {
        signal_names(signal, what).into_iter().find_map(|name| self.get(&name).map(|value| (name, value)))
    }

    /// What `parse` makes of the variable for one signal, else of the one for all.
    pub fn read_of_signal<T>(
        &self,
        signal: &str,
        what: &str,
        help: &str,
        standard: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let [own, general] = signal_names(signal, what);
        let own = self.read(&own, help, format_args!("{general}, or {standard} without it"), &parse);
        own.or_else(|| self.read(&general, help, standard, &parse))
    }
}

fn signal_names(signal: &str, what: &str) -> [String; 2] {
    [format!("OTEL_EXPORTER_OTLP_{signal}_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")]
}

/// A length of time as the variables have it.
struct Millis(Duration);

impl Display for Millis {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0.as_millis())
    }
}

fn millis(value: &str) -> Option<Duration> {
    // Adding a longer one to a point in time might overflow.
    value.parse().ok().map(Duration::from_millis).filter(|length| *length <= Otlp::NO_LIMIT)
}

pub(super) fn timeout(value: &str) -> Option<Duration> {
    millis(value).map(|timeout| if timeout.is_zero() { Otlp::NO_LIMIT } else { timeout })
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
