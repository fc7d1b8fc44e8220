//! View models of the pages: plain values, created from the host's reports and the trace store.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ValueModel {
    Text(String),
    Bool(bool),
    Int(i64),
    Double(f64),
}

impl fmt::Display for ValueModel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueModel::Text(text) => formatter.write_str(text),
            ValueModel::Bool(truth) => truth.fmt(formatter),
            ValueModel::Int(number) => number.fmt(formatter),
            ValueModel::Double(number) => number.fmt(formatter),
        }
    }
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AttributeModel {
    pub key: String,
    pub value: ValueModel,
}

/// Finds an attribute by its key.
pub(crate) fn find<'a>(attributes: &'a [AttributeModel], key: &str) -> Option<&'a ValueModel> {
    attributes.iter().find(|attribute| attribute.key == key).map(|attribute| &attribute.value)
}

/// The side of a call that a span records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpanKindModel {
    Server,
    Client,
    Internal,
    Producer,
    Consumer,
}

impl SpanKindModel {
    pub fn name(self) -> &'static str {
        match self {
            SpanKindModel::Server => "server",
            SpanKindModel::Client => "client",
            SpanKindModel::Internal => "internal",
            SpanKindModel::Producer => "producer",
            SpanKindModel::Consumer => "consumer",
        }
    }
}

/// A span event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub name: String,
    pub time: SystemTime,
    pub attributes: Vec<AttributeModel>,
}

/// A span link, possibly to another trace.
#[derive(Clone, Debug)]
pub(crate) struct LinkModel {
    pub trace: String,
    pub span: String,
}

/// A recorded span.
#[derive(Clone, Debug)]
pub(crate) struct SpanModel {
    pub id: String,
    /// `None` for a root.
    pub parent: Option<String>,
    pub service: String,
    pub name: String,
    pub kind: SpanKindModel,
    pub start: SystemTime,
    pub duration: Duration,
    /// The description of an error status, possibly empty.
    pub error: Option<String>,
    pub attributes: Vec<AttributeModel>,
    /// The number of attributes and events dropped because of limits.
    pub dropped: u32,
    pub events: Vec<Event>,
    pub links: Vec<LinkModel>,
    /// Resource attributes, shared by all spans of one version of a service.
    pub resource: Arc<Vec<AttributeModel>>,
}

/// A log record of a trace.
#[derive(Clone, Debug)]
pub(crate) struct LogModel {
    pub time: SystemTime,
    /// Such as `WARN`.
    pub severity: String,
    pub service: String,
    pub span: String,
    pub body: String,
    pub attributes: Vec<AttributeModel>,
}

/// A trace in a list.
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
    /// Its URL, such as `http://localhost:8000`.
    pub url: String,
    pub state: String,
    pub in_flight: usize,
    /// The serving version and, if one is running, the canary.
    pub versions: Vec<VersionView>,
    /// The generation that a rollback returns to.
    pub earlier: Option<u64>,
    /// Samples of the last minutes, oldest first.
    pub samples: Vec<Sample>,
    /// Swaps, latest first.
    pub swaps: Vec<SwapView>,
    pub last_error: Option<String>,
    /// Paths that can be requested with a plain GET.
    pub examples: Vec<String>,
}

/// Request statistics of one version of a service.
#[derive(Clone, Debug)]
pub(crate) struct VersionView {
    /// The share of traces that it serves, in percent, if it is a canary.
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

/// One sample of the last minutes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Requests per second.
    pub rate: f64,
    /// Failed requests per second.
    pub errors: f64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

/// A swap, rollback, promotion or abort, successful or not.
#[derive(Clone, Debug)]
pub(crate) struct SwapView {
    pub time: SystemTime,
    pub outcome: String,
    pub generation: Option<u64>,
    pub digest: Option<String>,
    /// Why it was rejected or rolled back.
    pub reason: Option<String>,
    pub duration: Duration,
}

impl SwapView {
    /// Whether the new version never served, or was rolled back.
    pub fn failed(&self) -> bool {
        self.reason.is_some() || self.outcome == "refused"
    }
}
