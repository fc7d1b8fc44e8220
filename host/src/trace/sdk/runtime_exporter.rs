//! Runs the SDK's exports on the host's Tokio runtime.
//!
//! The SDK exports on threads of its own, outside Tokio. The export runs as a task of the host's runtime, and the
//! thread waits for it. When the host stops, an export with retries is replaced by a single attempt; when the host has
//! stopped, the thread no longer waits.

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

use crate::trace::counters::{Counters, DropReason, SignalKind};

/// How long an export in progress may still take when the host stops, before it is sent again. Most of them only wait
/// for the response, and would arrive twice.
const IN_FLIGHT_GRACE: Duration = Duration::from_millis(500);

/// The lifecycle phase of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HostPhase {
    Running,
    /// Queued records are exported with a single attempt.
    Stopping,
    /// Nothing is exported any more.
    Stopped,
}

/// The lifecycle phase of the host, and the number of exports in flight. Clones share them.
#[derive(Clone)]
pub(super) struct Lifecycle {
    phase: Arc<watch::Sender<HostPhase>>,
    in_flight: Arc<watch::Sender<usize>>,
}

impl Default for Lifecycle {
    fn default() -> Lifecycle {
        Lifecycle {
            phase: Arc::new(watch::Sender::new(HostPhase::Running)),
            in_flight: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Lifecycle {
    /// Enters a phase.
    pub fn enter(&self, phase: HostPhase) {
        self.phase.send_replace(phase);
    }

    /// Waits until all exports in flight have ended or are counted as dropped.
    pub async fn exports_ended(&self) {
        // Cannot fail, because this holds a sender.
        let _ = self.in_flight.subscribe().wait_for(|exports| *exports == 0).await;
    }

    fn begin(&self) -> InFlightExport {
        self.in_flight.send_modify(|exports| *exports += 1);
        InFlightExport(self.in_flight.clone())
    }
}

/// An export in flight.
struct InFlightExport(Arc<watch::Sender<usize>>);

impl Drop for InFlightExport {
    fn drop(&mut self) {
        self.0.send_modify(|exports| *exports -= 1);
    }
}

/// The exporter of one signal.
pub(super) struct RuntimeExporter<E> {
    exporters: Arc<Exporters<E>>,
    lifecycle: Lifecycle,
    runtime: Handle,
    signal: SignalKind,
    counters: Arc<Counters>,
}

struct Exporters<E> {
    /// Retries failed exports.
    retrying: E,
    /// Makes a single attempt.
    final_attempt: E,
}

impl<E> fmt::Debug for RuntimeExporter<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RuntimeExporter({:?})", self.signal)
    }
}

impl<E> RuntimeExporter<E> {
    /// An exporter of one signal, from one SDK exporter with retries and one without. Dropped records are counted. Must
    /// be called within a Tokio runtime.
    pub fn new(
        signal: SignalKind,
        (retrying, final_attempt): (E, E),
        (lifecycle, counters): (&Lifecycle, &Arc<Counters>),
    ) -> RuntimeExporter<E> {
        let (exporters, lifecycle, counters) =
            (Arc::new(Exporters { retrying, final_attempt }), lifecycle.clone(), counters.clone());
        RuntimeExporter { exporters, lifecycle, runtime: Handle::current(), signal, counters }
    }

    fn phase(&self) -> watch::Receiver<HostPhase> {
        self.lifecycle.phase.subscribe()
    }

    /// Waits for an export, unless the host has stopped and its runtime may be gone. Dropped records are counted, and
    /// logged at debug level only: the export queues of the pipeline report outages of the collector.
    async fn wait_for(&self, items: usize, export: JoinHandle<OTelSdkResult>) -> OTelSdkResult {
        let (mut phase, _in_flight) = (self.phase(), self.lifecycle.begin());
        let ended = tokio::select! {
            biased;
            ended = export => ended.unwrap_or(Err(OTelSdkError::AlreadyShutdown)),
            () = reached(&mut phase, HostPhase::Stopped) => Err(OTelSdkError::AlreadyShutdown),
        };
        if let Err(reason) = &ended {
            let is_over = *phase.borrow() > HostPhase::Running;
            let kind = if is_over { DropReason::Shutdown } else { DropReason::ExportFailed };
            self.counters.dropped(self.signal, kind, items as u64);
            tracing::debug!(items, %reason, signal = ?self.signal, "telemetry of the host itself is lost");
        }
        ended
    }
}

/// Returns when the host has reached the phase `least`.
async fn reached(phase: &mut watch::Receiver<HostPhase>, least: HostPhase) {
    // An error means that the sender is dropped, so the host has stopped.
    let _ = phase.wait_for(|phase| *phase >= least).await;
}

/// Exports with retries until the host stops, then with a single attempt.
async fn export<S, L>(
    mut phase: watch::Receiver<HostPhase>,
    retrying: impl FnOnce() -> S,
    final_attempt: impl FnOnce() -> L,
) -> OTelSdkResult
where
    S: Future<Output = OTelSdkResult>,
    L: Future<Output = OTelSdkResult>,
{
    let runs = *phase.borrow() == HostPhase::Running;
    if runs {
        let given_up = async {
            reached(&mut phase, HostPhase::Stopping).await;
            tokio::time::sleep(IN_FLIGHT_GRACE).await;
        };
        tokio::select! {
            sent = retrying() => return sent,
            () = given_up => {}
        }
    }
    final_attempt().await
}

impl<E: SpanExporter + 'static> SpanExporter for RuntimeExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let (exporters, phase, items) = (self.exporters.clone(), self.phase(), batch.len());
        let sent = self.runtime.spawn(async move {
            export(phase, || exporters.retrying.export(batch.clone()), || exporters.final_attempt.export(batch.clone()))
                .await
        });
        self.wait_for(items, sent).await
    }

    fn set_resource(&mut self, resource: &Resource) {
        if let Some(exporters) = Arc::get_mut(&mut self.exporters) {
            exporters.retrying.set_resource(resource);
            exporters.final_attempt.set_resource(resource);
        }
    }
}

impl<E: LogExporter + 'static> LogExporter for RuntimeExporter<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let (exporters, phase) = (self.exporters.clone(), self.phase());
        let records: Vec<_> = batch.iter().map(|(record, scope)| (record.clone(), scope.clone())).collect();
        let items = records.len();
        let sent = self.runtime.spawn(async move {
            export(phase, || send(&exporters.retrying, &records), || send(&exporters.final_attempt, &records)).await
        });
        self.wait_for(items, sent).await
    }

    fn set_resource(&mut self, resource: &Resource) {
        if let Some(exporters) = Arc::get_mut(&mut self.exporters) {
            exporters.retrying.set_resource(resource);
            exporters.final_attempt.set_resource(resource);
        }
    }
}

async fn send<E: LogExporter>(exporter: &E, records: &[(SdkLogRecord, InstrumentationScope)]) -> OTelSdkResult {
    let lent: Vec<_> = records.iter().map(|(record, scope)| (record, scope)).collect();
    exporter.export(LogBatch::new(&lent)).await
}

#[cfg(test)]
mod tests {
    use opentelemetry::logs::{Logger as _, LoggerProvider as _};
    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::logs::SdkLoggerProvider;
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    /// A collector that takes things, or does not.
    #[derive(Debug)]
    struct Collector(bool);

    impl Collector {
        fn answer(&self) -> OTelSdkResult {
            if self.0 { Ok(()) } else { Err(OTelSdkError::InternalFailure("away".to_owned())) }
        }
    }

    impl SpanExporter for Collector {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            self.answer()
        }
    }

    impl LogExporter for Collector {
        async fn export(&self, _: LogBatch<'_>) -> OTelSdkResult {
            self.answer()
        }
    }

    /// Exports one span and one log record, and says what was counted as lost of each.
    fn lost(is_there: bool, phase: HostPhase) -> [Vec<(&'static str, u64)>; 2] {
        let (counters, lifecycle) = (Arc::<Counters>::default(), Lifecycle::default());
        lifecycle.enter(phase);
        let exporters = || (Collector(is_there), Collector(is_there));
        let spans = RuntimeExporter::new(SignalKind::Traces, exporters(), (&lifecycle, &counters));
        let logs = RuntimeExporter::new(SignalKind::Logs, exporters(), (&lifecycle, &counters));
        let spans = SdkTracerProvider::builder().with_simple_exporter(spans).build();
        drop(spans.tracer("host").start("swap"));
        let logs = SdkLoggerProvider::builder().with_simple_exporter(logs).build();
        let logger = logs.logger("host");
        logger.emit(logger.create_log_record());
        let some = |counts: Vec<(&'static str, u64)>| counts.into_iter().filter(|(_, count)| *count > 0).collect();
        [some(counters.dropped_spans()), some(counters.dropped_log_records())]
    }

    /// A collector that takes its time.
    #[derive(Debug)]
    struct Silent;

    impl SpanExporter for Silent {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            std::future::pending().await
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_under_way_when_the_host_is_gone_is_counted_before_it_is_settled() {
        let (counters, lifecycle) = (Arc::<Counters>::default(), Lifecycle::default());
        let exporter = RuntimeExporter::new(SignalKind::Traces, (Silent, Silent), (&lifecycle, &counters));
        let spans = SdkTracerProvider::builder().with_simple_exporter(exporter).build();
        let export = std::thread::spawn(move || drop(spans.tracer("host").start("swap")));
        let mut exports = lifecycle.in_flight.subscribe();
        exports.wait_for(|exports| *exports == 1).await.unwrap();
        lifecycle.enter(HostPhase::Stopped);
        lifecycle.exports_ended().await;
        assert!(counters.dropped_spans().contains(&("shutdown", 1)));
        export.join().unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_does_not_reach_the_collector_is_counted() {
        let none: [Vec<(&str, u64)>; 2] = [Vec::new(), Vec::new()];
        for phase in [HostPhase::Running, HostPhase::Stopping] {
            assert_eq!(lost(true, phase), none);
        }
        assert_eq!(lost(false, HostPhase::Running), [[("export_failed", 1)], [("export_failed", 1)]]);
        assert_eq!(lost(false, HostPhase::Stopping), [[("shutdown", 1)], [("shutdown", 1)]]);
    }
}
