//! The ways out for all signals.

use std::sync::Arc;
use std::time::Instant;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use prost::Message;

use super::batch::Body;
use super::export_queue::ExportQueue;
use super::guest_metrics;
use super::metrics::{self, SeriesExemplars};
use super::outage::Outage;
use super::transport::Transport;
use super::transport_error::TransportError;
use super::verdict::Verdict;
use super::{grpc, http};
use crate::trace::counters::{Counters, ExportOutcome, SignalKind};
use crate::trace::guest_metrics::SeriesOfService;
use crate::trace::settings::{Exporter, Otlp, Protocol, Settings, Signal};

/// The ways out for all signals. Signals with the same settings share one channel.
pub(in crate::trace) struct Transports {
    /// Where spans wait and leave, if they go out by OTLP.
    pub spans: Option<Arc<ExportQueue>>,
    /// Where log records do.
    pub logs: Option<Arc<ExportQueue>>,
    metrics: Option<(Arc<Transport>, Outage)>,
}

impl Transports {
    pub fn new(settings: &Settings, counters: &Arc<Counters>) -> Result<Transports, TransportError> {
        let mut made: Vec<(Otlp, Arc<Transport>)> = Vec::new();
        let mut transport = |signal: &Signal| -> Result<Option<Arc<Transport>>, TransportError> {
            if settings.disabled || !signal.exporters.contains(&Exporter::Otlp) {
                return Ok(None);
            }
            if let Some((_, known)) = made.iter().find(|(otlp, _)| *otlp == signal.otlp) {
                return Ok(Some(known.clone()));
            }
            let transport = Arc::new(match signal.otlp.protocol {
                Protocol::Grpc => Transport::Grpc(grpc::Grpc::new(&signal.otlp)?),
                Protocol::HttpProtobuf => Transport::Http(http::Http::new(&signal.otlp)?),
            });
            made.push((signal.otlp.clone(), transport.clone()));
            Ok(Some(transport))
        };
        let queue = |signal, transport, batch| Arc::new(ExportQueue::new(signal, transport, batch, counters.clone()));
        Ok(Transports {
            spans: transport(&settings.traces)?.map(|transport| queue(SignalKind::Traces, transport, settings.batch)),
            logs: transport(&settings.logs)?.map(|transport| queue(SignalKind::Logs, transport, settings.log_batch)),
            metrics: transport(&settings.metrics)?.map(|transport| (transport, Outage::new(SignalKind::Metrics))),
        })
    }

    /// Sends metrics once: the next collection holds the same totals, so there is nothing to keep.
    pub async fn send_metrics(
        &self,
        (collected, guests): (&[ResourceMetrics], Vec<SeriesOfService>),
        exemplars: Vec<SeriesExemplars>,
        counters: &Counters,
    ) {
        let Some((transport, outage)) = self.metrics.as_ref().filter(|_| !collected.is_empty()) else { return };
        // Those of guests' own SDKs go apart, service by service: where they are more than a collector takes in one
        // request, it is only they that do not arrive.
        let guests = guests.into_iter().map(|(resource, series)| ExportMetricsServiceRequest {
            resource_metrics: vec![guest_metrics::encode(&resource, series)],
        });
        for request in std::iter::once(metrics::encode(collected, exemplars)).chain(guests) {
            let began = Instant::now();
            let outcome = send(transport, outage, Body::from(request.encode_to_vec())).await;
            counters.export(SignalKind::Metrics, outcome, began.elapsed());
        }
    }
}

/// Sends a request with metrics, and tells what came of it.
async fn send(transport: &Transport, outage: &Outage, body: Body) -> ExportOutcome {
    match transport.send(SignalKind::Metrics, body).await {
        Verdict::Accepted { rejected, message } => {
            outage.accepted(rejected, &message);
            ExportOutcome::Accepted
        }
        Verdict::Retry { reason, .. } => {
            outage.failed(&reason);
            ExportOutcome::Failed
        }
        Verdict::Refused(reason) => {
            outage.refused(0, &reason);
            ExportOutcome::Rejected
        }
    }
}
