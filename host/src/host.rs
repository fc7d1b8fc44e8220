//! The wiring: from a [`Config`] to services that answer, and back down again.
//!
//! Everything that can be wrong is found before the first port is served: components are compiled and verified, ports
//! are taken, and only then does anything answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use crate::component::{Engine, Prepared};
use crate::config::{Config, Environment, ServiceConfig, StateConfig, telemetry};
use crate::console;
pub use crate::control::StartError;
use crate::control::manifest::{Reload, in_manifest};
use crate::control::swap::{ServiceReport, Swapper};
use crate::control::{Control, metric_export, watch};
use crate::metrics::Metrics;
use crate::outbound::Network;
use crate::serve::dispatch::Dispatcher;
use crate::serve::listener::{self, BoundPort, ListenError, Listener};
use crate::services::{Catalog, GenerationBuilder};
use crate::state::{ROOM, StateError, StateStore};
use crate::telemetry::{HostTelemetry, LogExport, Operation};
use crate::trace::{KeyValue, Pipeline, PipelineError, Printers, Propagators, Resource, TraceStore};

/// How long the last spans, log records and metrics may take to leave, all together.
const FLUSH_LIMIT: Duration = Duration::from_secs(4);
/// What spans and log records leave of that to the metrics, which go last: they tell what became of the others.
const METRICS_LIMIT: Duration = Duration::from_secs(1);
/// How long the trace of a start that failed may take to leave.
const FAILED_START_LIMIT: Duration = Duration::from_secs(1);
/// How long the console's last answers may take.
const CONSOLE_LIMIT: Duration = Duration::from_secs(1);

/// A host that serves.
pub struct Host {
    control: Arc<Control>,
    tasks: Vec<JoinHandle<()>>,
    console: Option<Listener>,
    otlp: Option<Listener>,
}

/// Compiles, links and validates everything that `config` names, without serving. Returns what it found, in the order
/// of the manifest, or everything that is wrong: where something is known to be before anything was compiled, that alone.
pub async fn check(config: &Config) -> Result<Vec<(ServiceConfig, Arc<Prepared>)>, StartError> {
    let engine = Engine::new(config.cache_dir.as_deref())?;
    let propagators = Propagators::new(&config.telemetry.propagators);
    let metrics = Metrics::new(Vec::new());
    let builder =
        GenerationBuilder::new(engine, StateStore::memory(ROOM), Network::new()?, propagators, metrics, Vec::new());
    let mut errors = Vec::new();
    // What needs no compiling is said at once.
    for service in &config.services {
        errors.extend(builder.look_at(service).await.err());
    }
    let mut found = Vec::new();
    let good = if errors.is_empty() { config.services.as_slice() } else { &[] };
    for service in good {
        let context = builder.context(service, &builder.resource(service));
        match builder.prepare_file(service, &context).await {
            Ok(prepared) => found.push((service.clone(), Arc::new(prepared))),
            Err(error) => errors.push(error),
        }
    }
    let errors = errors.into_iter().map(|reason| in_manifest(config, reason)).collect();
    StartError::of_all(errors).map_or(Ok(found), Err)
}

impl Host {
    /// Starts everything that `config` describes. `environment` is read again when the manifest changes. Finished traces
    /// are printed to standard output where the settings ask for that.
    pub async fn start(config: Config, environment: Environment) -> Result<Host, StartError> {
        Host::start_with(config, environment, Printers::default(), LogExport::default()).await
    }

    /// The same, with what prints traces and log records given, and the layer of the process's log that is to send log
    /// records from now on.
    pub async fn start_with(
        config: Config,
        environment: Environment,
        printers: Printers,
        logs: LogExport,
    ) -> Result<Host, StartError> {
        let resource: Vec<KeyValue> =
            config.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
        let pipeline = Pipeline::start_with(config.telemetry.clone(), printers)?;
        let own = Resource::new(crate::telemetry::SERVICE, env!("CARGO_PKG_VERSION"), &resource);
        let telemetry = HostTelemetry::start(&pipeline, &own, &logs).map_err(PipelineError::from)?;
        let start = telemetry.operation("start", "start_failed");
        let began = Beginning { config, environment, pipeline, telemetry: telemetry.clone(), own, resource };
        let started = start.run(began.bring_up(&start)).await;
        if let Err(error) = &started {
            start.fail(&error.to_string());
            drop(start);
            telemetry.shutdown(FAILED_START_LIMIT).await;
        }
        started
    }

    /// Where a service listens.
    pub fn address(&self, service: &str) -> Option<SocketAddr> {
        self.control.address(service)
    }

    /// Where the console listens.
    pub fn console_address(&self) -> Option<SocketAddr> {
        self.console.as_ref().map(|listener| listener.address)
    }

    /// The store of recent traces.
    pub fn traces(&self) -> &Arc<TraceStore> {
        self.control.pipeline.store()
    }

    /// The services with their versions, in the order of the manifest.
    pub fn services(&self) -> Vec<ServiceReport> {
        self.control.reports()
    }

    /// Paths of a service that can be tried with a plain `curl`: its GET routes, with 1 for every parameter.
    pub fn examples(&self, service: &str) -> Vec<String> {
        let service = self.control.catalog.find(service);
        service.map(|service| service.serving().stable.routes().examples()).unwrap_or_default()
    }

    /// Reads the manifest again, as the watcher does when it has changed.
    pub fn reload(&self) {
        let control = self.control.clone();
        tokio::spawn(async move { control.reload(Reload::Changed, None).await });
    }

    /// Says that the host is not ready, goes on accepting for `[shutdown] delay`, then stops accepting, lets requests in
    /// flight end (`[shutdown] drain` at most), and sends the last spans, log records and metrics (4 s at most). The
    /// console answers to the last, so that whoever asks whether the host is ready is told that it is not.
    pub async fn shutdown(self) {
        self.end_requests().await;
        let end = tokio::time::Instant::now() + FLUSH_LIMIT;
        let console = async {
            let drains = self.console.into_iter().chain(self.otlp);
            join_all(drains.map(|listener| listener.drain(tokio::time::sleep(CONSOLE_LIMIT)))).await;
        };
        let limit = FLUSH_LIMIT.saturating_sub(METRICS_LIMIT);
        tokio::join!(console, self.control.pipeline.shutdown(limit), self.control.telemetry.shutdown(limit));
        if tokio::time::timeout_at(end, self.control.export_metrics()).await.is_err() {
            tracing::warn!("the collector did not take the last metrics in time");
        }
    }

    /// Everything before telemetry leaves for the last time, as a trace.
    async fn end_requests(&self) {
        let shutdown = self.control.telemetry.operation("shutdown", "drain_timeout");
        let delay = shutdown.start("delay");
        self.control.begin_shutdown().await;
        delay.end();
        for task in &self.tasks {
            task.abort();
        }
        let drain = shutdown.start("drain");
        if self.control.drain().await {
            let message = "some requests had not ended in time and were cut off";
            drain.fail("drain_timeout", message);
            shutdown.fail(message);
            shutdown.log(|| tracing::warn!("{message}"));
        }
        drain.end();
    }
}

fn open_state(config: &StateConfig) -> Result<StateStore, StateError> {
    match config {
        StateConfig::Memory { room } => Ok(StateStore::memory(*room)),
        StateConfig::Redb { path, room } => StateStore::redb(path.clone(), *room),
    }
}

/// What a host begins with.
struct Beginning {
    config: Config,
    environment: Environment,
    pipeline: Pipeline,
    telemetry: HostTelemetry,
    /// What the host itself is in telemetry, and what the environment says of all services.
    own: Arc<Resource>,
    resource: Vec<KeyValue>,
}

impl Beginning {
    async fn bring_up(self, start: &Operation) -> Result<Host, StartError> {
        telemetry::ignored(&self.environment).iter().for_each(|ignored| tracing::warn!("{ignored}"));
        serve(self.control()?, start).await
    }

    fn control(self) -> Result<Arc<Control>, StartError> {
        let Beginning { config, environment, pipeline, telemetry, own, resource } = self;
        let engine = Engine::new(config.cache_dir.as_deref())?;
        let network = Network::new()?;
        let metrics = Metrics::new(own.attributes().to_vec());
        let state = open_state(&config.state)?;
        let propagators = pipeline.propagators().clone();
        let builder = GenerationBuilder::new(engine, state, network, propagators, metrics, resource);
        let builder = Arc::new(builder.redacting(config.redaction.clone()));
        let dispatcher = Dispatcher::new(Arc::new(Catalog::default()), pipeline.clone(), config.attributes.clone());
        let settings = config.swap.clone();
        let swapper = Swapper::new(builder.clone(), dispatcher.clone(), pipeline.clone(), telemetry.clone(), settings);
        Ok(Control::new(config, environment, builder, dispatcher, pipeline, telemetry, swapper))
    }
}

/// Prepares every service, takes every port, and only then serves.
async fn serve(control: Arc<Control>, start: &Operation) -> Result<Host, StartError> {
    let config = control.config.load_full();
    let mut prepared = Vec::new();
    for service in &config.services {
        prepared.push(control.prepare(service, start).await.map_err(|reason| in_manifest(&config, reason))?);
    }
    let listening = async {
        let ports = control.plan_ports(&config.services).await?;
        let console = bind(&control, "the console", config.console.listen).await?;
        let otlp = bind(&control, "the receiver of OTLP", config.console.otlp).await?;
        Ok::<_, ListenError>((ports, console, otlp))
    };
    let (ports, console, otlp) = start.step("listen", listening).await?;
    control.apply_services(Config::clone(&config), prepared, ports);
    control.set_ready();
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
    Ok(Host { control, tasks, console, otlp })
}

async fn bind(control: &Control, what: &str, address: Option<SocketAddr>) -> Result<Option<BoundPort>, ListenError> {
    match address {
        Some(address) => listener::bind(what, control.bind_address(address)).await.map(Some),
        None => Ok(None),
    }
}
