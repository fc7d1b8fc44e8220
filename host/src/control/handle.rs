//! The one handle on the running services: what is known of them, and how a service comes to be published.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;

use super::observe;
use super::swap::{ServiceReport, Swapper};
use crate::config::{Bind, Config, Connections, Environment, ServiceConfig, ServiceName};
use crate::http::forwarded::Forwarded;
use crate::http::{Body, head};
use crate::serve::admission::{self, Admission};
use crate::serve::arrival::Arrival;
use crate::serve::connection::Timeouts;
use crate::serve::dispatch::Dispatcher;
use crate::serve::listener::{self, Bound, ListenError, Listener};
use crate::serve::peer::{Peer, Received};
use crate::services::{BuildError, Catalog, Generation, GenerationBuilder, Service};
use crate::trace::Pipeline;

/// The running services and everything that changes them. The console, the watcher and the signals hold it.
pub(crate) struct Control {
    pub(crate) config: arc_swap::ArcSwap<Config>,
    pub(crate) environment: Environment,
    pub(crate) builder: Arc<GenerationBuilder>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) pipeline: Pipeline,
    pub(crate) swapper: Arc<Swapper>,
    /// What the services' ports take connections under.
    pub(crate) admission: Admission,
    pub(super) listeners: Mutex<BTreeMap<ServiceName, Listener>>,
    /// Services whose configuration in the manifest could not be put to work yet.
    pub(super) unapplied: Mutex<BTreeSet<ServiceName>>,
    /// Held while services come, go and change.
    pub(super) changing: tokio::sync::Mutex<()>,
}

/// A service that is ready to be published.
pub(crate) struct Ready {
    pub(super) config: ServiceConfig,
    generation: Arc<Generation>,
}

/// The longest that a client may take nothing of what is written to it, where no service says otherwise.
const STALL: Duration = Duration::from_secs(30);

fn admission(connections: &Connections) -> Admission {
    let Connections { per_port, head_timeout: head, keep_alive } = *connections;
    let timeouts = Timeouts { head, keep_alive, stall: STALL };
    Admission::services(per_port, admission::raise_descriptor_limit(), timeouts)
}

impl Control {
    /// The control of a host that serves nothing yet.
    pub(crate) fn new(
        config: Config,
        environment: Environment,
        builder: Arc<GenerationBuilder>,
        dispatcher: Arc<Dispatcher>,
        pipeline: Pipeline,
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
            swapper,
            listeners: Mutex::default(),
            unapplied: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        })
    }

    /// Prepares the first generation of a service.
    pub(crate) async fn ready(&self, config: &ServiceConfig) -> Result<Ready, BuildError> {
        let resource = self.builder.resource(config);
        let context = self.builder.context(config, &resource);
        let prepared = self.builder.prepare_file(config, &context).await?;
        let pool = self.builder.pool(Arc::new(prepared), context);
        let generation = self.builder.generation(1, config.clone(), resource, pool);
        if let Err(failure) = generation.pool.warm(1).await {
            tracing::warn!(service = %config.name, ?failure, "no instance could be made ahead of the first request");
        }
        Ok(Ready { config: config.clone(), generation })
    }

    /// Takes the port of a service.
    pub(crate) async fn bind(&self, service: &ServiceConfig) -> Result<Bound, ListenError> {
        listener::bind(service.name.as_str(), self.bindable(service.listen)).await
    }

    /// The address to take for a declared one: the same, or any free port of it.
    pub(crate) fn bindable(&self, declared: SocketAddr) -> SocketAddr {
        match self.config.load().bind {
            Bind::Declared => declared,
            Bind::Ephemeral => SocketAddr::new(declared.ip(), 0),
        }
    }

    /// Serves a service from now on.
    pub(crate) fn publish(self: &Arc<Self>, ready: Ready, bound: Bound) {
        let Ready { config, generation } = ready;
        let service = Service::new(generation);
        observe::adopt(self.builder.metrics(), &service);
        self.catalog.add(service.clone());
        let listener = bound.serve(self.admission_to(&config), Peer::new, self.handler(service));
        self.listeners().insert(config.name, listener);
    }

    /// What a service's port takes connections under.
    pub(super) fn admission_to(&self, service: &ServiceConfig) -> Admission {
        self.admission.stalling_for(service.limits.idle_timeout)
    }

    pub(super) fn handler(
        self: &Arc<Self>,
        service: Arc<Service>,
    ) -> impl Fn(Request<Incoming>, &Arc<Peer>) -> BoxFuture<'static, Response<Body>> + Clone + use<> {
        let dispatcher = self.dispatcher.clone();
        move |request, peer| {
            let (dispatcher, service) = (dispatcher.clone(), service.clone());
            let (mut parts, body) = request.into_parts();
            let head = head::check(&mut parts);
            let arrival = Arrival {
                method: parts.method,
                uri: parts.uri,
                version: parts.version,
                headers: parts.headers,
                body: Body::from_transport(body),
                connection: Some(Received { peer: peer.clone(), head, forwarded: Forwarded::default() }),
            };
            Box::pin(async move { dispatcher.serve(&service, arrival).await })
        }
    }

    /// What is told of every service, in the order of the manifest.
    pub(crate) fn reports(&self) -> Vec<ServiceReport> {
        self.catalog.services().iter().map(|service| self.swapper.report(service)).collect()
    }

    pub(super) fn unapplied(&self) -> MutexGuard<'_, BTreeSet<ServiceName>> {
        self.unapplied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn listeners(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
