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

use crate::trace::counters::{Counters, DropReason, SignalKind};

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

/// How far the host has come, and how many exports are under way. Clones are the same.
#[derive(Clone)]
pub(super) struct Progress {
    phase: Arc<watch::Sender<Phase>>,
    under_way: Arc<watch::Sender<usize>>,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress { phase: Arc::new(watch::Sender::new(Phase::Runs)), under_way: Arc::new(watch::Sender::new(0)) }
    }
}

impl Progress {
    /// Says how far the host has come.
    pub fn reach(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Waits until every export that is under way has ended, or is counted as lost.
    pub async fn settled(&self) {
        // The sender is held here.
        let _ = self.under_way.subscribe().wait_for(|exports| *exports == 0).await;
    }

    fn begin(&self) -> UnderWay {
        self.under_way.send_modify(|exports| *exports += 1);
        UnderWay(self.under_way.clone())
    }
}

/// An export that is under way.
struct UnderWay(Arc<watch::Sender<usize>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|exports| *exports -= 1);
    }
}

/// Where one signal leaves.
pub(super) struct Outlet<E> {
    ways: Arc<Ways<E>>,
    progress: Progress,
    runtime: Handle,
    signal: SignalKind,
    counters: Arc<Counters>,
}

struct Ways<E> {
    /// Tries again.
    steady: E,
    /// Tries once.
    last: E,
}

impl<E> fmt::Debug for Outlet<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Outlet({:?})", self.signal)
    }
}

impl<E> Outlet<E> {
    /// An outlet for one signal: a way that tries several times, and one that tries once. Losses are counted. To be made
    /// within a runtime.
    pub fn new(
        signal: SignalKind,
        (steady, last): (E, E),
        (progress, counters): (&Progress, &Arc<Counters>),
    ) -> Outlet<E> {
        let (ways, progress, counters) = (Arc::new(Ways { steady, last }), progress.clone(), counters.clone());
        Outlet { ways, progress, runtime: Handle::current(), signal, counters }
    }

    fn phase(&self) -> watch::Receiver<Phase> {
        self.progress.phase.subscribe()
    }

    /// Waits for an export, unless the host is gone, and with it the runtime perhaps. What is lost is counted; the
    /// collector's trouble is told where requests' telemetry is sent, and here for those who look for it.
    async fn settle(&self, items: usize, export: JoinHandle<OTelSdkResult>) -> OTelSdkResult {
        let (mut phase, _under_way) = (self.phase(), self.progress.begin());
        let ended = tokio::select! {
            biased;
            ended = export => ended.unwrap_or(Err(OTelSdkError::AlreadyShutdown)),
            () = reached(&mut phase, Phase::Gone) => Err(OTelSdkError::AlreadyShutdown),
        };
        if let Err(reason) = &ended {
            let is_over = *phase.borrow() > Phase::Runs;
            let kind = if is_over { DropReason::Shutdown } else { DropReason::ExportFailed };
            self.counters.dropped(self.signal, kind, items as u64);
            tracing::debug!(items, %reason, signal = ?self.signal, "telemetry of the host itself is lost");
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
        let (ways, phase, items) = (self.ways.clone(), self.phase(), batch.len());
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
        let (ways, phase) = (self.ways.clone(), self.phase());
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
    fn lost(is_there: bool, phase: Phase) -> [Vec<(&'static str, u64)>; 2] {
        let (counters, progress) = (Arc::<Counters>::default(), Progress::default());
        progress.reach(phase);
        let ways = || (Collector(is_there), Collector(is_there));
        let spans = Outlet::new(SignalKind::Traces, ways(), (&progress, &counters));
        let logs = Outlet::new(SignalKind::Logs, ways(), (&progress, &counters));
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
        let (counters, progress) = (Arc::<Counters>::default(), Progress::default());
        let outlet = Outlet::new(SignalKind::Traces, (Silent, Silent), (&progress, &counters));
        let spans = SdkTracerProvider::builder().with_simple_exporter(outlet).build();
        let export = std::thread::spawn(move || drop(spans.tracer("host").start("swap")));
        let mut exports = progress.under_way.subscribe();
        exports.wait_for(|exports| *exports == 1).await.unwrap();
        progress.reach(Phase::Gone);
        progress.settled().await;
        assert!(counters.dropped_spans().contains(&("shutdown", 1)));
        export.join().unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_does_not_reach_the_collector_is_counted() {
        let none: [Vec<(&str, u64)>; 2] = [Vec::new(), Vec::new()];
        for phase in [Phase::Runs, Phase::Stops] {
            assert_eq!(lost(true, phase), none);
        }
        assert_eq!(lost(false, Phase::Runs), [[("export_failed", 1)], [("export_failed", 1)]]);
        assert_eq!(lost(false, Phase::Stops), [[("shutdown", 1)], [("shutdown", 1)]]);
    }
}
