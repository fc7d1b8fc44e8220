//! The list of the host's services.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::service::Service;
use crate::config::Origin;

/// All services of the host. Reads are lock-free.
#[derive(Default)]
pub struct Catalog {
    services: ArcSwap<Vec<Arc<Service>>>,
}

impl Catalog {
    /// The services, in the order of the manifest.
    pub fn services(&self) -> Arc<Vec<Arc<Service>>> {
        self.services.load_full()
    }

    /// The service with this name.
    pub fn find(&self, name: &str) -> Option<Arc<Service>> {
        self.services.load().iter().find(|service| service.name.as_str() == name).cloned()
    }

    /// The service that listens at `origin`.
    pub fn at(&self, origin: &Origin) -> Option<Arc<Service>> {
        self.services.load().iter().find(|service| service.serves(origin)).cloned()
    }

    /// Replaces the list of services atomically.
    pub fn replace(&self, services: Vec<Arc<Service>>) {
        self.services.store(Arc::new(services));
    }
}
