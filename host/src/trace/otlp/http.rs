//! OTLP over HTTP with protobuf bodies.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Collected, Limited};
use prost::Message;

use super::answer;
use super::batch::Body;
use super::transport_error::{TransportError, bad_file, pem};
use super::verdict::{Verdict, innermost, is_silence, user_agent};
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

    pub async fn send(&self, body: Body) -> Verdict {
        let mut post = self.client.post(self.url.clone()).headers(self.headers.clone());
        post = match self.gzip.then(|| compress(&body)) {
            Some(Ok(smaller)) => post.header(CONTENT_ENCODING, "gzip").body(smaller),
            _ => post.body(body.whole()),
        };
        match post.send().await {
            Ok(response) => judge(response).await,
            Err(error) => {
                let (is_silent, reason) = (is_silence(&error), innermost(&error.without_url()));
                Verdict::Retry { after: None, reason, is_silent }
            }
        }
    }
}

/// A client that sends `headers` with every request.
pub(super) fn client(otlp: &Otlp, headers: HeaderMap) -> Result<reqwest::Client, TransportError> {
    // The first caller decides for the process; that another one was there before is as good.
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
    client.build().map_err(|error| bad_endpoint(otlp, innermost(&error)))
}

/// The URL that is posted to.
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

async fn judge(response: reqwest::Response) -> Verdict {
    let (head, body) = http::Response::from(response).into_parts();
    let body = Limited::new(body, answer::LONGEST).collect().await.map(Collected::to_bytes);
    match (head.status.is_success(), body) {
        (true, Ok(body)) => Verdict::accepted(answer::read(body)),
        (true, Err(_)) => Verdict::accepted(answer::unreadable()),
        (false, body) => answer::failed(head.status, &head.headers, &complaint(&body.unwrap_or_default())),
    }
}

/// What a collector says of a request that it refuses: a `google.rpc.Status`, or any text.
fn complaint(body: &[u8]) -> String {
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
