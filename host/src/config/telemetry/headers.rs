//! `OTEL_EXPORTER_OTLP_HEADERS` and its per-signal forms: the header fields of export requests.

use std::str::FromStr;

use http::{HeaderName, HeaderValue};

use super::variables::{Result, Variables, entries, invalid, pair};

/// Fields that belong to the connection or that the exporter sets.
const RESERVED: [&str; 11] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The fields for one signal, with names in lower case. Values may be secrets, so error messages do not contain them.
pub(super) fn headers(variables: &Variables<'_>, signal: &str) -> Result<Vec<(String, String)>> {
    let Some((name, text)) = variables.of_signal(signal, "HEADERS") else { return Ok(Vec::new()) };
    entries(text).map(|entry| header(entry).map_err(|help| invalid(&name, "(not shown)", &help))).collect()
}

/// Parses one field, or returns a help text.
fn header(entry: &str) -> Result<(String, String), String> {
    let read = || {
        let (key, value) = pair(entry)?;
        let key = HeaderName::from_str(&key).ok()?;
        HeaderValue::from_str(&value).ok()?;
        Some((key.as_str().to_owned(), value))
    };
    let (key, value) = read().ok_or("write key=value pairs with commas between them, percent-encoded")?;
    if let Some(reserved) = RESERVED.iter().find(|reserved| **reserved == key) {
        return Err(format!("remove `{reserved}`, which the exporter sets"));
    }
    if key.ends_with("-bin") {
        return Err("use no names that end in -bin: gRPC treats their values as binary".to_owned());
    }
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::environment::Environment;

    #[test]
    fn headers_that_cannot_be_sent_are_errors_with_the_name_of_the_variable() {
        for (name, text, expected) in [
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=1,x-bin=abc", "end in -bin"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Content-Length=3", "remove `content-length`"),
            ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "transfer-encoding=chunked", "remove `transfer-encoding`"),
            ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "host=elsewhere", "remove `host`"),
        ] {
            let environment = Environment::from_pairs([(name, text)]);
            let message = headers(&Variables::new(&environment), "LOGS").unwrap_err().to_string();
            assert!(message.contains(&format!("{name}=(not shown)")) && message.contains(expected), "{message}");
        }
    }
}
