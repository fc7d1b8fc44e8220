//! OTLP over gRPC.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use tonic::client::Grpc as Client;
use tonic::codec::{BufferSettings, Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{MetadataKey, MetadataMap};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::ServiceExt;

use super::batch::Body;
use super::export_result::{ExportResult, is_connection_refused, root_cause, user_agent};
use super::response;
use super::transport_error::{self, TransportError};
use crate::trace::counters::SignalKind;
use crate::trace::settings::Otlp;

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// The interval and timeout of HTTP/2 pings. A connection that does not answer a ping in time is replaced.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// A client for one collector. It connects lazily, so a collector that is unavailable at the start is an outage like
/// any other.
pub(super) struct Grpc {
    channel: Channel,
    metadata: MetadataMap,
    timeout: Duration,
    gzip: bool,
}

impl Grpc {
    pub fn new(otlp: &Otlp) -> Result<Grpc, TransportError> {
        let (channel, metadata) = (channel(otlp)?, metadata(&otlp.headers)?);
        Ok(Grpc { channel, metadata, timeout: otlp.timeout, gzip: otlp.gzip })
    }

    pub async fn send(&self, signal: SignalKind, body: Body) -> ExportResult {
        let observed = Arc::new(Mutex::new(ObservedResponse::default()));
        match tokio::time::timeout(self.timeout, self.call(signal, body, observed.clone())).await {
            Ok(Ok(response)) => ExportResult::accepted(response),
            Ok(Err(status)) => export_result(&status, &lock(&observed)),
            Err(_) => {
                let reason = format!("no response within {:?}", self.timeout);
                ExportResult::Retry { after: None, reason, connection_refused: false }
            }
        }
    }

    async fn call(
        &self,
        signal: SignalKind,
        body: Body,
        observed: Arc<Mutex<ObservedResponse>>,
    ) -> Result<ExportTraceServiceResponse, Status> {
        let channel = self.channel.clone().and_then(move |response| observe_response(response, observed));
        let mut client = Client::new(channel).max_decoding_message_size(response::MAX_RESPONSE_BYTES);
        if self.gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        client.ready().await.map_err(Status::from_error)?;
        let mut request = tonic::Request::new(body);
        *request.metadata_mut() = self.metadata.clone();
        let path = PathAndQuery::from_static(path(signal));
        client.unary(request, path, PreEncoded).await.map(tonic::Response::into_inner)
    }
}

/// A channel that connects on first use.
pub(super) fn channel(otlp: &Otlp) -> Result<Channel, TransportError> {
    let fail = |error: tonic::transport::Error| TransportError::Endpoint {
        endpoint: otlp.shown_endpoint(),
        reason: root_cause(&error),
    };
    let mut endpoint = Endpoint::from_shared(otlp.endpoint.clone())
        .and_then(|endpoint| endpoint.user_agent(user_agent()))
        .map_err(fail)?
        .connect_timeout(otlp.timeout)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    if otlp.is_https() {
        endpoint = endpoint.tls_config(tls(otlp)?).map_err(fail)?;
    }
    Ok(endpoint.connect_lazy())
}

/// The parts of a response that tonic does not report: it maps plain HTTP responses, such as those of proxies, and
/// truncated ones to gRPC status codes that a collector might have sent, and does not read the status after a message
/// that it cannot decode.
#[derive(Debug, Default)]
struct ObservedResponse {
    /// The HTTP status and headers.
    head: Option<(StatusCode, HeaderMap)>,
    /// The gRPC status of the headers or trailers.
    status: Option<Code>,
    /// Whether the body exceeded the limit.
    exceeded_limit: bool,
}

/// Reads a response completely before tonic decodes it.
async fn observe_response(
    response: Response<tonic::body::Body>,
    observed: Arc<Mutex<ObservedResponse>>,
) -> Result<Response<tonic::body::Body>, Box<dyn Error + Send + Sync>> {
    let (head, body) = response.into_parts();
    let (status, first) = (grpc_status(&head.headers), Some((head.status, head.headers.clone())));
    *lock(&observed) = ObservedResponse { head: first, status, exceeded_limit: false };
    let whole = Limited::new(body, response::MAX_RESPONSE_BYTES).collect().await;
    let whole = whole.inspect_err(|error| lock(&observed).exceeded_limit = error.is::<LengthLimitError>())?;
    let trailers = whole.trailers().cloned();
    if let Some(status) = trailers.as_ref().and_then(grpc_status) {
        lock(&observed).status = Some(status);
    }
    let body = Full::new(whole.to_bytes()).with_trailers(std::future::ready(trailers.map(Ok)));
    Ok(Response::from_parts(head, tonic::body::Body::new(body)))
}

/// The path of the signal's export method.
fn path(signal: SignalKind) -> &'static str {
    match signal {
        SignalKind::Traces => TRACES,
        SignalKind::Metrics => METRICS,
        SignalKind::Logs => LOGS,
    }
}

fn grpc_status(fields: &HeaderMap) -> Option<Code> {
    fields.get(Status::GRPC_STATUS).map(|status| Code::from_bytes(status.as_bytes()))
}

fn lock(observed: &Mutex<ObservedResponse>) -> MutexGuard<'_, ObservedResponse> {
    observed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A codec for requests that are encoded already. Responses have the same structure for all signals.
struct PreEncoded;

impl Codec for PreEncoded {
    type Encode = Body;
    type Decode = ExportTraceServiceResponse;
    type Encoder = PreEncoded;
    type Decoder = PreEncoded;

    fn encoder(&mut self) -> PreEncoded {
        PreEncoded
    }

    fn decoder(&mut self) -> PreEncoded {
        PreEncoded
    }
}

impl Encoder for PreEncoded {
    type Item = Body;
    type Error = Status;

    fn encode(&mut self, body: Body, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(body.len());
        body.pieces().for_each(|piece| buffer.put(piece));
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for PreEncoded {
    type Item = ExportTraceServiceResponse;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<ExportTraceServiceResponse>, Status> {
        // Unread bytes would be decoded as the next message.
        let whole = buffer.copy_to_bytes(buffer.remaining());
        Ok(Some(response::decode(whole)))
    }
}

/// The result of a failed call: determined by the gRPC status if there is one, else by the HTTP status. Without either,
/// or if the response was truncated, the connection failed.
fn export_result(status: &Status, observed: &ObservedResponse) -> ExportResult {
    let reason = match status.source() {
        Some(cause) => format!("{}: {}", status.message(), root_cause(cause)),
        None => format!("{}: {}", status.code(), status.message()),
    };
    let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let is_retryable = match (observed.status, &observed.head) {
        // The collector accepted the request; only its message is invalid.
        (Some(Code::Ok), _) => return ExportResult::accepted(response::unreadable()),
        (None, Some((status, _))) if observed.exceeded_limit && status.is_success() => {
            return ExportResult::accepted(response::unreadable());
        }
        (Some(code), _) => is_retryable(code, after.is_some()),
        (None, Some((status, headers))) if !status.is_success() => {
            return response::from_http_status(*status, headers, "instead of a gRPC status");
        }
        (None, _) => true,
    };
    let connection_refused = status.source().is_some_and(is_connection_refused);
    if is_retryable {
        ExportResult::Retry { after, reason, connection_refused }
    } else {
        ExportResult::Rejected(reason)
    }
}

/// Whether a status code is retryable, as the OTLP specification lists them. `ResourceExhausted` is retryable only with
/// `RetryInfo`.
fn is_retryable(code: Code, has_retry_info: bool) -> bool {
    match code {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => has_retry_info,
        _ => false,
    }
}

pub(super) fn metadata(headers: &[(String, String)]) -> Result<MetadataMap, TransportError> {
    let mut metadata = MetadataMap::new();
    for (name, value) in headers {
        let bad = || TransportError::Header(name.clone());
        let key = MetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes()).map_err(|_| bad())?;
        metadata.append(key, value.parse().map_err(|_| bad())?);
    }
    Ok(metadata)
}

fn tls(otlp: &Otlp) -> Result<ClientTlsConfig, TransportError> {
    let mut tls = ClientTlsConfig::new().with_native_roots();
    if let Some(path) = &otlp.certificate {
        tls = tls.ca_certificate(Certificate::from_pem(transport_error::pem(path)?));
    }
    if let Some((certificate, key)) = &otlp.client {
        tls = tls.identity(Identity::from_pem(transport_error::pem(certificate)?, transport_error::pem(key)?));
    }
    Ok(tls)
}
