//! The way of the SDK's batches to a collector.
//!
//! The SDK exports on threads of its own, which have no Tokio: the export runs as a task of the host's runtime, and the
//! thread waits for it. When the host stops, an export under way that may be tried again and again is replaced by one that is
//! tried once; when the host is gone, nobody waits any more.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::logs::{LogBatch, LogExporter, SdkLogRecord};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long an export that is under way when the host stops may take before it is sent anew: most have only to be answered,
/// and would arrive twice.
const UNDER_WAY: Duration = Duration::from_millis(500);

/// How far the host has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Runs,
    /// What waits is sent once.
    Stops,
    /// Nothing is sent any more.
    Gone,
}

/// Where one signal leaves.
pub(super) struct Outlet<E> {
    ways: Arc<Ways<E>>,
    phase: watch::Receiver<Phase>,
    runtime: Handle,
    what: &'static str,
}

struct Ways<E> {
    /// Tries again.
    steady: E,
    /// Tries once.
    last: E,
}

impl<E> fmt::Debug for Outlet<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Outlet({})", self.what)
    }
}

impl<E> Outlet<E> {
    /// An outlet for what is called `what` in the log. To be made within a runtime.
    pub fn new(what: &'static str, steady: E, last: E, phase: watch::Receiver<Phase>) -> Outlet<E> {
        Outlet { ways: Arc::new(Ways { steady, last }), phase, runtime: Handle::current(), what }
    }

    /// Waits for an export, unless the host is gone, and with it the runtime perhaps. The collector's trouble is told where
    /// requests' telemetry is sent; here it is for those who look for it.
    async fn settle(&self, items: usize, export: JoinHandle<OTelSdkResult>) -> OTelSdkResult {
        let mut phase = self.phase.clone();
        let ended = tokio::select! {
            biased;
            ended = export => ended.unwrap_or(Err(OTelSdkError::AlreadyShutdown)),
            () = reached(&mut phase, Phase::Gone) => Err(OTelSdkError::AlreadyShutdown),
        };
        if let Err(reason) = &ended {
            tracing::debug!(items, %reason, "{} of the host itself are lost", self.what);
        }
        ended
    }
}

/// Returns when the host has come as far as `least`.
async fn reached(phase: &mut watch::Receiver<Phase>, least: Phase) {
    // Whoever says how far it has come is gone: so is the host.
    let _ = phase.wait_for(|phase| *phase >= least).await;
}

/// Exports by the steady way until the host stops, then by the last one.
async fn export<S, L>(
    mut phase: watch::Receiver<Phase>,
    steady: impl FnOnce() -> S,
    last: impl FnOnce() -> L,
) -> OTelSdkResult
where
    S: Future<Output = OTelSdkResult>,
    L: Future<Output = OTelSdkResult>,
{
    let runs = *phase.borrow() == Phase::Runs;
    if runs {
        let given_up = async {
            reached(&mut phase, Phase::Stops).await;
            tokio::time::sleep(UNDER_WAY).await;
        };
        tokio::select! {
            sent = steady() => return sent,
            () = given_up => {}
        }
    }
    last().await
}

impl<E: SpanExporter + 'static> SpanExporter for Outlet<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let (ways, phase, items) = (self.ways.clone(), self.phase.clone(), batch.len());
        let sent = self.runtime.spawn(async move {
            export(phase, || ways.steady.export(batch.clone()), || ways.last.export(batch.clone())).await
        });
        self.settle(items, sent).await
    }

    fn set_resource(&mut self, resource: &Resource) {
        if let Some(ways) = Arc::get_mut(&mut self.ways) {
            ways.steady.set_resource(resource);
            ways.last.set_resource(resource);
        }
    }
}

impl<E: LogExporter + 'static> LogExporter for Outlet<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let (ways, phase) = (self.ways.clone(), self.phase.clone());
        let records: Vec<_> = batch.iter().map(|(record, scope)| (record.clone(), scope.clone())).collect();
        let items = records.len();
        let sent = self
            .runtime
            .spawn(async move { export(phase, || send(&ways.steady, &records), || send(&ways.last, &records)).await });
        self.settle(items, sent).await
    }

    fn set_resource(&mut self, resource: &Resource) {
        if let Some(ways) = Arc::get_mut(&mut self.ways) {
            ways.steady.set_resource(resource);
            ways.last.set_resource(resource);
        }
    }
}

async fn send<E: LogExporter>(exporter: &E, records: &[(SdkLogRecord, InstrumentationScope)]) -> OTelSdkResult {
    let lent: Vec<_> = records.iter().map(|(record, scope)| (record, scope)).collect();
    exporter.export(LogBatch::new(&lent)).await
}
