//! Formats the settings of telemetry on one line, for the banner and `spandrel check`.

use super::propagator_name;
use crate::trace::{Batch, Exporter, Otlp, Protocol, RootSampler, Sampler, Settings, Signal, SpanLimits, TailPolicy};

/// The settings of telemetry on one line.
pub fn summary(settings: &Settings) -> String {
    if settings.disabled {
        return "telemetry: off (OTEL_SDK_DISABLED)".to_owned();
    }
    let named = signals(settings).map(|(name, signal)| format!("{name} {}", destination(signal)));
    let mut parts = vec![named.join(", "), format!("sampler {}", sampler_name(settings.sampler))];
    parts.extend(settings.tail_policy.as_ref().map(kept));
    let propagators: Vec<_> = settings.propagators.iter().map(|propagator| propagator_name(*propagator)).collect();
    parts.push(format!(
        "propagators {}",
        if propagators.is_empty() { "none".to_owned() } else { propagators.join(",") }
    ));
    parts.push(format!("{}, {}", batching(settings.batch), timeouts(settings)));
    let sizes = |batch: &Batch| (batch.queue_size, batch.export_size);
    if sizes(&settings.log_batch) != sizes(&settings.batch) {
        parts.push(format!("log records {}", batching(settings.log_batch)));
    }
    parts.extend(limits(&settings.limits, &Settings::default().limits));
    format!("telemetry: {}", parts.join("; "))
}

fn signals(settings: &Settings) -> [(&'static str, &Signal); 3] {
    [("traces", &settings.traces), ("metrics", &settings.metrics), ("logs", &settings.logs)]
}

fn destination(signal: &Signal) -> String {
    let one = |exporter: &Exporter| match exporter {
        Exporter::Console => "to the terminal".to_owned(),
        Exporter::Otlp => {
            let protocol = match signal.otlp.protocol {
                Protocol::Grpc => "grpc",
                Protocol::HttpProtobuf => "http/protobuf",
            };
            let gzip = if signal.otlp.gzip { " gzip" } else { "" };
            format!("otlp {protocol}{gzip} {}", signal.otlp.shown_endpoint())
        }
    };
    match signal.exporters.as_slice() {
        [] => "off".to_owned(),
        exporters => exporters.iter().map(one).collect::<Vec<_>>().join(" and "),
    }
}

fn sampler_name(sampler: Sampler) -> String {
    let root = match sampler.root {
        RootSampler::AlwaysOn => "always_on".to_owned(),
        RootSampler::AlwaysOff => "always_off".to_owned(),
        RootSampler::Ratio(ratio) => format!("traceidratio({ratio})"),
    };
    if sampler.parent_based { format!("parentbased_{root}") } else { root }
}

/// The rules of tail sampling.
fn kept(keep: &TailPolicy) -> String {
    let errors = keep.errors.then(|| "errors".to_owned());
    let slow = keep.slower_than.map(|limit| format!("traces slower than {limit:?}"));
    let rest = (keep.rate > 0.0).then(|| format!("{} of the rest", keep.rate));
    let rules: Vec<_> = [errors, slow, rest].into_iter().flatten().collect();
    format!("keeps {}", rules.join(", "))
}

fn batching(batch: Batch) -> String {
    format!("queue {}, batch {}", batch.queue_size, batch.export_size)
}

/// The timeout of exports, for each signal if they differ.
fn timeouts(settings: &Settings) -> String {
    let all = signals(settings).map(|(name, signal)| (name, signal.otlp.timeout));
    let longest = settings.traces.otlp.timeout;
    let shown = |timeout| if timeout == Otlp::NO_LIMIT { "none".to_owned() } else { format!("{timeout:?}") };
    if all.iter().all(|(_, timeout)| *timeout == longest) {
        return format!("timeout {}", shown(longest));
    }
    format!("timeouts {}", all.map(|(name, timeout)| format!("{name} {}", shown(timeout))).join(", "))
}

/// The limits that differ from the defaults.
fn limits(limits: &SpanLimits, default: &SpanLimits) -> Option<String> {
    let count = |what: &str, limit: usize, default: usize| (limit != default).then(|| format!("{limit} {what}"));
    let set = [
        count("attributes", limits.attributes, default.attributes),
        count("events", limits.events, default.events),
        count("attributes of an event", limits.event_attributes, default.event_attributes),
        limits.value_length.map(|length| format!("{length} characters of a text")),
    ];
    let set: Vec<_> = set.into_iter().flatten().collect();
    (!set.is_empty()).then(|| format!("limits {}", set.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_summary_is_one_line() {
        let line = summary(&Settings::default());
        assert!(line.starts_with("telemetry: traces otlp grpc http://localhost:4317"), "{line}");
        let end = "sampler parentbased_always_on; propagators tracecontext,baggage; queue 2048, batch 512, timeout 10s";
        assert!(line.ends_with(end), "{line}");
        assert!(!line.contains('\n'));
    }

    #[test]
    fn the_summary_shows_disabled_signals() {
        let mut settings = Settings::default();
        settings.metrics.exporters.clear();
        settings.propagators.clear();
        let line = summary(&settings);
        assert!(line.contains("metrics off") && line.contains("propagators none;"), "{line}");
        settings.traces.otlp.timeout = Otlp::NO_LIMIT;
        assert!(summary(&settings).contains("timeouts traces none, metrics 10s"), "{line}");
        assert_eq!(summary(&Settings { disabled: true, ..settings }), "telemetry: off (OTEL_SDK_DISABLED)");
    }

    #[test]
    fn the_summary_shows_tail_sampling_queues_timeouts_and_limits() {
        let mut settings = Settings::default();
        let policy = TailPolicy { errors: true, slower_than: Some(Duration::from_millis(250)), rate: 0.1 };
        settings.tail_policy = Some(policy);
        settings.batch.queue_size = 9;
        settings.metrics.otlp.timeout = Duration::from_millis(1500);
        settings.limits.attributes = 5;
        settings.limits.value_length = Some(99);
        let line = summary(&settings);
        for part in [
            "; keeps errors, traces slower than 250ms, 0.1 of the rest;",
            "; queue 9, batch 512, timeouts traces 10s, metrics 1.5s, logs 10s;",
            "; log records queue 2048, batch 512;",
            "; limits 5 attributes, 99 characters of a text",
        ] {
            assert!(line.contains(part), "{line}");
        }
        assert_eq!(kept(&TailPolicy { errors: false, slower_than: None, ..policy }), "keeps 0.1 of the rest");
    }

    #[test]
    fn the_summary_contains_no_secrets() {
        let mut settings = Settings::default();
        settings.traces.otlp.endpoint = "http://u:s3cret@c:1/x?key=s3cret".to_owned();
        let line = summary(&settings);
        assert!(line.contains("http://c:1/x?...") && !line.contains("s3cret"), "{line}");
    }
}
