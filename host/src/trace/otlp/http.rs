//! OTLP over HTTP with protobuf bodies.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;

use super::retry::retry_after;
use super::{Request, TransportError, Verdict};
use crate::trace::settings::Otlp;

/// A client for one URL.
pub(super) struct Http {
    client: reqwest::Client,
    url: String,
    headers: HeaderMap,
    gzip: bool,
}

impl Http {
    pub fn new(otlp: &Otlp) -> Result<Http, TransportError> {
        let fail = |reason: String| TransportError::Endpoint { endpoint: otlp.endpoint.clone(), reason };
        // The first caller decides for the process; that another one was there before is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = reqwest::Client::builder()
            .timeout(otlp.timeout)
            .user_agent(super::grpc::user_agent())
            .redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &otlp.certificate {
            let certificate = reqwest::Certificate::from_pem(&pem(path)?).map_err(|error| bad_file(path, &error))?;
            client = client.tls_certs_merge([certificate]);
        }
        if let Some((certificate, key)) = &otlp.client {
            let both = [pem(certificate)?, pem(key)?].concat();
            let identity = reqwest::Identity::from_pem(&both).map_err(|error| bad_file(certificate, &error))?;
            client = client.identity(identity);
        }
        let client = client.build().map_err(|error| fail(error.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        for (name, value) in &otlp.headers {
            let bad = || TransportError::Header(name.clone());
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            headers.append(name, value.parse().map_err(|_| bad())?);
        }
        Ok(Http { client, url: otlp.endpoint.clone(), headers, gzip: otlp.gzip })
    }

    pub async fn send(&self, request: &Request) -> Verdict {
        let body = match request {
            Request::Traces(spans) => spans.encode_to_vec(),
            Request::Metrics(metrics) => metrics.encode_to_vec(),
            Request::Logs(logs) => logs.encode_to_vec(),
        };
        let mut post = self.client.post(&self.url).headers(self.headers.clone());
        post = match self.gzip.then(|| compress(&body)) {
            Some(Ok(smaller)) => post.header(CONTENT_ENCODING, "gzip").body(smaller),
            _ => post.body(body),
        };
        match post.send().await {
            Ok(response) => judge(request, response).await,
            Err(error) => Verdict::Retry { after: None, reason: error.to_string() },
        }
    }
}

/// Which answers mean "again", as the OTLP specification lists them.
async fn judge(request: &Request, response: reqwest::Response) -> Verdict {
    let status = response.status();
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
    let again = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    if again {
        return Verdict::Retry { after: asked, reason: status.to_string() };
    }
    let body = response.bytes().await.unwrap_or_default();
    if !status.is_success() {
        return Verdict::Refused(format!(
            "{status}: {}",
            String::from_utf8_lossy(&body).chars().take(200).collect::<String>()
        ));
    }
    let (rejected, message) = partial(request, &body);
    Verdict::Accepted { rejected: rejected.max(0) as u64, message }
}

/// What the collector did not take. An answer that cannot be read says nothing, which means that it took everything.
fn partial(request: &Request, body: &[u8]) -> (i64, String) {
    let part = match request {
        Request::Traces(_) => ExportTraceServiceResponse::decode(body)
            .ok()
            .and_then(|answer| answer.partial_success)
            .map(|part| (part.rejected_spans, part.error_message)),
        Request::Metrics(_) => ExportMetricsServiceResponse::decode(body)
            .ok()
            .and_then(|answer| answer.partial_success)
            .map(|part| (part.rejected_data_points, part.error_message)),
        Request::Logs(_) => ExportLogsServiceResponse::decode(body)
            .ok()
            .and_then(|answer| answer.partial_success)
            .map(|part| (part.rejected_log_records, part.error_message)),
    };
    part.unwrap_or_default()
}

fn compress(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

pub(super) fn pem(path: &Path) -> Result<Vec<u8>, TransportError> {
    std::fs::read(path).map_err(|error| bad_file(path, &error))
}

fn bad_file(path: &Path, error: &dyn std::fmt::Display) -> TransportError {
    TransportError::Certificate { path: path.display().to_string(), reason: error.to_string() }
}
