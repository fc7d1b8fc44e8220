//! The `OTEL_*` variables, as the OpenTelemetry specification defines them, and what they come to.
//!
//! `OTEL_SERVICE_NAME` changes nothing: each service has the name that the manifest gives it.

mod endpoint;
mod headers;
mod otlp;
mod summary;
#[cfg(test)]
mod tests;
mod tls;
mod variables;

pub use self::summary::summary;
use self::variables::{Result, Variables, entries, pair, wrong};
use super::environment::Environment;
use crate::trace::{
    AttributeLimits, Batch, Exporter, Propagator, Resource, Root, Sampler, Settings, Signal, SpanLimits,
};

/// The attribute that says which deployment a service belongs to.
const DEPLOYMENT: &str = "deployment.environment.name";

/// Everything that the environment says about telemetry.
pub(super) fn settings(environment: &Environment) -> Result<Settings> {
    let standard = Settings::default();
    let read = Variables(environment);
    let traces = otlp::signal(&read, "TRACES", &[Exporter::Otlp, Exporter::Console], "otlp")?;
    let settings = Settings {
        disabled: read.truth("OTEL_SDK_DISABLED")?.unwrap_or(standard.disabled),
        metrics: bounded(&read, beside(&read, "METRICS", &traces)?, "OTEL_METRIC_EXPORT_TIMEOUT")?,
        logs: bounded(&read, beside(&read, "LOGS", &traces)?, "OTEL_BLRP_EXPORT_TIMEOUT")?,
        traces: bounded(&read, traces, "OTEL_BSP_EXPORT_TIMEOUT")?,
        sampler: sampler(&read)?,
        batch: batch(&read, "BSP", standard.batch)?,
        log_batch: batch(&read, "BLRP", standard.log_batch)?,
        limits: limits(&read, standard.limits)?,
        log_limits: log_limits(&read, standard.log_limits)?,
        propagators: propagators(&read, standard.propagators)?,
        keep: None,
        metric_export_interval: read
            .some_millis("OTEL_METRIC_EXPORT_INTERVAL")?
            .unwrap_or(standard.metric_export_interval),
        store_bytes: standard.store_bytes,
    };
    let signals = [("TRACES", &settings.traces), ("METRICS", &settings.metrics), ("LOGS", &settings.logs)];
    for (name, signal) in signals.into_iter().filter(|_| !settings.disabled) {
        tls::check(&read, name, signal)?;
    }
    Ok(settings)
}

/// A signal beside traces. Whoever has traces printed and names no collector has none, most likely: looking for one
/// would end in warnings.
fn beside(read: &Variables<'_>, name: &str, traces: &Signal) -> Result<Signal> {
    let printed = traces.exporters == [Exporter::Console] && read.of_signal(name, "ENDPOINT").is_none();
    otlp::signal(read, name, &[Exporter::Otlp], if printed { "none" } else { "otlp" })
}

/// A signal has a variable of its own that bounds an export, besides what bounds all of OTLP.
fn bounded(read: &Variables<'_>, mut signal: Signal, timeout: &str) -> Result<Signal> {
    if let Some(bound) = read.timeout(timeout)? {
        signal.otlp.timeout = signal.otlp.timeout.min(bound);
    }
    Ok(signal)
}

/// `OTEL_RESOURCE_ATTRIBUTES`, and a deployment where it names none. Of two with one key the later one counts.
pub(super) fn resource(environment: &Environment) -> Result<Vec<(String, String)>> {
    let name = "OTEL_RESOURCE_ATTRIBUTES";
    let mut attributes: Vec<(String, String)> = Vec::new();
    for entry in entries(environment.get(name).unwrap_or_default()) {
        let help = "write key=value pairs with commas between them, percent-encoded";
        let (key, value) = pair(entry).ok_or_else(|| wrong(name, entry, help))?;
        attributes.retain(|(known, _)| *known != key);
        attributes.push((key, value));
    }
    if !attributes.iter().any(|(key, _)| key == DEPLOYMENT) {
        attributes.push((DEPLOYMENT.to_owned(), "development".to_owned()));
    }
    Ok(attributes)
}

/// What is given in the environment and changes nothing, as warnings.
pub fn ignored(environment: &Environment) -> Vec<String> {
    let name = environment.get("OTEL_SERVICE_NAME").map(|_| "OTEL_SERVICE_NAME".to_owned());
    // What cannot be read was refused before.
    let attributes = resource(environment).unwrap_or_default().into_iter().map(|(key, _)| key);
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

fn sampler(read: &Variables<'_>) -> Result<Sampler> {
    let name = "OTEL_TRACES_SAMPLER";
    let text = read.word(name).unwrap_or_else(|| "parentbased_always_on".to_owned());
    let (parent_based, root) = match text.strip_prefix("parentbased_") {
        Some(root) => (true, root),
        None => (false, text.as_str()),
    };
    let root = match root {
        "always_on" => Root::AlwaysOn,
        "always_off" => Root::AlwaysOff,
        "traceidratio" => Root::Ratio(ratio(read)?),
        _ => {
            let help = "write always_on, always_off or traceidratio, or one of them after parentbased_";
            return Err(wrong(name, &text, help));
        }
    };
    Ok(Sampler { root, parent_based })
}

fn ratio(read: &Variables<'_>) -> Result<f64> {
    let (name, help) = ("OTEL_TRACES_SAMPLER_ARG", "write a number from 0 to 1");
    let ratio = read.number(name, help)?.unwrap_or(1.0);
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err(wrong(name, read.get(name).unwrap_or_default(), help)) }
}

/// `processor` is BSP, the batch span processor, or BLRP, the batch log record processor.
fn batch(read: &Variables<'_>, processor: &str, standard: Batch) -> Result<Batch> {
    let variable = |setting: &str| format!("OTEL_{processor}_{setting}");
    let queue_size = read.some_count(&variable("MAX_QUEUE_SIZE"))?.unwrap_or(standard.queue_size);
    let export_size = read.some_count(&variable("MAX_EXPORT_BATCH_SIZE"))?.unwrap_or(standard.export_size);
    Ok(Batch {
        queue_size,
        // No export is larger than the queue, says the specification.
        export_size: export_size.min(queue_size),
        delay: read.millis(&variable("SCHEDULE_DELAY"))?.unwrap_or(standard.delay),
    })
}

fn limits(read: &Variables<'_>, standard: SpanLimits) -> Result<SpanLimits> {
    Ok(SpanLimits {
        attributes: first(read, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT")?
            .unwrap_or(standard.attributes),
        events: read.count("OTEL_SPAN_EVENT_COUNT_LIMIT")?.unwrap_or(standard.events),
        event_attributes: read.count("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT")?.unwrap_or(standard.event_attributes),
        value_length: first(read, "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT")?,
    })
}

fn log_limits(read: &Variables<'_>, standard: AttributeLimits) -> Result<AttributeLimits> {
    let (count, length) = ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT");
    Ok(AttributeLimits {
        count: first(read, count, "OTEL_ATTRIBUTE_COUNT_LIMIT")?.unwrap_or(standard.count),
        value_length: first(read, length, "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT")?,
    })
}

/// What holds for one thing alone goes before what holds for all.
fn first(read: &Variables<'_>, own: &str, general: &str) -> Result<Option<usize>> {
    match read.count(own)? {
        Some(count) => Ok(Some(count)),
        None => read.count(general),
    }
}

fn propagators(read: &Variables<'_>, standard: Vec<Propagator>) -> Result<Vec<Propagator>> {
    let name = "OTEL_PROPAGATORS";
    let Some(text) = read.word(name) else { return Ok(standard) };
    let mut propagators = Vec::new();
    for word in entries(&text).filter(|word| *word != "none") {
        let all =
            [Propagator::TraceContext, Propagator::Baggage, Propagator::B3, Propagator::B3Multi, Propagator::Jaeger];
        let propagator = all.into_iter().find(|propagator| propagator_name(*propagator) == word);
        let help = "write tracecontext, baggage, b3, b3multi or jaeger with commas between them, or none";
        let propagator = propagator.ok_or_else(|| wrong(name, word, help))?;
        if !propagators.contains(&propagator) {
            propagators.push(propagator);
        }
    }
    Ok(propagators)
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
