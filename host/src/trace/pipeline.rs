//! The one pipeline of the host: sampling at its beginning, bounded queues and their tasks at its end.
//!
//! A finished segment is shared, never copied: the store of recent traces, the terminal and OTLP read the same one.
//! Spans and log records have a queue each, so that trouble with one does not hold up the other. While the collector is
//! away the queues fill, and what comes after is dropped and counted, and said once per outage. Requests never wait for
//! any of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::trace::TraceId;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use thiserror::Error;
use tokio::task::JoinHandle;

use super::context::TraceContext;
use super::counters::{Counters, DropReason, SignalKind};
use super::guest_metrics::{GuestMetrics, GuestPoint, SeriesOfService};
use super::limits::RecordLimits;
use super::otlp::{ExportQueue, SeriesExemplars, TraceViewHint, TransportError, Transports};
use super::printers::{LogPrinter, Printers};
use super::propagation::Propagators;
use super::resource::Resource;
use super::segment::{FinishedSegment, Segment};
use super::settings::{Exporter, Settings};
use super::store::{StoredPart, TraceStore};
use super::tail_sampler::TailSampler;
use super::terminal::Terminal;

/// Why telemetry could not be set up.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// OTLP cannot be spoken as the settings say.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// There is no thread to print traces on.
    #[error("traces cannot be printed: {0}")]
    Terminal(#[from] std::io::Error),
}

/// The pipeline. A clone is a handle to the same one.
#[derive(Clone)]
pub struct Pipeline {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    propagators: Propagators,
    /// Whether anybody reads spans at all.
    has_readers: bool,
    tail_sampler: Option<Mutex<TailSampler>>,
    store: Arc<TraceStore>,
    guest_metrics: GuestMetrics,
    counters: Arc<Counters>,
    terminal: Option<Terminal>,
    /// Prints log records as they come, whatever becomes of their traces.
    log_printer: Option<LogPrinter>,
    transports: Transports,
    /// Where traces can be seen if there is no collector.
    view_hint: TraceViewHint,
    tasks: Mutex<Vec<(Arc<ExportQueue>, JoinHandle<()>)>>,
}

impl Pipeline {
    /// Starts the export tasks. FinishedSegment traces are printed to standard output where the settings ask for that.
    pub fn start(settings: Settings) -> Result<Pipeline, PipelineError> {
        Pipeline::start_with(settings, Printers::default())
    }

    /// The same, with what prints traces and log records given.
    pub fn start_with(settings: Settings, printers: Printers) -> Result<Pipeline, PipelineError> {
        let prints = !settings.disabled && settings.traces.exporters.contains(&Exporter::Console);
        let prints_logs = settings.logs.exporters.contains(&Exporter::Console);
        let counters = Arc::new(Counters::default());
        let view_hint = TraceViewHint::default();
        let transports = Transports::new(&settings, &counters, &view_hint)?;
        let queues = [&transports.spans, &transports.logs].into_iter().flatten();
        let tasks = queues.map(|queue| (queue.clone(), tokio::spawn(queue.clone().run()))).collect();
        let store = Arc::new(TraceStore::new(settings.store_bytes));
        if store.is_on() {
            tokio::spawn(TraceStore::run(Arc::downgrade(&store)));
        }
        let inner = Inner {
            propagators: Propagators::new(&settings.propagators),
            has_readers: !settings.disabled && (!settings.traces.exporters.is_empty() || settings.store_bytes > 0),
            tail_sampler: settings
                .tail_policy
                .map(|policy| Mutex::new(TailSampler::new(policy, settings.batch.queue_size))),
            store,
            guest_metrics: GuestMetrics::default(),
            counters,
            terminal: prints.then(|| Terminal::start(printers.traces, printers.detail)).transpose()?,
            log_printer: printers.logs.filter(|_| prints_logs),
            transports,
            view_hint,
            tasks: Mutex::new(tasks),
            settings,
        };
        Ok(Pipeline { inner: Arc::new(inner) })
    }

    /// What it was told.
    pub(super) fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Says where traces can be seen if there is no collector, as the end of a sentence. The first to say so is right.
    pub fn set_trace_view_hint(&self, hint: String) {
        let _ = self.inner.view_hint.set(hint);
    }

    /// How trace context travels.
    pub fn propagators(&self) -> &Propagators {
        &self.inner.propagators
    }

    /// Whether responses name their trace in `traceresponse`.
    pub fn has_response_header(&self) -> bool {
        self.inner.settings.response_header
    }

    /// What became of spans and log records.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.inner.counters
    }

    /// How many spans wait for export, and how many can.
    pub fn queue(&self) -> (usize, usize) {
        let spans = self.inner.transports.spans.as_ref();
        spans.map_or((0, self.inner.settings.batch.queue_size), |queue| queue.queue())
    }

    /// The traces that were finished last.
    pub fn store(&self) -> &Arc<TraceStore> {
        &self.inner.store
    }

    /// Whether a trace is recorded, decided as its first request here begins.
    pub(super) fn samples(&self, parent: Option<&TraceContext>, denied: bool, trace_id: TraceId) -> bool {
        let sampled = self.inner.has_readers && self.inner.settings.sampler.samples(parent, denied, trace_id);
        if let Some(tail_sampler) = self.inner.tail_sampler.as_ref().filter(|_| sampled) {
            tail_sampler.lock().unwrap_or_else(PoisonError::into_inner).begin(trace_id);
        }
        sampled
    }

    /// Whether anybody reads spans at all.
    pub(super) fn is_enabled(&self) -> bool {
        self.inner.has_readers
    }

    /// Sends metrics, unless that is turned off.
    pub async fn export_metrics(&self, collected: Vec<ResourceMetrics>, exemplars: Vec<SeriesExemplars>) {
        let guests = self.inner.guest_metrics.collect();
        self.inner.transports.send_metrics((&collected, guests), exemplars, &self.inner.counters).await;
    }

    /// Sends what waits, within `limit`. What does not get out is counted. Requests that end later are, too.
    pub async fn shutdown(&self, limit: Duration) {
        self.inner.flush_tail_sampler();
        let tasks = std::mem::take(&mut *self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.iter().for_each(|(queue, _)| queue.close());
        let printed = async {
            if let Some(terminal) = &self.inner.terminal {
                let _ = tokio::time::timeout(limit, terminal.flush()).await;
            }
        };
        let sent = tasks.into_iter().map(|(queue, mut task)| async move {
            if tokio::time::timeout(limit, &mut task).await.is_err() {
                task.abort();
                // Once it has ended, nothing is taken off the queue any more.
                let _ = task.await;
            }
            queue.abandon();
        });
        futures_util::future::join(futures_util::future::join_all(sent), printed).await;
    }

    /// Whether the spans of a request that ended like this leave the host for certain, if they are sampled. Where there
    /// is a tail rule, what it keeps by chance or for another request's sake is not certain.
    pub fn is_certainly_exported(&self, failed: bool, duration: Duration) -> bool {
        self.inner.settings.tail_policy.is_none_or(|policy| policy.keeps(failed, duration))
    }

    /// What guests' own SDKs have measured, by service.
    pub fn guest_metrics(&self) -> Vec<SeriesOfService> {
        self.inner.guest_metrics.collect()
    }

    /// Adds what is new in the metrics of guests.
    pub(super) fn add_guest_metrics(&self, resource: &Arc<Resource>, deltas: Vec<GuestPoint>) {
        self.inner.guest_metrics.add(resource, deltas);
    }

    /// What one request may record.
    pub(super) fn record_limits(&self) -> RecordLimits {
        RecordLimits::new(self.inner.settings.limits, self.inner.settings.log_limits)
    }

    /// Counts what one request recorded beyond its limits, if it did.
    pub(super) fn count_dropped(&self, spans: u32, logs: u32) {
        for (signal, items) in [(SignalKind::Traces, spans), (SignalKind::Logs, logs)] {
            if items > 0 {
                self.inner.counters.dropped(signal, DropReason::RequestLimit, items.into());
            }
        }
    }

    /// Gives a segment that leaves the host by another way to those who read segments here.
    pub(super) fn deliver_locally(&self, segment: Segment) {
        let weight = segment.spans.len() + segment.logs.len();
        self.inner.deliver_locally(FinishedSegment { segment: Arc::new(segment), weight });
    }

    /// Takes a finished segment.
    pub(super) fn submit(&self, segment: Arc<Segment>, weight: usize) {
        if let Some(print) = self.inner.log_printer.as_ref().filter(|_| !segment.logs.is_empty()) {
            print(&segment);
        }
        let finished = FinishedSegment { segment, weight };
        match &self.inner.tail_sampler {
            Some(tail_sampler) => {
                let kept = tail_sampler.lock().unwrap_or_else(PoisonError::into_inner).end(finished);
                kept.into_iter().for_each(|finished| self.inner.accept(finished));
            }
            None => self.inner.accept(finished),
        }
    }
}

impl Inner {
    /// Gives a segment that is kept to everybody who reads segments.
    fn accept(&self, finished: FinishedSegment) {
        let FinishedSegment { segment, weight } = &finished;
        for queue in [&self.transports.spans, &self.transports.logs].into_iter().flatten() {
            queue.submit(segment, *weight);
        }
        if segment.sampled {
            self.deliver_locally(finished);
        }
    }

    /// Gives a segment to the terminal and the store.
    fn deliver_locally(&self, finished: FinishedSegment) {
        if let Some(terminal) = &self.terminal {
            terminal.print(&finished);
        }
        self.store.add(StoredPart::Local(finished.segment));
    }

    fn flush_tail_sampler(&self) {
        let Some(tail_sampler) = &self.tail_sampler else { return };
        let segments = tail_sampler.lock().unwrap_or_else(PoisonError::into_inner).flush();
        segments.into_iter().for_each(|finished| self.accept(finished));
    }
}
