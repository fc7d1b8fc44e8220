//! Jaeger's JSON (`internal/uimodel` of Jaeger), which its UI and Grafana read.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// The envelope of every response.
#[derive(Debug, Serialize)]
pub(super) struct Structured<T> {
    pub data: T,
    pub total: usize,
    pub limit: usize,
    pub offset: usize,
    pub errors: Option<Vec<StructuredError>>,
}

/// An error.
#[derive(Debug, Serialize)]
pub(super) struct StructuredError {
    #[serde(skip_serializing_if = "is_zero")]
    pub code: u16,
    pub msg: String,
    #[serde(rename = "traceID", skip_serializing_if = "String::is_empty")]
    pub trace_id: String,
}

fn is_zero(code: &u16) -> bool {
    *code == 0
}

/// A trace.
#[derive(Debug, Serialize)]
pub(super) struct TraceJson {
    #[serde(rename = "traceID")]
    pub trace_id: String,
    pub spans: Vec<SpanJson>,
    pub processes: BTreeMap<String, ProcessJson>,
    pub warnings: Option<Vec<String>>,
}

/// A span. Times are in microseconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpanJson {
    #[serde(rename = "traceID")]
    pub trace_id: String,
    #[serde(rename = "spanID")]
    pub span_id: String,
    pub operation_name: String,
    pub references: Vec<Reference>,
    pub start_time: u64,
    pub duration: u64,
    pub tags: Vec<KeyValue>,
    pub logs: Vec<LogJson>,
    #[serde(rename = "processID")]
    pub process_id: String,
    pub warnings: Option<Vec<String>>,
}

/// A reference to another span.
#[derive(Debug, Serialize)]
pub(super) struct Reference {
    #[serde(rename = "refType")]
    pub kind: &'static str,
    #[serde(rename = "traceID")]
    pub trace_id: String,
    #[serde(rename = "spanID")]
    pub span_id: String,
}

/// A process: the source of spans.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProcessJson {
    pub service_name: String,
    pub tags: Vec<KeyValue>,
}

/// A log of a span (an event).
#[derive(Debug, Serialize)]
pub(super) struct LogJson {
    pub timestamp: u64,
    pub fields: Vec<KeyValue>,
}

/// A tag.
#[derive(Debug, Serialize)]
pub(super) struct KeyValue {
    pub key: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub value: Value,
}

/// A span name of a service.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OperationJson {
    pub name: String,
    pub span_kind: &'static str,
}

/// The number of calls from one service to another.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DependencyLink {
    pub parent: String,
    pub child: String,
    pub call_count: u64,
}

impl<T> Structured<T> {
    /// A response without errors.
    pub fn of(data: T, total: usize) -> Structured<T> {
        Structured { data, total, limit: 0, offset: 0, errors: None }
    }
}
