//! What telemetry does, in one line, for whoever starts the host.

use super::propagator_name;
use crate::trace::{Exporter, Protocol, Root, Sampler, Settings, Signal};

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
            format!("otlp {protocol}{gzip} {}", without_user(&signal.otlp.endpoint))
        }
    };
    match signal.exporters.as_slice() {
        [] => "off".to_owned(),
        exporters => exporters.iter().map(one).collect::<Vec<_>>().join(" and "),
    }
}

fn sampler_name(sampler: Sampler) -> String {
    let root = match sampler.root {
        Root::AlwaysOn => "always_on".to_owned(),
        Root::AlwaysOff => "always_off".to_owned(),
        Root::Ratio(ratio) => format!("traceidratio({ratio})"),
    };
    if sampler.parent_based { format!("parentbased_{root}") } else { root }
}

/// A URL may hold a password, which no log may.
fn without_user(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_one_line() {
        let line = summary(&Settings::default());
        assert!(line.starts_with("telemetry: traces otlp grpc http://localhost:4317"), "{line}");
        assert!(line.ends_with("sampler parentbased_always_on; propagators tracecontext,baggage"), "{line}");
        assert!(!line.contains('\n'));
    }

    #[test]
    fn the_summary_says_what_is_off() {
        let mut settings = Settings::default();
        settings.metrics.exporters.clear();
        settings.propagators.clear();
        let line = summary(&settings);
        assert!(line.contains("metrics off") && line.ends_with("propagators none"), "{line}");
        assert_eq!(summary(&Settings { disabled: true, ..settings }), "telemetry: off (OTEL_SDK_DISABLED)");
    }

    #[test]
    fn the_summary_shows_no_password() {
        let check = |url, expected| assert_eq!(without_user(url), expected, "{url}");
        check("http://u:p@c:1/x?a@b", "http://c:1/x?a@b");
        check("https://c/u@v", "https://c/u@v");
    }
}
