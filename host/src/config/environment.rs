//! The environment variables of the process, read once at the start.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

use super::admin_token::AdminToken;
use super::error::ConfigError;
use super::telemetry::strict::is_strict;

/// Environment variables. A variable that is empty or consists of whitespace counts as unset, as the OpenTelemetry
/// specification requires. Whitespace around a value is removed.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    values: BTreeMap<String, String>,
    /// The names of the variables whose values are not valid UTF-8.
    non_utf8: BTreeSet<String>,
}

/// The prefixes of the host's own variables.
const OWN_PREFIXES: [&str; 2] = ["SPANDREL_", "RUST_LOG"];

impl Environment {
    /// The variables of this process.
    pub fn from_process() -> Environment {
        Environment::from_raw(std::env::vars_os())
    }

    fn from_raw(pairs: impl IntoIterator<Item = (OsString, OsString)>) -> Environment {
        let mut environment = Environment::default();
        for (name, value) in pairs {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => drop(environment.values.insert(name, value)),
                Err(_) => drop(environment.non_utf8.insert(name)),
            }
        }
        environment
    }

    /// Only these variables.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Environment {
        let values = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Environment { values, non_utf8: BTreeSet::new() }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// Whether a variable has a value that is not valid UTF-8.
    pub(super) fn is_non_utf8(&self, name: &str) -> bool {
        self.non_utf8.contains(name)
    }

    /// The names of the variables whose values are not valid UTF-8.
    pub(super) fn non_utf8_names(&self) -> impl Iterator<Item = &str> {
        self.non_utf8.iter().map(String::as_str)
    }

    /// Rejects variables for the host that are not valid UTF-8: treating them as unset would silently change the host's
    /// behaviour. [`telemetry::ignored()`](super::telemetry::ignored) reports the variables of telemetry that count as
    /// unset.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let is_own = |name: &str| OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || is_strict(name);
        match self.non_utf8.iter().find(|name| is_own(name)) {
            Some(name) => Err(ConfigError::NotUtf8 { name: name.clone() }),
            None => Ok(()),
        }
    }

    /// `SPANDREL_ADMIN_TOKEN`.
    pub fn admin_token(&self) -> Option<AdminToken> {
        self.get("SPANDREL_ADMIN_TOKEN").map(AdminToken::from)
    }

    /// `RUST_LOG`; `info` if it is unset.
    pub fn log_filter(&self) -> &str {
        self.get("RUST_LOG").unwrap_or("info")
    }

    /// `NO_COLOR`.
    pub fn no_color(&self) -> bool {
        self.get("NO_COLOR").is_some()
    }

    /// The folder for compiled components: `SPANDREL_CACHE_DIR`, else a folder of the user's cache.
    pub(super) fn cache_dir(&self) -> Option<PathBuf> {
        let own = self.get("SPANDREL_CACHE_DIR").map(PathBuf::from);
        // The XDG base directory specification requires relative paths to be ignored.
        let user = || self.get("XDG_CACHE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
        let home = || self.get("HOME").map(|home| PathBuf::from(home).join(".cache"));
        own.or_else(|| user().or_else(home).map(|cache| cache.join("spandrel").join("components")))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;
    use std::path::Path;

    use super::*;
    use crate::config::telemetry;

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let environment = Environment::from_pairs([("A", ""), ("B", "  "), ("C", " c ")]);
        assert_eq!([environment.get("A"), environment.get("B"), environment.get("C")], [None, None, Some("c")]);
    }

    #[test]
    fn variables_of_the_host_must_be_utf8() {
        let check = |name: &str| Environment::from_raw([(name.into(), OsString::from_vec(b"a\xff".to_vec()))]).check();
        for name in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY", "SPANDREL_ADMIN_TOKEN"] {
            let message = check(name).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains("help: "), "{message}");
        }
        assert!(check("LESSOPEN").is_ok());
    }

    #[test]
    fn other_telemetry_variables_that_are_not_utf8_are_ignored_with_a_warning() {
        for name in ["OTEL_TRACES_EXPORTER", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
            let raw = [(name.into(), OsString::from_vec(b"a\xff".to_vec()))];
            let environment = Environment::from_raw(raw);
            assert!(environment.check().is_ok(), "{name}");
            let warnings = telemetry::ignored(&environment);
            let expected = format!("ignored: {name}=(not shown)");
            assert!(warnings.len() == 1 && warnings[0].starts_with(&expected), "{warnings:?}");
        }
    }

    #[test]
    fn token_log_filter_and_color_are_read() {
        let environment =
            Environment::from_pairs([("SPANDREL_ADMIN_TOKEN", "t"), ("RUST_LOG", "debug"), ("NO_COLOR", "1")]);
        assert_eq!(environment.admin_token(), Some(AdminToken::from("t")));
        assert_eq!((environment.log_filter(), environment.no_color()), ("debug", true));
        let empty = Environment::default();
        assert_eq!((empty.admin_token(), empty.log_filter(), empty.no_color()), (None, "info", false));
    }

    #[test]
    fn compiled_components_are_cached_in_the_users_cache_folder() {
        let check = |pairs: &[(&str, &str)], expected: Option<&str>| {
            let environment = Environment::from_pairs(pairs.iter().copied());
            assert_eq!(environment.cache_dir().as_deref(), expected.map(Path::new), "{pairs:?}");
        };
        let home = ("HOME", "/home/a");
        check(&[], None);
        check(&[home], Some("/home/a/.cache/spandrel/components"));
        check(&[home, ("XDG_CACHE_HOME", "/c")], Some("/c/spandrel/components"));
        check(&[home, ("XDG_CACHE_HOME", "c")], Some("/home/a/.cache/spandrel/components"));
        check(&[home, ("SPANDREL_CACHE_DIR", "/d")], Some("/d"));
    }
}
