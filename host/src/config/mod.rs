//! Raw manifest and environment in, resolved and validated types out. Nobody else reads either.
//!
//! What was typed becomes what it means once, here. The first thing that is wrong ends it, with one message that names
//! the place and the cure.

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
pub use self::attributes::{RequestAttribute, Source};
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
    /// Reads the manifest at a path.
    pub fn load(manifest: &Path, environment: &Environment) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(manifest)
            .map_err(|reason| ConfigError::NoManifest { path: manifest.to_owned(), reason })?;
        if text.trim().is_empty() {
            return Err(ConfigError::EmptyManifest { path: manifest.to_owned() });
        }
        Config::parse(&text, manifest, environment)
    }

    /// Whether manifest and environment said the same, wherever ports are taken and compiled components are kept.
    pub fn says_the_same_as(&self, other: &Config) -> bool {
        *self == Config { bind: self.bind, cache_dir: self.cache_dir.clone(), ..other.clone() }
    }

    /// Reads a manifest's text. Relative paths in it start at the manifest's folder.
    pub fn parse(text: &str, manifest: &Path, environment: &Environment) -> Result<Config, ConfigError> {
        manifest::read(text, manifest, environment)
    }
}
