//! Converts a stored trace to Jaeger's JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::adjust::adjust;
use super::model::{self, KeyValue, Reference, TraceJson};
use super::span::{self, Process, RefType, Span, Tag, TagValue};
use crate::trace::StoredTrace;

/// The largest integer that JavaScript represents exactly (2^53 - 1).
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Whether a trace is shown unadjusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Adjusted {
    /// Adjusted as by Jaeger's query service.
    Yes,
    /// As stored.
    Raw,
}

/// The trace in the form of Jaeger's UI.
pub(super) fn trace(stored: &StoredTrace, adjusted: Adjusted) -> TraceJson {
    let mut spans = span::spans(stored);
    if adjusted == Adjusted::Yes {
        adjust(&mut spans);
    }
    let mut processes = Processes::default();
    let spans = spans.into_iter().map(|span| shown(span, &mut processes)).collect();
    TraceJson {
        trace_id: trace_id(u128::from_be_bytes(stored.trace_id.to_bytes())),
        spans,
        processes: processes.shown(),
        warnings: None,
    }
}

/// A trace id, without its first half if that is zero.
pub(super) fn trace_id(id: u128) -> String {
    if id >> 64 == 0 { format!("{id:016x}") } else { format!("{id:032x}") }
}

fn shown(span: Span, processes: &mut Processes) -> model::SpanJson {
    let references = span.references.iter().map(|reference| Reference {
        kind: match reference.kind {
            RefType::ChildOf => "CHILD_OF",
            RefType::FollowsFrom => "FOLLOWS_FROM",
        },
        trace_id: trace_id(reference.trace),
        span_id: format!("{:016x}", reference.span),
    });
    let logs =
        span.logs.into_iter().map(|log| model::LogJson { timestamp: log.time / 1000, fields: key_values(log.fields) });
    model::SpanJson {
        trace_id: trace_id(span.trace),
        span_id: format!("{:016x}", span.id),
        operation_name: span.name,
        references: references.collect(),
        start_time: span.start / 1000,
        duration: span.duration / 1000,
        tags: key_values(span.tags),
        logs: logs.collect(),
        process_id: processes.key(&span.process),
        warnings: (!span.warnings.is_empty()).then_some(span.warnings),
    }
}

fn key_values(tags: Vec<Tag>) -> Vec<KeyValue> {
    tags.into_iter().map(key_value).collect()
}

fn key_value(tag: Tag) -> KeyValue {
    let (kind, value) = match tag.value {
        TagValue::Text(text) => ("string", Value::from(text)),
        TagValue::Boolean(truth) => ("bool", Value::from(truth)),
        TagValue::Int(number) if number.unsigned_abs() > MAX_SAFE_INTEGER => ("int64", Value::from(number.to_string())),
        TagValue::Int(number) => ("int64", Value::from(number)),
        // JSON has no other numbers.
        TagValue::Double(number) if !number.is_finite() => ("float64", Value::from(number.to_string())),
        TagValue::Double(number) => ("float64", Value::from(number)),
        TagValue::Binary(bytes) => ("binary", Value::from(STANDARD.encode(bytes))),
    };
    KeyValue { key: tag.key, kind, value }
}

/// The processes of a trace, with the keys p1, p2 and so on.
#[derive(Default)]
struct Processes {
    known: Vec<Arc<Process>>,
}

impl Processes {
    fn key(&mut self, process: &Arc<Process>) -> String {
        let known = self.known.iter().position(|known| Arc::ptr_eq(known, process) || known == process);
        let at = known.unwrap_or_else(|| {
            self.known.push(process.clone());
            self.known.len() - 1
        });
        format!("p{}", at + 1)
    }

    fn shown(self) -> BTreeMap<String, model::ProcessJson> {
        let numbered = self.known.into_iter().enumerate();
        let shown = numbered.map(|(at, process)| {
            let Process { service, tags } = Arc::unwrap_or_clone(process);
            (format!("p{}", at + 1), model::ProcessJson { service_name: service.to_string(), tags: key_values(tags) })
        });
        shown.collect()
    }
}
