//! A manifest that could not be applied, and the services that wait for it.

use super::swap::ServiceReport;
use crate::config::{Config, ServiceConfig};
use crate::services::Catalog;

/// A manifest that could not be applied.
pub(crate) struct RefusedManifest {
    config: Config,
    reason: String,
}

impl RefusedManifest {
    /// A manifest and why it was refused.
    pub fn new(config: Config, reason: String) -> RefusedManifest {
        RefusedManifest { config, reason }
    }

    /// Why it was refused.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The services that the host would have.
    pub fn missing<'a>(&'a self, catalog: &Catalog) -> impl Iterator<Item = &'a ServiceConfig> + use<'a> {
        let services = catalog.services();
        let is_missing = move |wanted: &&ServiceConfig| services.iter().all(|service| service.name != wanted.name);
        self.config.services.iter().filter(is_missing)
    }

    /// What is told of them.
    pub fn waiting<'a>(&'a self, catalog: &Catalog) -> impl Iterator<Item = ServiceReport> + use<'a> {
        self.missing(catalog).map(|service| ServiceReport::waiting(service, self.reason.clone()))
    }
}
