//! OTLP over gRPC.

use axum::Router;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::receiver::{REQUEST, Receiver, Taken};

/// The one method of the service.
pub(super) fn routes(receiver: Receiver) -> Router {
    let service = TraceServiceServer::new(receiver)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(REQUEST);
    Routes::new(service).into_axum_router()
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let Ok(_turn) = self.turns.acquire().await else { return Err(Status::unavailable("the host stops")) };
        Ok(Response::new(answer(&self.take(request.into_inner()))))
    }
}

/// What is answered where a request was understood.
pub(super) fn answer(taken: &Taken) -> ExportTraceServiceResponse {
    let partial_success = (taken.rejected > 0)
        .then(|| ExportTracePartialSuccess { rejected_spans: taken.rejected as i64, error_message: taken.message() });
    ExportTraceServiceResponse { partial_success }
}
