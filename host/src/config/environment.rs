//! The process's environment: read once, here, and passed on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::types::AdminToken;

/// Environment variables. An empty one counts as not set, as the OpenTelemetry specification asks.
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
        let user = || self.get("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || self.get("HOME").map(|home| PathBuf::from(home).join(".cache"));
        own.or_else(|| user().or_else(home).map(|cache| cache.join("spandrel").join("components")))
    }
}
