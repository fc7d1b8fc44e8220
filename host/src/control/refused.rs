//! A manifest that could not be applied, the services that wait for it, and what it waits for.

use std::time::{Duration, Instant};

use super::swap::ServiceReport;
use crate::config::{Config, ServiceConfig};
use crate::services::Catalog;

/// How long it takes until it is tried again whether what is missed around the host has come.
const PAUSE: Duration = Duration::from_secs(2);

/// A manifest that could not be applied.
pub(crate) struct RefusedManifest {
    /// What it says, where it could be read.
    config: Option<Config>,
    reason: String,
    missed: Missed,
    tried: Instant,
}

/// What a refused manifest misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    /// A component; its file is watched.
    Component,
    /// Something that nobody watches, such as a folder or a free port.
    Surroundings,
}

impl RefusedManifest {
    /// A manifest and why it was refused just now.
    pub fn new(config: Option<Config>, reason: String, missed: Missed) -> RefusedManifest {
        RefusedManifest { config, reason, missed, tried: Instant::now() }
    }

    /// Why it was refused.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Notes that it was tried again. Whether that ended as the try before.
    pub fn is_refused_again(&mut self, reason: &str) -> bool {
        self.tried = Instant::now();
        self.reason == reason
    }

    /// Whether it is time to try it again, though no file has changed.
    pub fn is_due(&self) -> bool {
        self.missed == Missed::Surroundings && self.tried.elapsed() >= PAUSE
    }

    /// The services that the host would have.
    pub fn missing<'a>(&'a self, catalog: &Catalog) -> impl Iterator<Item = &'a ServiceConfig> + use<'a> {
        let services = catalog.services();
        let is_missing = move |wanted: &&ServiceConfig| services.iter().all(|service| service.name != wanted.name);
        self.config.iter().flat_map(|config| &config.services).filter(is_missing)
    }

    /// What is told of them.
    pub fn waiting<'a>(&'a self, catalog: &Catalog) -> impl Iterator<Item = ServiceReport> + use<'a> {
        self.missing(catalog).map(|service| ServiceReport::waiting(service, self.reason.clone()))
    }
}
