//! `OTEL_EXPORTER_OTLP_ENDPOINT` and its forms for the signals: where a signal's collector is.

use super::variables::{Result, Variables, wrong};
use crate::config::origin::Origin;
use crate::trace::Protocol;

/// A signal's own endpoint is used as it is; the common one gets the signal's path where it is HTTP.
pub(super) fn endpoint(read: &Variables<'_>, signal: &str, protocol: Protocol) -> Result<String> {
    let own = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
    let common = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let standard = match protocol {
        Protocol::Grpc => "http://localhost:4317",
        Protocol::HttpProtobuf => "http://localhost:4318",
    };
    if let Some(url) = read.get(&own) {
        return check(&own, url, protocol).map(str::to_owned);
    }
    let base = read.get(common).map_or(Ok(standard), |url| check(common, url, protocol))?;
    Ok(match protocol {
        Protocol::Grpc => base.to_owned(),
        Protocol::HttpProtobuf => below(base, &signal.to_ascii_lowercase()),
    })
}

/// The URL of a signal below a common one, whose query stays behind the path.
fn below(base: &str, signal: &str) -> String {
    let (path, query) = base.split_at(base.find('?').unwrap_or(base.len()));
    format!("{}/v1/{signal}{query}", path.trim_end_matches('/'))
}

fn check<'u>(name: &str, url: &'u str, protocol: Protocol) -> Result<&'u str> {
    let refuse = |help: &str| Err(wrong(name, &shown(url), help));
    let is_origin = url.parse::<http::Uri>().is_ok_and(|uri| Origin::of(&uri).is_some());
    if !is_origin || url.parse::<reqwest::Url>().is_err() {
        return refuse("write an http or https URL, such as http://localhost:4317");
    }
    if url.contains('#') {
        return refuse("write the URL without a fragment: leave out `#` and what follows it");
    }
    if protocol == Protocol::Grpc && url.contains('?') {
        return refuse("write the URL without a query: gRPC has none; leave out `?` and what follows it");
    }
    if protocol == Protocol::Grpc && url.contains('@') {
        return refuse("write the URL without a user: gRPC has none; say who sends in OTEL_EXPORTER_OTLP_HEADERS");
    }
    Ok(url)
}

/// As much of a URL that is of no use as a message may show. In one that cannot be read any part may be a secret.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let (rest, more) = match rest.find(['?', '#']) {
        // The sign may be a part of a password.
        Some(_) if rest.contains('@') => return "(not shown)".to_owned(),
        Some(end) => (rest.get(..end).unwrap_or_default(), rest.get(end..=end).unwrap_or_default()),
        None => (rest, ""),
    };
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    let more = if more.is_empty() { String::new() } else { format!("{more}...") };
    format!("{scheme}{rest}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::environment::Environment;

    const COMMON: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

    fn read(name: &str, url: &str, protocol: Protocol) -> Result<String> {
        endpoint(&Variables::new(&Environment::from_pairs([(name, url)])), "TRACES", protocol)
    }

    #[test]
    fn a_signals_path_comes_before_the_query() {
        let check = |url, expected| assert_eq!(read(COMMON, url, Protocol::HttpProtobuf).unwrap(), expected, "{url}");
        check("http://c", "http://c/v1/traces");
        check("http://c/?q=1", "http://c/v1/traces?q=1");
        check("http://c?q=/a/", "http://c/v1/traces?q=/a/");
        check("http://c/base//?q=1", "http://c/base/v1/traces?q=1");
    }

    #[test]
    fn a_signals_own_url_keeps_its_query() {
        let own = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        assert_eq!(read(own, "http://c/in?q=1", Protocol::HttpProtobuf).unwrap(), "http://c/in?q=1");
    }

    #[test]
    fn what_an_endpoint_cannot_have_is_named() {
        let check = |url, protocol, expected: &str| {
            let message = read(COMMON, url, protocol).unwrap_err().to_string();
            assert!(message.contains(COMMON) && message.contains(expected), "{message}");
        };
        check("http://c/#part", Protocol::HttpProtobuf, "without a fragment");
        check("http://c/#part", Protocol::Grpc, "without a fragment");
        check("http://c/?q=1", Protocol::Grpc, "without a query");
        check("http://u:p@c/", Protocol::Grpc, "without a user");
        check("ftp://c", Protocol::Grpc, "write an http or https URL");
    }

    #[test]
    fn no_message_shows_a_secret() {
        let check = |url: &str, expected: &str| {
            let message = read(COMMON, url, Protocol::Grpc).unwrap_err().to_string();
            assert!(message.contains(&format!("{COMMON}={expected} is not")), "{message}");
            assert!(!message.contains("s3cret"), "{message}");
        };
        check("http://u:s3cret@host:99999", "http://host:99999");
        check("http://u:s3/s3cret@host", "http://host");
        check("u:s3cret@host", "host");
        check("http://c/?key=s3cret", "http://c/?...");
        check("http://c/#s3cret", "http://c/#...");
        check("http://u:a?s3cret@host:99999", "(not shown)");
        check("http://c/?key=a@s3cret", "(not shown)");
    }
}
