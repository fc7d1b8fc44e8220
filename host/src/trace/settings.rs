//! The settings of telemetry: plain data, resolved by `config/` from the environment and the manifest.

use std::path::PathBuf;
use std::time::Duration;

/// The destination of a signal. A signal may have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exporter {
    /// A collector, over OTLP.
    Otlp,
    /// The terminal: a tree for each trace, a line for each log record.
    Console,
}

/// The transport protocol of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `grpc`.
    Grpc,
    /// `http/protobuf`.
    HttpProtobuf,
}

/// The OTLP exporter of one signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// The URL: of the server for gRPC, with the path for HTTP.
    pub endpoint: String,
    /// Whether the endpoint was configured. If not, and nothing listens at the default address, there is no collector.
    pub is_configured: bool,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Fields (gRPC metadata) sent with every export, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The timeout of one export.
    pub timeout: Duration,
    /// Whether requests are compressed with gzip.
    pub gzip: bool,
    /// A file with PEM certificates to trust in addition to the system's.
    pub certificate: Option<PathBuf>,
    /// The files with the client certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// The settings of one signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// The destinations; if empty, the signal is not exported.
    pub exporters: Vec<Exporter>,
    /// The settings of the OTLP exporter.
    pub otlp: Otlp,
}

/// The sampler of traces that start at this host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RootSampler {
    /// Samples all traces.
    AlwaysOn,
    /// Samples no traces.
    AlwaysOff,
    /// Samples this ratio of traces, from 0 to 1.
    Ratio(f64),
}

/// `OTEL_TRACES_SAMPLER`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// The sampler of traces that start at this host.
    pub root: RootSampler,
    /// Whether the decision of the caller is followed, if there is one.
    pub parent_based: bool,
}

/// `OTEL_BSP_*` for spans, `OTEL_BLRP_*` for log records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The capacity of the queue.
    pub queue_size: usize,
    /// The most items of one export.
    pub export_size: usize,
    /// The longest time that an item waits for a full batch.
    pub delay: Duration,
}

/// The limits of one span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanLimits {
    /// The most attributes of a span.
    pub attributes: usize,
    /// The most events of a span.
    pub events: usize,
    /// The most attributes of an event.
    pub event_attributes: usize,
    /// The most characters of a text value; `None` for no limit.
    pub value_length: Option<usize>,
}

/// The limits of the attributes of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributeLimits {
    /// The most attributes.
    pub count: usize,
    /// The most characters of a text value; `None` for no limit.
    pub value_length: Option<usize>,
}

impl AttributeLimits {
    /// The same limits without one on the number of attributes.
    pub(super) fn without_count(self) -> AttributeLimits {
        AttributeLimits { count: usize::MAX, ..self }
    }
}

/// A format in which trace context is propagated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagator {
    /// W3C `traceparent` and `tracestate`.
    TraceContext,
    /// W3C `baggage`.
    Baggage,
    /// The single `b3` header.
    B3,
    /// The `x-b3-*` headers.
    B3Multi,
    /// `uber-trace-id`.
    Jaeger,
}

/// The tail-sampling policy: which finished traces are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TailPolicy {
    /// Traces with an error.
    pub errors: bool,
    /// Traces with a request that took longer.
    pub slower_than: Option<Duration>,
    /// The ratio of other traces that is kept, from 0 to 1.
    pub rate: f64,
}

impl TailPolicy {
    /// Whether the policy certainly keeps the trace of a request that ended with this outcome.
    pub(super) fn keeps(&self, failed: bool, duration: Duration) -> bool {
        (self.errors && failed) || self.slower_than.is_some_and(|limit| duration > limit) || self.rate >= 1.0
    }
}

/// All settings of telemetry. The default is that of the OpenTelemetry specification for an empty environment, with log
/// records on the terminal in addition.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `OTEL_SDK_DISABLED`.
    pub disabled: bool,
    /// The signal of spans.
    pub traces: Signal,
    /// The signal of metrics.
    pub metrics: Signal,
    /// The signal of log records.
    pub logs: Signal,
    /// The sampler.
    pub sampler: Sampler,
    /// The batching of spans.
    pub batch: Batch,
    /// The batching of log records.
    pub log_batch: Batch,
    /// The limits of a span.
    pub limits: SpanLimits,
    /// The limits of a log record.
    pub log_limits: AttributeLimits,
    /// The propagators, in this order.
    pub propagators: Vec<Propagator>,
    /// The tail-sampling policy; `None` keeps all traces.
    pub tail_policy: Option<TailPolicy>,
    /// Whether responses carry `traceresponse`.
    pub response_header: bool,
    /// The interval of metric exports.
    pub metric_export_interval: Duration,
    /// The capacity of the store of recent traces in bytes; 0 turns it off.
    pub store_bytes: usize,
}

impl Otlp {
    /// The timeout that means no timeout: a year, which can be added to any point in time.
    pub const NO_LIMIT: Duration = Duration::from_secs(366 * 86_400);

    /// The settings for an empty environment.
    pub fn standard() -> Otlp {
        Otlp {
            endpoint: "http://localhost:4317".to_owned(),
            is_configured: false,
            protocol: Protocol::Grpc,
            headers: Vec::new(),
            timeout: Duration::from_secs(10),
            gzip: false,
            certificate: None,
            client: None,
        }
    }

    /// Whether the connection to the collector uses TLS.
    pub fn is_https(&self) -> bool {
        self.endpoint.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
    }

    /// The endpoint for log messages: without user info, which may hold a password, and without the query, which may
    /// hold a key.
    pub fn shown_endpoint(&self) -> String {
        let (scheme, rest) = self.endpoint.split_once("://").unwrap_or(("http", &self.endpoint));
        let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?..."));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        format!("{scheme}://{host}{path}{query}")
    }
}

impl Default for Settings {
    fn default() -> Settings {
        let signal = Signal { exporters: vec![Exporter::Otlp], otlp: Otlp::standard() };
        let logs = Signal { exporters: vec![Exporter::Otlp, Exporter::Console], ..signal.clone() };
        Settings {
            disabled: false,
            traces: signal.clone(),
            metrics: signal,
            logs,
            sampler: Sampler { root: RootSampler::AlwaysOn, parent_based: true },
            batch: Batch { queue_size: 2048, export_size: 512, delay: Duration::from_secs(5) },
            log_batch: Batch { queue_size: 2048, export_size: 512, delay: Duration::from_secs(1) },
            limits: SpanLimits { attributes: 128, events: 128, event_attributes: 128, value_length: None },
            log_limits: AttributeLimits { count: 128, value_length: None },
            propagators: vec![Propagator::TraceContext, Propagator::Baggage],
            tail_policy: None,
            response_header: true,
            metric_export_interval: Duration::from_secs(60),
            store_bytes: 64 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shown_endpoint_contains_no_secret() {
        let check = |url: &str, expected: &str| {
            assert_eq!(Otlp { endpoint: url.to_owned(), ..Otlp::standard() }.shown_endpoint(), expected, "{url}");
        };
        check("http://u:p@c:1/x?a@b", "http://c:1/x?...");
        check("https://c/u@v", "https://c/u@v");
        check("https://c?key=s3cret/x", "https://c?...");
    }
}
