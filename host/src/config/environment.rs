//! The process's environment: read once, here, and passed on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::types::AdminToken;

/// Environment variables. An empty one counts as not set, as the OpenTelemetry specification asks, and so does one of
/// blanks only; blanks around a value are no part of it.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of this process. One that is not text is left out.
    pub fn from_process() -> Environment {
        let pairs = std::env::vars_os();
        Environment(
            pairs.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect(),
        )
    }

    /// The variables given, and no others.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Environment {
        Environment(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
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
    use std::path::Path;

    use super::*;

    #[test]
    fn an_empty_variable_is_one_that_is_not_set() {
        let environment = Environment::from_pairs([("A", ""), ("B", "  "), ("C", " c ")]);
        assert_eq!([environment.get("A"), environment.get("B"), environment.get("C")], [None, None, Some("c")]);
    }

    #[test]
    fn other_rooms_get_their_settings_here() {
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
