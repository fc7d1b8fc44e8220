//! Creates the exporters of the OpenTelemetry SDK with the same settings as the host's own: endpoint, protocol,
//! headers, timeout, compression and certificates.

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

use super::export_result::user_agent;
use super::transport_error::TransportError;
use super::{grpc, http as over_http};
use crate::trace::settings::{Otlp, Protocol};

/// Whether an exporter retries failed exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::trace) enum RetryMode {
    /// The policy that the SDK recommends, within the timeout of the export.
    Recommended,
    /// No retries, because the host is stopping.
    Disabled,
}

impl RetryMode {
    fn policy(self) -> RetryPolicy {
        match self {
            RetryMode::Recommended => RetryPolicy::recommended(),
            RetryMode::Disabled => RetryPolicy::disabled(),
        }
    }
}

/// The exporter of spans.
pub(in crate::trace) fn span_exporter(otlp: &Otlp, retry_mode: RetryMode) -> Result<SpanExporter, TransportError> {
    let builder = SpanExporter::builder();
    let built = match otlp.protocol {
        Protocol::Grpc => grpc(builder.with_tonic(), otlp, retry_mode)?.build(),
        Protocol::HttpProtobuf => http(builder.with_http(), otlp, retry_mode)?.build(),
    };
    built.map_err(|error| failed(otlp, &error))
}

/// The exporter of log records.
pub(in crate::trace) fn log_exporter(otlp: &Otlp, retry_mode: RetryMode) -> Result<LogExporter, TransportError> {
    let builder = LogExporter::builder();
    let built = match otlp.protocol {
        Protocol::Grpc => grpc(builder.with_tonic(), otlp, retry_mode)?.build(),
        Protocol::HttpProtobuf => http(builder.with_http(), otlp, retry_mode)?.build(),
    };
    built.map_err(|error| failed(otlp, &error))
}

fn failed(otlp: &Otlp, error: &ExporterBuildError) -> TransportError {
    TransportError::Endpoint { endpoint: otlp.shown_endpoint(), reason: error.to_string() }
}

fn grpc<B: WithExportConfig + WithTonicConfig>(
    builder: B,
    otlp: &Otlp,
    retry_mode: RetryMode,
) -> Result<B, TransportError> {
    let mut metadata = grpc::metadata(&otlp.headers)?;
    if let Ok(agent) = user_agent().parse() {
        metadata.insert(USER_AGENT.as_str(), agent);
    }
    let builder = builder
        .with_channel(grpc::channel(otlp)?)
        .with_metadata(metadata)
        .with_timeout(otlp.timeout)
        .with_retry_policy(retry_mode.policy());
    Ok(if otlp.gzip { builder.with_compression(Compression::Gzip) } else { builder })
}

fn http<B: WithExportConfig + WithHttpConfig>(
    builder: B,
    otlp: &Otlp,
    retry_mode: RetryMode,
) -> Result<B, TransportError> {
    let (mut url, mut headers) = (over_http::url(otlp)?, over_http::headers(otlp)?);
    // The SDK sets this header itself.
    headers.remove(CONTENT_TYPE);
    if let Some(authorization) = basic_auth(&url) {
        // A configured header takes precedence.
        headers.entry(AUTHORIZATION).or_insert(authorization);
    }
    let stripped = url.set_username("").and_then(|()| url.set_password(None));
    debug_assert!(stripped.is_ok(), "an http URL has a host");
    let builder = builder
        .with_http_client(over_http::client(otlp, headers)?)
        .with_headers(HashMap::from([("User-Agent".to_owned(), user_agent())]))
        .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
        .with_endpoint(url.as_str())
        .with_timeout(otlp.timeout)
        .with_retry_policy(retry_mode.policy());
    Ok(if otlp.gzip { builder.with_compression(Compression::Gzip) } else { builder })
}

/// Basic authorization for the user info of a URL, which the SDK's requests ignore.
fn basic_auth(url: &reqwest::Url) -> Option<HeaderValue> {
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
            let value = basic_auth(&url.parse().unwrap());
            assert_eq!(value.as_ref().map(|value| value.to_str().unwrap()), expected, "{url}");
        };
        check("http://c/v1/traces", None);
        check("http://u:p@c/", Some("Basic dTpw"));
        check("http://u@c/", Some("Basic dTo="));
        check("http://u%40x:p%3A@c/", Some("Basic dUB4OnA6"));
    }

    #[tokio::test]
    async fn exporters_of_both_signals_are_built_for_both_protocols() {
        for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
            for gzip in [false, true] {
                let headers = vec![("x-tenant".to_owned(), "blue 100%".to_owned())];
                let otlp = Otlp { protocol, gzip, headers, ..Otlp::standard() };
                for retry_mode in [RetryMode::Recommended, RetryMode::Disabled] {
                    assert!(span_exporter(&otlp, retry_mode).is_ok() && log_exporter(&otlp, retry_mode).is_ok());
                }
            }
        }
    }
}
