//! OTLP out: batches of segments become requests, and requests reach the collector or are accounted for.
//!
//! A request holds the spans of every service, grouped by Resource. One that fails for now is tried again with growing
//! pauses until it gets through or the host stops; one that the collector refuses for good is dropped and counted.

mod encode;
mod grpc;
mod http;
mod metrics;
mod outage;
mod retry;

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use thiserror::Error;

pub use self::metrics::{MetricExemplar, SeriesExemplars};
pub(super) use self::outage::Outage;
use self::retry::Backoff;
use super::counters::{Counters, DropReason, ExportOutcome, SignalKind};
use super::segment::Segment;
use super::settings::{Exporter, Otlp, Protocol, Settings, Signal};

/// Why OTLP cannot be spoken as the settings say.
#[derive(Debug, Error)]
pub enum TransportError {
    /// The endpoint is no URL.
    #[error("the OTLP endpoint `{endpoint}` is of no use: {reason}")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate or key cannot be read.
    #[error("the file {path} for TLS to the collector cannot be used: {reason}")]
    Certificate {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A header cannot be sent.
    #[error("the OTLP header `{0}` cannot be sent")]
    Header(String),
}

/// What a collector said to one request.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It took everything but so many items.
    Accepted {
        /// Items that it did not take.
        rejected: u64,
        /// Why not, if it said so.
        message: String,
    },
    /// Not now; perhaps after this pause.
    Retry {
        /// The pause that it asked for.
        after: Option<Duration>,
        /// What went wrong.
        reason: String,
    },
    /// Never.
    Refused(String),
}

/// One request of any signal.
enum Request {
    Traces(ExportTraceServiceRequest),
    Metrics(ExportMetricsServiceRequest),
    Logs(ExportLogsServiceRequest),
}

/// The way to one collector.
enum Transport {
    Grpc(grpc::Grpc),
    Http(http::Http),
}

impl Transport {
    async fn send(&self, request: &Request) -> Verdict {
        match self {
            Transport::Grpc(grpc) => grpc.send(request).await,
            Transport::Http(http) => http.send(request).await,
        }
    }
}

/// The ways out for all signals. Signals with the same settings share one channel.
pub(super) struct Transports {
    traces: Option<Arc<Transport>>,
    metrics: Option<Arc<Transport>>,
    logs: Option<Arc<Transport>>,
}

impl Transports {
    pub fn new(settings: &Settings) -> Result<Transports, TransportError> {
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
        Ok(Transports {
            traces: transport(&settings.traces)?,
            metrics: transport(&settings.metrics)?,
            logs: transport(&settings.logs)?,
        })
    }

    pub fn exports_spans(&self) -> bool {
        self.traces.is_some()
    }

    pub fn exports_logs(&self) -> bool {
        self.logs.is_some()
    }

    /// Sends a batch's spans and returns when the collector has taken or refused them.
    pub async fn send_spans(&self, batch: &[Arc<Segment>], counters: &Counters, outage: &Outage) {
        let spans: u64 = batch.iter().map(|segment| segment.spans.len() as u64).sum();
        let Some(transport) = self.traces.as_ref().filter(|_| spans > 0) else { return };
        let request = Request::Traces(encode::spans(batch));
        match deliver(transport, &request, SignalKind::Traces, counters, outage).await {
            Delivered::Taken { rejected, message } => {
                counters.exported(spans.saturating_sub(rejected));
                counters.dropped(DropReason::Rejected, rejected.min(spans));
                if rejected > 0 {
                    tracing::warn!(spans = rejected, message, "the collector took a batch only in part");
                }
            }
            Delivered::Refused(reason) => {
                counters.dropped(DropReason::Rejected, spans);
                tracing::warn!(spans, reason, "the collector refused a batch of spans");
            }
        }
    }

    /// Sends a batch's log records, like its spans. They are not counted.
    pub async fn send_logs(&self, batch: &[Arc<Segment>], counters: &Counters) {
        let any = batch.iter().any(|segment| !segment.logs.is_empty());
        let Some(transport) = self.logs.as_ref().filter(|_| any) else { return };
        let request = Request::Logs(encode::logs(batch));
        let outage = Outage::silent();
        if let Delivered::Refused(reason) = deliver(transport, &request, SignalKind::Logs, counters, &outage).await {
            tracing::debug!(reason, "the collector refused a batch of log records");
        }
    }

    /// Sends metrics once: the next collection holds the same totals, so there is nothing to keep.
    pub async fn send_metrics(
        &self,
        collected: &[ResourceMetrics],
        exemplars: Vec<SeriesExemplars>,
        counters: &Counters,
    ) {
        let Some(transport) = self.metrics.as_ref().filter(|_| !collected.is_empty()) else { return };
        let request = Request::Metrics(metrics::encode(collected, exemplars));
        let began = Instant::now();
        let outcome = match transport.send(&request).await {
            Verdict::Accepted { .. } => ExportOutcome::Accepted,
            Verdict::Retry { reason, .. } => {
                tracing::debug!(reason, "the collector did not take the metrics");
                ExportOutcome::Failed
            }
            Verdict::Refused(reason) => {
                tracing::debug!(reason, "the collector refused the metrics");
                ExportOutcome::Rejected
            }
        };
        counters.export(SignalKind::Metrics, outcome, began.elapsed());
    }
}

/// How a request's journey ended.
enum Delivered {
    Taken { rejected: u64, message: String },
    Refused(String),
}

/// Tries until the collector takes the request or refuses it for good.
async fn deliver(
    transport: &Transport,
    request: &Request,
    signal: SignalKind,
    counters: &Counters,
    outage: &Outage,
) -> Delivered {
    let mut backoff = Backoff::default();
    loop {
        let began = Instant::now();
        let verdict = transport.send(request).await;
        let count = |outcome| counters.export(signal, outcome, began.elapsed());
        match verdict {
            Verdict::Accepted { rejected, message } => {
                count(ExportOutcome::Accepted);
                outage.over();
                return Delivered::Taken { rejected, message };
            }
            Verdict::Retry { after, reason } => {
                count(ExportOutcome::Failed);
                outage.failed(&reason);
                tokio::time::sleep(backoff.pause(after)).await;
            }
            Verdict::Refused(reason) => {
                count(ExportOutcome::Rejected);
                return Delivered::Refused(reason);
            }
        }
    }
}
