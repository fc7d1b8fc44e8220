//! What telemetry is told to do: plain data, resolved by `config/` from the environment and the manifest.

use std::path::PathBuf;
use std::time::Duration;

/// Where a signal goes. Several may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exporter {
    /// To a collector by OTLP.
    Otlp,
    /// To the terminal: a tree for each trace, a line for each log record.
    Console,
}

/// How OTLP travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `grpc`.
    Grpc,
    /// `http/protobuf`.
    HttpProtobuf,
}

/// How one signal reaches its collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// The URL: for gRPC the server, for HTTP the whole URL with its path.
    pub endpoint: String,
    /// Whether somebody has named it. Where nothing listens at the usual address otherwise, there is no collector.
    pub is_named: bool,
    /// How it travels.
    pub protocol: Protocol,
    /// Fields (gRPC metadata) sent with every export, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The longest that one export may take.
    pub timeout: Duration,
    /// Whether bodies are compressed with gzip.
    pub gzip: bool,
    /// A file with PEM certificates to trust besides the system's.
    pub certificate: Option<PathBuf>,
    /// The files with a certificate and its key that identify this client.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// One signal: what is done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Where it goes; nowhere where this is empty.
    pub exporters: Vec<Exporter>,
    /// How OTLP gets there.
    pub otlp: Otlp,
}

/// Which traces are recorded, decided where a trace starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RootSampler {
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// This share of them, from 0 to 1.
    Ratio(f64),
}

/// `OTEL_TRACES_SAMPLER`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// What is decided for a trace that starts here.
    pub root: RootSampler,
    /// Whether a caller's decision is followed where there is a caller.
    pub parent_based: bool,
}

/// `OTEL_BSP_*` for spans, `OTEL_BLRP_*` for log records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The most of them that wait for export.
    pub queue_size: usize,
    /// The most of them in one export.
    pub export_size: usize,
    /// How long the first one of a batch waits for company.
    pub delay: Duration,
}

/// How much one span may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanLimits {
    /// Attributes of a span.
    pub attributes: usize,
    /// Events of a span.
    pub events: usize,
    /// Attributes of an event.
    pub event_attributes: usize,
    /// Characters of a text value; no limit where there is none.
    pub value_length: Option<usize>,
}

/// How many attributes something may have, and how long their texts may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributeLimits {
    /// Attributes.
    pub count: usize,
    /// Characters of a text value; no limit where there is none.
    pub value_length: Option<usize>,
}

/// How trace context travels in headers.
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

/// Which finished traces are worth keeping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TailPolicy {
    /// Those with an error.
    pub errors: bool,
    /// Those that took longer.
    pub slower_than: Option<Duration>,
    /// The share of the rest that is kept, from 0 to 1.
    pub rate: f64,
}

impl TailPolicy {
    /// Whether a trace is kept for the sake of a request that ended like this.
    pub(super) fn keeps(&self, failed: bool, duration: Duration) -> bool {
        (self.errors && failed) || self.slower_than.is_some_and(|limit| duration > limit) || self.rate >= 1.0
    }
}

/// Everything that telemetry is told. The default is what the OpenTelemetry specification says for an empty environment,
/// and besides log records on the terminal.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `OTEL_SDK_DISABLED`.
    pub disabled: bool,
    /// Spans.
    pub traces: Signal,
    /// Metrics.
    pub metrics: Signal,
    /// Log records.
    pub logs: Signal,
    /// Which traces are recorded.
    pub sampler: Sampler,
    /// How spans are batched.
    pub batch: Batch,
    /// How log records are batched.
    pub log_batch: Batch,
    /// How much a span may hold.
    pub limits: SpanLimits,
    /// How much one log record may hold.
    pub log_limits: AttributeLimits,
    /// How trace context travels, in this order.
    pub propagators: Vec<Propagator>,
    /// Which finished traces are kept; all where there is no rule.
    pub tail_policy: Option<TailPolicy>,
    /// Whether responses name their trace in `traceresponse`.
    pub response_header: bool,
    /// How often metrics are exported.
    pub metric_export_interval: Duration,
    /// Bytes that the store of recent traces may hold; 0 turns it off.
    pub store_bytes: usize,
}

impl Otlp {
    /// The timeout that stands for none: a year, which can be added to any point in time.
    pub const NO_LIMIT: Duration = Duration::from_secs(366 * 86_400);

    /// The settings for an empty environment.
    pub fn standard() -> Otlp {
        Otlp {
            endpoint: "http://localhost:4317".to_owned(),
            is_named: false,
            protocol: Protocol::Grpc,
            headers: Vec::new(),
            timeout: Duration::from_secs(10),
            gzip: false,
            certificate: None,
            client: None,
        }
    }

    /// Whether the way to the collector is by TLS.
    pub fn is_https(&self) -> bool {
        self.endpoint.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
    }

    /// The endpoint as a log may show it: without a user, who may have a password, and a query, which may hold a key.
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
    fn what_is_shown_of_an_endpoint_is_no_secret() {
        let check = |url: &str, expected: &str| {
            assert_eq!(Otlp { endpoint: url.to_owned(), ..Otlp::standard() }.shown_endpoint(), expected, "{url}");
        };
        check("http://u:p@c:1/x?a@b", "http://c:1/x?...");
        check("https://c/u@v", "https://c/u@v");
        check("https://c?key=s3cret/x", "https://c?...");
    }
}
