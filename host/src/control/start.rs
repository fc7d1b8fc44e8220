//! The start of the services of a manifest.
//!
//! Errors that are known without compiling (a busy port, an unreadable component, wrong exports or imports) end the start
//! before anything is compiled. All services begin to serve together, unless compiling takes long: a component with an
//! interpreter can take half a minute. Then a service begins as soon as its component, and those of all services that it
//! may call, are ready.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout_at};

use super::dependencies::Dependencies;
use super::error::StartError;
use super::handle::{Control, PreparedService};
use super::manifest::in_manifest;
use crate::config::{Config, ServiceConfig};
use crate::serve::listener;
use crate::services::BuildError;
use crate::telemetry::Operation;

/// How long services that are ready wait for the others.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// The services of a manifest that do not serve yet.
pub(crate) struct PendingServices {
    control: Arc<Control>,
    start: Arc<Operation>,
    config: Arc<Config>,
    /// The manifest is reloaded only after all its services serve.
    _guard: OwnedMutexGuard<()>,
    dependencies: Dependencies,
    /// Prepares the next service. Ends after all of them.
    preparing: BoxStream<'static, Result<PreparedService, BuildError>>,
    /// Prepared services that do not serve yet.
    prepared: Vec<PreparedService>,
}

impl PendingServices {
    /// Checks the manifest's services and ports without compiling anything.
    pub(crate) async fn check(control: Arc<Control>, start: Arc<Operation>) -> Result<PendingServices, StartError> {
        let _guard = control.change_lock.clone().lock_owned().await;
        let config = control.config.load_full();
        let sizes = start.step("check", check(&control, &config)).await?;
        let mut by_size: Vec<_> = sizes.into_iter().zip(config.services.clone()).collect();
        // The smallest component first, so that the others do not wait for a large one.
        by_size.sort_by_key(|(size, _)| *size);
        let preparing = stream::iter(by_size).then({
            let (control, start) = (control.clone(), start.clone());
            move |(_, service)| {
                let (control, start) = (control.clone(), start.clone());
                async move { control.prepare(&service, &start).await }
            }
        });
        let dependencies = Dependencies::of(&config.services);
        let preparing = preparing.fuse().boxed();
        Ok(PendingServices { control, start, config, _guard, dependencies, preparing, prepared: Vec::new() })
    }

    /// Prepares the services that serve first: all of them, or those that can serve after [`MAX_WAIT`].
    pub(crate) async fn first(&mut self) -> Result<Vec<PreparedService>, StartError> {
        let deadline = Instant::now() + MAX_WAIT;
        loop {
            match timeout_at(deadline, self.prepare_next()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Ok(self.take_ready()),
                Ok(Err(error)) => return Err(error),
                Err(_) => break,
            }
        }
        let first = self.take_ready();
        if !first.is_empty() {
            let names: Vec<_> = first.iter().map(|service| service.name().as_str()).collect();
            tracing::info!(serving = names.join(", "), "some components take long to compile: other services serve");
        }
        Ok(first)
    }

    /// Publishes each of the other services once it can serve. Afterwards the host is ready.
    pub(crate) async fn publish_others(mut self) -> Result<(), StartError> {
        let start = self.start.clone();
        let published = start.run(self.publish_each()).await;
        match &published {
            Ok(()) => self.control.set_ready(),
            Err(error) => {
                start.fail(&error.to_string());
                start.log(|| tracing::error!(%error, "the start has failed"));
            }
        }
        published
    }

    async fn publish_each(&mut self) -> Result<(), StartError> {
        let control = self.control.clone();
        while self.prepare_next().await? {
            let ready = self.take_ready();
            if ready.is_empty() {
                continue;
            }
            let names = ready.iter().map(|service| service.name().clone()).collect();
            let mut services: Vec<_> = ready.iter().map(|service| service.config().clone()).collect();
            services.extend(control.catalog.services().iter().map(|service| ServiceConfig::clone(&service.declared())));
            let ports = self.start.step("listen", control.plan_ports(&services)).await?;
            control.apply_services(Config::clone(&self.config), ready, ports);
            control.log_services("service started", names);
        }
        Ok(())
    }

    /// Prepares the next service. Returns false if there is none. A call that is dropped does not lose a service.
    async fn prepare_next(&mut self) -> Result<bool, StartError> {
        let next = self.preparing.next().await.transpose().map_err(|reason| in_manifest(&self.config, reason))?;
        let is_prepared = next.is_some();
        self.prepared.extend(next);
        Ok(is_prepared)
    }

    /// Takes the prepared services that can serve: those whose dependencies are prepared too.
    fn take_ready(&mut self) -> Vec<PreparedService> {
        let serving = self.control.catalog.services();
        let is_available = |service: &ServiceConfig| {
            let is_prepared = self.prepared.iter().any(|prepared| *prepared.name() == service.name);
            is_prepared || serving.iter().any(|known| known.name == service.name)
        };
        let services = &self.config.services;
        let satisfied = self.dependencies.satisfied(services.iter().map(is_available).collect());
        let ready = services.iter().zip(satisfied).filter(|(_, satisfied)| *satisfied);
        let ready: Vec<_> = ready.map(|(service, _)| &service.name).collect();
        let is_ready = |prepared: &mut PreparedService| ready.contains(&prepared.name());
        self.prepared.extract_if(.., is_ready).collect()
    }
}

/// Checks components and ports without compiling and listening. Returns the sizes of the components.
async fn check(control: &Control, config: &Config) -> Result<Vec<usize>, StartError> {
    let (mut sizes, mut errors) = (Vec::new(), Vec::new());
    for service in &config.services {
        match control.builder.check_file(service).await {
            Ok(size) => sizes.push(size),
            Err(reason) => errors.push(in_manifest(config, reason)),
        }
    }
    if let Some(error) = StartError::of_all(errors) {
        return Err(error);
    }
    let addresses = config.services.iter().map(|service| (service.name.as_str(), service.listen));
    let console = config.console.listen.map(|address| (listener::CONSOLE, address));
    let receiver = config.console.otlp.map(|address| (listener::OTLP_RECEIVER, address));
    for (owner, address) in addresses.chain(console).chain(receiver) {
        listener::check(owner, control.bind_address(address))?;
    }
    Ok(sizes)
}
