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

use super::answer;
use super::batch::Body;
use super::transport_error::{self, TransportError};
use super::verdict::{Signals, Verdict, innermost, is_silence, user_agent};
use crate::trace::counters::SignalKind;
use crate::trace::settings::Otlp;

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// A connection that does not answer a ping within this time, while an export waits on it, is given up and made anew.
const PING: Duration = Duration::from_secs(5);

/// A channel to a collector. Made without connecting: a collector that is away at start is an outage like any other.
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

    pub async fn send(&self, signal: SignalKind, body: Body) -> Verdict {
        let heard = Arc::new(Mutex::new(Heard::default()));
        match tokio::time::timeout(self.timeout, self.call(signal, body, heard.clone())).await {
            Ok(Ok(answer)) => Verdict::accepted(answer),
            Ok(Err(status)) => verdict(&status, &lock(&heard)),
            Err(_) => {
                let reason = format!("no answer within {:?}", self.timeout);
                Verdict::Retry { after: None, reason, is_silent: false }
            }
        }
    }

    async fn call(
        &self,
        signal: SignalKind,
        body: Body,
        heard: Arc<Mutex<Heard>>,
    ) -> Result<ExportTraceServiceResponse, Status> {
        let channel = self.channel.clone().and_then(move |response| listen(response, heard));
        let mut client = Client::new(channel).max_decoding_message_size(answer::LONGEST);
        if self.gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        client.ready().await.map_err(Status::from_error)?;
        let mut request = tonic::Request::new(body);
        *request.metadata_mut() = self.metadata.clone();
        let path = PathAndQuery::from_static(Signals { traces: TRACES, metrics: METRICS, logs: LOGS }.of(signal));
        client.unary(request, path, Encoded).await.map(tonic::Response::into_inner)
    }
}

/// A channel that connects when it is first used.
pub(super) fn channel(otlp: &Otlp) -> Result<Channel, TransportError> {
    let fail = |error: tonic::transport::Error| TransportError::Endpoint {
        endpoint: otlp.shown_endpoint(),
        reason: innermost(&error),
    };
    let mut endpoint = Endpoint::from_shared(otlp.endpoint.clone())
        .and_then(|endpoint| endpoint.user_agent(user_agent()))
        .map_err(fail)?
        .connect_timeout(otlp.timeout)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    if otlp.is_https() {
        endpoint = endpoint.tls_config(tls(otlp)?).map_err(fail)?;
    }
    Ok(endpoint.connect_lazy())
}

/// What was heard of an answer, whatever tonic makes of it: it calls an answer in HTTP alone, as proxies give it, and one
/// that breaks off by the names of statuses that a collector might have sent, and reads no status after a message that
/// it cannot read.
#[derive(Debug, Default)]
struct Heard {
    /// The HTTP status and the header fields.
    head: Option<(StatusCode, HeaderMap)>,
    /// The gRPC status.
    status: Option<Code>,
    /// Whether there was more than is read of an answer.
    is_endless: bool,
}

/// Reads an answer to its end before tonic does.
async fn listen(
    response: Response<tonic::body::Body>,
    heard: Arc<Mutex<Heard>>,
) -> Result<Response<tonic::body::Body>, Box<dyn Error + Send + Sync>> {
    let (head, body) = response.into_parts();
    let (status, first) = (grpc_status(&head.headers), Some((head.status, head.headers.clone())));
    *lock(&heard) = Heard { head: first, status, is_endless: false };
    let whole = Limited::new(body, answer::LONGEST).collect().await;
    let whole = whole.inspect_err(|error| lock(&heard).is_endless = error.is::<LengthLimitError>())?;
    let trailers = whole.trailers().cloned();
    if let Some(status) = trailers.as_ref().and_then(grpc_status) {
        lock(&heard).status = Some(status);
    }
    let body = Full::new(whole.to_bytes()).with_trailers(std::future::ready(trailers.map(Ok)));
    Ok(Response::from_parts(head, tonic::body::Body::new(body)))
}

fn grpc_status(fields: &HeaderMap) -> Option<Code> {
    fields.get(Status::GRPC_STATUS).map(|status| Code::from_bytes(status.as_bytes()))
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Requests that are encoded already. What collectors answer has the same shape for every signal.
struct Encoded;

impl Codec for Encoded {
    type Encode = Body;
    type Decode = ExportTraceServiceResponse;
    type Encoder = Encoded;
    type Decoder = Encoded;

    fn encoder(&mut self) -> Encoded {
        Encoded
    }

    fn decoder(&mut self) -> Encoded {
        Encoded
    }
}

impl Encoder for Encoded {
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

impl Decoder for Encoded {
    type Item = ExportTraceServiceResponse;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<ExportTraceServiceResponse>, Status> {
        // What was not read would be taken for the next message.
        let whole = buffer.copy_to_bytes(buffer.remaining());
        Ok(Some(answer::read(whole)))
    }
}

/// What a failed export means: what the gRPC status says, else what the HTTP status does. Where neither came, or the answer
/// broke off, the connection failed.
fn verdict(status: &Status, heard: &Heard) -> Verdict {
    let reason = match status.source() {
        Some(cause) => format!("{}: {}", status.message(), innermost(cause)),
        None => format!("{}: {}", status.code(), status.message()),
    };
    let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let again = match (heard.status, &heard.head) {
        // Only what came before it was odd.
        (Some(Code::Ok), _) => return Verdict::accepted(answer::unreadable()),
        (None, Some((status, _))) if heard.is_endless && status.is_success() => {
            return Verdict::accepted(answer::unreadable());
        }
        (Some(code), _) => is_retryable(code, after.is_some()),
        (None, Some((status, headers))) if !status.is_success() => {
            return answer::failed(*status, headers, "in place of a gRPC status");
        }
        (None, _) => true,
    };
    let is_silent = status.source().is_some_and(is_silence);
    if again { Verdict::Retry { after, reason, is_silent } } else { Verdict::Refused(reason) }
}

/// Whether a status means "again", as the OTLP specification lists them. One does only where a pause is `asked` for.
fn is_retryable(code: Code, asked: bool) -> bool {
    match code {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => asked,
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
