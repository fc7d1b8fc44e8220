//! The records of the in-memory host, for assertions in tests.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::host::types::{Method, SpanKind};

/// A recorded span.
#[derive(Debug, Clone)]
pub struct SpanRecord {
    /// The span's name.
    pub name: String,
    /// Its kind: `Internal`, unless the field `otel.kind` is set.
    pub kind: SpanKind,
    /// The name of its parent; `None` if that is the server span.
    pub parent: Option<String>,
    /// Its attributes.
    pub attributes: BTreeMap<String, Value>,
    /// The names and attributes of its events.
    pub events: Vec<(String, BTreeMap<String, Value>)>,
    /// Whether its status code is `OK`, set by the field `otel.status_code`.
    pub ok: bool,
    /// `error.type` and status description, if it was marked as failed.
    pub error: Option<(String, String)>,
    /// Whether it has ended.
    pub ended: bool,
}

/// A recorded log record.
#[derive(Debug, Clone)]
pub struct LogRecord {
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub severity: String,
    /// The body.
    pub body: String,
    /// The name of its span; `None` if that is the server span.
    pub span: Option<String>,
    /// Its attributes.
    pub attributes: BTreeMap<String, Value>,
}

/// A recorded call to another service.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its method.
    pub method: Method,
    /// Its URL.
    pub url: String,
    /// Its header fields.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// The name of the parent of its client span; `None` if that is the server span.
    pub parent: Option<String>,
    /// The timeout in milliseconds; `None` if the call has none of its own.
    pub timeout_ms: Option<u32>,
}
