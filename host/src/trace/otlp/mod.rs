//! The OTLP exporters: encode segments and metrics, and send them to the collector.
//!
//! A request holds the records of several services, grouped by Resource. A failed request is retried with exponential
//! backoff until it succeeds or the host stops; a rejected one is dropped and counted. Requests for metrics hold one
//! Resource each and are not retried.

mod attributes;
mod batch;
mod destination;
mod encode;
mod export_queue;
mod export_result;
mod grpc;
mod guest_metrics;
mod http;
mod metric_requests;
mod metrics;
mod outage;
mod protobuf;
mod response;
mod retry;
mod sdk;
#[cfg(test)]
mod tests;
mod transport;
mod transport_error;
mod transports;

pub use self::attributes::{Attribute, Attributes, Value, decode_attributes};
pub(super) use self::batch::SCHEMA_URL;
pub(super) use self::destination::TraceViewHint;
pub(super) use self::export_queue::ExportQueue;
pub(crate) use self::export_result::root_cause;
pub use self::metrics::{MetricExemplar, SeriesExemplars};
pub(super) use self::sdk::{RetryMode, log_exporter, span_exporter};
pub use self::transport_error::TransportError;
pub(super) use self::transports::Transports;
