//! The OTLP transports of all signals.

use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use prost::Message;

use super::batch::Body;
use super::destination::{Destination, TraceViewHint};
use super::export_queue::ExportQueue;
use super::export_result::ExportResult;
use super::guest_metrics;
use super::metric_requests;
use super::metrics::{self, SeriesExemplars};
use super::outage::OutageReporter;
use super::transport::Transport;
use super::transport_error::TransportError;
use super::{grpc, http};
use crate::trace::counters::{Counters, ExportOutcome, SignalKind};
use crate::trace::guest_metrics::ServiceSeries;
use crate::trace::settings::{Exporter, Otlp, Protocol, Settings, Signal};

/// The most requests for metrics in flight.
const METRICS_IN_FLIGHT: usize = 4;

/// The OTLP transports of all signals. Signals with the same settings share a channel.
pub(in crate::trace) struct Transports {
    /// The export queue of spans, if they are exported by OTLP.
    pub spans: Option<Arc<ExportQueue>>,
    /// The export queue of log records, if they are exported by OTLP.
    pub logs: Option<Arc<ExportQueue>>,
    metrics: Option<(Arc<Transport>, OutageReporter)>,
}

impl Transports {
    /// `view_hint` tells where traces can be viewed if there is no collector.
    pub fn new(
        settings: &Settings,
        counters: &Arc<Counters>,
        view_hint: &TraceViewHint,
    ) -> Result<Transports, TransportError> {
        let mut destinations: Vec<Arc<Destination>> = Vec::new();
        let mut outage = |kind: SignalKind, signal: &Signal| {
            let shared = destinations.iter().find(|destination| destination.is_of(&signal.otlp)).cloned();
            let destination = shared.unwrap_or_else(|| Arc::new(Destination::new(&signal.otlp, view_hint.clone())));
            destinations.push(destination.clone());
            OutageReporter::new(kind, destination)
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

    /// Sends metrics without retries: the next collection holds the same totals. The requests are independent and sent
    /// concurrently.
    pub async fn send_metrics(
        &self,
        (collected, guests): (&[ResourceMetrics], Vec<ServiceSeries>),
        exemplars: Vec<SeriesExemplars>,
        counters: &Counters,
    ) {
        let Some((transport, outage)) = self.metrics.as_ref().filter(|_| !collected.is_empty()) else { return };
        let mut resources = metrics::encode(collected, exemplars);
        resources.extend(guests.into_iter().map(|(resource, series)| guest_metrics::encode(&resource, series)));
        let requests = metric_requests::requests(resources, metric_requests::MAX_REQUEST_BYTES);
        let sends = futures_util::stream::iter(requests).for_each_concurrent(METRICS_IN_FLIGHT, |request| async move {
            let body = Body::from(request.encode_to_vec());
            let began = Instant::now();
            let outcome = report(outage, transport.send(SignalKind::Metrics, body).await);
            counters.export(SignalKind::Metrics, outcome, began.elapsed());
        });
        sends.await;
    }
}

/// Reports the result of one request for metrics.
fn report(outage: &OutageReporter, result: ExportResult) -> ExportOutcome {
    match result {
        ExportResult::Accepted { rejected, message } => {
            outage.accepted(rejected, &message);
            ExportOutcome::Accepted
        }
        ExportResult::Retry { reason, connection_refused, .. } => {
            outage.failed(&reason, connection_refused);
            ExportOutcome::Failed
        }
        ExportResult::Rejected(reason) => {
            outage.rejected(0, &reason);
            ExportOutcome::Rejected
        }
    }
}
