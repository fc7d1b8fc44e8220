//! OTLP over gRPC.

use std::error::Error;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{MetadataKey, MetadataMap};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{Request, TransportError, Verdict};
use crate::trace::settings::Otlp;

/// A channel to a collector. Made without connecting: a collector that is away at start is an outage like any other.
pub(super) struct Grpc {
    channel: Channel,
    metadata: MetadataMap,
    gzip: bool,
    timeout: Duration,
}

impl Grpc {
    pub fn new(otlp: &Otlp) -> Result<Grpc, TransportError> {
        let fail = |reason: String| TransportError::Endpoint { endpoint: otlp.endpoint.clone(), reason };
        let endpoint = Endpoint::from_shared(otlp.endpoint.clone()).map_err(|error| fail(error.to_string()))?;
        let mut endpoint =
            endpoint.connect_timeout(otlp.timeout).user_agent(user_agent()).map_err(|error| fail(error.to_string()))?;
        if otlp.endpoint.starts_with("https://") {
            endpoint = endpoint.tls_config(tls(otlp)?).map_err(|error| fail(error.to_string()))?;
        }
        let metadata = metadata(&otlp.headers)?;
        Ok(Grpc { channel: endpoint.connect_lazy(), metadata, gzip: otlp.gzip, timeout: otlp.timeout })
    }

    pub async fn send(&self, request: &Request) -> Verdict {
        match tokio::time::timeout(self.timeout, self.call(request)).await {
            Ok(Ok((rejected, message))) => Verdict::Accepted { rejected, message },
            Ok(Err(status)) => verdict(&status),
            Err(_) => Verdict::Retry { after: None, reason: format!("no answer within {:?}", self.timeout) },
        }
    }

    /// Items that were rejected, and why.
    async fn call(&self, request: &Request) -> Result<(u64, String), Status> {
        let channel = self.channel.clone();
        match request {
            Request::Traces(spans) => {
                let mut client = TraceServiceClient::new(channel);
                if self.gzip {
                    client = client.send_compressed(CompressionEncoding::Gzip);
                }
                let answer = client.export(self.request(spans.clone())).await?.into_inner();
                Ok(answer.partial_success.map(|part| (part.rejected_spans, part.error_message)))
            }
            Request::Metrics(metrics) => {
                let mut client = MetricsServiceClient::new(channel);
                if self.gzip {
                    client = client.send_compressed(CompressionEncoding::Gzip);
                }
                let answer = client.export(self.request(metrics.clone())).await?.into_inner();
                Ok(answer.partial_success.map(|part| (part.rejected_data_points, part.error_message)))
            }
            Request::Logs(logs) => {
                let mut client = LogsServiceClient::new(channel);
                if self.gzip {
                    client = client.send_compressed(CompressionEncoding::Gzip);
                }
                let answer = client.export(self.request(logs.clone())).await?.into_inner();
                Ok(answer.partial_success.map(|part| (part.rejected_log_records, part.error_message)))
            }
        }
        .map(|part| part.map_or((0, String::new()), |(rejected, message)| (rejected.max(0) as u64, message)))
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        request
    }
}

pub(super) fn user_agent() -> String {
    format!("OTel-OTLP-Exporter-Spandrel/{}", env!("CARGO_PKG_VERSION"))
}

/// Which statuses mean "again", as the OTLP specification lists them.
fn verdict(status: &Status) -> Verdict {
    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let reason = match status.source().and_then(innermost) {
        Some(cause) => format!("{}: {cause}", status.message()),
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

fn innermost(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    Some(cause.to_string())
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
        tls = tls.ca_certificate(Certificate::from_pem(super::http::pem(path)?));
    }
    if let Some((certificate, key)) = &otlp.client {
        tls = tls.identity(Identity::from_pem(super::http::pem(certificate)?, super::http::pem(key)?));
    }
    Ok(tls)
}
