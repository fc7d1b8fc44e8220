//! Start and shutdown of the host described by a [`Config`].
//!
//! A start checks components and ports, then compiles the components, then binds the ports and publishes the services.
//! Usually all errors are found before the first request is served; only if compiling takes long do some services serve
//! earlier than others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::component::{Engine, Prepared};
use crate::config::{Config, Environment, ServiceConfig, StateConfig, telemetry};
use crate::console;
pub use crate::control::StartError;
use crate::control::manifest::{Reload, in_manifest};
use crate::control::swap::{ServiceReport, Swapper};
use crate::control::{Control, PendingServices, metric_export, watch};
use crate::metrics::Metrics;
use crate::outbound::Network;
use crate::serve::dispatch::Dispatcher;
use crate::serve::listener::{self, BoundPort, ListenError, Listener};
use crate::services::{Catalog, GenerationBuilder};
use crate::state::{DEFAULT_QUOTA, StateError, StateStore};
use crate::telemetry::{HostTelemetry, LogExport, Operation};
use crate::trace::{KeyValue, Pipeline, PipelineError, Printers, Propagators, Resource, TraceStore};

/// The longest time to export the last spans, log records and metrics, all together.
const FLUSH_LIMIT: Duration = Duration::from_secs(4);
/// The part of that time reserved for the metrics, which are exported last, because they count the exported spans and
/// log records.
const METRICS_LIMIT: Duration = Duration::from_secs(1);
/// The longest time to export the trace of a failed start.
const FAILED_START_LIMIT: Duration = Duration::from_secs(3);
/// The longest time for the last responses of the console.
const CONSOLE_LIMIT: Duration = Duration::from_secs(1);

/// A running host.
pub struct Host {
    control: Arc<Control>,
    tasks: Vec<JoinHandle<()>>,
    console: Option<Listener>,
    otlp: Option<Listener>,
    /// Starts the services that do not serve yet.
    starting: Option<JoinHandle<Result<(), StartError>>>,
}

/// Compiles, links and validates all components of `config`, without serving. Returns the services in the order of the
/// manifest. Returns all errors otherwise; errors that are found without compilation are returned before anything is
/// compiled.
pub async fn check(config: &Config) -> Result<Vec<(ServiceConfig, Arc<Prepared>)>, StartError> {
    let engine = Engine::new(config.cache_dir.as_deref())?;
    let propagators = Propagators::new(&config.telemetry.propagators);
    let metrics = Metrics::new(Vec::new());
    let builder = GenerationBuilder::new(
        engine,
        StateStore::memory(DEFAULT_QUOTA),
        Network::new()?,
        propagators,
        metrics,
        Vec::new(),
    );
    let mut errors = Vec::new();
    for service in &config.services {
        errors.extend(builder.check_file(service).await.err());
    }
    let mut checked = Vec::new();
    let to_compile = if errors.is_empty() { config.services.as_slice() } else { &[] };
    for service in to_compile {
        let context = builder.context(service, &builder.resource(service));
        match builder.prepare_file(service, &context).await {
            Ok(prepared) => checked.push((service.clone(), Arc::new(prepared))),
            Err(error) => errors.push(error),
        }
    }
    let errors = errors.into_iter().map(|reason| in_manifest(config, reason)).collect();
    StartError::of_all(errors).map_or(Ok(checked), Err)
}

impl Host {
    /// Starts the host described by `config`, and returns when all services serve. `environment` is used again when the
    /// manifest changes. Finished traces are printed to standard output if the settings enable that.
    pub async fn start(config: Config, environment: Environment) -> Result<Host, StartError> {
        let (printers, logs, serves) = (Printers::default(), LogExport::default(), oneshot::channel().0);
        let mut host = Host::start_with(config, environment, printers, logs, serves).await?;
        match host.started().await {
            Ok(()) => Ok(host),
            Err(error) => {
                host.shutdown().await;
                Err(error)
            }
        }
    }

    /// Starts the host with other printers of traces and log records. Returns when the services serve that need not wait
    /// for a component that takes long to compile; [`Host::started`] waits for the others. `logs` is the layer of the
    /// process's log; it exports log records from then on. `serves` is notified when the first request may be served.
    pub async fn start_with(
        config: Config,
        environment: Environment,
        printers: Printers,
        logs: LogExport,
        serves: oneshot::Sender<()>,
    ) -> Result<Host, StartError> {
        let resource: Vec<KeyValue> =
            config.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
        let pipeline = Pipeline::start_with(config.telemetry.clone(), printers)?;
        let host_resource = Resource::new(crate::telemetry::SERVICE, env!("CARGO_PKG_VERSION"), &resource);
        let telemetry = HostTelemetry::start(&pipeline, &host_resource, &logs).map_err(PipelineError::from)?;
        let start = Arc::new(telemetry.operation("start", "start_failed"));
        let startup = Startup { config, environment, pipeline, telemetry: telemetry.clone(), host_resource, resource };
        let started = start.run(startup.run(start.clone(), serves)).await;
        if let Err(error) = &started {
            start.fail(&error.to_string());
            drop(start);
            telemetry.shutdown(FAILED_START_LIMIT).await;
        }
        started
    }

    /// Waits until all services serve. If it fails, the host must be shut down.
    pub async fn started(&mut self) -> Result<(), StartError> {
        let Some(starting) = &mut self.starting else { return Ok(()) };
        let ended = starting.await;
        self.starting = None;
        ended.unwrap_or_else(|failed| Err(StartError::Panicked(failed.to_string())))
    }

    /// The address that a service listens on.
    pub fn address(&self, service: &str) -> Option<SocketAddr> {
        self.control.address(service)
    }

    /// The address that the console listens on.
    pub fn console_address(&self) -> Option<SocketAddr> {
        self.console.as_ref().map(|listener| listener.address)
    }

    /// The store of recent traces.
    pub fn traces(&self) -> &Arc<TraceStore> {
        self.control.pipeline.store()
    }

    /// The reports of all services, in the order of the manifest.
    pub fn services(&self) -> Vec<ServiceReport> {
        self.control.reports()
    }

    /// Example paths of a service for a plain `curl`: its GET routes, with 1 for every parameter.
    pub fn examples(&self, service: &str) -> Vec<String> {
        let service = self.control.catalog.find(service);
        service.map(|service| service.serving().stable.routes().examples()).unwrap_or_default()
    }

    /// Reloads the manifest in the background, as the watcher does after a change.
    pub fn reload(&self) {
        let control = self.control.clone();
        tokio::spawn(async move { control.reload(Reload::Changed, None).await });
    }

    /// Shuts the host down. It reports that it is not ready and accepts connections for `[shutdown] delay`; then it stops
    /// accepting, drains the requests in flight (`[shutdown] drain` at most) and exports the last spans, log records and
    /// metrics (4 s at most). The console serves until the end, so that `/readyz` reports the shutdown.
    pub async fn shutdown(mut self) {
        if let Some(starting) = self.starting.take() {
            starting.abort();
            // A service that it publishes at this moment is drained like the others.
            let _ = starting.await;
        }
        self.drain_requests().await;
        let end = tokio::time::Instant::now() + FLUSH_LIMIT;
        let console = async {
            let listeners = self.console.into_iter().chain(self.otlp);
            join_all(listeners.map(|listener| listener.drain(tokio::time::sleep(CONSOLE_LIMIT)))).await;
        };
        let limit = FLUSH_LIMIT.saturating_sub(METRICS_LIMIT);
        tokio::join!(console, self.control.pipeline.shutdown(limit), self.control.telemetry.shutdown(limit));
        if tokio::time::timeout_at(end, self.control.export_metrics()).await.is_err() {
            tracing::warn!("the collector did not take the last metrics in time");
        }
    }

    /// The part of the shutdown before the last export of telemetry, recorded as a trace.
    async fn drain_requests(&self) {
        let shutdown = self.control.telemetry.operation("shutdown", "drain_timeout");
        let delay = shutdown.start("delay");
        self.control.begin_shutdown().await;
        delay.end();
        for task in &self.tasks {
            task.abort();
        }
        let drain = shutdown.start("drain");
        if self.control.drain().await {
            let message = "some requests did not end in time and were cancelled";
            drain.fail("drain_timeout", message);
            shutdown.fail(message);
            shutdown.log(|| tracing::warn!("{message}"));
        }
        drain.end();
    }
}

fn open_state(config: &StateConfig) -> Result<StateStore, StateError> {
    match config {
        StateConfig::Memory { per_service } => Ok(StateStore::memory(*per_service)),
        StateConfig::Redb { path, per_service } => StateStore::redb(path.clone(), *per_service),
    }
}

/// The inputs of a start.
struct Startup {
    config: Config,
    environment: Environment,
    pipeline: Pipeline,
    telemetry: HostTelemetry,
    /// The Resource of the host's own telemetry.
    host_resource: Arc<Resource>,
    /// The Resource attributes of all services.
    resource: Vec<KeyValue>,
}

impl Startup {
    async fn run(self, start: Arc<Operation>, serves: oneshot::Sender<()>) -> Result<Host, StartError> {
        telemetry::ignored(&self.environment).iter().for_each(|ignored| tracing::warn!("{ignored}"));
        serve(self.control()?, start, serves).await
    }

    fn control(self) -> Result<Arc<Control>, StartError> {
        let Startup { config, environment, pipeline, telemetry, host_resource, resource } = self;
        let engine = Engine::new(config.cache_dir.as_deref())?;
        let network = Network::new()?;
        let metrics = Metrics::new(host_resource.attributes().to_vec());
        let state = open_state(&config.state)?;
        let propagators = pipeline.propagators().clone();
        let builder = GenerationBuilder::new(engine, state, network, propagators, metrics, resource);
        let builder = Arc::new(builder.with_redaction(config.redaction.clone()));
        let dispatcher = Dispatcher::new(Arc::new(Catalog::default()), pipeline.clone(), config.attributes.clone());
        let settings = config.swap.clone();
        let swapper = Swapper::new(builder.clone(), dispatcher.clone(), pipeline.clone(), telemetry.clone(), settings);
        Ok(Control::new(config, environment, builder, dispatcher, pipeline, telemetry, swapper))
    }
}

/// Prepares the services and binds their ports, then serves.
async fn serve(control: Arc<Control>, start: Arc<Operation>, serves: oneshot::Sender<()>) -> Result<Host, StartError> {
    let config = control.config.load_full();
    let mut pending = PendingServices::check(control.clone(), start.clone()).await?;
    let first = pending.first().await?;
    let listening = async {
        let services: Vec<_> = first.iter().map(|service| service.config().clone()).collect();
        let ports = control.plan_ports(&services).await?;
        let console = bind(&control, listener::CONSOLE, config.console.listen).await?;
        let otlp = bind(&control, listener::OTLP_RECEIVER, config.console.otlp).await?;
        Ok::<_, ListenError>((ports, console, otlp))
    };
    let (ports, console, otlp) = start.step("listen", listening).await?;
    // The receiver may be gone: only the command `run` waits for it.
    serves.send(()).ok();
    control.apply_services(Config::clone(&config), first, ports);
    let starting = Some(tokio::spawn(pending.publish_others()));
    let console = console.map(|bound| console::serve(bound, control.clone()));
    if let Some(console) = &console {
        control.pipeline.set_trace_view_hint(format!("traces are at {}", console::address_url(console.address)));
    }
    let otlp = otlp.map(|bound| console::serve_otlp(bound, &control));
    control.observe_metrics();
    let mut tasks = vec![tokio::spawn(metric_export::export_periodically(control.clone()))];
    if config.swap.watch {
        let watcher = watch::FileWatcher::new(&control);
        tasks.push(tokio::spawn(watcher.watch(control.clone())));
    }
    Ok(Host { control, tasks, console, otlp, starting })
}

async fn bind(control: &Control, what: &str, address: Option<SocketAddr>) -> Result<Option<BoundPort>, ListenError> {
    match address {
        Some(address) => listener::bind(what, control.bind_address(address)).await.map(Some),
        None => Ok(None),
    }
}
