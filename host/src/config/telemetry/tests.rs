//! The settings parsed from variables, and the warnings about invalid ones.

use std::time::Duration;

use super::strict::is_strict;
use super::*;
use crate::trace::Otlp;

fn read(pairs: &[(&str, &str)]) -> Result<Settings> {
    settings(&Environment::from_pairs(pairs.iter().copied()))
}

#[test]
fn an_empty_environment_yields_the_defaults_of_the_specification() {
    assert_eq!(read(&[]).unwrap(), Settings::default());
    assert_eq!(read(&[("OTEL_TRACES_EXPORTER", ""), ("OTEL_BSP_MAX_QUEUE_SIZE", "")]).unwrap(), Settings::default());
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
fn all_other_variables_are_parsed() {
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
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "20"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "0"),
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
    assert_eq!(settings.sampler, Sampler { root: RootSampler::Ratio(0.25), parent_based: false });
    assert_eq!((settings.batch.queue_size, settings.batch.export_size), (10, 10));
    assert_eq!((settings.log_batch.queue_size, settings.log_batch.export_size), (2048, 20));
    assert_eq!((settings.batch.delay, settings.log_batch.delay), (Duration::from_secs(5), Duration::ZERO));
    assert_eq!(settings.propagators, [Propagator::B3, Propagator::TraceContext]);
    assert_eq!(settings.limits.value_length, Some(99));
    assert_eq!(settings.metric_export_interval, Duration::from_secs(1));
}

#[test]
fn an_invalid_value_counts_as_unset_with_a_warning() {
    let bad = [
        ("OTEL_SDK_DISABLED", "maybe", "false"),
        ("OTEL_SDK_DISABLED", "1", "false"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp"),
        ("OTEL_METRICS_EXPORTER", "console", "otlp"),
        ("OTEL_LOGS_EXPORTER", "logging", "otlp,console"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "grpc"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "none"),
        ("OTEL_TRACES_SAMPLER", "sometimes", "parentbased_always_on"),
        ("OTEL_TRACES_SAMPLER", "parentbased_jaeger_remote", "parentbased_always_on"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many", "2048"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "2048"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "99999999999999999999999", "2048"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0", "512"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "soon", "the OTLP timeout"),
        ("OTEL_BSP_SCHEDULE_DELAY", "99999999999999", "5000"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "1.5", "1000"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "-3", "2048"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "-1", "the OTLP timeout"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "10000"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0", "60000"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "few", "128"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "-1", "128"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "long", "no limit"),
        ("OTEL_PROPAGATORS", "xray", "tracecontext,baggage"),
    ];
    for (name, value, instead) in bad {
        let environment = Environment::from_pairs([(name, value)]);
        assert_eq!(settings(&environment).unwrap(), Settings::default(), "{name}={value}");
        let warnings = ignored(&environment);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with(&format!("ignored: {name}={value}; write ")), "{warnings:?}");
        assert!(warnings[0].ends_with(&format!("; used instead: {instead}")), "{warnings:?}");
    }
}

#[test]
fn a_sampler_argument_out_of_range_counts_as_unset() {
    for argument in ["2", "-0.1", "NaN", "inf", "half"] {
        let pairs = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", argument)];
        assert_eq!(read(&pairs).unwrap().sampler, Sampler { root: RootSampler::Ratio(1.0), parent_based: false });
        let warnings = ignored(&Environment::from_pairs(pairs));
        assert!(warnings.len() == 1 && warnings[0].contains(&format!("SAMPLER_ARG={argument}; ")), "{warnings:?}");
        // The argument is not read for a sampler without one.
        assert!(ignored(&Environment::from_pairs([pairs[1]])).is_empty());
    }
}

#[test]
fn unknown_words_of_a_list_are_ignored() {
    let check = |name: &str, value: &str, unknown: &[&str]| {
        let environment = Environment::from_pairs([(name, value)]);
        let warnings = ignored(&environment);
        assert_eq!(warnings.len(), unknown.len(), "{warnings:?}");
        for (line, unknown) in warnings.iter().zip(unknown) {
            assert!(line.starts_with(&format!("ignored: {name}={unknown}; ")), "{line}");
            assert!(line.ends_with("used instead: the rest of the list"), "{line}");
        }
        settings(&environment).unwrap()
    };
    let propagators = check("OTEL_PROPAGATORS", "xray, b3,ottrace,B3", &["xray", "ottrace"]).propagators;
    assert_eq!(propagators, [Propagator::B3]);
    assert_eq!(check("OTEL_PROPAGATORS", "xray,none", &["xray"]).propagators, []);
    assert_eq!(check("OTEL_TRACES_EXPORTER", "zipkin,console", &["zipkin"]).traces.exporters, [Exporter::Console]);
    assert_eq!(check("OTEL_METRICS_EXPORTER", "prometheus,none", &["prometheus"]).metrics.exporters, []);
}

#[test]
fn an_invalid_per_signal_variable_falls_back_to_the_common_one() {
    let pairs = [
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "-1"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "x"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "7"),
    ];
    let settings = read(&pairs).unwrap();
    assert_eq!(settings.traces.otlp.endpoint, "http://localhost:4318/v1/traces");
    assert_eq!((settings.traces.otlp.timeout, settings.limits.attributes), (Duration::from_millis(250), 7));
    let warnings = ignored(&Environment::from_pairs(pairs));
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].ends_with("used instead: OTEL_EXPORTER_OTLP_PROTOCOL, or grpc without it"), "{warnings:?}");
}

#[test]
fn warnings_contain_no_secrets_and_no_control_characters() {
    for value in ["endpoint=http://u:s3cret@c", "http://u:s3cret@c", "s3cret\u{1b}]0;x\u{7}", &"s3cret".repeat(20)] {
        for name in ["OTEL_TRACES_SAMPLER", "OTEL_PROPAGATORS", "OTEL_BSP_MAX_QUEUE_SIZE"] {
            let warnings = ignored(&Environment::from_pairs([(name, value)]));
            assert!(
                warnings.len() == 1 && warnings[0].starts_with(&format!("ignored: {name}=(not shown); ")),
                "{warnings:?}"
            );
        }
    }
}

#[test]
fn invalid_endpoints_headers_and_keys_are_errors() {
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "ftp://c"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/file"),
    ] {
        assert!(is_strict(name));
        let message = read(&[(name, value)]).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("help: "), "{message}");
        assert!(invalid(&Environment::from_pairs([(name, value)])).is_empty(), "{name}");
    }
    for name in ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_TIMEOUT"] {
        assert!(!is_strict(name), "{name}");
    }
}

#[test]
fn resource_attributes_are_parsed_with_a_default_deployment() {
    let environment = Environment::from_pairs([("OTEL_RESOURCE_ATTRIBUTES", "team=shop%20one, a=b")]);
    let attributes = resource(&environment);
    assert_eq!(attributes[0], ("team".to_owned(), "shop one".to_owned()));
    assert!(attributes.iter().any(|(key, _)| key == DEPLOYMENT));
}

#[test]
fn a_malformed_pair_discards_all_resource_attributes() {
    for (text, member) in [("s3cret", 1), ("a=1,s3cret", 2), ("a=1,=s3cret,b=2", 2), ("a=%FF", 1), ("a=1,,b", 2)] {
        let environment = Environment::from_pairs([("OTEL_RESOURCE_ATTRIBUTES", text)]);
        assert_eq!(resource(&environment), [(DEPLOYMENT.to_owned(), "development".to_owned())], "{text}");
        let warnings = ignored(&environment);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].contains("ATTRIBUTES=(not shown)") && warnings[0].contains(&format!("member {member} is")),
            "{warnings:?}"
        );
        assert!(!warnings[0].contains("s3cret"), "{warnings:?}");
    }
}

#[test]
fn per_signal_variables_take_precedence_over_the_common_ones() {
    let settings = read(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
        ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "b=2"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/me.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/me.key"),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/traces.key"),
    ])
    .unwrap();
    assert_eq!(settings.metrics.otlp.endpoint, "http://localhost:4318/v1/metrics");
    assert_eq!(settings.traces.otlp.endpoint, "http://localhost:4317");
    assert_eq!(settings.logs.otlp.headers, [("b".into(), "2".into())]);
    assert_eq!(settings.traces.otlp.headers, [("a".into(), "1".into())]);
    assert_eq!(settings.traces.otlp.certificate, Some("/ca.pem".into()));
    assert_eq!(settings.traces.otlp.client, Some(("/me.pem".into(), "/traces.key".into())));
    assert_eq!(settings.logs.otlp.client, Some(("/me.pem".into(), "/me.key".into())));
}

#[test]
fn the_shorter_of_two_timeouts_is_used() {
    let check = |pairs: &[(&str, &str)], traces: u64, metrics: u64| {
        let settings = read(pairs).unwrap();
        let timeout = |otlp: &Otlp| otlp.timeout.as_millis();
        assert_eq!(timeout(&settings.traces.otlp), traces.into(), "{pairs:?}");
        assert_eq!(timeout(&settings.metrics.otlp), metrics.into(), "{pairs:?}");
    };
    check(&[("OTEL_BSP_EXPORT_TIMEOUT", "2000")], 2_000, 10_000);
    check(&[("OTEL_BSP_EXPORT_TIMEOUT", "60000")], 10_000, 10_000);
    check(&[("OTEL_METRIC_EXPORT_TIMEOUT", "2000")], 10_000, 2_000);
    check(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "60000")], 60_000, 60_000);
    let no_limit = Otlp::NO_LIMIT.as_millis() as u64;
    check(&[("OTEL_BSP_EXPORT_TIMEOUT", "0")], 10_000, 10_000);
    check(&[("OTEL_BSP_EXPORT_TIMEOUT", "2000"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "0")], 2_000, no_limit);
}

#[test]
fn a_duplicate_exporter_is_used_once() {
    let settings = read(&[("OTEL_TRACES_EXPORTER", "otlp, otlp,"), ("OTEL_LOGS_EXPORTER", "none")]).unwrap();
    assert_eq!(settings.traces.exporters, [Exporter::Otlp]);
    assert_eq!(settings.logs.exporters, []);
}

#[test]
fn with_traces_on_the_console_only_other_signals_have_no_otlp_exporter_by_default() {
    let exported = |pairs: &[(&str, &str)]| {
        let settings = read(pairs).unwrap();
        [settings.metrics, settings.logs].map(|signal| signal.exporters.contains(&Exporter::Otlp))
    };
    let console = ("OTEL_TRACES_EXPORTER", "console");
    assert_eq!(exported(&[console]), [false, false]);
    assert_eq!(exported(&[console, ("OTEL_METRICS_EXPORTER", "otlp")]), [true, false]);
    assert_eq!(exported(&[console, ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1")]), [true, true]);
    assert_eq!(exported(&[console, ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://c:1")]), [false, true]);
    assert_eq!(exported(&[("OTEL_TRACES_EXPORTER", "otlp,console")]), [true, true]);
    assert_eq!(exported(&[("OTEL_TRACES_EXPORTER", "none")]), [true, true]);
}

#[test]
fn by_default_log_records_go_to_the_terminal_too() {
    let logs = |pairs: &[(&str, &str)]| read(pairs).unwrap().logs.exporters;
    let list = |value| logs(&[("OTEL_LOGS_EXPORTER", value)]);
    assert_eq!(logs(&[]), [Exporter::Otlp, Exporter::Console]);
    assert_eq!(logs(&[("OTEL_TRACES_EXPORTER", "console")]), [Exporter::Console]);
    assert_eq!(list("console"), [Exporter::Console]);
    assert_eq!(list("otlp"), [Exporter::Otlp]);
    assert_eq!(list("none"), []);
    assert_eq!(list("Console, otlp,console"), [Exporter::Console, Exporter::Otlp]);
    assert_eq!(list("logging,console"), [Exporter::Console]);
}

#[test]
fn the_sdk_is_disabled_by_true_only() {
    for (value, disabled) in [("true", true), ("True", true), ("FALSE", false), ("", false), ("yes", false)] {
        assert_eq!(read(&[("OTEL_SDK_DISABLED", value)]).unwrap().disabled, disabled, "{value}");
    }
}

#[test]
fn settings_without_effect_cause_warnings() {
    let warnings = |pairs: &[(&str, &str)]| ignored(&Environment::from_pairs(pairs.iter().copied()));
    assert!(warnings(&[("OTEL_RESOURCE_ATTRIBUTES", "team=shop,service.namespace=eu")]).is_empty());
    let all = warnings(&[("OTEL_SERVICE_NAME", "a"), ("OTEL_RESOURCE_ATTRIBUTES", "service.version=1,team=shop")]);
    let start = "ignored: OTEL_SERVICE_NAME, service.version in OTEL_RESOURCE_ATTRIBUTES; ";
    assert!(all.len() == 1 && all[0].starts_with(start), "{all:?}");
    let preference = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
    assert!(warnings(&[(preference, "Cumulative"), ("OTEL_METRICS_EXEMPLAR_FILTER", "trace_based")]).is_empty());
    let other = warnings(&[(preference, "delta"), ("OTEL_CONFIG_FILE", "otel.yaml")]);
    assert_eq!(other.len(), 2);
    assert!(
        other.iter().any(|line| line.contains(&format!("{preference}=delta; metrics are cumulative"))),
        "{other:?}"
    );
}

#[test]
fn words_are_case_insensitive() {
    let settings = read(&[
        ("OTEL_TRACES_EXPORTER", "OTLP,Console"),
        ("OTEL_LOGS_EXPORTER", "None"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "HTTP/Protobuf"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "GZIP"),
        ("OTEL_TRACES_SAMPLER", "ParentBased_TraceIdRatio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
        ("OTEL_PROPAGATORS", "B3,TraceContext"),
    ])
    .unwrap();
    assert_eq!(settings.traces.exporters, [Exporter::Otlp, Exporter::Console]);
    assert!(settings.logs.exporters.is_empty());
    assert!(settings.traces.otlp.gzip && settings.traces.otlp.endpoint.ends_with("/v1/traces"));
    assert_eq!(settings.sampler, Sampler { root: RootSampler::Ratio(0.5), parent_based: true });
    assert_eq!(settings.propagators, [Propagator::B3, Propagator::TraceContext]);
}

#[test]
fn a_client_key_or_certificate_alone_is_an_error() {
    let check = |name: &str, other: &str| {
        let message = read(&[(name, "/file")]).unwrap_err().to_string();
        assert!(
            message.contains(&format!("{name}=/file")) && message.contains(&format!("set {other} too")),
            "{message}"
        );
    };
    check("OTEL_EXPORTER_OTLP_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE");
    check("OTEL_EXPORTER_OTLP_LOGS_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY");
}

#[test]
fn the_error_for_an_invalid_header_does_not_contain_it() {
    for secret in ["Bearer s3cret", "a b=s3cret", "=s3cret", "a=s3cret%0D%0Ax", "a=s3cret%FF"] {
        let message = read(&[("OTEL_EXPORTER_OTLP_HEADERS", secret)]).unwrap_err().to_string();
        assert!(message.contains("OTEL_EXPORTER_OTLP_HEADERS=(not shown)") && !message.contains("s3cret"), "{message}");
    }
}

#[test]
fn of_duplicate_resource_attributes_the_last_one_is_used() {
    let check = |text: &str, expected: &[(&str, &str)]| {
        let attributes = resource(&Environment::from_pairs([("OTEL_RESOURCE_ATTRIBUTES", text)]));
        let attributes: Vec<_> = attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(attributes, expected, "{text}");
    };
    check("a=1,a=2", &[("a", "2"), (DEPLOYMENT, "development")]);
    check("a%2Cb=c%3Dd", &[("a,b", "c=d"), (DEPLOYMENT, "development")]);
    check("deployment.environment.name=test", &[(DEPLOYMENT, "test")]);
    check("a=", &[("a", ""), (DEPLOYMENT, "development")]);
}
