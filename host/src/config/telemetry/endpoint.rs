//! `OTEL_EXPORTER_OTLP_ENDPOINT` and its per-signal forms: the URL of a signal's collector.

use super::variables::{Result, Variables, invalid};
use crate::config::origin::Origin;
use crate::trace::Protocol;

/// The endpoint of a signal. A per-signal endpoint is used unchanged; with HTTP, the signal's path is appended to the
/// common one.
pub(super) fn endpoint(variables: &Variables<'_>, signal: &str, protocol: Protocol) -> Result<String> {
    let own = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
    let common = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let default = match protocol {
        Protocol::Grpc => "http://localhost:4317",
        Protocol::HttpProtobuf => "http://localhost:4318",
    };
    if let Some(url) = variables.get(&own) {
        return check(&own, url, protocol).map(str::to_owned);
    }
    let base = variables.get(common).map_or(Ok(default), |url| check(common, url, protocol))?;
    Ok(match protocol {
        Protocol::Grpc => base.to_owned(),
        Protocol::HttpProtobuf => with_signal_path(base, &signal.to_ascii_lowercase()),
    })
}

/// Appends the signal's path to a common URL, before its query.
fn with_signal_path(base: &str, signal: &str) -> String {
    let (path, query) = base.split_at(base.find('?').unwrap_or(base.len()));
    format!("{}/v1/{signal}{query}", path.trim_end_matches('/'))
}

fn check<'u>(name: &str, url: &'u str, protocol: Protocol) -> Result<&'u str> {
    let reject = |help: &str| Err(invalid(name, &redacted(url), help));
    let is_origin = url.parse::<http::Uri>().is_ok_and(|uri| Origin::of(&uri).is_some());
    if !is_origin || url.parse::<reqwest::Url>().is_err() {
        return reject("write an http or https URL, such as http://localhost:4317");
    }
    if url.contains('#') {
        return reject("write the URL without a fragment: remove `#` and the text after it");
    }
    if protocol == Protocol::Grpc && url.contains('?') {
        return reject("write the URL without a query, which gRPC does not support: remove `?` and the text after it");
    }
    if protocol == Protocol::Grpc && url.contains('@') {
        return reject(
            "write the URL without a user, which gRPC does not support: set credentials in OTEL_EXPORTER_OTLP_HEADERS",
        );
    }
    Ok(url)
}

/// The parts of an invalid URL that an error message may show. In a malformed URL any part may be a secret.
fn redacted(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let (rest, more) = match rest.find(['?', '#']) {
        // `?` or `#` may be a part of a password.
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
    fn the_path_of_a_signal_is_inserted_before_the_query() {
        let check = |url, expected| assert_eq!(read(COMMON, url, Protocol::HttpProtobuf).unwrap(), expected, "{url}");
        check("http://c", "http://c/v1/traces");
        check("http://c/?q=1", "http://c/v1/traces?q=1");
        check("http://c?q=/a/", "http://c/v1/traces?q=/a/");
        check("http://c/base//?q=1", "http://c/base/v1/traces?q=1");
    }

    #[test]
    fn a_per_signal_endpoint_keeps_its_query() {
        let own = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        assert_eq!(read(own, "http://c/in?q=1", Protocol::HttpProtobuf).unwrap(), "http://c/in?q=1");
    }

    #[test]
    fn unsupported_parts_of_an_endpoint_are_errors() {
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
    fn error_messages_contain_no_secrets() {
        let check = |url: &str, expected: &str| {
            let message = read(COMMON, url, Protocol::Grpc).unwrap_err().to_string();
            assert!(message.contains(&format!("{COMMON}={expected} is invalid")), "{message}");
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
