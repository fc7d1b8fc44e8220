//! Content negotiation of the Prometheus page, as in Prometheus' client libraries: by weight, then by order.
//!
//! Only types that are named explicitly count. A scraper that names none, only types that the host does not write, or
//! rejects both (weight 0), gets the text format, which every scraper reads. Parameters other than `version`, such as
//! `escaping`, are ignored.

use mime::Mime;

use super::Exposition;

/// The weight, in thousandths, of a type with no weight or an invalid one.
const FULL_WEIGHT: u32 = 1_000;

impl Exposition {
    /// The format that a request's `Accept` fields select.
    pub fn accepted<'a>(fields: impl IntoIterator<Item = &'a str>) -> Exposition {
        let members = fields.into_iter().flat_map(|field| split_unquoted(field, ','));
        let offers = members.filter_map(offer).filter(|(weight, _)| *weight > 0);
        // Of several types with the same weight the first counts.
        let best = offers.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map_or(Exposition::Prometheus, |(_, format)| format)
    }
}

/// A member's weight, and the format that it names, if any.
fn offer(member: &str) -> Option<(u32, Exposition)> {
    // The parser accepts neither blanks before a semicolon nor empty parameters.
    let parts: Vec<_> = split_unquoted(member, ';').into_iter().filter(|part| !part.is_empty()).collect();
    let range: Mime = parts.join(";").parse().ok()?;
    Some((weight(&range), format(&range)?))
}

fn format(range: &Mime) -> Option<Exposition> {
    let version = range.get_param("version").map(|version| version.as_str());
    match range.essence_str() {
        "application/openmetrics-text" if version.is_none_or(|version| version == "1.0.0") => {
            Some(Exposition::OpenMetrics)
        }
        "text/plain" if version.is_none_or(|version| version == "0.0.4") => Some(Exposition::Prometheus),
        _ => None,
    }
}

fn weight(range: &Mime) -> u32 {
    let given = range.get_param("q").and_then(|weight| weight.as_str().parse::<f64>().ok());
    let within = given.filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(1.0);
    // Weights have three decimals (RFC 9110, 12.4.2).
    (within * f64::from(FULL_WEIGHT)).round() as u32
}

/// Splits a text at separators outside quoted strings, and trims the parts.
fn split_unquoted(text: &str, separator: char) -> Vec<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = text.split(|c: char| {
        let escaped = is_escaped;
        is_escaped = is_quoted && c == '\\' && !escaped;
        if c == '"' && !escaped {
            is_quoted = !is_quoted;
        }
        c == separator && !is_quoted
    });
    parts.map(|part| part.trim_matches([' ', '\t'])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Exposition::{OpenMetrics, Prometheus};

    fn check(cases: &[(&[&str], Exposition)]) {
        for (fields, expected) in cases {
            assert_eq!(Exposition::accepted(fields.iter().copied()), *expected, "{fields:?}");
        }
    }

    #[test]
    fn prometheus_gets_open_metrics() {
        let second = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                      text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        let third = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                     application/openmetrics-text;version=0.0.1;q=0.5,\
                     text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                        application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2";
        check(&[(&[second], OpenMetrics), (&[third], OpenMetrics), (&[protobuf], OpenMetrics)]);
    }

    #[test]
    fn requests_without_a_known_format_get_the_text_format() {
        check(&[
            (&[], Prometheus),
            (&[""], Prometheus),
            (&["*/*"], Prometheus),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], Prometheus),
            (&["application/*"], Prometheus),
            (&["application/json"], Prometheus),
            (&["application/openmetrics-text-2"], Prometheus),
            (&["x-application/openmetrics-text"], Prometheus),
            (&["text/plain;note=\"application/openmetrics-text\""], Prometheus),
            (&["application/openmetrics-text;version=2.0.0"], Prometheus),
            (&["application/openmetrics-text;version=0.0.1"], Prometheus),
        ]);
    }

    #[test]
    fn the_highest_weight_wins_and_then_the_order() {
        check(&[
            (&["application/openmetrics-text;q=0.3,text/plain;q=0.5"], Prometheus),
            (&["application/openmetrics-text;q=0.5,text/plain;q=0.3"], OpenMetrics),
            (&["text/plain;q=0.5,application/openmetrics-text"], OpenMetrics),
            (&["text/plain,application/openmetrics-text"], Prometheus),
            (&["application/openmetrics-text,text/plain"], OpenMetrics),
            (&["application/openmetrics-text;q=0.001,text/html"], OpenMetrics),
            (&["application/openmetrics-text;q=x,text/plain;q=0.9"], OpenMetrics),
        ]);
    }

    #[test]
    fn types_with_weight_zero_are_rejected() {
        check(&[
            (&["application/openmetrics-text;q=0"], Prometheus),
            (&["application/openmetrics-text;q=0.000,text/plain;q=0.1"], Prometheus),
            (&["text/plain;q=0,application/openmetrics-text;q=0.1"], OpenMetrics),
            (&["application/openmetrics-text;q=0,text/plain;q=0"], Prometheus),
        ]);
    }

    #[test]
    fn case_whitespace_quotes_and_several_fields_do_not_matter() {
        check(&[
            (&["Application/OpenMetrics-Text"], OpenMetrics),
            (&["application/openmetrics-text;Version=1.0.0;Q=0.5, text/plain;q=0.3"], OpenMetrics),
            (&["application/openmetrics-text ; version=1.0.0 ; q=0.2\t,\ttext/plain ; q=0.3"], Prometheus),
            (&["application/openmetrics-text; version=\"1.0.0\""], OpenMetrics),
            (&["text/plain;q=0.1;note=\"a,b;q=1\", application/openmetrics-text;q=0.2"], OpenMetrics),
            (&["text/html", "application/openmetrics-text"], OpenMetrics),
            (&["text/plain;q=0.2", "application/openmetrics-text;q=0.1"], Prometheus),
            (&["application/openmetrics-text;;q=0.1,,nonsense,text/plain;q=0.05"], OpenMetrics),
        ]);
    }
}
