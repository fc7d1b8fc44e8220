//! OTLP out: segments become requests, and requests reach the collector or are accounted for.
//!
//! A request holds what every service left, grouped by Resource. One that fails for now is tried again with growing
//! pauses until it gets through or the host stops; one that the collector refuses for good is dropped and counted.

mod answer;
mod attributes;
mod batch;
mod encode;
mod export_queue;
mod grpc;
mod http;
mod metrics;
mod outage;
mod protobuf;
mod retry;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use prost::Message;
use thiserror::Error;

pub use self::attributes::{Attribute, Attributes, Value, decode_attributes};
use self::batch::Body;
pub(super) use self::export_queue::ExportQueue;
pub use self::metrics::{MetricExemplar, SeriesExemplars};
use self::outage::Outage;
use super::counters::{Counters, ExportOutcome, SignalKind};
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

impl Verdict {
    /// The answers for metrics and log records have the same shape as this one.
    fn accepted(answer: ExportTraceServiceResponse) -> Verdict {
        let part = answer.partial_success.unwrap_or_default();
        Verdict::Accepted { rejected: part.rejected_spans.max(0) as u64, message: part.error_message }
    }
}

/// One value for each signal.
struct Signals<T> {
    traces: T,
    metrics: T,
    logs: T,
}

impl<T> Signals<T> {
    fn of(self, signal: SignalKind) -> T {
        match signal {
            SignalKind::Traces => self.traces,
            SignalKind::Metrics => self.metrics,
            SignalKind::Logs => self.logs,
        }
    }
}

/// The way to one collector.
enum Transport {
    Grpc(grpc::Grpc),
    Http(http::Http),
}

impl Transport {
    async fn send(&self, signal: SignalKind, body: Body) -> Verdict {
        match self {
            Transport::Grpc(grpc) => grpc.send(signal, body).await,
            Transport::Http(http) => http.send(body).await,
        }
    }
}

/// The ways out for all signals. Signals with the same settings share one channel.
pub(super) struct Transports {
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
        let lane = |signal, transport, batch| Arc::new(ExportQueue::new(signal, transport, batch, counters.clone()));
        Ok(Transports {
            spans: transport(&settings.traces)?.map(|transport| lane(SignalKind::Traces, transport, settings.batch)),
            logs: transport(&settings.logs)?.map(|transport| lane(SignalKind::Logs, transport, settings.log_batch)),
            metrics: transport(&settings.metrics)?.map(|transport| (transport, Outage::new(SignalKind::Metrics))),
        })
    }

    /// Sends metrics once: the next collection holds the same totals, so there is nothing to keep.
    pub async fn send_metrics(
        &self,
        collected: &[ResourceMetrics],
        exemplars: Vec<SeriesExemplars>,
        counters: &Counters,
    ) {
        let Some((transport, outage)) = self.metrics.as_ref().filter(|_| !collected.is_empty()) else { return };
        let body = Body::from(metrics::encode(collected, exemplars).encode_to_vec());
        let began = Instant::now();
        let outcome = match transport.send(SignalKind::Metrics, body).await {
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
        };
        counters.export(SignalKind::Metrics, outcome, began.elapsed());
    }
}

fn user_agent() -> String {
    format!("OTel-OTLP-Exporter-Spandrel/{}", env!("CARGO_PKG_VERSION"))
}

fn pem(path: &Path) -> Result<Vec<u8>, TransportError> {
    std::fs::read(path).map_err(|error| bad_file(path, &error))
}

fn bad_file(path: &Path, error: &dyn std::fmt::Display) -> TransportError {
    TransportError::Certificate { path: path.display().to_string(), reason: error.to_string() }
}

/// What is at the bottom of an error: "connection refused" says more than "error sending request".
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
