//! The OTLP/gRPC server.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tonic::codec::CompressionEncoding::Gzip;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::behaviour::{LARGEST, Verdict};
use super::record::{Arrival, Export, Protocol, Records};

const REASON: &str = "told to in a test";

/// Serves until its runtime is dropped.
pub(super) async fn serve(listener: TcpListener, records: Arc<Records>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a non-blocking listener");
    let service = Otlp(records);
    let served = Server::builder()
        .add_service(
            TraceServiceServer::new(service.clone()).accept_compressed(Gzip).max_decoding_message_size(LARGEST),
        )
        .add_service(
            MetricsServiceServer::new(service.clone()).accept_compressed(Gzip).max_decoding_message_size(LARGEST),
        )
        .add_service(LogsServiceServer::new(service).accept_compressed(Gzip).max_decoding_message_size(LARGEST))
        .serve_with_incoming(TcpIncoming::from(listener))
        .await;
    served.expect("the collector serves");
}

#[derive(Clone)]
struct Otlp(Arc<Records>);

impl Otlp {
    /// Records the export, or rejects it. Returns the number of items to report as rejected.
    async fn take<E: Export>(&self, request: Request<E>) -> Result<i64, Status> {
        let (metadata, _, export) = request.into_parts();
        let behaviour = self.0.arrived(Arrival {
            signal: E::SIGNAL,
            protocol: Protocol::Grpc,
            headers: headers(&metadata),
            at: Instant::now(),
            items: export.items(),
            services: export.services(),
        });
        match behaviour.verdict().await {
            Verdict::Record { rejected } => {
                export.record(&self.0);
                Ok(rejected)
            }
            Verdict::Again { after: None } => Err(Status::unavailable(REASON)),
            Verdict::Again { after } => {
                let details = ErrorDetails::with_retry_info(after);
                Err(Status::with_error_details(Code::Unavailable, REASON, details))
            }
            Verdict::Never => Err(Status::invalid_argument(REASON)),
        }
    }
}

fn headers(metadata: &MetadataMap) -> BTreeMap<String, String> {
    let text = metadata.iter().filter_map(|entry| match entry {
        KeyAndValueRef::Ascii(key, value) => Some((key.to_string(), value.to_str().ok()?.to_owned())),
        KeyAndValueRef::Binary(..) => None,
    });
    text.collect()
}

#[tonic::async_trait]
impl TraceService for Otlp {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let rejected_spans = self.take(request).await?;
        let partial = ExportTracePartialSuccess { rejected_spans, error_message: REASON.to_owned() };
        Ok(Response::new(ExportTraceServiceResponse { partial_success: (rejected_spans > 0).then_some(partial) }))
    }
}

#[tonic::async_trait]
impl MetricsService for Otlp {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let rejected_data_points = self.take(request).await?;
        let partial = ExportMetricsPartialSuccess { rejected_data_points, error_message: REASON.to_owned() };
        let partial = (rejected_data_points > 0).then_some(partial);
        Ok(Response::new(ExportMetricsServiceResponse { partial_success: partial }))
    }
}

#[tonic::async_trait]
impl LogsService for Otlp {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let rejected_log_records = self.take(request).await?;
        let partial = ExportLogsPartialSuccess { rejected_log_records, error_message: REASON.to_owned() };
        Ok(Response::new(ExportLogsServiceResponse { partial_success: (rejected_log_records > 0).then_some(partial) }))
    }
}
