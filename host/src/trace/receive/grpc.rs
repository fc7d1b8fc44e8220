//! OTLP over gRPC.

use axum::Router;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::permit::ReceivePermit;
use super::receiver::{MAX_REQUEST_BYTES, ReceiveOutcome, Receiver};

/// The routes of the gRPC service.
pub(super) fn routes(receiver: Receiver) -> Router {
    let service = TraceServiceServer::new(receiver)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MAX_REQUEST_BYTES);
    Routes::new(service).into_axum_router()
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let permit = request.extensions().get::<ReceivePermit>().cloned();
        let (receiver, request) = (self.clone(), request.into_inner());
        // Converting a large request takes milliseconds, too long for a worker thread.
        let outcome = tokio::task::spawn_blocking(move || {
            // The permit is released when the work is done, which continues if the client disconnects.
            let _permit = permit;
            receiver.store_spans(request)
        });
        match outcome.await {
            Ok(outcome) => Ok(Response::new(response(&outcome))),
            Err(_) => Err(Status::internal("the spans could not be stored")),
        }
    }
}

/// The response to a request that was accepted.
pub(super) fn response(outcome: &ReceiveOutcome) -> ExportTraceServiceResponse {
    let partial_success = (outcome.rejected > 0).then(|| ExportTracePartialSuccess {
        rejected_spans: outcome.rejected as i64,
        error_message: outcome.message(),
    });
    ExportTraceServiceResponse { partial_success }
}
