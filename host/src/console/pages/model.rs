//! What the pages show: plain values, made elsewhere from the host's reports and the trace store.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Bool(bool),
    Int(i64),
    Double(f64),
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => formatter.write_str(text),
            Value::Bool(truth) => truth.fmt(formatter),
            Value::Int(number) => number.fmt(formatter),
            Value::Double(number) => number.fmt(formatter),
        }
    }
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attribute {
    pub key: String,
    pub value: Value,
}

/// Finds an attribute by its key.
pub(crate) fn find<'a>(attributes: &'a [Attribute], key: &str) -> Option<&'a Value> {
    attributes.iter().find(|attribute| attribute.key == key).map(|attribute| &attribute.value)
}

/// The side of a call that a span tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Server,
    Client,
    Internal,
    Producer,
    Consumer,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Server => "server",
            Kind::Client => "client",
            Kind::Internal => "internal",
            Kind::Producer => "producer",
            Kind::Consumer => "consumer",
        }
    }
}

/// Something that happened during a span.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub name: String,
    pub time: SystemTime,
    pub attributes: Vec<Attribute>,
}

/// Another span that a span has to do with, perhaps of another trace.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub trace: String,
    pub span: String,
}

/// One span as it was recorded.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub id: String,
    /// None for a root.
    pub parent: Option<String>,
    pub service: String,
    pub name: String,
    pub kind: Kind,
    pub start: SystemTime,
    pub duration: Duration,
    /// What went wrong, perhaps without words.
    pub error: Option<String>,
    pub attributes: Vec<Attribute>,
    /// Attributes and events that were over the limits.
    pub dropped: u32,
    pub events: Vec<Event>,
    pub links: Vec<Link>,
    /// Shared by all spans of one version of a service.
    pub resource: Arc<Vec<Attribute>>,
}

/// A log record of a trace.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub time: SystemTime,
    /// As in `WARN`.
    pub severity: String,
    pub service: String,
    pub span: String,
    pub body: String,
    pub attributes: Vec<Attribute>,
}

/// One trace in a list.
#[derive(Clone, Debug)]
pub(crate) struct TraceRow {
    pub id: String,
    pub service: String,
    pub name: String,
    pub start: SystemTime,
    pub duration: Duration,
    /// Each service with the number of its spans.
    pub services: Vec<(String, usize)>,
    pub spans: usize,
    pub errors: usize,
}

/// A service of the host.
#[derive(Clone, Debug)]
pub(crate) struct ServiceView {
    pub name: String,
    pub kind: String,
    /// Where it answers, as in `http://localhost:8000`.
    pub url: String,
    pub state: String,
    pub in_flight: usize,
    /// The version that serves and, where one is on trial, the canary.
    pub versions: Vec<VersionView>,
    /// The generation that a rollback goes to.
    pub earlier: Option<u64>,
    /// The last minutes, the oldest first.
    pub samples: Vec<Sample>,
    /// Swaps, the latest first.
    pub swaps: Vec<SwapView>,
    pub last_error: Option<String>,
    /// Paths that can be tried with a plain GET request.
    pub examples: Vec<String>,
}

/// How one version of a service does.
#[derive(Clone, Debug)]
pub(crate) struct VersionView {
    /// The share of the traces that it serves, in percent, where it is a canary.
    pub canary_percent: Option<f64>,
    pub version: String,
    pub generation: u64,
    pub digest: String,
    pub in_flight: usize,
    pub requests: u64,
    pub rate: f64,
    pub error_rate: f64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

/// What happened in one interval of the last minutes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Requests per second.
    pub rate: f64,
    /// Failed requests per second.
    pub errors: f64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

/// A swap, rollback, promotion or abort, done or refused.
#[derive(Clone, Debug)]
pub(crate) struct SwapView {
    pub time: SystemTime,
    pub outcome: String,
    pub generation: Option<u64>,
    pub digest: Option<String>,
    /// Why it was refused or rolled back.
    pub reason: Option<String>,
    pub duration: Duration,
}

impl SwapView {
    /// Whether the new version did not come to serve, or did not stay.
    pub fn failed(&self) -> bool {
        self.reason.is_some() || self.outcome == "refused"
    }
}
