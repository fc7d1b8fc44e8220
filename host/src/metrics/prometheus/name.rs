//! Conversion of OpenTelemetry names to Prometheus names. Pure functions.

use super::format::Kind;

/// The name of a metric family: sanitised, with its unit and, for a counter, with `_total`.
pub(in crate::metrics) fn family(name: &str, unit: &str, kind: Kind) -> String {
    let sanitised = sanitise(name);
    let mut tokens: Vec<&str> = words(&sanitised).collect();
    if kind == Kind::Counter {
        tokens.retain(|token| *token != "total");
    }
    let unit = unit_words(unit, kind);
    for word in words(&unit) {
        if !tokens.contains(&word) {
            tokens.push(word);
        }
    }
    if kind == Kind::Counter {
        tokens.push("total");
    }
    let joined = tokens.join("_");
    if joined.starts_with(|first: char| first.is_ascii_digit()) { format!("_{joined}") } else { joined }
}

/// The unit in words, as appended to a family's name. Empty if there is none.
pub(super) fn unit(unit: &str, kind: Kind) -> String {
    words(&unit_words(unit, kind)).collect::<Vec<_>>().join("_")
}

/// The name of a label. Consecutive underscores are merged.
pub(in crate::metrics) fn label(key: &str) -> String {
    let mut before = None;
    let mut name = sanitise(key).replace(':', "_");
    name.retain(|c| before.replace(c) != Some('_') || c != '_');
    if name.starts_with(|first: char| first.is_ascii_digit()) { format!("_{name}") } else { name }
}

fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split('_').filter(|word| !word.is_empty())
}

fn sanitise(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    name.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

/// A UCUM unit in words. `{annotations}` say what is counted, not in which unit, and are removed.
fn unit_words(unit: &str, kind: Kind) -> String {
    if unit.contains('{') {
        return String::new();
    }
    match unit {
        "1" if kind == Kind::Gauge => "ratio".to_owned(),
        "1" => String::new(),
        _ => match unit.split_once('/') {
            Some((of, per)) => format!("{}_per_{}", word(of), word(per).trim_end_matches('s')),
            None => word(unit),
        },
    }
}

fn word(unit: &str) -> String {
    let word = match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "Cel" => "celsius",
        "%" => "percent",
        other => return sanitise(other),
    };
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_their_unit_and_total_once() {
        let cases = [
            ("http.server.request.duration", "s", Kind::Histogram, "http_server_request_duration_seconds"),
            ("http.server.active_requests", "{request}", Kind::Gauge, "http_server_active_requests"),
            ("process.memory.usage", "By", Kind::Gauge, "process_memory_usage_bytes"),
            ("process.cpu.time", "s", Kind::Counter, "process_cpu_time_seconds_total"),
            ("queue.fill", "1", Kind::Gauge, "queue_fill_ratio"),
            ("load", "By/s", Kind::Gauge, "load_bytes_per_second"),
            ("requests_total", "", Kind::Counter, "requests_total"),
            ("2xx..answers", "", Kind::Gauge, "_2xx_answers"),
        ];
        for (name, unit, kind, expected) in cases {
            assert_eq!(family(name, unit, kind), expected);
        }
    }

    #[test]
    fn the_names_of_the_earlier_demo_are_unchanged() {
        assert_eq!(family("http_requests", "{request}", Kind::Counter), "http_requests_total");
        assert_eq!(family("otel_operations", "{operation}", Kind::Counter), "otel_operations_total");
        assert_eq!(family("otel_span_duration_ms", "", Kind::Histogram), "otel_span_duration_ms");
        assert_eq!(family("memory_usage_mb", "", Kind::Gauge), "memory_usage_mb");
        assert_eq!(family("cpu_usage_percent", "%", Kind::Gauge), "cpu_usage_percent");
    }

    #[test]
    fn label_names_contain_only_characters_that_prometheus_allows() {
        assert_eq!(label("http.response.status_code"), "http_response_status_code");
        assert_eq!(label("1st:größe"), "_1st_gr_e");
    }

    #[test]
    fn consecutive_underscores_are_merged() {
        for key in ["a_b", "a__b", "a..b", "a.-_ b", "a:b"] {
            assert_eq!(label(key), "a_b", "{key}");
        }
        assert_eq!([label("__a__"), label("_"), label("..")], ["_a_", "_", "_"]);
    }

    #[test]
    fn the_unit_is_the_end_of_the_name() {
        let cases =
            [("s", Kind::Histogram, "seconds"), ("By/s", Kind::Gauge, "bytes_per_second"), ("1", Kind::Gauge, "ratio")];
        for (text, kind, expected) in cases {
            assert_eq!(unit(text, kind), expected);
            assert!(family("load", text, kind).ends_with(expected));
        }
        for (text, kind) in [("{request}", Kind::Counter), ("1", Kind::Counter), ("", Kind::Gauge)] {
            assert_eq!(unit(text, kind), "");
        }
    }
}
