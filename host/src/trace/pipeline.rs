//! The one pipeline of the host: sampling at its beginning, one queue, one export task at its end.
//!
//! A finished segment is shared, never copied: the store of recent traces, the terminal and OTLP read the same one.
//! While the collector is away the task keeps its batch and tries again, the queue fills, and what comes after is
//! dropped and counted, and said once per outage. Requests never wait for any of it.

use std::borrow::Cow;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, TraceId};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use thiserror::Error;
use tokio::task::JoinHandle;

use super::context::Incoming;
use super::counters::{Counters, DropReason};
use super::identity;
use super::keep::Keeper;
use super::otlp::{self, SeriesExemplars, TransportError, Transports};
use super::propagation::Propagators;
use super::queue::{Pushed, Queue};
use super::recent::Recent;
use super::recorder::{Beginning, Recorder};
use super::segment::Segment;
use super::settings::{Exporter, Root, Settings, SpanLimits};
use super::source::Source;
use super::tree;

/// Where finished traces are printed for people.
type Terminal = Mutex<Box<dyn Write + Send>>;

/// Why telemetry could not be set up.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// OTLP cannot be spoken as the settings say.
    #[error(transparent)]
    Transport(#[from] TransportError),
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
    /// Whether spans and log records go to a collector, and so through the queue.
    exports: bool,
    queue: Queue,
    keeper: Option<Mutex<Keeper>>,
    recent: Recent,
    counters: Arc<Counters>,
    terminal: Option<Terminal>,
    transports: Arc<Transports>,
    outage: otlp::Outage,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Pipeline {
    /// Starts the export task. Finished traces are printed to standard output where the settings ask for that.
    pub fn start(settings: Settings) -> Result<Pipeline, PipelineError> {
        Pipeline::start_with(settings, Box::new(std::io::stdout()))
    }

    /// The same, with the terminal given.
    pub fn start_with(settings: Settings, terminal: Box<dyn Write + Send>) -> Result<Pipeline, PipelineError> {
        let to = |exporter| !settings.disabled && settings.traces.exporters.contains(&exporter);
        let transports = Arc::new(Transports::new(&settings)?);
        let batch = settings.batch;
        let inner = Arc::new(Inner {
            propagators: Propagators::new(&settings.propagators),
            wanted: !settings.disabled && (!settings.traces.exporters.is_empty() || settings.recent_spans > 0),
            exports: transports.exports_spans() || transports.exports_logs(),
            queue: Queue::new(batch.queue_size, batch.export_size),
            keeper: settings.keep.map(|rule| Mutex::new(Keeper::new(rule, batch.queue_size))),
            recent: Recent::new(settings.recent_spans),
            counters: Arc::default(),
            terminal: to(Exporter::Console).then(|| Mutex::new(terminal)),
            transports,
            outage: otlp::Outage::default(),
            task: Mutex::default(),
            settings,
        });
        let task = tokio::spawn(export(inner.clone()));
        *inner.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Ok(Pipeline { inner })
    }

    /// How trace context travels.
    pub fn propagators(&self) -> &Propagators {
        &self.inner.propagators
    }

    /// What became of spans.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// How many spans wait for export, and how many can.
    pub fn queue(&self) -> (usize, usize) {
        (self.inner.queue.len(), self.inner.queue.capacity())
    }

    /// The traces that were finished last.
    pub fn recent(&self) -> &Recent {
        &self.inner.recent
    }

    /// Decides whether the trace is recorded, and starts the request's own span.
    pub fn record(
        &self,
        source: &Arc<Source>,
        incoming: &Incoming,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        attributes: Vec<KeyValue>,
    ) -> Recorder {
        let parent = incoming.parent.clone();
        let trace_id = parent.as_ref().map_or_else(identity::trace_id, |parent| parent.trace_id);
        let sampled = self.samples(parent.as_ref().map(|parent| parent.sampled), trace_id);
        let beginning = Beginning {
            source: source.clone(),
            parent,
            baggage: incoming.baggage.clone(),
            sampled,
            trace_id,
            name: name.into(),
            kind,
            attributes,
        };
        Recorder::begin(self.clone(), beginning)
    }

    /// Sends metrics, unless that is turned off.
    pub async fn export_metrics(&self, collected: Vec<ResourceMetrics>, exemplars: Vec<SeriesExemplars>) {
        self.inner.transports.send_metrics(&collected, exemplars, &self.inner.counters).await;
    }

    /// Sends what waits, within `limit`. What does not get out is counted.
    pub async fn shutdown(&self, limit: Duration) {
        self.inner.flush_keeper();
        self.inner.queue.close();
        let task = self.inner.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut task) = task
            && tokio::time::timeout(limit, &mut task).await.is_err()
        {
            task.abort();
            let left = self.inner.queue.len() as u64;
            self.inner.counters.dropped(DropReason::Shutdown, left);
            tracing::warn!(spans = left, "the collector did not take the last spans in time");
        }
    }

    pub(super) fn span_limits(&self) -> &SpanLimits {
        &self.inner.settings.limits
    }

    /// Takes a finished segment.
    pub(super) fn submit(&self, segment: Segment) {
        let segment = Arc::new(segment);
        match &self.inner.keeper {
            Some(keeper) => {
                let kept = keeper.lock().unwrap_or_else(PoisonError::into_inner).take(segment);
                kept.into_iter().for_each(|segment| self.inner.accept(segment));
            }
            None => self.inner.accept(segment),
        }
    }

    fn samples(&self, caller: Option<bool>, trace_id: TraceId) -> bool {
        let sampler = self.inner.settings.sampler;
        self.inner.wanted
            && match caller {
                Some(decided) if sampler.parent_based => decided,
                _ => samples(sampler.root, trace_id),
            }
    }
}

/// The ratio is taken of the trace id, so that every service that sees the trace decides alike.
fn samples(root: Root, trace_id: TraceId) -> bool {
    match root {
        Root::AlwaysOn => true,
        Root::AlwaysOff => false,
        Root::Ratio(ratio) if ratio >= 1.0 => true,
        Root::Ratio(ratio) => {
            let [.., a, b, c, d, e, f, g, h] = trace_id.to_bytes();
            let low = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
            (low as f64) < ratio * (1_u64 << 63) as f64
        }
    }
}

impl Inner {
    /// Gives a segment that is kept to everybody who reads segments.
    fn accept(&self, segment: Arc<Segment>) {
        if segment.sampled {
            self.recent.add(segment.clone());
            if let (Some(terminal), true) = (&self.terminal, segment.is_local_root()) {
                self.print(terminal, &segment);
            }
        }
        if !self.exports {
            return;
        }
        let spans = segment.spans.len() as u64;
        if self.queue.push(segment) == Pushed::Full {
            self.counters.dropped(DropReason::QueueFull, spans);
            self.outage.dropping();
        }
    }

    fn print(&self, terminal: &Terminal, segment: &Arc<Segment>) {
        let trace = self.recent.segments(segment.trace_id);
        let text = tree::render(if trace.is_empty() { std::slice::from_ref(segment) } else { &trace });
        let mut terminal = terminal.lock().unwrap_or_else(PoisonError::into_inner);
        // A terminal that went away is no reason to stop serving.
        let _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
    }

    fn flush_keeper(&self) {
        let Some(keeper) = &self.keeper else { return };
        let held = keeper.lock().unwrap_or_else(PoisonError::into_inner).flush();
        held.into_iter().for_each(|segment| self.accept(segment));
    }
}

/// Takes batch after batch off the queue until the queue is closed and empty.
async fn export(inner: Arc<Inner>) {
    loop {
        inner.queue.something().await;
        if !inner.queue.is_closed() {
            let _ = tokio::time::timeout(inner.settings.batch.delay, inner.queue.a_batch()).await;
        }
        let batch = inner.queue.take(inner.settings.batch.export_size);
        if batch.is_empty() {
            if inner.queue.is_closed() {
                return;
            }
            continue;
        }
        let sent = (
            inner.transports.send_spans(&batch, &inner.counters, &inner.outage),
            inner.transports.send_logs(&batch, &inner.counters),
        );
        futures_util::future::join(sent.0, sent.1).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_keeps_its_share_and_decides_the_same_for_everybody() {
        let kept = (0..10_000).filter(|_| samples(Root::Ratio(0.25), identity::trace_id())).count();
        assert!((2_200..2_800).contains(&kept), "{kept}");
        assert!(samples(Root::Ratio(1.0), TraceId::from(u128::MAX)));
        assert!(!samples(Root::Ratio(0.0), TraceId::from(1_u128 << 80)));
        let id = identity::trace_id();
        assert_eq!(samples(Root::Ratio(0.5), id), samples(Root::Ratio(0.5), id));
    }
}
