//! The control handle of the running services: it holds their state and publishes services.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokio::sync::watch;

use super::component_file;
use super::drains::Drains;
use super::file_stamp::FileStamp;
use super::observe;
use super::ports::{PortPlan, Ports, ServiceTarget};
use super::readiness::Readiness;
use super::rejected_manifest::RejectedManifest;
use super::swap::{ServiceReport, Swapper};
use crate::config::{Bind, Config, Connections, Environment, ServiceConfig, ServiceName};
use crate::http::forwarded::Forwarded;
use crate::http::head::HeadError;
use crate::http::{Body, head};
use crate::serve::admission::{self, Admission};
use crate::serve::connection::Timeouts;
use crate::serve::dispatch::Dispatcher;
use crate::serve::inbound_request::InboundRequest;
use crate::serve::listener::{self, ListenError};
use crate::serve::peer::{NetworkDetails, Peer};
use crate::serve::rejected_head::RejectedHeads;
use crate::services::{BuildError, Catalog, Generation, GenerationBuilder, Service};
use crate::telemetry::{HostTelemetry, Operation};
use crate::trace::Pipeline;

/// The running services and everything that changes them. The console, the watcher and the signals hold it.
pub(crate) struct Control {
    pub(crate) config: arc_swap::ArcSwap<Config>,
    pub(crate) environment: Environment,
    pub(crate) builder: Arc<GenerationBuilder>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) pipeline: Pipeline,
    /// The telemetry of the host's own operations.
    pub(crate) telemetry: HostTelemetry,
    pub(crate) swapper: Arc<Swapper>,
    /// The limits for connections on the services' ports.
    pub(crate) admission: Admission,
    pub(super) ports: Ports,
    pub(super) drains: Arc<Drains>,
    /// Services that do not run under their configuration in the manifest yet, or rejected it. They are tried again
    /// whenever the manifest is applied.
    pub(super) unapplied: Mutex<BTreeSet<ServiceName>>,
    /// The manifest that could not be applied, until another one is read.
    pub(super) rejected_manifest: Mutex<Option<RejectedManifest>>,
    /// The stamp of the manifest file that the watcher handled last.
    pub(super) handled_manifest: watch::Sender<Option<FileStamp>>,
    pub(super) readiness: watch::Sender<Readiness>,
    /// Locked while services are added, removed or changed.
    pub(super) change_lock: Arc<tokio::sync::Mutex<()>>,
}

/// A service whose first generation can be published.
pub(crate) struct PreparedService {
    config: ServiceConfig,
    generation: Arc<Generation>,
}

impl PreparedService {
    /// The configuration of the service.
    pub(crate) fn config(&self) -> &ServiceConfig {
        &self.config
    }

    /// The name of the service.
    pub(super) fn name(&self) -> &ServiceName {
        &self.config.name
    }
}

/// The longest time that a client may read nothing of its response. A service's `idle_timeout` overrides it.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

fn admission(connections: &Connections) -> Admission {
    let Connections { per_port, head_timeout: head, keep_alive } = *connections;
    let timeouts = Timeouts { head, keep_alive, stall: STALL_TIMEOUT };
    Admission::services(per_port, admission::raise_descriptor_limit(), timeouts)
}

impl Control {
    /// The control handle of a host without services.
    pub(crate) fn new(
        config: Config,
        environment: Environment,
        builder: Arc<GenerationBuilder>,
        dispatcher: Arc<Dispatcher>,
        pipeline: Pipeline,
        telemetry: HostTelemetry,
        swapper: Arc<Swapper>,
    ) -> Arc<Control> {
        let admission = admission(&config.connections);
        Arc::new(Control {
            admission,
            config: arc_swap::ArcSwap::from_pointee(config),
            environment,
            builder,
            catalog: dispatcher.catalog().clone(),
            dispatcher,
            pipeline,
            telemetry,
            drains: swapper.drains().clone(),
            swapper,
            ports: Ports::default(),
            unapplied: Mutex::default(),
            rejected_manifest: Mutex::default(),
            handled_manifest: watch::Sender::default(),
            readiness: watch::Sender::new(Readiness::Starting),
            change_lock: Arc::default(),
        })
    }

    /// Prepares the first generation of a service, as a step of `operation`.
    pub(crate) async fn prepare(
        &self,
        config: &ServiceConfig,
        operation: &Operation,
    ) -> Result<PreparedService, BuildError> {
        let step = operation.start("compile");
        step.set("spandrel.service", config.name.as_str().to_owned());
        step.run(self.first_generation(config)).await
    }

    async fn first_generation(&self, config: &ServiceConfig) -> Result<PreparedService, BuildError> {
        let resource = self.builder.resource(config);
        let context = self.builder.context(config, &resource);
        let bytes = component_file::read(&self.builder, config).await?;
        let prepared = self.builder.prepare_bytes(config, bytes, &context).await?;
        let pool = self.builder.pool(Arc::new(prepared), context);
        let generation = self.builder.generation(1, config.clone(), resource, pool);
        if let Err(failure) = generation.pool.warm(1).await {
            tracing::warn!(service = %config.name, ?failure, "no instance could be created before the first request");
        }
        Ok(PreparedService { config: config.clone(), generation })
    }

    /// Finds a socket for each of `services`: its own, one of another service that has the declared address, or a new
    /// one. Every error that binding can cause occurs here, before anything is changed.
    pub(crate) async fn plan_ports(&self, services: &[ServiceConfig]) -> Result<PortPlan, ListenError> {
        let mut plan = PortPlan::default();
        for service in services {
            if !plan.reuse(&self.ports, service) {
                let bound = listener::bind(service.name.as_str(), self.bind_address(service.listen)).await?;
                plan.assign(service, bound);
            }
        }
        Ok(plan)
    }

    /// The address to bind for a declared one: the same one or, under `Bind::Ephemeral`, port 0 of the same IP address.
    pub(crate) fn bind_address(&self, declared: SocketAddr) -> SocketAddr {
        match self.config.load().bind {
            Bind::Declared => declared,
            Bind::Ephemeral => SocketAddr::new(declared.ip(), 0),
        }
    }

    /// Makes the services of `config` the services of the host, each on its port. `prepared` contains those that are new.
    /// Published generations stay unchanged; removed services and ports are drained.
    pub(crate) fn apply_services(self: &Arc<Self>, config: Config, prepared: Vec<PreparedService>, ports: PortPlan) {
        let before = self.catalog.services();
        let mut added: Vec<_> = prepared.into_iter().map(|service| self.publish(service)).collect();
        let mut services = Vec::with_capacity(config.services.len());
        for declared in &config.services {
            let existing = before.iter().find(|service| service.name == declared.name);
            existing.iter().for_each(|service| service.declare(declared.clone()));
            let new = || added.iter().position(|service| service.name == declared.name).map(|at| added.swap_remove(at));
            services.extend(existing.cloned().or_else(new));
        }
        self.catalog.replace(services.clone());
        let mut released = self.ports.commit(ports, &services, |bound, target| {
            let (idle_target, rejecting_target) = (target.clone(), target.clone());
            let admission = self.admission.with_pause_limit(move || idle_target.load().declared().limits.idle_timeout);
            let rejected = Arc::new(RejectedHeads::new(self.pipeline.clone()));
            let reject_head =
                move |error: &HeadError, peer: &Arc<Peer>| rejected.respond(&rejecting_target.load(), error, peer);
            bound.serve_with_head_errors(admission, Peer::new, self.handler(target), reject_head)
        });
        let limit = config.shutdown.drain;
        self.config.store(Arc::new(config));
        for removed in before.iter().filter(|service| services.iter().all(|kept| !Arc::ptr_eq(kept, service))) {
            self.retire(removed.clone(), released.remove(&removed.name));
        }
        released.into_values().for_each(|listener| self.drains.spawn(self.drains.drain_listener(listener, limit)));
    }

    fn publish(&self, PreparedService { generation, .. }: PreparedService) -> Arc<Service> {
        let service = Service::new(generation);
        observe::observe_service(self.builder.metrics(), &service);
        service
    }

    fn handler(
        self: &Arc<Self>,
        target: ServiceTarget,
    ) -> impl Fn(Request<Body>, &Arc<Peer>) -> BoxFuture<'static, Response<Body>> + Clone + use<> {
        let dispatcher = self.dispatcher.clone();
        move |request, peer| {
            let (dispatcher, service) = (dispatcher.clone(), target.load_full());
            let (mut parts, body) = request.into_parts();
            let head = head::check(&mut parts, &peer.host);
            let inbound = Box::new(InboundRequest {
                method: parts.method,
                uri: parts.uri,
                version: parts.version,
                headers: parts.headers,
                body,
                incoming: Default::default(),
                network: Some(NetworkDetails { peer: peer.clone(), head, forwarded: Forwarded::default() }),
            });
            dispatcher.serve(service, inbound)
        }
    }

    /// The address that a service listens on.
    pub(crate) fn address(&self, service: &str) -> Option<SocketAddr> {
        self.ports.address(service)
    }

    /// The reports of all services: the serving ones in the order of the manifest, then the draining ones, then those
    /// that do not serve yet.
    pub(crate) fn reports(&self) -> Vec<ServiceReport> {
        // Read before the services, so that one that begins to serve meanwhile is not missed.
        let readiness = self.readiness();
        let services = self.catalog.services();
        let serving = services.iter().map(|service| self.swapper.report(service));
        let draining = self.drains.services().into_iter().map(|service| self.swapper.report(&service));
        let rejected = self.rejected_manifest.lock().unwrap_or_else(PoisonError::into_inner);
        let compiling = self.builder.compiling().services();
        let is_compiling = |name: &str| compiling.iter().any(|service| service.name.as_str() == name);
        let waiting = rejected.iter().flat_map(|rejected| rejected.waiting_reports(&self.catalog));
        let waiting = waiting.filter(|report| !is_compiling(&report.name));
        let is_absent = |service: &&ServiceConfig| services.iter().all(|known| known.name != service.name);
        let absent = compiling.iter().filter(is_absent).map(ServiceReport::compiling);
        let config = self.config.load();
        let starting = if readiness == Readiness::Starting { config.services.as_slice() } else { &[] };
        let starting = starting.iter().filter(is_absent).filter(|service| !is_compiling(service.name.as_str()));
        serving.chain(draining).chain(waiting).chain(absent).chain(starting.map(ServiceReport::starting)).collect()
    }

    /// Whether a service of the manifest does not serve yet because the host is starting.
    pub(crate) fn is_starting(&self, service: &str) -> bool {
        let is_declared = self.config.load().services.iter().any(|declared| declared.name.as_str() == service);
        self.readiness() == Readiness::Starting && is_declared && self.catalog.find(service).is_none()
    }

    /// Whether the host is ready for requests.
    pub(crate) fn readiness(&self) -> Readiness {
        *self.readiness.borrow()
    }

    /// Ends the start: all services serve. A host that is stopping stays so.
    pub(super) fn set_ready(&self) {
        self.readiness.send_if_modified(|readiness| {
            let is_starting = *readiness == Readiness::Starting;
            if is_starting {
                *readiness = Readiness::Ready;
            }
            is_starting
        });
    }

    /// Reports that the host is stopping. Returns when requests need no longer be accepted.
    pub(crate) async fn begin_shutdown(&self) {
        self.readiness.send_replace(Readiness::Draining);
        if !self.catalog.services().is_empty() {
            tokio::time::sleep(self.config.load().shutdown.delay).await;
        }
    }

    /// Stops accepting connections, cancels swaps and waits for requests in flight. Returns whether any had to be
    /// cancelled.
    pub(crate) async fn drain(&self) -> bool {
        self.swapper.stop();
        let swapper = self.swapper.clone();
        self.drains.spawn(async move { swapper.stopped().await });
        let limit = self.config.load().shutdown.drain;
        let listeners =
            self.ports.take_listeners().into_iter().map(|listener| self.drains.drain_listener(listener, limit));
        let background = self.builder.engine().background().clone();
        self.drains.spawn(self.drains.drain_background(listeners.collect(), background, limit));
        self.drains.wait(limit).await
    }
}
