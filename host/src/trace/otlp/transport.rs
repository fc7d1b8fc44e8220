//! The transport to one collector: OTLP over gRPC or over HTTP.

use super::batch::Body;
use super::export_result::ExportResult;
use super::{grpc, http};
use crate::trace::counters::SignalKind;

/// The transport to one collector.
pub(super) enum Transport {
    Grpc(grpc::Grpc),
    Http(http::Http),
}

impl Transport {
    pub async fn send(&self, signal: SignalKind, body: Body) -> ExportResult {
        match self {
            Transport::Grpc(grpc) => grpc.send(signal, body).await,
            Transport::Http(http) => http.send(body).await,
        }
    }
}
