//! The `OTEL_*` variables, as the OpenTelemetry specification defines them, and what they come to.
//!
//! `OTEL_SERVICE_NAME` changes nothing: each service has the name that the manifest gives it.

mod endpoint;
mod headers;
mod ignored;
mod ignored_value;
mod otlp;
mod strict;
mod summary;
#[cfg(test)]
mod tests;
mod tls;
mod variables;

pub use self::ignored::{ignored, invalid};
pub use self::ignored_value::Ignored;
pub(super) use self::strict::is_strict;
pub use self::summary::summary;
use self::variables::{Result, Variables, entries, pair};
use super::environment::Environment;
use crate::trace::{AttributeLimits, Batch, Exporter, Propagator, RootSampler, Sampler, Settings, Signal, SpanLimits};

/// The attribute that says which deployment a service belongs to.
const DEPLOYMENT: &str = "deployment.environment.name";

/// Everything that the environment says about telemetry, with files that can be used where it names some for TLS.
pub(super) fn settings(environment: &Environment) -> Result<Settings> {
    let read = Variables::new(environment);
    let settings = read_settings(&read)?;
    let signals = [("TRACES", &settings.traces), ("METRICS", &settings.metrics), ("LOGS", &settings.logs)];
    for (name, signal) in signals.into_iter().filter(|_| !settings.disabled) {
        tls::check(&read, name, signal)?;
    }
    Ok(settings)
}

fn read_settings(read: &Variables<'_>) -> Result<Settings> {
    let standard = Settings::default();
    let traces = otlp::signal(read, "TRACES", &[Exporter::Otlp, Exporter::Console], &[Exporter::Otlp])?;
    Ok(Settings {
        disabled: read.truth("OTEL_SDK_DISABLED"),
        metrics: bounded(read, beside(read, "METRICS", &traces, &[])?, "OTEL_METRIC_EXPORT_TIMEOUT"),
        logs: bounded(read, beside(read, "LOGS", &traces, &[Exporter::Console])?, "OTEL_BLRP_EXPORT_TIMEOUT"),
        traces: bounded(read, traces, "OTEL_BSP_EXPORT_TIMEOUT"),
        sampler: sampler(read, standard.sampler),
        batch: batch(read, "BSP", standard.batch),
        log_batch: batch(read, "BLRP", standard.log_batch),
        limits: limits(read, standard.limits),
        log_limits: log_limits(read, standard.log_limits),
        propagators: propagators(read, standard.propagators),
        tail_policy: None,
        response_header: standard.response_header,
        metric_export_interval: read.some_millis("OTEL_METRIC_EXPORT_INTERVAL", standard.metric_export_interval),
        store_bytes: standard.store_bytes,
    })
}

/// A signal beside traces. Whoever has traces printed and names no collector has none, most likely: looking for one
/// would end in warnings. `terminal` is the exporter to the terminal where the signal has it, which then is a default.
fn beside(read: &Variables<'_>, name: &str, traces: &Signal, terminal: &[Exporter]) -> Result<Signal> {
    let printed = traces.exporters == [Exporter::Console] && read.of_signal(name, "ENDPOINT").is_none();
    let known = [&[Exporter::Otlp], terminal].concat();
    otlp::signal(read, name, &known, if printed { terminal } else { &known })
}

/// A signal has a variable of its own that bounds an export, besides what bounds all of OTLP.
fn bounded(read: &Variables<'_>, mut signal: Signal, timeout: &str) -> Signal {
    if let Some(bound) = read.timeout(timeout, "the OTLP timeout") {
        signal.otlp.timeout = signal.otlp.timeout.min(bound);
    }
    signal
}

/// `OTEL_RESOURCE_ATTRIBUTES`, and a deployment where it names none. Of two with one key the later one counts.
pub(super) fn resource(environment: &Environment) -> Vec<(String, String)> {
    read_resource(&Variables::new(environment))
}

fn read_resource(read: &Variables<'_>) -> Vec<(String, String)> {
    let mut attributes: Vec<(String, String)> = Vec::new();
    for (key, value) in resource_pairs(read) {
        attributes.retain(|(known, _)| *known != key);
        attributes.push((key, value));
    }
    if !attributes.iter().any(|(key, _)| key == DEPLOYMENT) {
        attributes.push((DEPLOYMENT.to_owned(), "development".to_owned()));
    }
    attributes
}

/// The pairs as they are written. One that is malformed discards all of them, says the specification.
fn resource_pairs(read: &Variables<'_>) -> Vec<(String, String)> {
    let name = "OTEL_RESOURCE_ATTRIBUTES";
    let mut pairs = Vec::new();
    for (index, entry) in entries(read.get(name).unwrap_or_default()).enumerate() {
        let Some(pair) = pair(entry) else {
            let help = format!(
                "member {} is malformed: write key=value pairs with commas between them, percent-encoded",
                index + 1
            );
            read.ignore(Ignored::hidden(name, &help, format_args!("{DEPLOYMENT}=development alone")));
            return Vec::new();
        };
        pairs.push(pair);
    }
    pairs
}

fn sampler(read: &Variables<'_>, standard: Sampler) -> Sampler {
    let help = "write always_on, always_off or traceidratio, or one of them after parentbased_";
    let mut sampler = read
        .read("OTEL_TRACES_SAMPLER", help, "parentbased_always_on", |text| sampler_named(&text.to_ascii_lowercase()))
        .unwrap_or(standard);
    if let RootSampler::Ratio(ratio) = &mut sampler.root {
        let within = |text: &str| text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        let given = read.read("OTEL_TRACES_SAMPLER_ARG", "write a number from 0 to 1", "1", within);
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
fn batch(read: &Variables<'_>, processor: &str, standard: Batch) -> Batch {
    let variable = |setting: &str| format!("OTEL_{processor}_{setting}");
    let queue_size = read.some_count(&variable("MAX_QUEUE_SIZE"), standard.queue_size);
    let export_size = read.some_count(&variable("MAX_EXPORT_BATCH_SIZE"), standard.export_size);
    Batch {
        queue_size,
        // No export is larger than the queue, says the specification.
        export_size: export_size.min(queue_size),
        delay: read.millis(&variable("SCHEDULE_DELAY"), standard.delay),
    }
}

fn limits(read: &Variables<'_>, standard: SpanLimits) -> SpanLimits {
    let (count, length) = ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT");
    SpanLimits {
        attributes: attribute_count(read, count, standard.attributes),
        events: read.count("OTEL_SPAN_EVENT_COUNT_LIMIT", standard.events),
        event_attributes: read.count("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", standard.event_attributes),
        value_length: value_length(read, length),
    }
}

fn log_limits(read: &Variables<'_>, standard: AttributeLimits) -> AttributeLimits {
    let (count, length) = ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT");
    AttributeLimits { count: attribute_count(read, count, standard.count), value_length: value_length(read, length) }
}

/// What holds for one thing alone goes before what holds for all.
fn attribute_count(read: &Variables<'_>, own: &str, standard: usize) -> usize {
    let general = "OTEL_ATTRIBUTE_COUNT_LIMIT";
    let own = read.count_or(own, format_args!("{general}, or {standard} without it"));
    own.unwrap_or_else(|| read.count(general, standard))
}

/// The same for the length of texts, which nothing limits by itself.
fn value_length(read: &Variables<'_>, own: &str) -> Option<usize> {
    let general = "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT";
    let own = read.count_or(own, format_args!("{general}, or no limit without it"));
    own.or_else(|| read.count_or(general, "no limit"))
}

fn propagators(read: &Variables<'_>, standard: Vec<Propagator>) -> Vec<Propagator> {
    let all = [Propagator::TraceContext, Propagator::Baggage, Propagator::B3, Propagator::B3Multi, Propagator::Jaeger];
    let find = |word: &str| all.into_iter().find(|propagator| propagator_name(*propagator) == word);
    let help = "write tracecontext, baggage, b3, b3multi or jaeger with commas between them, or none";
    read.list("OTEL_PROPAGATORS", help, "tracecontext,baggage", find).unwrap_or(standard)
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
