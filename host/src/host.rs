//! The wiring: from a [`Config`] to services that answer, and back down again.
//!
//! Everything that can be wrong is found before the first port is served: components are compiled and verified, ports
//! are taken, and only then does anything answer. A changed manifest goes through the same steps.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use http::{Request, Response};
use hyper::body::Incoming;
use thiserror::Error;
use tokio::task::JoinHandle;

use crate::assembly::{Assembly, AssemblyError};
use crate::catalog::{Catalog, Generation, Service};
use crate::component::{Engine, EngineError, Prepared};
use crate::config::{Bind, Config, ConfigError, Environment, ServiceConfig, ServiceName, StateConfig, telemetry};
use crate::console::Console;
use crate::dispatch::{Arrival, Body, Dispatcher};
use crate::listener::{self, Bound, ListenError, Listener};
use crate::metrics::Metrics;
use crate::state::{StateError, StateStore};
use crate::swap::{SwapOptions, Swapper};
use crate::trace::{Attributes, KeyValue, Pipeline, PipelineError, Source};
use crate::{outbound, semconv, watch};

/// How long requests in flight may take to end when the host stops.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(30);
/// How long the last spans, log records and metrics may take to leave, all together.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// What spans and log records leave of that to the metrics, which go last: they tell what became of the others.
const METRICS_LIMIT: Duration = Duration::from_secs(1);

/// Why the host did not start. Nothing of it is left running.
#[derive(Debug, Error)]
pub enum StartError {
    /// The manifest or the environment is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// WebAssembly cannot run here.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The state store cannot be opened.
    #[error(transparent)]
    State(#[from] StateError),
    /// A component is missing or wrong.
    #[error("{manifest}: {reason}")]
    Assembly {
        /// The manifest that names the component.
        manifest: String,
        /// What is wrong.
        reason: AssemblyError,
    },
    /// A port is taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Telemetry cannot be set up.
    #[error("telemetry cannot be set up: {0}")]
    Telemetry(#[from] PipelineError),
    /// The client for calls that leave the host cannot be made.
    #[error("the HTTP client cannot be set up: {0}")]
    Network(#[from] reqwest::Error),
}

/// A host that serves.
pub struct Host {
    inner: Arc<Inner>,
    tasks: Vec<JoinHandle<()>>,
    console: Option<Listener>,
}

/// What the parts of a running host share.
pub(crate) struct Inner {
    pub(crate) config: arc_swap::ArcSwap<Config>,
    pub(crate) environment: Environment,
    pub(crate) assembly: Arc<Assembly>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) pipeline: Pipeline,
    pub(crate) swapper: Arc<Swapper>,
    listeners: Mutex<BTreeMap<ServiceName, Listener>>,
    /// Services whose configuration in the manifest could not be put to work yet.
    unapplied: Mutex<BTreeSet<ServiceName>>,
    /// Held while services come, go and change.
    changing: tokio::sync::Mutex<()>,
}

/// A service that is ready to be published.
struct Ready {
    config: ServiceConfig,
    generation: Arc<Generation>,
}

/// What a changed manifest asks for, as far as it can go wrong before anything is changed.
struct Changes {
    added: Vec<(Ready, Bound)>,
    /// With the new port of a service that moves.
    changed: Vec<(ServiceConfig, Option<Bound>)>,
}

/// Compiles, links and validates everything that `config` names, without serving. Returns what it found, in the order
/// of the manifest.
pub async fn check(config: &Config) -> Result<Vec<(ServiceConfig, Arc<Prepared>)>, StartError> {
    let engine = Engine::new(config.cache_dir.as_deref())?;
    let propagators = crate::trace::Propagators::new(&config.telemetry.propagators);
    let metrics = Metrics::new(Vec::new());
    let assembly = Assembly::new(engine, StateStore::memory(), outbound::network()?, propagators, metrics, Vec::new());
    let mut found = Vec::new();
    for service in &config.services {
        let source = assembly.source(service);
        let environment = assembly.environment(service, &source);
        let prepared =
            assembly.prepare_file(service, &environment).await.map_err(|reason| in_manifest(config, reason))?;
        found.push((service.clone(), Arc::new(prepared)));
    }
    Ok(found)
}

fn in_manifest(config: &Config, reason: AssemblyError) -> StartError {
    StartError::Assembly { manifest: config.manifest.display().to_string(), reason }
}

impl Host {
    /// Starts everything that `config` describes. `environment` is read again when the manifest changes. Finished traces
    /// are printed to standard output where the settings ask for that.
    pub async fn start(config: Config, environment: Environment) -> Result<Host, StartError> {
        Host::start_with(config, environment, Box::new(std::io::stdout())).await
    }

    /// The same, with the terminal given.
    pub async fn start_with(
        config: Config,
        environment: Environment,
        terminal: Box<dyn Write + Send>,
    ) -> Result<Host, StartError> {
        telemetry::ignored(&environment).iter().for_each(|ignored| tracing::warn!("{ignored}"));
        let resource: Vec<KeyValue> =
            config.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
        let engine = Engine::new(config.cache_dir.as_deref())?;
        let network = outbound::network()?;
        let pipeline = Pipeline::start_with(config.telemetry.clone(), terminal)?;
        let source = Source::new("spandrel", env!("CARGO_PKG_VERSION"), &resource);
        let metrics = Metrics::new(source.resource().to_vec());
        let state = open_state(&config.state)?;
        let propagators = pipeline.propagators().clone();
        let assembly = Arc::new(Assembly::new(engine, state, network, propagators, metrics, resource));
        let catalog = Arc::new(Catalog::default());
        let dispatcher = Dispatcher::new(catalog.clone(), pipeline.clone());
        let settings = config.swap.clone();
        let swapper = Swapper::new(assembly.clone(), dispatcher.clone(), pipeline.clone(), source, settings);
        let inner = Arc::new(Inner {
            config: arc_swap::ArcSwap::from_pointee(config),
            environment,
            assembly,
            catalog,
            dispatcher,
            pipeline,
            swapper,
            listeners: Mutex::default(),
            unapplied: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        });
        inner.clone().bring_up().await
    }

    /// Where a service listens.
    pub fn address(&self, service: &str) -> Option<SocketAddr> {
        self.inner.listeners().iter().find(|(name, _)| name.as_str() == service).map(|(_, listener)| listener.address)
    }

    /// Where the console listens.
    pub fn console_address(&self) -> Option<SocketAddr> {
        self.console.as_ref().map(|listener| listener.address)
    }

    /// The services with their versions, in the order of the manifest.
    pub fn services(&self) -> Vec<crate::swap::ServiceReport> {
        self.inner.reports()
    }

    /// Paths of a service that can be tried with a plain `curl`: its GET routes, with 1 for every parameter.
    pub fn examples(&self, service: &str) -> Vec<String> {
        let Some(service) = self.inner.catalog.find(service) else { return Vec::new() };
        let serving = service.serving();
        let routes = serving.stable.routes().routes().iter();
        let plain = routes.filter(|route| route.method == http::Method::GET);
        plain.map(|route| example(&route.template)).collect()
    }

    /// Stops accepting, lets requests in flight end (30 s at most), and sends the last spans, log records and metrics
    /// (5 s at most).
    pub async fn shutdown(self) {
        for task in &self.tasks {
            task.abort();
        }
        self.inner.swapper.stop();
        let listeners = std::mem::take(&mut *self.inner.listeners());
        let drained = listeners.into_values().chain(self.console).map(|listener| listener.drain(DRAIN_LIMIT));
        let drained = join_all(drained).await;
        if drained.contains(&false) {
            tracing::warn!("some requests had not ended after {DRAIN_LIMIT:?} and were cut off");
        }
        let end = tokio::time::Instant::now() + FLUSH_LIMIT;
        self.inner.pipeline.shutdown(FLUSH_LIMIT.saturating_sub(METRICS_LIMIT)).await;
        if tokio::time::timeout_at(end, self.inner.export_metrics()).await.is_err() {
            tracing::warn!("the collector did not take the last metrics in time");
        }
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
fn described(peer: SocketAddr) -> Arc<Attributes> {
    Arc::new(semconv::connection(peer))
}

/// A path that a template matches: every parameter is 1.
fn example(template: &str) -> String {
    let segments = template.split('/').map(|segment| if segment.starts_with('{') { "1" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

fn open_state(config: &StateConfig) -> Result<StateStore, StateError> {
    match config {
        StateConfig::Memory => Ok(StateStore::memory()),
        StateConfig::Redb { path } => StateStore::redb(path.clone()),
    }
}

impl Inner {
    /// Prepares every service, takes every port, and only then serves.
    async fn bring_up(self: Arc<Self>) -> Result<Host, StartError> {
        let config = self.config.load_full();
        let mut ready = Vec::new();
        for service in &config.services {
            let made = self.ready(service).await.map_err(|reason| in_manifest(&config, reason))?;
            ready.push((made, self.bind(service).await?));
        }
        let console = match config.console.listen {
            Some(address) => Some(listener::bind("the console", self.bindable(address)).await?),
            None => None,
        };
        for (made, bound) in ready {
            self.publish(made, bound);
        }
        let console = console.map(|bound| Console::serve(bound, self.clone()));
        self.observe();
        let mut tasks = vec![tokio::spawn(export_metrics(self.clone()))];
        if config.swap.watch {
            let watched = watch::Files::of(&self);
            tasks.push(tokio::spawn(watched.watch(self.clone())));
        }
        Ok(Host { inner: self, tasks, console })
    }

    async fn ready(&self, config: &ServiceConfig) -> Result<Ready, AssemblyError> {
        let source = self.assembly.source(config);
        let environment = self.assembly.environment(config, &source);
        let prepared = self.assembly.prepare_file(config, &environment).await?;
        let pool = self.assembly.pool(Arc::new(prepared), environment);
        let generation = self.assembly.generation(1, config.clone(), source, pool);
        if let Err(failure) = generation.pool.warm(1).await {
            tracing::warn!(service = %config.name, ?failure, "no instance could be made ahead of the first request");
        }
        Ok(Ready { config: config.clone(), generation })
    }

    async fn bind(&self, service: &ServiceConfig) -> Result<Bound, ListenError> {
        listener::bind(service.name.as_str(), self.bindable(service.listen)).await
    }

    /// The address to take for a declared one: the same, or any free port of it.
    fn bindable(&self, declared: SocketAddr) -> SocketAddr {
        match self.config.load().bind {
            Bind::Declared => declared,
            Bind::Ephemeral => SocketAddr::new(declared.ip(), 0),
        }
    }

    fn publish(self: &Arc<Self>, ready: Ready, bound: Bound) {
        let Ready { config, generation } = ready;
        let service = Service::new(generation);
        crate::figures::adopt(self.assembly.metrics(), &service);
        self.catalog.add(service.clone());
        let listener = bound.serve(described, self.handler(service));
        self.listeners().insert(config.name, listener);
    }

    fn handler(
        self: &Arc<Self>,
        service: Arc<Service>,
    ) -> impl Fn(Request<Incoming>, &Arc<Attributes>) -> BoxFuture<'static, Response<Bytes>> + Clone + use<> {
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
                body: Body::Stream(body),
                connection: Some(connection.clone()),
            };
            Box::pin(async move { dispatcher.serve(&service, arrival).await })
        }
    }

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
                unborn.for_each(|service| self.assembly.metrics().remove_service(service.name.as_str()));
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
        match self.assembly.read(config).await {
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
        let bytes = match self.assembly.read(config).await {
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
        let listener = bound.serve(described, self.handler(service));
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
                inner.assembly.metrics().remove_service(service.name.as_str());
            }
            tracing::info!(service = %service.name, "service removed");
        });
    }

    /// What is told of every service, in the order of the manifest.
    pub(crate) fn reports(&self) -> Vec<crate::swap::ServiceReport> {
        self.catalog.services().iter().map(|service| self.swapper.report(service)).collect()
    }

    /// Lets metrics read the figures that others keep.
    fn observe(&self) {
        let pipeline = self.pipeline.clone();
        self.assembly.metrics().observe_pipeline(move || crate::figures::pipeline(&pipeline));
        self.pipeline.counters().on_export(self.assembly.metrics().exports());
        let engine = self.assembly.engine().clone();
        self.assembly.metrics().observe_instances(move || engine.instances());
    }

    async fn export_metrics(&self) {
        let metrics = self.assembly.metrics();
        let (mut collected, exemplars) = (metrics.collect(), metrics.exemplars());
        collected.extend(metrics.collect_retired());
        self.pipeline.export_metrics(collected, crate::figures::exemplars(exemplars)).await;
    }

    fn unapplied(&self) -> MutexGuard<'_, BTreeSet<ServiceName>> {
        self.unapplied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends the metrics at the interval that the settings name.
async fn export_metrics(inner: Arc<Inner>) {
    let interval = inner.config.load().telemetry.metric_export_interval;
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    loop {
        ticks.tick().await;
        inner.export_metrics().await;
    }
}
