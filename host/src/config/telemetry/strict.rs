//! The variables whose invalid values are errors: with a default instead, telemetry could go to the wrong receiver.

/// Whether an invalid value of this variable is an error.
pub(in crate::config) fn is_strict(name: &str) -> bool {
    let ends = ["ENDPOINT", "HEADERS", "CERTIFICATE", "CLIENT_KEY"];
    name.strip_prefix("OTEL_EXPORTER_OTLP_").is_some_and(|rest| ends.iter().any(|end| rest.ends_with(end)))
}
