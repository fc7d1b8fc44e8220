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
use super::turn::Turn;

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
        let turn = request.extensions().get::<Turn>().cloned();
        let (receiver, request) = (self.clone(), request.into_inner());
        // A large request takes milliseconds, which no worker should be held up for.
        let taken = tokio::task::spawn_blocking(move || {
            // Ends with the work, which goes on where the client goes away.
            let _turn = turn;
            receiver.take(request)
        });
        match taken.await {
            Ok(taken) => Ok(Response::new(answer(&taken))),
            Err(_) => Err(Status::internal("the spans could not be taken")),
        }
    }
}

/// What is answered where a request was understood.
pub(super) fn answer(taken: &Taken) -> ExportTraceServiceResponse {
    let partial_success = (taken.rejected > 0)
        .then(|| ExportTracePartialSuccess { rejected_spans: taken.rejected as i64, error_message: taken.message() });
    ExportTraceServiceResponse { partial_success }
}
