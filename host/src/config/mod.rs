//! Parses and validates the manifest and the environment, which no other module reads.
//!
//! The result is a [`Config`] of resolved types. All errors of a manifest are reported at once, each with its location and
//! a remedy.

mod admin_token;
mod attributes;
mod environment;
mod error;
mod expand;
mod folder;
mod manifest;
mod nearest;
mod origin;
mod origin_pattern;
mod outbound;
mod quantity;
mod responses;
mod section;
mod standard;
pub mod telemetry;
mod types;

use std::path::Path;

pub use self::admin_token::AdminToken;
pub use self::attributes::{AttributeSource, RequestAttribute};
pub use self::environment::Environment;
pub use self::error::ConfigError;
pub use self::folder::{Access, Folder};
pub use self::origin::{Origin, Scheme};
pub use self::origin_pattern::OriginPattern;
pub use self::outbound::{OutboundConfig, Recipients};
pub use self::types::{
    Bind, Config, Connections, ConsoleConfig, Isolation, Limits, ServiceConfig, ServiceName, ShutdownConfig,
    StateConfig, SwapConfig,
};

impl Config {
    /// Reads and parses the manifest at a path.
    pub fn load(manifest: &Path, environment: &Environment) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(manifest)
            .map_err(|reason| ConfigError::NoManifest { path: manifest.to_owned(), reason })?;
        if text.trim().is_empty() {
            return Err(ConfigError::EmptyManifest { path: manifest.to_owned() });
        }
        Config::parse(&text, manifest, environment)
    }

    /// Whether the two configurations are equal, apart from settings that do not come from the manifest: how ports are
    /// bound and where compiled components are cached.
    pub fn is_equivalent_to(&self, other: &Config) -> bool {
        *self == Config { bind: self.bind, cache_dir: self.cache_dir.clone(), ..other.clone() }
    }

    /// Parses the text of a manifest. Relative paths in it are relative to the folder of the manifest.
    pub fn parse(text: &str, manifest: &Path, environment: &Environment) -> Result<Config, ConfigError> {
        manifest::read(text, manifest, environment)
    }
}
