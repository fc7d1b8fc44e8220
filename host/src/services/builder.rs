//! Builds generations from a component's bytes and a service's configuration.
//!
//! The start, a swap and `spandrel check` run the same steps, so a component that passes one of them passes the others.

use std::path::PathBuf;
use std::sync::{Arc, Once};

use thiserror::Error;

use super::compiling::Compiling;
use super::generation::{self, Generation};
use super::suggestion::suggestion;
use crate::component::{self, Candidate, ComponentError, Engine, Kind, Pool, Prepared, ServiceContext};
use crate::config::ServiceConfig;
use crate::http::redaction::Redaction;
use crate::http::routes::Match;
use crate::metrics::Metrics;
use crate::outbound::{Network, Outbound};
use crate::state::StateStore;
use crate::trace::{KeyValue, Propagators, Resource};

/// Why a generation could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The file does not exist or cannot be read.
    #[error("service `{service}`: the component {path} cannot be read: {reason}. {}", suggestion(.path, .reason.kind()))]
    Unreadable {
        /// The service.
        service: String,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        reason: std::io::Error,
    },
    /// The file is not a component that the host can serve.
    #[error("service `{service}`: {path}: {reason}")]
    Component {
        /// The service.
        service: String,
        /// The file.
        path: PathBuf,
        /// Why the host cannot serve it.
        reason: ComponentError,
    },
    /// No GET route of the component matches the probe path of the manifest.
    #[error("service `{service}`: `probe = \"{probe}\"` matches no GET route of {path}")]
    NoProbe {
        /// The service.
        service: String,
        /// The probe path.
        probe: String,
        /// The component.
        path: PathBuf,
    },
}

impl BuildError {
    fn of(config: &ServiceConfig, reason: ComponentError) -> BuildError {
        BuildError::Component { service: config.name.to_string(), path: config.component.clone(), reason }
    }
}

/// Builds generations. It holds the parts that all generations share.
pub struct GenerationBuilder {
    engine: Engine,
    state: StateStore,
    network: Network,
    propagators: Propagators,
    metrics: Metrics,
    resource: Vec<KeyValue>,
    redaction: Redaction,
    compiling: Compiling,
}

impl GenerationBuilder {
    /// A builder for a host whose Resource has the attributes `resource`. The Resource of each service includes them.
    pub fn new(
        engine: Engine,
        state: StateStore,
        network: Network,
        propagators: Propagators,
        metrics: Metrics,
        resource: Vec<KeyValue>,
    ) -> GenerationBuilder {
        let redaction = Redaction::default();
        GenerationBuilder {
            engine,
            state,
            network,
            propagators,
            metrics,
            resource,
            redaction,
            compiling: Compiling::default(),
        }
    }

    /// The same builder with these rules for the redaction of URLs on spans.
    pub fn with_redaction(self, redaction: Redaction) -> GenerationBuilder {
        GenerationBuilder { redaction, ..self }
    }

    /// The engine that compiles components.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The services whose components are being compiled.
    pub fn compiling(&self) -> &Compiling {
        &self.compiling
    }

    /// The store for the services' state.
    pub fn state(&self) -> &StateStore {
        &self.state
    }

    /// The metrics of the host.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The Resource of a service's spans.
    pub fn resource(&self, config: &ServiceConfig) -> Arc<Resource> {
        Resource::new(config.name.as_str(), &config.version, &self.resource)
    }

    /// The Resource of a service's next generation: `before`, unless the version in the manifest has changed.
    pub fn next_resource(&self, config: &ServiceConfig, before: &Arc<Resource>) -> Arc<Resource> {
        if before.version() == config.version { before.clone() } else { self.resource(config) }
    }

    /// The context of a service's instances.
    pub fn context(&self, config: &ServiceConfig, resource: &Resource) -> Arc<ServiceContext> {
        let outbound = Outbound::new(&config.outbound, &config.limits, self.propagators.clone(), self.network.clone());
        Arc::new(ServiceContext {
            name: config.name.as_str().into(),
            config: config.config.clone(),
            limits: config.limits.clone(),
            isolation: config.isolation,
            requests_per_instance: config.requests_per_instance,
            concurrency_per_instance: config.concurrency_per_instance.unwrap_or(1),
            next: config.next.clone(),
            env: config.env.clone(),
            files: config.files.clone(),
            routes: config.routes.clone(),
            state: self.state.clone(),
            outbound,
            redaction: self.redaction.clone(),
            metrics: self.metrics.service(config.name.as_str(), resource.attributes().to_vec()),
            process: self.metrics.clone(),
            metric_rejected: Once::new(),
            span_id_replaced: Once::new(),
        })
    }

    /// An empty pool of instances.
    pub fn pool(&self, prepared: Arc<Prepared>, context: Arc<ServiceContext>) -> Pool {
        Pool::new(&self.engine, prepared, context)
    }

    /// A generation that is not published yet.
    pub fn generation(
        &self,
        number: u64,
        config: ServiceConfig,
        resource: Arc<Resource>,
        pool: Pool,
    ) -> Arc<Generation> {
        let prepared = pool.prepared();
        let routes = prepared.routes().routes().iter().map(Some);
        let attributes = |route| generation::common_span_attributes(route, prepared.digest().as_str(), number);
        let server_span_attributes = std::iter::once(None).chain(routes).map(attributes).collect();
        Generation::new(number, config, resource, pool, server_span_attributes)
    }

    /// Reads, compiles and verifies a service's component file.
    pub async fn prepare_file(
        &self,
        config: &ServiceConfig,
        context: &Arc<ServiceContext>,
    ) -> Result<Prepared, BuildError> {
        self.prepare_bytes(config, self.read(config).await?, context).await
    }

    /// Compiles and verifies the bytes of a service's component file.
    pub async fn prepare_bytes(
        &self,
        config: &ServiceConfig,
        bytes: Arc<[u8]>,
        context: &Arc<ServiceContext>,
    ) -> Result<Prepared, BuildError> {
        let prepared = self.prepare(config, bytes, context).await.map_err(|reason| BuildError::of(config, reason))?;
        self.check_probe(config, &prepared)?;
        Ok(prepared)
    }

    /// Checks a service's component file without compiling it. The checks cover the binary format, the exports and the
    /// imports. Returns the size in bytes.
    pub async fn check_file(&self, config: &ServiceConfig) -> Result<usize, BuildError> {
        let bytes = self.read(config).await?;
        component::check(&bytes).map_err(|reason| BuildError::of(config, reason))?;
        Ok(bytes.len())
    }

    /// Compiles and verifies a component.
    async fn prepare(
        &self,
        config: &ServiceConfig,
        bytes: Arc<[u8]>,
        context: &Arc<ServiceContext>,
    ) -> Result<Prepared, ComponentError> {
        let candidate = self.compile(config, bytes).await?;
        self.engine.verify(candidate, context).await
    }

    /// Compiles a component for a service.
    pub async fn compile(&self, config: &ServiceConfig, bytes: Arc<[u8]>) -> Result<Candidate, ComponentError> {
        let size = bytes.len();
        self.compiling.watch(config, size, self.engine.compile(bytes)).await
    }

    /// Reads a service's component file.
    pub async fn read(&self, config: &ServiceConfig) -> Result<Arc<[u8]>, BuildError> {
        let bytes = tokio::fs::read(&config.component).await.map_err(|reason| BuildError::Unreadable {
            service: config.name.to_string(),
            path: config.component.clone(),
            reason,
        })?;
        Ok(bytes.into())
    }

    /// Checks that a GET route of a lean component matches the probe path. A standard component receives every path.
    fn check_probe(&self, config: &ServiceConfig, prepared: &Prepared) -> Result<(), BuildError> {
        let Some(probe) = &config.probe else { return Ok(()) };
        match (prepared.kind(), prepared.routes().find(&http::Method::GET, probe)) {
            (Kind::Standard(_), _) | (_, Match::Found { .. }) => Ok(()),
            _ => Err(BuildError::NoProbe {
                service: config.name.to_string(),
                probe: probe.clone(),
                path: config.component.clone(),
            }),
        }
    }
}
