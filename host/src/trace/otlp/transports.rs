//! The ways out for all signals.

use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use prost::Message;

use super::batch::Body;
use super::destination::{Destination, TraceViewHint};
use super::export_queue::ExportQueue;
use super::guest_metrics;
use super::metric_requests;
use super::metrics::{self, SeriesExemplars};
use super::outage::Outage;
use super::transport::Transport;
use super::transport_error::TransportError;
use super::verdict::Verdict;
use super::{grpc, http};
use crate::trace::counters::{Counters, ExportOutcome, SignalKind};
use crate::trace::guest_metrics::SeriesOfService;
use crate::trace::settings::{Exporter, Otlp, Protocol, Settings, Signal};

/// The most requests of metrics that are under way at a time.
const METRICS_IN_FLIGHT: usize = 4;

/// The ways out for all signals. Signals with the same settings share one channel.
pub(in crate::trace) struct Transports {
    /// Where spans wait and leave, if they go out by OTLP.
    pub spans: Option<Arc<ExportQueue>>,
    /// Where log records do.
    pub logs: Option<Arc<ExportQueue>>,
    metrics: Option<(Arc<Transport>, Outage)>,
}

impl Transports {
    /// `place` is where traces can be seen if there is no collector.
    pub fn new(
        settings: &Settings,
        counters: &Arc<Counters>,
        place: &TraceViewHint,
    ) -> Result<Transports, TransportError> {
        let mut known: Vec<Arc<Destination>> = Vec::new();
        let mut outage = |kind: SignalKind, signal: &Signal| {
            let shared = known.iter().find(|destination| destination.is_of(&signal.otlp)).cloned();
            let destination = shared.unwrap_or_else(|| Arc::new(Destination::new(&signal.otlp, place.clone())));
            known.push(destination.clone());
            Outage::new(kind, destination)
        };
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
        let mut queue = |kind, signal: &Signal, batch| -> Result<_, TransportError> {
            let made = |transport| ExportQueue::new(kind, transport, batch, (counters.clone(), outage(kind, signal)));
            Ok(transport(signal)?.map(made).map(Arc::new))
        };
        let spans = queue(SignalKind::Traces, &settings.traces, settings.batch)?;
        let logs = queue(SignalKind::Logs, &settings.logs, settings.log_batch)?;
        let metrics = transport(&settings.metrics)?;
        let metrics = metrics.map(|transport| (transport, outage(SignalKind::Metrics, &settings.metrics)));
        Ok(Transports { spans, logs, metrics })
    }

    /// Sends metrics once: the next collection holds the same totals, so there is nothing to keep. The requests do not wait
    /// for each other's answers, and none of them depends on another's.
    pub async fn send_metrics(
        &self,
        (collected, guests): (&[ResourceMetrics], Vec<SeriesOfService>),
        exemplars: Vec<SeriesExemplars>,
        counters: &Counters,
    ) {
        let Some((transport, outage)) = self.metrics.as_ref().filter(|_| !collected.is_empty()) else { return };
        let mut resources = metrics::encode(collected, exemplars);
        resources.extend(guests.into_iter().map(|(resource, series)| guest_metrics::encode(&resource, series)));
        let requests = metric_requests::requests(resources, metric_requests::MOST_BYTES);
        let sends = futures_util::stream::iter(requests).for_each_concurrent(METRICS_IN_FLIGHT, |request| async move {
            let body = Body::from(request.encode_to_vec());
            let began = Instant::now();
            let outcome = settle(outage, transport.send(SignalKind::Metrics, body).await);
            counters.export(SignalKind::Metrics, outcome, began.elapsed());
        });
        sends.await;
    }
}

/// What became of one request of metrics, which is told where it failed.
fn settle(outage: &Outage, verdict: Verdict) -> ExportOutcome {
    match verdict {
        Verdict::Accepted { rejected, message } => {
            outage.accepted(rejected, &message);
            ExportOutcome::Accepted
        }
        Verdict::Retry { reason, is_silent, .. } => {
            outage.failed(&reason, is_silent);
            ExportOutcome::Failed
        }
        Verdict::Refused(reason) => {
            outage.refused(0, &reason);
            ExportOutcome::Rejected
        }
    }
}
