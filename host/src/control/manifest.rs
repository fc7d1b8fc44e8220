//! A changed manifest: services are added, changed, moved and removed while the others serve on.

use std::sync::Arc;
use std::time::Duration;

use super::error::StartError;
use super::handle::{Control, Ready};
use super::swap::SwapOptions;
use crate::config::{Config, ServiceConfig, ServiceName};
use crate::serve::listener::{Bound, ListenError};
use crate::serve::peer::Peer;
use crate::services::BuildError;

/// How long requests in flight may take to end when a service stops.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// What a changed manifest asks for, as far as it can go wrong before anything is changed.
struct Changes {
    added: Vec<(Ready, Bound)>,
    /// With the new port of a service that moves.
    changed: Vec<(ServiceConfig, Option<Bound>)>,
}

/// Names the manifest that a component was built for.
pub(crate) fn in_manifest(config: &Config, reason: BuildError) -> StartError {
    StartError::Build { manifest: config.manifest.display().to_string(), reason }
}

impl Control {
    /// Makes the running services those of `new`. What can be wrong with the whole of it is found before anything is
    /// changed: the components of added services and the ports. A service that refuses its new configuration goes on
    /// with the old one and says so; it is tried again when its file or the manifest changes.
    pub(crate) async fn apply(self: &Arc<Self>, new: Config) -> Result<(), StartError> {
        let _turn = self.changing.lock().await;
        let old = self.config.load_full();
        let Changes { added, changed } = match self.changes(&old, &new).await {
            Ok(changes) => changes,
            Err(error) => {
                // What was prepared for a service that does not come is not to be reported.
                let unborn = new.services.iter().filter(|service| self.catalog.find(service.name.as_str()).is_none());
                unborn.for_each(|service| self.builder.metrics().remove_service(service.name.as_str()));
                return Err(error);
            }
        };
        for (made, bound) in added {
            tracing::info!(service = %made.config.name, address = %bound.address, "service added");
            self.publish(made, bound);
        }
        if old.console != new.console
            || old.state != new.state
            || old.telemetry != new.telemetry
            || old.swap != new.swap
        {
            tracing::warn!("changes under [console], [state], [telemetry] and [swap] take effect at the next start");
        }
        for service in &old.services {
            if !new.services.iter().any(|kept| kept.name == service.name) {
                self.remove(&service.name);
            }
        }
        self.config.store(Arc::new(Config { bind: old.bind, ..new.clone() }));
        for (service, bound) in changed {
            self.reconfigure(&service, bound).await;
        }
        Ok(())
    }

    /// Prepares what `new` adds, and takes the ports that it asks for.
    async fn changes(&self, old: &Config, new: &Config) -> Result<Changes, StartError> {
        let (mut prepared, mut changed) = (Vec::new(), Vec::new());
        for service in &new.services {
            if self.catalog.find(service.name.as_str()).is_none() {
                prepared.push((self.ready(service).await.map_err(|reason| in_manifest(new, reason))?, service));
            } else if !old.services.contains(service) || self.unapplied().contains(&service.name) {
                changed.push((service.clone(), self.bind_anew(service).await?));
            }
        }
        let mut added = Vec::new();
        for (made, service) in prepared {
            added.push((made, self.bind(service).await?));
        }
        Ok(Changes { added, changed })
    }

    /// Brings a service's next version: its component file has changed. Not while the manifest is applied.
    pub(crate) async fn component_changed(self: &Arc<Self>, config: &ServiceConfig) {
        let Some(service) = self.catalog.find(config.name.as_str()) else { return };
        if self.unapplied().contains(&config.name) {
            let _turn = self.changing.lock().await;
            match self.bind_anew(config).await {
                Ok(bound) => self.reconfigure(config, bound).await,
                Err(error) => self.swapper.note_failure(&service, &error.to_string()),
            }
            return;
        }
        match self.builder.read(config).await {
            // How it ended was logged.
            Ok(bytes) => drop(self.swapper.swap(&service, bytes, SwapOptions::default()).await),
            Err(error) => self.swapper.note_failure(&service, &error.to_string()),
        }
    }

    /// Takes a service's port, unless it has it already.
    async fn bind_anew(&self, config: &ServiceConfig) -> Result<Option<Bound>, ListenError> {
        let running = self.catalog.find(config.name.as_str());
        match running.is_some_and(|service| service.serving().stable.config.listen == config.listen) {
            true => Ok(None),
            false => Ok(Some(self.bind(config).await?)),
        }
    }

    /// Makes a generation of the component file and the new configuration, and moves the service to its new port.
    async fn reconfigure(self: &Arc<Self>, config: &ServiceConfig, bound: Option<Bound>) {
        let Some(service) = self.catalog.find(config.name.as_str()) else { return };
        let bytes = match self.builder.read(config).await {
            Ok(bytes) => bytes,
            Err(error) => {
                self.unapplied().insert(config.name.clone());
                return self.swapper.note_failure(&service, &error.to_string());
            }
        };
        let options = SwapOptions { config: Some(config.clone()), ..SwapOptions::default() };
        if self.swapper.swap(&service, bytes, options).await.is_err() {
            self.unapplied().insert(config.name.clone());
            return;
        }
        self.unapplied().remove(&config.name);
        let Some(bound) = bound else { return };
        tracing::info!(service = %config.name, address = %bound.address, "service moved");
        let listener = bound.serve(self.admission_to(config), Peer::new, self.handler(service));
        if let Some(before) = self.listeners().insert(config.name.clone(), listener) {
            tokio::spawn(before.drain(DRAIN_LIMIT));
        }
    }

    fn remove(self: &Arc<Self>, name: &ServiceName) {
        let Some(service) = self.catalog.find(name.as_str()) else { return };
        service.remove();
        self.catalog.remove(name);
        self.swapper.forget(name);
        self.unapplied().remove(name);
        let listener = self.listeners().remove(name);
        let inner = self.clone();
        tokio::spawn(async move {
            if let Some(listener) = listener {
                listener.drain(DRAIN_LIMIT).await;
            }
            let serving = service.serving();
            serving.stable.pool.close();
            serving.canary.iter().for_each(|canary| canary.generation.pool.close());
            // A service of the same name may have come by now: it goes on with the same metrics.
            let _turn = inner.changing.lock().await;
            if inner.catalog.find(service.name.as_str()).is_none() {
                inner.builder.metrics().remove_service(service.name.as_str());
            }
            tracing::info!(service = %service.name, "service removed");
        });
    }
}
