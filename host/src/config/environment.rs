//! The process's environment: read once, here, and passed on.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;

use super::admin_token::AdminToken;
use super::error::ConfigError;
use super::telemetry;

/// Environment variables. An empty one counts as not set, as the OpenTelemetry specification asks, and so does one of
/// blanks only; blanks around a value are no part of it.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    texts: BTreeMap<String, String>,
    /// The names of those whose values are no text.
    others: BTreeSet<String>,
}

/// What the names of the host's own variables begin with.
const OWN: [&str; 2] = ["SPANDREL_", "RUST_LOG"];

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
                Ok(value) => drop(environment.texts.insert(name, value)),
                Err(_) => drop(environment.others.insert(name)),
            }
        }
        environment
    }

    /// The variables given, and no others.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Environment {
        let texts = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Environment { texts, others: BTreeSet::new() }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// Whether a variable has a value, and this is no text.
    pub(super) fn is_no_text(&self, name: &str) -> bool {
        self.others.contains(name)
    }

    /// The names of the variables whose values are no text.
    pub(super) fn no_texts(&self) -> impl Iterator<Item = &str> {
        self.others.iter().map(String::as_str)
    }

    /// Refuses variables for the host that cannot be read: taken for unset they would change what it does in silence.
    /// Those of telemetry that count as not set are said by [`telemetry::ignored()`].
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let is_own = |name: &str| OWN.iter().any(|own| name.starts_with(own)) || telemetry::is_strict(name);
        match self.others.iter().find(|name| is_own(name)) {
            Some(name) => Err(ConfigError::NoText { name: name.clone() }),
            None => Ok(()),
        }
    }

    /// `SPANDREL_ADMIN_TOKEN`.
    pub fn admin_token(&self) -> Option<AdminToken> {
        self.get("SPANDREL_ADMIN_TOKEN").map(AdminToken::from)
    }

    /// `RUST_LOG`, or what is logged where it is not set.
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
        // A relative one is to be ignored, says the XDG base directory specification.
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

    #[test]
    fn an_empty_variable_is_one_that_is_not_set() {
        let environment = Environment::from_pairs([("A", ""), ("B", "  "), ("C", " c ")]);
        assert_eq!([environment.get("A"), environment.get("B"), environment.get("C")], [None, None, Some("c")]);
    }

    #[test]
    fn a_value_that_is_no_text_is_refused_where_it_is_for_the_host() {
        let check = |name: &str| Environment::from_raw([(name.into(), OsString::from_vec(b"a\xff".to_vec()))]).check();
        for name in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY", "SPANDREL_ADMIN_TOKEN"] {
            let message = check(name).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains("help: "), "{message}");
        }
        assert!(check("LESSOPEN").is_ok());
    }

    #[test]
    fn a_setting_of_telemetry_that_is_no_text_counts_as_not_set_and_is_said() {
        for name in ["OTEL_TRACES_EXPORTER", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
            let raw = [(name.into(), OsString::from_vec(b"a\xff".to_vec()))];
            let environment = Environment::from_raw(raw);
            assert!(environment.check().is_ok(), "{name}");
            let said = telemetry::ignored(&environment);
            assert!(said.len() == 1 && said[0].starts_with(&format!("ignored: {name}=(not shown)")), "{said:?}");
        }
    }

    #[test]
    fn other_modules_get_their_settings_here() {
        let environment =
            Environment::from_pairs([("SPANDREL_ADMIN_TOKEN", "t"), ("RUST_LOG", "debug"), ("NO_COLOR", "1")]);
        assert_eq!(environment.admin_token(), Some(AdminToken::from("t")));
        assert_eq!((environment.log_filter(), environment.no_color()), ("debug", true));
        let nothing = Environment::default();
        assert_eq!((nothing.admin_token(), nothing.log_filter(), nothing.no_color()), (None, "info", false));
    }

    #[test]
    fn compiled_components_are_kept_in_the_users_cache() {
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
