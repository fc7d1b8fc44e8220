//! OTLP out: segments become requests, and requests reach the collector or are accounted for.
//!
//! A request holds what every service left, grouped by Resource. One that fails for now is tried again with growing
//! pauses until it gets through or the host stops; one that the collector refuses for good is dropped and counted. Metrics
//! go in requests for one Resource each, once.

mod answer;
mod attributes;
mod batch;
mod destination;
mod encode;
mod export_queue;
mod grpc;
mod guest_metrics;
mod http;
mod metric_requests;
mod metrics;
mod outage;
mod protobuf;
mod retry;
mod sdk;
#[cfg(test)]
mod tests;
mod transport;
mod transport_error;
mod transports;
mod verdict;

pub use self::attributes::{Attribute, Attributes, Value, decode_attributes};
pub(super) use self::batch::SCHEMA;
pub(super) use self::destination::TraceViewHint;
pub(super) use self::export_queue::ExportQueue;
pub use self::metrics::{MetricExemplar, SeriesExemplars};
pub(super) use self::sdk::{Tries, log_exporter, span_exporter};
pub use self::transport_error::TransportError;
pub(super) use self::transports::Transports;
pub(crate) use self::verdict::innermost;
