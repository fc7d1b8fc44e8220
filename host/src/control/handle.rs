//! The one handle on the running services: what is known of them, and how a service comes to be published.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;

use super::observe;
use super::swap::{ServiceReport, Swapper};
use crate::config::{Bind, Config, Environment, ServiceConfig, ServiceName};
use crate::http::Body;
use crate::serve::arrival::Arrival;
use crate::serve::dispatch::Dispatcher;
use crate::serve::listener::{self, Bound, ListenError, Listener};
use crate::serve::server_span;
use crate::services::{BuildError, Catalog, Generation, GenerationBuilder, Service};
use crate::trace::{Attributes, Pipeline};

/// The running services and everything that changes them. The console, the watcher and the signals hold it.
pub(crate) struct Control {
    pub(crate) config: arc_swap::ArcSwap<Config>,
    pub(crate) environment: Environment,
    pub(crate) builder: Arc<GenerationBuilder>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) pipeline: Pipeline,
    pub(crate) swapper: Arc<Swapper>,
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
        Arc::new(Control {
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
        let idle_timeout = config.limits.idle_timeout;
        let listener = bound.serve(describe_connection, idle_timeout, self.handler(service));
        self.listeners().insert(config.name, listener);
    }

    pub(super) fn handler(
        self: &Arc<Self>,
        service: Arc<Service>,
    ) -> impl Fn(Request<Incoming>, &Arc<Attributes>) -> BoxFuture<'static, Response<Body>> + Clone + use<> {
        let dispatcher = self.dispatcher.clone();
        move |request, connection| {
            let (dispatcher, service) = (dispatcher.clone(), service.clone());
            let (mut parts, body) = request.into_parts();
            name_host(&mut parts);
            let arrival = Arrival {
                method: parts.method,
                uri: parts.uri,
                version: parts.version,
                headers: parts.headers,
                body: Body::from_transport(body),
                connection: Some(connection.clone()),
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

/// HTTP/2 names the host in `:authority`; a guest finds it where HTTP/1.1 has it (RFC 9113, 8.3.1).
fn name_host(parts: &mut http::request::Parts) {
    let authority = parts.uri.authority().and_then(|authority| authority.as_str().parse().ok());
    if let Some(host) = authority.filter(|_| !parts.headers.contains_key(http::header::HOST)) {
        parts.headers.insert(http::header::HOST, host);
    }
}

/// What spans say of a connection, made once for all of its requests.
pub(super) fn describe_connection(peer: SocketAddr) -> Arc<Attributes> {
    Arc::new(server_span::connection(peer))
}
