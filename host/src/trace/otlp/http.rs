//! OTLP over HTTP with protobuf bodies.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Collected, Limited};
use prost::Message;

use super::batch::Body;
use super::export_result::{ExportResult, is_connection_refused, root_cause, user_agent};
use super::response;
use super::transport_error::{TransportError, bad_file, pem};
use crate::trace::settings::Otlp;

/// A client for one URL.
pub(super) struct Http {
    client: reqwest::Client,
    url: reqwest::Url,
    headers: HeaderMap,
    gzip: bool,
}

impl Http {
    pub fn new(otlp: &Otlp) -> Result<Http, TransportError> {
        let client = client(otlp, HeaderMap::new())?;
        Ok(Http { client, url: url(otlp)?, headers: headers(otlp)?, gzip: otlp.gzip })
    }

    pub async fn send(&self, body: Body) -> ExportResult {
        let mut post = self.client.post(self.url.clone()).headers(self.headers.clone());
        post = match self.gzip.then(|| compress(&body)) {
            Some(Ok(smaller)) => post.header(CONTENT_ENCODING, "gzip").body(smaller),
            _ => post.body(body.whole()),
        };
        match post.send().await {
            Ok(response) => export_result(response).await,
            Err(error) => {
                let (connection_refused, reason) = (is_connection_refused(&error), root_cause(&error.without_url()));
                ExportResult::Retry { after: None, reason, connection_refused }
            }
        }
    }
}

/// An HTTP client that sends `headers` with every request.
pub(super) fn client(otlp: &Otlp, headers: HeaderMap) -> Result<reqwest::Client, TransportError> {
    // Fails if a provider is installed already, which is equally good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder()
        .timeout(otlp.timeout)
        .user_agent(user_agent())
        .default_headers(headers)
        .redirect(reqwest::redirect::Policy::none());
    if let Some(path) = otlp.certificate.as_ref().filter(|_| otlp.is_https()) {
        let certificates = reqwest::Certificate::from_pem_bundle(&pem(path)?);
        client = client.tls_certs_merge(certificates.map_err(|error| bad_file(path, &error))?);
    }
    if let Some((certificate, key)) = otlp.client.as_ref().filter(|_| otlp.is_https()) {
        let both = [pem(certificate)?, b"\n".to_vec(), pem(key)?].concat();
        let identity = reqwest::Identity::from_pem(&both).map_err(|error| bad_file(certificate, &error))?;
        client = client.identity(identity);
    }
    client.build().map_err(|error| bad_endpoint(otlp, root_cause(&error)))
}

/// The URL to post to.
pub(super) fn url(otlp: &Otlp) -> Result<reqwest::Url, TransportError> {
    otlp.endpoint.parse().map_err(|error| bad_endpoint(otlp, format!("{error}")))
}

fn bad_endpoint(otlp: &Otlp, reason: String) -> TransportError {
    TransportError::Endpoint { endpoint: otlp.shown_endpoint(), reason }
}

pub(super) fn headers(otlp: &Otlp) -> Result<HeaderMap, TransportError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    for (name, value) in &otlp.headers {
        let bad = || TransportError::Header(name.clone());
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        headers.append(name, value.parse().map_err(|_| bad())?);
    }
    Ok(headers)
}

async fn export_result(response: reqwest::Response) -> ExportResult {
    let (head, body) = http::Response::from(response).into_parts();
    let body = Limited::new(body, response::MAX_RESPONSE_BYTES).collect().await.map(Collected::to_bytes);
    match (head.status.is_success(), body) {
        (true, Ok(body)) => ExportResult::accepted(response::decode(body)),
        (true, Err(_)) => ExportResult::accepted(response::unreadable()),
        (false, body) => {
            response::from_http_status(head.status, &head.headers, &error_message(&body.unwrap_or_default()))
        }
    }
}

/// The message of a rejection: from a `google.rpc.Status`, or the body as text.
fn error_message(body: &[u8]) -> String {
    match tonic_types::Status::decode(body) {
        Ok(status) if !status.message.is_empty() => status.message,
        _ => String::from_utf8_lossy(body).into_owned(),
    }
}

fn compress(body: &Body) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    for piece in body.pieces() {
        encoder.write_all(piece)?;
    }
    encoder.finish()
}
