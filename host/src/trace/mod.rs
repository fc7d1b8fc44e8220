//! Traces: from the headers of a request to the export of its spans and log records.
//!
//! A [`Recorder`] holds the spans of one request at one service. The exchange that serves the request owns it, so
//! recording takes no lock. When the request ends the recorder becomes a [`Segment`], which is handed over in one step
//! to everything that reads spans: the bounded export queues for OTLP, the terminal and the store of recent traces. All
//! of them share the same segment. A full queue drops records and counts them; nothing in this module ever blocks a
//! request.
//!
//! This module imports no other module of the host, and OTLP is named only in `otlp`.

mod baggage;
mod context;
mod counters;
mod cycle;
mod detail;
mod ended_span;
mod exponential_histogram;
pub mod guest_limits;
mod guest_metrics;
mod histogram;
mod ids;
mod limits;
mod otlp;
mod pipeline;
mod point_error;
mod printers;
mod propagation;
mod queue;
mod receive;
mod recorder;
mod resource;
mod sampler;
mod sanitize;
mod sdk;
mod segment;
mod settings;
mod shared;
mod store;
mod tail_sampler;
mod terminal;
#[cfg(test)]
mod tests;
mod tree;

pub use opentelemetry::KeyValue;
pub use opentelemetry::trace::{SpanId, SpanKind, TraceId};

pub use self::baggage::Baggage;
pub use self::context::{Incoming, TraceContext};
pub use self::counters::{Counters, DropReason, ExportOutcome, SignalKind};
pub(crate) use self::cycle::first_of_cycles;
pub use self::detail::span_detail;
pub use self::ended_span::{EndedSpan, EndedSpanEvent, EndedSpanLink};
pub use self::exponential_histogram::ExponentialHistogram;
pub use self::guest_metrics::{GuestPoint, GuestSeries, InstanceMetrics, Number, PointValue, SeriesKey, ServiceSeries};
pub use self::histogram::{Histogram, HistogramTotals};
pub(crate) use self::ids::trace_hash;
pub use self::limits::GuestRecordLimits;
pub(crate) use self::limits::cut_position;
pub(crate) use self::otlp::root_cause;
pub use self::otlp::{
    Attribute, Attributes, MetricExemplar, SeriesExemplars, TransportError, Value, decode_attributes,
};
pub use self::pipeline::{Pipeline, PipelineError};
pub use self::point_error::PointError;
pub use self::printers::{LogPrinter, Printers};
pub use self::propagation::{Propagators, remove_baggage, remove_context};
pub use self::receive::receiver as otlp_receiver;
pub use self::recorder::Recorder;
pub use self::resource::Resource;
pub use self::sdk::SdkProviders;
pub use self::segment::{Event, LogRecord, Segment, Severity, Span, SpanRef, Status};
pub use self::settings::{
    AttributeLimits, Batch, Exporter, Otlp, Propagator, Protocol, RootSampler, Sampler, Settings, Signal, SpanLimits,
    TailPolicy,
};
pub use self::shared::{Abort, SharedRecorder};
pub use self::store::{
    AnyValue, Dependency, Operation, Pairs, RootSpan, ServiceSpans, SpanGroup, StoreStats, StoredEvent, StoredLink,
    StoredLog, StoredResource, StoredScope, StoredSpan, StoredStatus, StoredTrace, TimeScope, TraceQuery, TraceStore,
    TraceSummary, parse_trace_id,
};
pub use self::tree::TreeDetail;
