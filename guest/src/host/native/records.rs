//! What the in-memory host keeps for a test to look at.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::host::types::{Method, SpanKind};

/// A span as the host got it.
#[derive(Debug, Clone)]
pub struct SpanRecord {
    /// The span's name.
    pub name: String,
    /// Its role: `Internal`, unless the field `otel.kind` says otherwise.
    pub kind: SpanKind,
    /// The name of the span above it; none where that is the server span.
    pub parent: Option<String>,
    /// What it carries.
    pub attributes: BTreeMap<String, Value>,
    /// Names and attributes of its events.
    pub events: Vec<(String, BTreeMap<String, Value>)>,
    /// Whether its status code is `OK`. Without the field `otel.status_code` no span has one.
    pub ok: bool,
    /// `error.type` and message, where it was marked as failed.
    pub error: Option<(String, String)>,
    /// Whether the guest has ended it.
    pub ended: bool,
}

/// A log record as the host got it.
#[derive(Debug, Clone)]
pub struct LogRecord {
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub severity: String,
    /// The text.
    pub body: String,
    /// The name of its span; none where that is the server span.
    pub span: Option<String>,
    /// What it carries.
    pub attributes: BTreeMap<String, Value>,
}

/// A request that the service made.
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
    /// The name of the span above its client span; none where that is the server span.
    pub parent: Option<String>,
    /// After how many milliseconds the service would give up; none where it leaves that to the host.
    pub timeout_ms: Option<u32>,
}
