//! A manifest that could not be applied, the services that wait for it, and what it is missing.

use std::time::{Duration, Instant};

use super::swap::ServiceReport;
use crate::config::{Config, ServiceConfig};
use crate::services::Catalog;

/// How long to wait before a manifest that misses something unwatched is tried again.
const PAUSE: Duration = Duration::from_secs(2);

/// A manifest that could not be applied.
pub(crate) struct RefusedManifest {
    /// Its content, if it could be parsed.
    config: Option<Config>,
    reason: String,
    missed: Missed,
    tried: Instant,
}

/// What a rejected manifest is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    /// A component, whose file is watched.
    Component,
    /// Something that is not watched, such as a folder or a free port.
    Surroundings,
}

impl RefusedManifest {
    /// Records a manifest that was rejected just now, and the reason.
    pub fn new(config: Option<Config>, reason: String, missed: Missed) -> RefusedManifest {
        RefusedManifest { config, reason, missed, tried: Instant::now() }
    }

    /// Why the manifest was rejected.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Records another try. Returns whether it failed for the same reason as the one before.
    pub fn is_refused_again(&mut self, reason: &str) -> bool {
        self.tried = Instant::now();
        self.reason == reason
    }

    /// Whether to try it again although no file has changed.
    pub fn is_due(&self) -> bool {
        self.missed == Missed::Surroundings && self.tried.elapsed() >= PAUSE
    }

    /// The services of the manifest that the host does not have.
    pub fn missing<'a>(&'a self, catalog: &Catalog) -> impl Iterator<Item = &'a ServiceConfig> + use<'a> {
        let services = catalog.services();
        let is_missing = move |wanted: &&ServiceConfig| services.iter().all(|service| service.name != wanted.name);
        self.config.iter().flat_map(|config| &config.services).filter(is_missing)
    }

    /// The reports of those services.
    pub fn waiting<'a>(&'a self, catalog: &Catalog) -> impl Iterator<Item = ServiceReport> + use<'a> {
        self.missing(catalog).map(|service| ServiceReport::waiting(service, self.reason.clone()))
    }
}
