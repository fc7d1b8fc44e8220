//! Parses the `OTEL_*` variables as the OpenTelemetry specification defines them.
//!
//! `OTEL_SERVICE_NAME` has no effect: the manifest names the services.

mod endpoint;
mod headers;
mod ignored;
mod ignored_value;
mod otlp;
pub(super) mod strict;
mod summary;
#[cfg(test)]
mod tests;
mod tls;
mod variables;

pub use self::ignored::{ignored, invalid};
pub use self::ignored_value::Ignored;
pub use self::summary::summary;
use self::variables::{Result, Variables, entries, pair};
use super::environment::Environment;
use crate::trace::{AttributeLimits, Batch, Exporter, Propagator, RootSampler, Sampler, Settings, Signal, SpanLimits};

/// The Resource attribute for the deployment environment.
const DEPLOYMENT: &str = "deployment.environment.name";

/// Parses all settings of telemetry in the environment, and validates the TLS files that it names.
pub(super) fn settings(environment: &Environment) -> Result<Settings> {
    let variables = Variables::new(environment);
    let settings = read_settings(&variables)?;
    let signals = [("TRACES", &settings.traces), ("METRICS", &settings.metrics), ("LOGS", &settings.logs)];
    for (name, signal) in signals.into_iter().filter(|_| !settings.disabled) {
        tls::check(&variables, name, signal)?;
    }
    Ok(settings)
}

fn read_settings(variables: &Variables<'_>) -> Result<Settings> {
    let default = Settings::default();
    let traces = otlp::signal(variables, "TRACES", &[Exporter::Otlp, Exporter::Console], &[Exporter::Otlp])?;
    Ok(Settings {
        disabled: variables.boolean("OTEL_SDK_DISABLED"),
        metrics: with_export_timeout(
            variables,
            other_signal(variables, "METRICS", &traces, &[])?,
            "OTEL_METRIC_EXPORT_TIMEOUT",
        ),
        logs: with_export_timeout(
            variables,
            other_signal(variables, "LOGS", &traces, &[Exporter::Console])?,
            "OTEL_BLRP_EXPORT_TIMEOUT",
        ),
        traces: with_export_timeout(variables, traces, "OTEL_BSP_EXPORT_TIMEOUT"),
        sampler: sampler(variables, default.sampler),
        batch: batch(variables, "BSP", default.batch),
        log_batch: batch(variables, "BLRP", default.log_batch),
        limits: limits(variables, default.limits),
        log_limits: log_limits(variables, default.log_limits),
        propagators: propagators(variables, default.propagators),
        tail_policy: None,
        response_header: default.response_header,
        metric_export_interval: variables
            .positive_millis("OTEL_METRIC_EXPORT_INTERVAL", default.metric_export_interval),
        store_bytes: default.store_bytes,
    })
}

/// The settings of metrics or log records. If traces are exported to the console only and no endpoint is set, the default
/// has no OTLP exporter: probably there is no collector, and exports would only cause warnings. `terminal` contains the
/// console exporter if the signal has one; it is a default too.
fn other_signal(variables: &Variables<'_>, name: &str, traces: &Signal, terminal: &[Exporter]) -> Result<Signal> {
    let printed = traces.exporters == [Exporter::Console] && variables.of_signal(name, "ENDPOINT").is_none();
    let known = [&[Exporter::Otlp], terminal].concat();
    otlp::signal(variables, name, &known, if printed { terminal } else { &known })
}

/// Applies the per-signal timeout of exports, in addition to the OTLP timeout.
fn with_export_timeout(variables: &Variables<'_>, mut signal: Signal, timeout: &str) -> Signal {
    if let Some(bound) = variables.timeout(timeout, "the OTLP timeout") {
        signal.otlp.timeout = signal.otlp.timeout.min(bound);
    }
    signal
}

/// `OTEL_RESOURCE_ATTRIBUTES`, with a default for the deployment environment. Of duplicate keys the last one is used.
pub(super) fn resource(environment: &Environment) -> Vec<(String, String)> {
    read_resource(&Variables::new(environment))
}

fn read_resource(variables: &Variables<'_>) -> Vec<(String, String)> {
    let mut attributes: Vec<(String, String)> = Vec::new();
    for (key, value) in resource_pairs(variables) {
        attributes.retain(|(known, _)| *known != key);
        attributes.push((key, value));
    }
    if !attributes.iter().any(|(key, _)| key == DEPLOYMENT) {
        attributes.push((DEPLOYMENT.to_owned(), "development".to_owned()));
    }
    attributes
}

/// The pairs in their order. As the specification requires, a malformed pair discards all of them.
fn resource_pairs(variables: &Variables<'_>) -> Vec<(String, String)> {
    let name = "OTEL_RESOURCE_ATTRIBUTES";
    let mut pairs = Vec::new();
    for (index, entry) in entries(variables.get(name).unwrap_or_default()).enumerate() {
        let Some(pair) = pair(entry) else {
            let help = format!(
                "member {} is malformed: write key=value pairs with commas between them, percent-encoded",
                index + 1
            );
            variables.ignore(Ignored::hidden(name, &help, format_args!("{DEPLOYMENT}=development alone")));
            return Vec::new();
        };
        pairs.push(pair);
    }
    pairs
}

fn sampler(variables: &Variables<'_>, default: Sampler) -> Sampler {
    let help = "write always_on, always_off or traceidratio, or one of them after parentbased_";
    let mut sampler = variables
        .read("OTEL_TRACES_SAMPLER", help, "parentbased_always_on", |text| sampler_named(&text.to_ascii_lowercase()))
        .unwrap_or(default);
    if let RootSampler::Ratio(ratio) = &mut sampler.root {
        let within = |text: &str| text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        let given = variables.read("OTEL_TRACES_SAMPLER_ARG", "write a number from 0 to 1", "1", within);
        *ratio = given.unwrap_or(*ratio);
    }
    sampler
}

fn sampler_named(text: &str) -> Option<Sampler> {
    let (parent_based, root) = match text.strip_prefix("parentbased_") {
        Some(root) => (true, root),
        None => (false, text),
    };
    let root = match root {
        "always_on" => RootSampler::AlwaysOn,
        "always_off" => RootSampler::AlwaysOff,
        "traceidratio" => RootSampler::Ratio(1.0),
        _ => return None,
    };
    Some(Sampler { root, parent_based })
}

/// `processor` is BSP, the batch span processor, or BLRP, the batch log record processor.
fn batch(variables: &Variables<'_>, processor: &str, default: Batch) -> Batch {
    let variable = |setting: &str| format!("OTEL_{processor}_{setting}");
    let queue_size = variables.positive_count(&variable("MAX_QUEUE_SIZE"), default.queue_size);
    let export_size = variables.positive_count(&variable("MAX_EXPORT_BATCH_SIZE"), default.export_size);
    Batch {
        queue_size,
        // The specification limits the size of an export to that of the queue.
        export_size: export_size.min(queue_size),
        delay: variables.millis(&variable("SCHEDULE_DELAY"), default.delay),
    }
}

fn limits(variables: &Variables<'_>, default: SpanLimits) -> SpanLimits {
    let (count, length) = ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT");
    SpanLimits {
        attributes: attribute_count(variables, count, default.attributes),
        events: variables.count("OTEL_SPAN_EVENT_COUNT_LIMIT", default.events),
        event_attributes: variables.count("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", default.event_attributes),
        value_length: value_length(variables, length),
    }
}

fn log_limits(variables: &Variables<'_>, default: AttributeLimits) -> AttributeLimits {
    let (count, length) = ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT");
    AttributeLimits {
        count: attribute_count(variables, count, default.count),
        value_length: value_length(variables, length),
    }
}

/// The more specific variable takes precedence over the general one.
fn attribute_count(variables: &Variables<'_>, own: &str, default: usize) -> usize {
    let general = "OTEL_ATTRIBUTE_COUNT_LIMIT";
    let own = variables.count_or(own, format_args!("{general}, or {default} without it"));
    own.unwrap_or_else(|| variables.count(general, default))
}

/// The same for the length of values, which is unlimited by default.
fn value_length(variables: &Variables<'_>, own: &str) -> Option<usize> {
    let general = "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT";
    let own = variables.count_or(own, format_args!("{general}, or no limit without it"));
    own.or_else(|| variables.count_or(general, "no limit"))
}

fn propagators(variables: &Variables<'_>, default: Vec<Propagator>) -> Vec<Propagator> {
    let all = [Propagator::TraceContext, Propagator::Baggage, Propagator::B3, Propagator::B3Multi, Propagator::Jaeger];
    let find = |word: &str| all.into_iter().find(|propagator| propagator_name(*propagator) == word);
    let help = "write tracecontext, baggage, b3, b3multi or jaeger with commas between them, or none";
    variables.list("OTEL_PROPAGATORS", help, "tracecontext,baggage", find).unwrap_or(default)
}

fn propagator_name(propagator: Propagator) -> &'static str {
    match propagator {
        Propagator::TraceContext => "tracecontext",
        Propagator::Baggage => "baggage",
        Propagator::B3 => "b3",
        Propagator::B3Multi => "b3multi",
        Propagator::Jaeger => "jaeger",
    }
}
