//! OTLP over gRPC.

use std::error::Error;
use std::time::Duration;

use bytes::BufMut;
use http::uri::PathAndQuery;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tonic::client::Grpc as Client;
use tonic::codec::{BufferSettings, Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{MetadataKey, MetadataMap};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::batch::Body;
use super::{Signals, TransportError, Verdict, innermost, user_agent};
use crate::trace::counters::SignalKind;
use crate::trace::settings::Otlp;

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// A connection that does not answer a ping within this time, while an export waits on it, is given up and made anew.
const PING: Duration = Duration::from_secs(5);

/// A channel to a collector. Made without connecting: a collector that is away at start is an outage like any other.
pub(super) struct Grpc {
    client: Client<Channel>,
    metadata: MetadataMap,
    timeout: Duration,
}

impl Grpc {
    pub fn new(otlp: &Otlp) -> Result<Grpc, TransportError> {
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
        let mut client = Client::new(endpoint.connect_lazy());
        if otlp.gzip {
            client = client.send_compressed(CompressionEncoding::Gzip);
        }
        Ok(Grpc { client, metadata: metadata(&otlp.headers)?, timeout: otlp.timeout })
    }

    pub async fn send(&self, signal: SignalKind, body: Body) -> Verdict {
        match tokio::time::timeout(self.timeout, self.call(signal, body)).await {
            Ok(Ok(answer)) => Verdict::accepted(answer),
            Ok(Err(status)) => verdict(&status),
            Err(_) => Verdict::Retry { after: None, reason: format!("no answer within {:?}", self.timeout) },
        }
    }

    async fn call(&self, signal: SignalKind, body: Body) -> Result<ExportTraceServiceResponse, Status> {
        let mut client = self.client.clone();
        client.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        let mut request = tonic::Request::new(body);
        *request.metadata_mut() = self.metadata.clone();
        let path = PathAndQuery::from_static(Signals { traces: TRACES, metrics: METRICS, logs: LOGS }.of(signal));
        client.unary(request, path, Encoded).await.map(tonic::Response::into_inner)
    }
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
        // An answer that cannot be read says nothing of a part that was rejected, so everything was taken.
        Ok(Some(ExportTraceServiceResponse::decode(buffer).unwrap_or_default()))
    }
}

/// Which statuses mean "again", as the OTLP specification lists them.
fn verdict(status: &Status) -> Verdict {
    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let reason = match status.source() {
        Some(cause) => format!("{}: {}", status.message(), innermost(cause)),
        None => format!("{}: {}", status.code(), status.message()),
    };
    let again = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => asked.is_some(),
        // A connection that broke in mid-request comes as one of these, with the cause attached.
        Code::Unknown | Code::Internal => status.source().is_some(),
        _ => false,
    };
    match again {
        true => Verdict::Retry { after: asked, reason },
        false => Verdict::Refused(reason),
    }
}

fn metadata(headers: &[(String, String)]) -> Result<MetadataMap, TransportError> {
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
        tls = tls.ca_certificate(Certificate::from_pem(super::pem(path)?));
    }
    if let Some((certificate, key)) = &otlp.client {
        tls = tls.identity(Identity::from_pem(super::pem(certificate)?, super::pem(key)?));
    }
    Ok(tls)
}
