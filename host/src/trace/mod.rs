//! Traces: from a caller's headers to records on their way out.
//!
//! A [`Recorder`] holds the spans of one request at one service; it belongs to whoever serves the request, so recording
//! takes no lock. When the request ends the recorder becomes a [`Segment`], which is handed over in one step to everything
//! that reads spans: a bounded queue and its task for OTLP, the terminal, the store of recent traces. All share the same
//! segment. A full queue drops and counts; nothing here ever blocks a request.
//!
//! This module imports no other module of the host, and OTLP is named only in `otlp`.

mod baggage;
mod context;
mod counters;
mod detail;
mod ended_span;
pub mod guest_bounds;
mod guest_metrics;
mod identity;
mod limits;
mod otlp;
mod pipeline;
mod plain;
mod printers;
mod propagation;
mod queue;
mod receive;
mod recorder;
mod resource;
mod sampler;
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
pub use self::detail::span_detail;
pub use self::ended_span::{EndedSpan, EndedSpanEvent, EndedSpanLink};
pub use self::guest_metrics::{
    Exponential, GuestPoint, GuestSeries, Histogram, InstanceMetrics, Measured as GuestMeasured, Number, SeriesKey,
    SeriesOfService, Totals,
};
pub(crate) use self::identity::trace_hash;
pub use self::limits::GuestRecordLimits;
pub(crate) use self::limits::cut_position;
pub(crate) use self::otlp::innermost;
pub use self::otlp::{
    Attribute, Attributes, MetricExemplar, SeriesExemplars, TransportError, Value, decode_attributes,
};
pub use self::pipeline::{Pipeline, PipelineError};
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
