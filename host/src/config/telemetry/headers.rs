//! `OTEL_EXPORTER_OTLP_HEADERS` and its forms for the signals: what is sent with every export.

use std::str::FromStr;

use http::{HeaderName, HeaderValue};

use super::variables::{Result, Variables, entries, pair, wrong};

/// Fields that belong to the connection or to the exporter: a second one, or another one, would break the exchange.
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

/// The fields for one signal, names in lower case. A value may be a secret, so no message shows one.
pub(super) fn headers(read: &Variables<'_>, signal: &str) -> Result<Vec<(String, String)>> {
    let Some((name, text)) = read.of_signal(signal, "HEADERS") else { return Ok(Vec::new()) };
    entries(text).map(|entry| header(entry).map_err(|help| wrong(&name, "(not shown)", &help))).collect()
}

/// One field, or what to write instead.
fn header(entry: &str) -> Result<(String, String), String> {
    let read = || {
        let (key, value) = pair(entry)?;
        let key = HeaderName::from_str(&key).ok()?;
        HeaderValue::from_str(&value).ok()?;
        Some((key.as_str().to_owned(), value))
    };
    let (key, value) = read().ok_or("write key=value pairs with commas between them, percent-encoded")?;
    if let Some(reserved) = RESERVED.iter().find(|reserved| **reserved == key) {
        return Err(format!("leave out `{reserved}`, which belongs to the connection"));
    }
    if key.ends_with("-bin") {
        return Err("write no name that ends in -bin: gRPC takes its values for binary ones".to_owned());
    }
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::environment::Environment;

    #[test]
    fn a_header_that_cannot_be_sent_is_refused_by_the_variables_name() {
        for (name, text, expected) in [
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=1,x-bin=abc", "ends in -bin"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Content-Length=3", "leave out `content-length`"),
            ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "transfer-encoding=chunked", "leave out `transfer-encoding`"),
            ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "host=elsewhere", "leave out `host`"),
        ] {
            let environment = Environment::from_pairs([(name, text)]);
            let message = headers(&Variables::new(&environment), "LOGS").unwrap_err().to_string();
            assert!(message.contains(&format!("{name}=(not shown)")) && message.contains(expected), "{message}");
        }
    }
}
