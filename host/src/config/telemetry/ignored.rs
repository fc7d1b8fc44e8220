//! Settings of telemetry in the environment that have no effect: invalid values, which count as unset, and settings that
//! the host does not support. The host warns about both at its start; `spandrel check --strict` rejects invalid values.

use super::ignored_value::Ignored;
use super::strict::is_strict;
use super::variables::Variables;
use super::{read_resource, read_settings};
use crate::config::environment::Environment;
use crate::trace::Resource;

/// The invalid values that count as unset, without those that are errors.
pub fn invalid(environment: &Environment) -> Vec<Ignored> {
    let variables = Variables::new(environment);
    for name in environment.non_utf8_names().filter(|name| name.starts_with("OTEL_") && !is_strict(name)) {
        variables.ignore(Ignored::hidden(name, "write it in UTF-8", "the default"));
    }
    // Errors are returned by `settings`.
    let _ = read_settings(&variables);
    read_resource(&variables);
    variables.into_ignored()
}

/// Warnings about all settings without effect.
pub fn ignored(environment: &Environment) -> Vec<String> {
    let invalid = invalid(environment).into_iter().map(|ignored| ignored.to_string());
    invalid.chain(without_effect(environment)).collect()
}

/// Warnings about valid settings without effect.
fn without_effect(environment: &Environment) -> Vec<String> {
    let name = environment.get("OTEL_SERVICE_NAME").map(|_| "OTEL_SERVICE_NAME".to_owned());
    let attributes = read_resource(&Variables::new(environment)).into_iter().map(|(key, _)| key);
    let attributes = attributes
        .filter(|key| Resource::is_host_attribute(key))
        .map(|key| format!("{key} in OTEL_RESOURCE_ATTRIBUTES"));
    let names: Vec<_> = name.into_iter().chain(attributes).collect();
    let why = "the manifest sets names and versions of services, and the host generates instance ids";
    let of_services = (!names.is_empty()).then(|| format!("ignored: {}; {why}", names.join(", ")));
    let other = UNSUPPORTED.iter().filter_map(|(name, only, why)| {
        let value = environment.get(name).filter(|value| !value.eq_ignore_ascii_case(only))?;
        Some(format!("ignored: {name}={value}; {why}"))
    });
    of_services.into_iter().chain(other).collect()
}

/// Variables of the specification that the host does not support: the value that corresponds to its behaviour, and a
/// description of that behaviour.
const UNSUPPORTED: [(&str, &str, &str); 4] = [
    ("OTEL_CONFIG_FILE", "", "settings come from the environment and the manifest"),
    ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative", "metrics are cumulative"),
    (
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
        "explicit_bucket_histogram",
        "histograms have the buckets of the semantic conventions",
    ),
    ("OTEL_METRICS_EXEMPLAR_FILTER", "trace_based", "exemplars are of sampled traces"),
];
