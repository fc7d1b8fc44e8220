//! The exporters of the OpenTelemetry SDK, over the same ways to the collector as everything else: the endpoint, its
//! protocol, fields, timeout, compression and certificates are those that the settings name.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use opentelemetry_otlp::{
    Compression, ExporterBuildError, LogExporter, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
    WithTonicConfig,
};
use percent_encoding::percent_decode_str;

use super::transport_error::TransportError;
use super::verdict::user_agent;
use super::{grpc, http as over_http};
use crate::trace::settings::{Otlp, Protocol};

/// How often an export that fails for now is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::trace) enum Tries {
    /// As often as the SDK advises, within the export's time limit.
    Several,
    /// Once: the host stops.
    One,
}

impl Tries {
    fn policy(self) -> RetryPolicy {
        match self {
            Tries::Several => RetryPolicy::recommended(),
            Tries::One => RetryPolicy::disabled(),
        }
    }
}

/// What sends spans.
pub(in crate::trace) fn span_exporter(otlp: &Otlp, tries: Tries) -> Result<SpanExporter, TransportError> {
    let builder = SpanExporter::builder();
    let built = match otlp.protocol {
        Protocol::Grpc => grpc(builder.with_tonic(), otlp, tries)?.build(),
        Protocol::HttpProtobuf => http(builder.with_http(), otlp, tries)?.build(),
    };
    built.map_err(|error| failed(otlp, &error))
}

/// What sends log records.
pub(in crate::trace) fn log_exporter(otlp: &Otlp, tries: Tries) -> Result<LogExporter, TransportError> {
    let builder = LogExporter::builder();
    let built = match otlp.protocol {
        Protocol::Grpc => grpc(builder.with_tonic(), otlp, tries)?.build(),
        Protocol::HttpProtobuf => http(builder.with_http(), otlp, tries)?.build(),
    };
    built.map_err(|error| failed(otlp, &error))
}

fn failed(otlp: &Otlp, error: &ExporterBuildError) -> TransportError {
    TransportError::Endpoint { endpoint: otlp.shown_endpoint(), reason: error.to_string() }
}

fn grpc<B: WithExportConfig + WithTonicConfig>(builder: B, otlp: &Otlp, tries: Tries) -> Result<B, TransportError> {
    let mut metadata = grpc::metadata(&otlp.headers)?;
    if let Ok(agent) = user_agent().parse() {
        metadata.insert(USER_AGENT.as_str(), agent);
    }
    let builder = builder
        .with_channel(grpc::channel(otlp)?)
        .with_metadata(metadata)
        .with_timeout(otlp.timeout)
        .with_retry_policy(tries.policy());
    Ok(if otlp.gzip { builder.with_compression(Compression::Gzip) } else { builder })
}

fn http<B: WithExportConfig + WithHttpConfig>(builder: B, otlp: &Otlp, tries: Tries) -> Result<B, TransportError> {
    let (mut url, mut headers) = (over_http::url(otlp)?, over_http::headers(otlp)?);
    // The SDK says the type of its bodies by itself.
    headers.remove(CONTENT_TYPE);
    if let Some(user) = user(&url) {
        // Given before by hand, the field stays as it is.
        headers.entry(AUTHORIZATION).or_insert(user);
    }
    let stripped = url.set_username("").and_then(|()| url.set_password(None));
    debug_assert!(stripped.is_ok(), "an http URL has a host");
    let builder = builder
        .with_http_client(over_http::client(otlp, headers)?)
        .with_headers(HashMap::from([("User-Agent".to_owned(), user_agent())]))
        .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
        .with_endpoint(url.as_str())
        .with_timeout(otlp.timeout)
        .with_retry_policy(tries.policy());
    Ok(if otlp.gzip { builder.with_compression(Compression::Gzip) } else { builder })
}

/// Basic authorization for the user that a URL names: the SDK's requests carry none of its own.
fn user(url: &reqwest::Url) -> Option<HeaderValue> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (name, password) = (decoded(url.username()), url.password().map(decoded).unwrap_or_default());
    if name.is_empty() && password.is_empty() {
        return None;
    }
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_a_url_becomes_authorization() {
        let check = |url: &str, expected: Option<&str>| {
            let value = user(&url.parse().unwrap());
            assert_eq!(value.as_ref().map(|value| value.to_str().unwrap()), expected, "{url}");
        };
        check("http://c/v1/traces", None);
        check("http://u:p@c/", Some("Basic dTpw"));
        check("http://u@c/", Some("Basic dTo="));
        check("http://u%40x:p%3A@c/", Some("Basic dUB4OnA6"));
    }

    #[tokio::test]
    async fn both_protocols_make_exporters_of_both_signals() {
        for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
            for gzip in [false, true] {
                let headers = vec![("x-tenant".to_owned(), "blue 100%".to_owned())];
                let otlp = Otlp { protocol, gzip, headers, ..Otlp::standard() };
                for tries in [Tries::Several, Tries::One] {
                    assert!(span_exporter(&otlp, tries).is_ok() && log_exporter(&otlp, tries).is_ok());
                }
            }
        }
    }
}
