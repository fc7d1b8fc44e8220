//! The `OTEL_*` variables, as the OpenTelemetry specification defines them, and what they come to.
//!
//! `OTEL_SERVICE_NAME` is not read: each service has the name that the manifest gives it.

use std::path::PathBuf;
use std::time::Duration;

use super::environment::Environment;
use super::error::ConfigError;
use crate::trace::{Batch, Exporter, Otlp, Propagator, Protocol, Root, Sampler, Settings, Signal, SpanLimits};

type Result<T, E = ConfigError> = std::result::Result<T, E>;

/// The attribute that says which deployment a service belongs to.
const DEPLOYMENT: &str = "deployment.environment.name";

/// Everything that the environment says about telemetry.
pub(super) fn settings(environment: &Environment) -> Result<Settings> {
    let standard = Settings::default();
    let read = Variables(environment);
    Ok(Settings {
        disabled: read.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")),
        traces: signal(&read, "TRACES", &[Exporter::Otlp, Exporter::Console])?,
        metrics: signal(&read, "METRICS", &[Exporter::Otlp])?,
        logs: signal(&read, "LOGS", &[Exporter::Otlp])?,
        sampler: sampler(&read)?,
        batch: batch(&read, standard.batch)?,
        limits: limits(&read, standard.limits)?,
        propagators: propagators(&read, standard.propagators)?,
        keep: None,
        metric_export_interval: interval(&read)?.unwrap_or(standard.metric_export_interval),
        recent_spans: standard.recent_spans,
    })
}

fn interval(read: &Variables<'_>) -> Result<Option<Duration>> {
    let name = "OTEL_METRIC_EXPORT_INTERVAL";
    match read.millis(name)? {
        Some(Duration::ZERO) => Err(wrong(name, "0", "write a number of milliseconds above 0")),
        interval => Ok(interval),
    }
}

/// `OTEL_RESOURCE_ATTRIBUTES`, and a deployment where it names none.
pub(super) fn resource(environment: &Environment) -> Result<Vec<(String, String)>> {
    let mut attributes = Vec::new();
    let name = "OTEL_RESOURCE_ATTRIBUTES";
    for pair in environment.get(name).unwrap_or_default().split(',').filter(|pair| !pair.trim().is_empty()) {
        let wrong = || wrong(name, pair, "write key=value pairs with commas between them, percent-encoded");
        let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
        let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8().map_err(|_| wrong())?;
        attributes.push((key.trim().to_owned(), value.into_owned()));
    }
    if !attributes.iter().any(|(key, _)| key == DEPLOYMENT) {
        attributes.push((DEPLOYMENT.to_owned(), "development".to_owned()));
    }
    Ok(attributes)
}

/// The settings in one line, for whoever starts the host.
pub fn summary(settings: &Settings) -> String {
    if settings.disabled {
        return "telemetry: off (OTEL_SDK_DISABLED)".to_owned();
    }
    let signals = [("traces", &settings.traces), ("metrics", &settings.metrics), ("logs", &settings.logs)];
    let signals = signals.map(|(name, signal)| format!("{name} {}", destination(signal)));
    let keep = if settings.keep.is_some() { ", tail rule on" } else { "" };
    let propagators: Vec<_> = settings.propagators.iter().map(|propagator| propagator_name(*propagator)).collect();
    let propagators = if propagators.is_empty() { "none".to_owned() } else { propagators.join(",") };
    format!(
        "telemetry: {}; sampler {}{keep}; propagators {propagators}",
        signals.join(", "),
        sampler_name(settings.sampler)
    )
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
            format!("otlp {protocol}{gzip} {}", signal.otlp.endpoint)
        }
    };
    match signal.exporters.as_slice() {
        [] => "off".to_owned(),
        exporters => exporters.iter().map(one).collect::<Vec<_>>().join(" and "),
    }
}

fn wrong(name: &str, value: &str, help: &str) -> ConfigError {
    ConfigError::Variable { name: name.to_owned(), value: value.to_owned(), help: help.to_owned() }
}

/// Typed reading of variables.
struct Variables<'a>(&'a Environment);

impl<'a> Variables<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.get(name)
    }

    fn number<T: std::str::FromStr>(&self, name: &str, help: &str) -> Result<Option<T>> {
        let read = |value: &str| value.parse().map_err(|_| wrong(name, value, help));
        self.get(name).map(read).transpose()
    }

    fn count(&self, name: &str) -> Result<Option<usize>> {
        self.number(name, "write a whole number")
    }

    fn millis(&self, name: &str) -> Result<Option<Duration>> {
        Ok(self.number(name, "write a number of milliseconds")?.map(Duration::from_millis))
    }

    /// The variable for one signal, else the one for all.
    fn of_signal(&self, signal: &str, what: &str) -> Option<(String, &'a str)> {
        let names = [format!("OTEL_EXPORTER_OTLP_{signal}_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")];
        names.into_iter().find_map(|name| self.get(&name).map(|value| (name, value)))
    }
}

fn signal(read: &Variables<'_>, signal: &str, known: &[Exporter]) -> Result<Signal> {
    let name = format!("OTEL_{signal}_EXPORTER");
    let mut exporters = Vec::new();
    for word in read.get(&name).unwrap_or("otlp").split(',').map(str::trim) {
        match word {
            "none" => {}
            "otlp" => exporters.push(Exporter::Otlp),
            "console" if known.contains(&Exporter::Console) => exporters.push(Exporter::Console),
            _ if known.contains(&Exporter::Console) => {
                return Err(wrong(&name, word, "write otlp, console, both with a comma between them, or none"));
            }
            _ => return Err(wrong(&name, word, "write otlp or none")),
        }
    }
    Ok(Signal { exporters, otlp: otlp(read, signal)? })
}

fn otlp(read: &Variables<'_>, signal: &str) -> Result<Otlp> {
    let standard = Otlp::standard();
    let protocol = match read.of_signal(signal, "PROTOCOL") {
        None => standard.protocol,
        Some((_, "grpc")) => Protocol::Grpc,
        Some((_, "http/protobuf")) => Protocol::HttpProtobuf,
        Some((name, value)) => return Err(wrong(&name, value, "write grpc or http/protobuf")),
    };
    let timeout = match read.of_signal(signal, "TIMEOUT") {
        None => standard.timeout,
        Some((name, _)) => read.millis(&name)?.unwrap_or(standard.timeout),
    };
    let gzip = match read.of_signal(signal, "COMPRESSION") {
        None | Some((_, "none")) => false,
        Some((_, "gzip")) => true,
        Some((name, value)) => return Err(wrong(&name, value, "write gzip or none")),
    };
    let file = |what| read.of_signal(signal, what).map(|(_, path)| PathBuf::from(path));
    Ok(Otlp {
        endpoint: endpoint(read, signal, protocol)?,
        protocol,
        headers: headers(read, signal)?,
        timeout,
        gzip,
        certificate: file("CERTIFICATE"),
        client: file("CLIENT_CERTIFICATE").zip(file("CLIENT_KEY")),
    })
}

/// A signal's own endpoint is used as it is; the common one gets the signal's path where it is HTTP.
fn endpoint(read: &Variables<'_>, signal: &str, protocol: Protocol) -> Result<String> {
    let own = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
    let common = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let standard = match protocol {
        Protocol::Grpc => "http://localhost:4317",
        Protocol::HttpProtobuf => "http://localhost:4318",
    };
    if let Some(url) = read.get(&own) {
        return check_url(&own, url).map(str::to_owned);
    }
    let base = read.get(common).map_or(Ok(standard), |url| check_url(common, url))?;
    Ok(match protocol {
        Protocol::Grpc => base.to_owned(),
        Protocol::HttpProtobuf => format!("{}/v1/{}", base.trim_end_matches('/'), signal.to_ascii_lowercase()),
    })
}

fn check_url<'u>(name: &str, url: &'u str) -> Result<&'u str> {
    let good = url.parse::<http::Uri>().is_ok_and(|uri| super::Origin::of(&uri).is_some());
    if good { Ok(url) } else { Err(wrong(name, url, "write an http or https URL, such as http://localhost:4317")) }
}

fn headers(read: &Variables<'_>, signal: &str) -> Result<Vec<(String, String)>> {
    let Some((name, text)) = read.of_signal(signal, "HEADERS") else { return Ok(Vec::new()) };
    let pair = |pair: &str| {
        // The value may be a secret, so the message does not show it.
        let wrong = || wrong(&name, "(not shown)", "write key=value pairs with commas between them, percent-encoded");
        let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
        let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8().map_err(|_| wrong())?;
        Ok((key.trim().to_ascii_lowercase(), value.into_owned()))
    };
    text.split(',').filter(|text| !text.trim().is_empty()).map(pair).collect()
}

fn sampler(read: &Variables<'_>) -> Result<Sampler> {
    let name = "OTEL_TRACES_SAMPLER";
    let text = read.get(name).unwrap_or("parentbased_always_on");
    let (parent_based, root) = match text.strip_prefix("parentbased_") {
        Some(root) => (true, root),
        None => (false, text),
    };
    let root = match root {
        "always_on" => Root::AlwaysOn,
        "always_off" => Root::AlwaysOff,
        "traceidratio" => Root::Ratio(ratio(read)?),
        _ => {
            let help = "write always_on, always_off or traceidratio, or one of them after parentbased_";
            return Err(wrong(name, text, help));
        }
    };
    Ok(Sampler { root, parent_based })
}

fn ratio(read: &Variables<'_>) -> Result<f64> {
    let (name, help) = ("OTEL_TRACES_SAMPLER_ARG", "write a number from 0 to 1");
    let ratio = read.number(name, help)?.unwrap_or(1.0);
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err(wrong(name, read.get(name).unwrap_or_default(), help)) }
}

fn sampler_name(sampler: Sampler) -> String {
    let root = match sampler.root {
        Root::AlwaysOn => "always_on".to_owned(),
        Root::AlwaysOff => "always_off".to_owned(),
        Root::Ratio(ratio) => format!("traceidratio({ratio})"),
    };
    if sampler.parent_based { format!("parentbased_{root}") } else { root }
}

fn batch(read: &Variables<'_>, standard: Batch) -> Result<Batch> {
    let queue_size = read.count("OTEL_BSP_MAX_QUEUE_SIZE")?.unwrap_or(standard.queue_size).max(1);
    let export_size = read.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE")?.unwrap_or(standard.export_size);
    Ok(Batch {
        queue_size,
        export_size: export_size.clamp(1, queue_size),
        delay: read.millis("OTEL_BSP_SCHEDULE_DELAY")?.unwrap_or(standard.delay),
    })
}

fn limits(read: &Variables<'_>, standard: SpanLimits) -> Result<SpanLimits> {
    let first = |names: [&str; 2]| -> Result<Option<usize>> {
        match read.count(names[0])? {
            Some(count) => Ok(Some(count)),
            None => read.count(names[1]),
        }
    };
    Ok(SpanLimits {
        attributes: first(["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"])?
            .unwrap_or(standard.attributes),
        events: read.count("OTEL_SPAN_EVENT_COUNT_LIMIT")?.unwrap_or(standard.events),
        event_attributes: read.count("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT")?.unwrap_or(standard.event_attributes),
        value_length: first(["OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"])?,
    })
}

fn propagators(read: &Variables<'_>, standard: Vec<Propagator>) -> Result<Vec<Propagator>> {
    let name = "OTEL_PROPAGATORS";
    let Some(text) = read.get(name) else { return Ok(standard) };
    let mut propagators = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| *word != "none") {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings> {
        settings(&Environment::from_pairs(pairs.iter().copied()))
    }

    #[test]
    fn an_empty_environment_means_the_specification_s_defaults() {
        assert_eq!(read(&[]).unwrap(), Settings::default());
        assert_eq!(
            read(&[("OTEL_TRACES_EXPORTER", ""), ("OTEL_BSP_MAX_QUEUE_SIZE", "")]).unwrap(),
            Settings::default()
        );
    }

    #[test]
    fn endpoints_follow_the_specification() {
        let http = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        let settings = read(&[http]).unwrap();
        assert_eq!(settings.traces.otlp.endpoint, "http://localhost:4318/v1/traces");
        let settings = read(&[http, ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1/base/")]).unwrap();
        assert_eq!(settings.logs.otlp.endpoint, "http://c:1/base/v1/logs");
        let own = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m:2/as/is");
        assert_eq!(read(&[http, own]).unwrap().metrics.otlp.endpoint, "http://m:2/as/is");
        assert_eq!(read(&[own]).unwrap().traces.otlp.endpoint, "http://localhost:4317");
    }

    #[test]
    fn everything_else_is_read_too() {
        let settings = read(&[
            ("OTEL_SDK_DISABLED", "TRUE"),
            ("OTEL_TRACES_EXPORTER", "otlp,console"),
            ("OTEL_METRICS_EXPORTER", "none"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Api-Key=a%20b,x=1"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
            ("OTEL_PROPAGATORS", "b3,tracecontext,b3"),
            ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "99"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
        ])
        .unwrap();
        assert!(settings.disabled && settings.traces.otlp.gzip);
        assert_eq!(settings.traces.exporters, [Exporter::Otlp, Exporter::Console]);
        assert!(settings.metrics.exporters.is_empty());
        assert_eq!(settings.traces.otlp.headers, [("api-key".into(), "a b".into()), ("x".into(), "1".into())]);
        assert_eq!(settings.traces.otlp.timeout, Duration::from_millis(250));
        assert_eq!(settings.sampler, Sampler { root: Root::Ratio(0.25), parent_based: false });
        assert_eq!((settings.batch.queue_size, settings.batch.export_size), (10, 10));
        assert_eq!(settings.propagators, [Propagator::B3, Propagator::TraceContext]);
        assert_eq!(settings.limits.value_length, Some(99));
        assert_eq!(settings.metric_export_interval, Duration::from_secs(1));
    }

    #[test]
    fn an_invalid_value_is_an_error_that_names_the_variable() {
        let bad = [
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_METRICS_EXPORTER", "console"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "zstd"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
            ("OTEL_PROPAGATORS", "xray"),
        ];
        for (name, value) in bad {
            let message = read(&[(name, value)]).unwrap_err().to_string();
            assert!(message.contains(&format!("{name}={value}")) && message.contains("help: write"), "{message}");
        }
        let ratio = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "2")];
        assert!(read(&ratio).unwrap_err().to_string().contains("SAMPLER_ARG=2"));
    }

    #[test]
    fn the_resource_is_read_and_has_a_deployment() {
        let environment = Environment::from_pairs([("OTEL_RESOURCE_ATTRIBUTES", "team=shop%20one, a=b")]);
        let attributes = resource(&environment).unwrap();
        assert_eq!(attributes[0], ("team".to_owned(), "shop one".to_owned()));
        assert!(attributes.iter().any(|(key, _)| key == DEPLOYMENT));
        assert!(resource(&Environment::from_pairs([("OTEL_RESOURCE_ATTRIBUTES", "oops")])).is_err());
    }

    #[test]
    fn the_summary_is_one_line() {
        let line = summary(&Settings::default());
        assert!(line.starts_with("telemetry: traces otlp grpc http://localhost:4317"), "{line}");
        assert!(!line.contains('\n'));
    }
}
