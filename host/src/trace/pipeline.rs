//! The one pipeline of the host: sampling at its beginning, bounded queues and their tasks at its end.
//!
//! A finished segment is shared, never copied: the store of recent traces, the terminal and OTLP read the same one.
//! Spans and log records have a queue each, so that trouble with one does not hold up the other. While the collector is
//! away the queues fill, and what comes after is dropped and counted, and said once per outage. Requests never wait for
//! any of it.

use std::borrow::Cow;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use thiserror::Error;
use tokio::task::JoinHandle;

use super::context::{Incoming, TraceContext};
use super::counters::{Counters, DropReason, SignalKind};
use super::identity;
use super::limits::RecordLimits;
use super::otlp::{ExportQueue, SeriesExemplars, TransportError, Transports};
use super::propagation::Propagators;
use super::recorder::{Beginning, Recorder};
use super::resource::Resource;
use super::segment::Segment;
use super::settings::{Exporter, Settings};
use super::store::TraceStore;
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

/// A segment on its way to everybody who reads segments.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    pub segment: Arc<Segment>,
    /// How many spans it counts as where spans are counted to bound memory.
    pub weight: usize,
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
    wanted: bool,
    tail_sampler: Option<Mutex<TailSampler>>,
    recent: TraceStore,
    counters: Arc<Counters>,
    terminal: Option<Terminal>,
    transports: Transports,
    tasks: Mutex<Vec<(Arc<ExportQueue>, JoinHandle<()>)>>,
}

impl Pipeline {
    /// Starts the export tasks. Finished traces are printed to standard output where the settings ask for that.
    pub fn start(settings: Settings) -> Result<Pipeline, PipelineError> {
        Pipeline::start_with(settings, Box::new(std::io::stdout()))
    }

    /// The same, with the terminal given.
    pub fn start_with(settings: Settings, terminal: Box<dyn Write + Send>) -> Result<Pipeline, PipelineError> {
        let prints = !settings.disabled && settings.traces.exporters.contains(&Exporter::Console);
        let counters = Arc::new(Counters::default());
        let transports = Transports::new(&settings, &counters)?;
        let lanes = [&transports.spans, &transports.logs].into_iter().flatten();
        let tasks = lanes.map(|lane| (lane.clone(), tokio::spawn(lane.clone().run()))).collect();
        let inner = Inner {
            propagators: Propagators::new(&settings.propagators),
            wanted: !settings.disabled && (!settings.traces.exporters.is_empty() || settings.recent_spans > 0),
            tail_sampler: settings.keep.map(|rule| Mutex::new(TailSampler::new(rule, settings.batch.queue_size))),
            recent: TraceStore::new(settings.recent_spans),
            counters,
            terminal: prints.then(|| Terminal::start(terminal)).transpose()?,
            transports,
            tasks: Mutex::new(tasks),
            settings,
        };
        Ok(Pipeline { inner: Arc::new(inner) })
    }

    /// How trace context travels.
    pub fn propagators(&self) -> &Propagators {
        &self.inner.propagators
    }

    /// What became of spans and log records.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// How many spans wait for export, and how many can.
    pub fn queue(&self) -> (usize, usize) {
        let spans = self.inner.transports.spans.as_ref();
        spans.map_or((0, self.inner.settings.batch.queue_size), |lane| lane.queue())
    }

    /// The traces that were finished last.
    pub fn recent(&self) -> &TraceStore {
        &self.inner.recent
    }

    /// Decides whether the trace is recorded, and starts the request's own span.
    pub fn record(
        &self,
        resource: &Arc<Resource>,
        incoming: &Incoming,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
    ) -> Recorder {
        let parent = incoming.parent.as_ref().filter(|parent| parent.is_valid());
        let trace_id = parent.map_or_else(identity::trace_id, |parent: &TraceContext| parent.trace_id);
        let is_enabled = self.inner.wanted;
        let sampled = is_enabled && self.inner.settings.sampler.samples(parent, incoming.denied, trace_id);
        if let Some(tail_sampler) = self.inner.tail_sampler.as_ref().filter(|_| sampled) {
            tail_sampler.lock().unwrap_or_else(PoisonError::into_inner).begin(trace_id);
        }
        let beginning = Beginning {
            resource: resource.clone(),
            parent: parent.cloned(),
            baggage: incoming.baggage.clone(),
            sampled,
            is_enabled,
            name: name.into(),
            kind,
        };
        Recorder::begin(self.clone(), trace_id, beginning)
    }

    /// Sends metrics, unless that is turned off.
    pub async fn export_metrics(&self, collected: Vec<ResourceMetrics>, exemplars: Vec<SeriesExemplars>) {
        self.inner.transports.send_metrics(&collected, exemplars, &self.inner.counters).await;
    }

    /// Sends what waits, within `limit`. What does not get out is counted. Requests that end later are, too.
    pub async fn shutdown(&self, limit: Duration) {
        self.inner.flush_keeper();
        let tasks = std::mem::take(&mut *self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.iter().for_each(|(lane, _)| lane.close());
        let printed = async {
            if let Some(terminal) = &self.inner.terminal {
                let _ = tokio::time::timeout(limit, terminal.flush()).await;
            }
        };
        let sent = tasks.into_iter().map(|(lane, mut task)| async move {
            if tokio::time::timeout(limit, &mut task).await.is_err() {
                task.abort();
                // Once it has ended, nothing is taken off the queue any more.
                let _ = task.await;
            }
            lane.abandon();
        });
        futures_util::future::join(futures_util::future::join_all(sent), printed).await;
    }

    /// Whether the spans of a request that ended like this leave the host for certain, if they are sampled. Where there
    /// is a tail rule, what it keeps by chance or for another request's sake is not certain.
    pub fn is_sure_to_keep(&self, failed: bool, duration: Duration) -> bool {
        self.inner.settings.keep.is_none_or(|rule| rule.keeps(failed, duration))
    }

    /// What one request may record.
    pub(super) fn room(&self) -> RecordLimits {
        RecordLimits::new(self.inner.settings.limits, self.inner.settings.log_limits)
    }

    /// Counts what one request recorded beyond its limits, if it did.
    pub(super) fn left_out(&self, spans: u32, logs: u32) {
        for (signal, items) in [(SignalKind::Traces, spans), (SignalKind::Logs, logs)] {
            if items > 0 {
                self.inner.counters.dropped(signal, DropReason::RequestLimit, items.into());
            }
        }
    }

    /// Takes a finished segment.
    pub(super) fn submit(&self, segment: Arc<Segment>, weight: usize) {
        let finished = Finished { segment, weight };
        match &self.inner.tail_sampler {
            Some(tail_sampler) => {
                let kept = tail_sampler.lock().unwrap_or_else(PoisonError::into_inner).take(finished);
                kept.into_iter().for_each(|finished| self.inner.accept(finished));
            }
            None => self.inner.accept(finished),
        }
    }
}

impl Inner {
    /// Gives a segment that is kept to everybody who reads segments.
    fn accept(&self, finished: Finished) {
        let Finished { segment, weight } = &finished;
        for lane in [&self.transports.spans, &self.transports.logs].into_iter().flatten() {
            lane.submit(segment, *weight);
        }
        if !segment.sampled {
            return;
        }
        if let Some(terminal) = &self.terminal {
            terminal.print(&finished);
        }
        self.recent.add(finished);
    }

    fn flush_keeper(&self) {
        let Some(tail_sampler) = &self.tail_sampler else { return };
        let held = tail_sampler.lock().unwrap_or_else(PoisonError::into_inner).flush();
        held.into_iter().for_each(|finished| self.accept(finished));
    }
}
