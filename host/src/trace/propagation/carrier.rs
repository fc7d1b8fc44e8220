//! Header fields as carriers of trace context: functions shared by all formats.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanId, TraceId};

use crate::trace::context::{TraceContext, hex};

/// Sets a header, or removes it if there is no value.
pub(super) fn put(headers: &mut HeaderMap, name: HeaderName, value: Option<impl TryInto<HeaderValue>>) {
    match value.and_then(|value| value.try_into().ok()) {
        Some(value) => headers.insert(name, value),
        None => headers.remove(name),
    };
}

/// The value of a field that may occur only once; `None` if it occurs several times.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// A remote context from ids without leading zeros, as allowed for B3's 64-bit trace ids and Jaeger's ids.
pub(super) fn caller(trace: &str, span: &str, sampled: bool) -> Option<TraceContext> {
    if trace.is_empty() || span.is_empty() || trace.len() > 32 || span.len() > 16 {
        return None;
    }
    let trace_id = TraceId::from_bytes(hex(&format!("{:0>32}", trace.to_ascii_lowercase()))?);
    let span_id = SpanId::from_bytes(hex(&format!("{:0>16}", span.to_ascii_lowercase()))?);
    TraceContext::valid(trace_id, span_id, sampled)
}
