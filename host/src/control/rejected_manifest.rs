//! A manifest that could not be applied: the reason, and the services that wait for it.

use std::time::{Duration, Instant};

use super::swap::ServiceReport;
use crate::config::{Config, ServiceConfig};
use crate::services::Catalog;

/// The time between two attempts to apply a manifest that fails for a reason that the watcher cannot detect.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// A manifest that could not be applied.
pub(crate) struct RejectedManifest {
    /// Its content, if it could be parsed.
    config: Option<Config>,
    reason: String,
    missing: MissingInput,
    last_attempt: Instant,
}

/// What prevents a manifest from being applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MissingInput {
    /// A component, whose file is watched.
    Component,
    /// Something in the environment of the host that is not watched, such as a folder or a free port.
    Environment,
}

impl RejectedManifest {
    /// Records a manifest that was rejected just now, and the reason.
    pub fn new(config: Option<Config>, reason: String, missing: MissingInput) -> RejectedManifest {
        RejectedManifest { config, reason, missing, last_attempt: Instant::now() }
    }

    /// Why the manifest was rejected.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Records another failed attempt. Returns whether the reason is the same as before.
    pub fn record_retry(&mut self, reason: &str) -> bool {
        self.last_attempt = Instant::now();
        self.reason == reason
    }

    /// Whether to try it again although no file has changed.
    pub fn is_due(&self) -> bool {
        self.missing == MissingInput::Environment && self.last_attempt.elapsed() >= RETRY_INTERVAL
    }

    /// The services of the manifest that the host does not have.
    pub fn missing_services<'a>(&'a self, catalog: &Catalog) -> impl Iterator<Item = &'a ServiceConfig> + use<'a> {
        let services = catalog.services();
        let is_missing = move |wanted: &&ServiceConfig| services.iter().all(|service| service.name != wanted.name);
        self.config.iter().flat_map(|config| &config.services).filter(is_missing)
    }

    /// The reports of those services.
    pub fn waiting_reports<'a>(&'a self, catalog: &Catalog) -> impl Iterator<Item = ServiceReport> + use<'a> {
        self.missing_services(catalog).map(|service| ServiceReport::waiting(service, self.reason.clone()))
    }
}
