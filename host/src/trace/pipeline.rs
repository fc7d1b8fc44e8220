//! The telemetry pipeline of the host: sampling at its start, bounded export queues with their tasks at its end.
//!
//! A finished segment is shared, never copied: the store of recent traces, the terminal and OTLP read the same one.
//! Spans and log records have separate queues, so that a failure of one does not delay the other. While the collector
//! is unavailable the queues fill up; later records are dropped and counted, with one warning per outage. Requests
//! never wait for any of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::trace::TraceId;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use thiserror::Error;
use tokio::task::JoinHandle;

use super::context::TraceContext;
use super::counters::{Counters, DropReason, SignalKind};
use super::guest_metrics::{GuestMetrics, GuestPoint, ServiceSeries};
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

/// Why the pipeline could not be started.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// The settings of an OTLP exporter are invalid.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The thread that prints traces could not be started.
    #[error("traces cannot be printed: {0}")]
    Terminal(#[from] std::io::Error),
}

/// The pipeline. Clones share it.
#[derive(Clone)]
pub struct Pipeline {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    propagators: Propagators,
    /// Whether spans have any reader.
    has_readers: bool,
    tail_sampler: Option<Mutex<TailSampler>>,
    store: Arc<TraceStore>,
    guest_metrics: GuestMetrics,
    counters: Arc<Counters>,
    terminal: Option<Terminal>,
    /// Prints log records when their request ends, whatever the sampling decision.
    log_printer: Option<LogPrinter>,
    transports: Transports,
    /// A hint for the log: where traces can be viewed if there is no collector.
    view_hint: TraceViewHint,
    tasks: Mutex<Vec<(Arc<ExportQueue>, JoinHandle<()>)>>,
}

impl Pipeline {
    /// Starts the export tasks. Finished traces are printed to standard output if the settings select that.
    pub fn start(settings: Settings) -> Result<Pipeline, PipelineError> {
        Pipeline::start_with(settings, Printers::default())
    }

    /// Starts the export tasks, with the given outputs for traces and log records.
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

    /// The settings.
    pub(super) fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Sets the hint where traces can be viewed if there is no collector, as the end of a sentence. Only the first call
    /// has an effect.
    pub fn set_trace_view_hint(&self, hint: String) {
        let _ = self.inner.view_hint.set(hint);
    }

    /// The propagators.
    pub fn propagators(&self) -> &Propagators {
        &self.inner.propagators
    }

    /// Whether responses carry `traceresponse`.
    pub fn has_response_header(&self) -> bool {
        self.inner.settings.response_header
    }

    /// The counters of exported and dropped records.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.inner.counters
    }

    /// The number of spans in the export queue, and its capacity.
    pub fn queue(&self) -> (usize, usize) {
        let spans = self.inner.transports.spans.as_ref();
        spans.map_or((0, self.inner.settings.batch.queue_size), |queue| queue.queue())
    }

    /// The store of recent traces.
    pub fn store(&self) -> &Arc<TraceStore> {
        &self.inner.store
    }

    /// The sampling decision, made when the first request of the trace starts at this host.
    pub(super) fn samples(&self, parent: Option<&TraceContext>, denied: bool, trace_id: TraceId) -> bool {
        let sampled = self.inner.has_readers && self.inner.settings.sampler.samples(parent, denied, trace_id);
        if let Some(tail_sampler) = self.inner.tail_sampler.as_ref().filter(|_| sampled) {
            tail_sampler.lock().unwrap_or_else(PoisonError::into_inner).begin(trace_id);
        }
        sampled
    }

    /// Whether spans have any reader.
    pub(super) fn is_enabled(&self) -> bool {
        self.inner.has_readers
    }

    /// Exports metrics, unless that is turned off.
    pub async fn export_metrics(&self, collected: Vec<ResourceMetrics>, exemplars: Vec<SeriesExemplars>) {
        let guests = self.inner.guest_metrics.collect();
        self.inner.transports.send_metrics((&collected, guests), exemplars, &self.inner.counters).await;
    }

    /// Exports the queued records within `limit`. Records that are not exported by then, and those of requests that end
    /// later, are counted as dropped.
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
                // After the task has ended, nothing is taken from the queue any more.
                let _ = task.await;
            }
            queue.drop_remaining();
        });
        futures_util::future::join(futures_util::future::join_all(sent), printed).await;
    }

    /// Whether the spans of a request with this outcome are certain to be exported, if they are sampled. Traces that
    /// the tail policy keeps by its ratio or because of another request are not certain.
    pub fn is_certainly_exported(&self, failed: bool, duration: Duration) -> bool {
        self.inner.settings.tail_policy.is_none_or(|policy| policy.keeps(failed, duration))
    }

    /// The metrics of guests' own SDKs, by service.
    pub fn guest_metrics(&self) -> Vec<ServiceSeries> {
        self.inner.guest_metrics.collect()
    }

    /// Adds deltas of the metrics of guests' own SDKs.
    pub(super) fn add_guest_metrics(&self, resource: &Arc<Resource>, deltas: Vec<GuestPoint>) {
        self.inner.guest_metrics.add(resource, deltas);
    }

    /// The limits on the records of one request.
    pub(super) fn record_limits(&self) -> RecordLimits {
        RecordLimits::new(self.inner.settings.limits, self.inner.settings.log_limits)
    }

    /// Counts the records that one request has dropped because of its limits.
    pub(super) fn count_dropped(&self, spans: u32, logs: u32) {
        for (signal, items) in [(SignalKind::Traces, spans), (SignalKind::Logs, logs)] {
            if items > 0 {
                self.inner.counters.dropped(signal, DropReason::RequestLimit, items.into());
            }
        }
    }

    /// Hands a segment that is exported by other means to the readers within the process.
    pub(super) fn deliver_locally(&self, segment: Segment) {
        let weight = segment.spans.len() + segment.logs.len();
        self.inner.deliver_locally(FinishedSegment { segment: Arc::new(segment), weight });
    }

    /// Accepts a finished segment.
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
    /// Hands a segment that is kept to all readers.
    fn accept(&self, finished: FinishedSegment) {
        let FinishedSegment { segment, weight } = &finished;
        for queue in [&self.transports.spans, &self.transports.logs].into_iter().flatten() {
            queue.submit(segment, *weight);
        }
        if segment.sampled {
            self.deliver_locally(finished);
        }
    }

    /// Hands a segment to the terminal and the store.
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
