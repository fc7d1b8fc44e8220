//! Which variables are errors where they are of no use: something else in their place might send telemetry to somebody else.

/// Whether a value of this variable that is of no use is an error.
pub(in crate::config) fn is_strict(name: &str) -> bool {
    let ends = ["ENDPOINT", "HEADERS", "CERTIFICATE", "CLIENT_KEY"];
    name.strip_prefix("OTEL_EXPORTER_OTLP_").is_some_and(|rest| ends.iter().any(|end| rest.ends_with(end)))
}
