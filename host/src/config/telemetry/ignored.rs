//! What the environment says of telemetry and changes nothing: values that are of no use, which count as not set, and
//! settings that the host does not have. Both are said at the start; `spandrel check --strict` refuses the former.

use super::ignored_value::Ignored;
use super::strict::is_strict;
use super::variables::Variables;
use super::{read_resource, read_settings};
use crate::config::environment::Environment;
use crate::trace::Resource;

/// The values that are of no use and count as not set. Those that are errors are none of them.
pub fn invalid(environment: &Environment) -> Vec<Ignored> {
    let read = Variables::new(environment);
    for name in environment.no_texts().filter(|name| name.starts_with("OTEL_") && !is_strict(name)) {
        read.ignore(Ignored::hidden(name, "write it in UTF-8", "what holds without it"));
    }
    // An error ends the start by itself.
    let _ = read_settings(&read);
    read_resource(&read);
    read.into_ignored()
}

/// What is given in the environment and changes nothing, as warnings.
pub fn ignored(environment: &Environment) -> Vec<String> {
    let invalid = invalid(environment).into_iter().map(|ignored| ignored.to_string());
    invalid.chain(in_vain(environment)).collect()
}

/// What is understood and changes nothing.
fn in_vain(environment: &Environment) -> Vec<String> {
    let name = environment.get("OTEL_SERVICE_NAME").map(|_| "OTEL_SERVICE_NAME".to_owned());
    let attributes = read_resource(&Variables::new(environment)).into_iter().map(|(key, _)| key);
    let attributes =
        attributes.filter(|key| Resource::sets(key)).map(|key| format!("{key} in OTEL_RESOURCE_ATTRIBUTES"));
    let ours: Vec<_> = name.into_iter().chain(attributes).collect();
    let why = "the manifest names services and versions, and each start and service has an instance id of its own";
    let ours = (!ours.is_empty()).then(|| format!("ignored: {}; {why}", ours.join(", ")));
    let other = FIXED.iter().filter_map(|(name, only, why)| {
        let value = environment.get(name).filter(|value| !value.eq_ignore_ascii_case(only))?;
        Some(format!("ignored: {name}={value}; {why}"))
    });
    ours.into_iter().chain(other).collect()
}

/// Variables of the specification that the host does not read, what it does as if they said, and that in words.
const FIXED: [(&str, &str, &str); 4] = [
    ("OTEL_CONFIG_FILE", "", "settings come from the environment and the manifest"),
    ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative", "metrics are cumulative"),
    (
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
        "explicit_bucket_histogram",
        "histograms have the buckets of the semantic conventions",
    ),
    ("OTEL_METRICS_EXEMPLAR_FILTER", "trace_based", "exemplars are of sampled traces"),
];
