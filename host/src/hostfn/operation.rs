//! Operations: spans of guests that are measured and counted by the kind of work that they name.

use crate::component::ServiceContext;
use crate::trace::{Recorder, SpanRef};

/// The attribute that makes a span an operation.
const OPERATION_TYPE: &str = "custom.operation_type";

/// Adds the cost of a span that has ended as attributes and counts it, if it is an operation.
pub(super) fn record(recorder: &mut Recorder, span: SpanRef, context: &ServiceContext) {
    let Some(operation) = recorder.text_attribute(span, OPERATION_TYPE).map(str::to_owned) else { return };
    let Some(duration) = recorder.duration(span) else { return };
    recorder.set(span, "performance.execution_time_ms", duration.as_secs_f64() * 1e3);
    recorder.set(span, "system.memory_usage_mb", context.process.memory_mb());
    context.metrics.record_operation(&operation, recorder.name(span), duration, recorder.has_failed(span));
}
