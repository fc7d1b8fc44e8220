//! The records of a collector, in a form for tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::metrics::v1::exemplar::Value as ExemplarValue;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as NumberValue;
use serde_json::Value;

use super::behaviour::Behaviour;
use crate::span::{Attributes, Span, attributes, hex, resource_attributes, service_name, value};

/// The signal of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
    /// Log records.
    Logs,
}

/// The protocol of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP with binary protobuf.
    Http,
}

/// One export as received, accepted or not.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Its signal.
    pub signal: Signal,
    /// Its protocol.
    pub protocol: Protocol,
    /// Header fields or metadata with text values.
    pub headers: BTreeMap<String, String>,
    /// When it arrived.
    pub at: Instant,
    /// The number of spans, metrics or log records.
    pub items: usize,
    /// `service.name` of each Resource.
    pub services: Vec<String>,
}

impl Arrival {
    /// Whether it contains telemetry of requests, not of the host's own operations.
    pub fn is_of_requests(&self) -> bool {
        self.services.iter().any(|service| service != "spandrel")
    }
}

/// One log record.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// `service.name` of the Resource.
    pub service: String,
    /// The body.
    pub body: Value,
    /// Its severity text, such as INFO.
    pub severity: String,
    /// Its severity number: 9 is INFO, 17 ERROR.
    pub severity_number: i32,
    /// The attributes.
    pub attributes: Attributes,
    /// Hexadecimal digits; empty if the record belongs to no trace.
    pub trace_id: String,
    /// Hexadecimal digits; empty if the record belongs to no span.
    pub span_id: String,
    /// The event name, if the record is an event.
    pub event_name: String,
}

/// One metric of one service in one export.
#[derive(Clone, Debug)]
pub struct Metric {
    /// `service.name` of the Resource.
    pub service: String,
    /// The name.
    pub name: String,
    /// The unit.
    pub unit: String,
    /// Its description.
    pub description: String,
    /// Its type, such as `histogram`.
    pub kind: &'static str,
    /// One data point per set of attributes.
    pub points: Vec<Point>,
}

/// One data point of a series.
#[derive(Clone, Debug)]
pub struct Point {
    /// The attributes.
    pub attributes: Attributes,
    /// The value, or a histogram's sum.
    pub value: f64,
    /// A histogram's count.
    pub count: u64,
    /// A histogram's explicit bounds.
    pub bounds: Vec<f64>,
    /// Trace ids of its exemplars.
    pub exemplars: Vec<(f64, String)>,
}

/// All records, and the current behaviour.
#[derive(Default)]
pub(super) struct Records(Mutex<State>);

#[derive(Default)]
struct State {
    behaviour: Behaviour,
    spans: Vec<Span>,
    logs: Vec<LogRecord>,
    metrics: Vec<Metric>,
    arrivals: Vec<Arrival>,
}

impl Records {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.state().behaviour = behaviour;
    }

    /// Records an export. Returns the behaviour that applies to it: a change after the test has seen the export does not.
    pub fn arrived(&self, arrival: Arrival) -> Behaviour {
        let mut state = self.state();
        state.arrivals.push(arrival);
        state.behaviour
    }

    pub fn spans(&self) -> Vec<Span> {
        self.state().spans.clone()
    }

    pub fn logs(&self) -> Vec<LogRecord> {
        self.state().logs.clone()
    }

    pub fn metrics(&self) -> Vec<Metric> {
        self.state().metrics.clone()
    }

    pub fn arrivals(&self) -> Vec<Arrival> {
        self.state().arrivals.clone()
    }

    pub fn clear(&self) {
        let mut state = self.state();
        *state = State { behaviour: state.behaviour, ..State::default() };
    }
}

/// An export request of one signal.
pub(super) trait Export {
    /// Its signal.
    const SIGNAL: Signal;

    /// The number of spans, metrics or log records in it.
    fn items(&self) -> usize;

    /// `service.name` of each Resource.
    fn services(&self) -> Vec<String>;

    /// Adds its content to the records.
    fn record(self, records: &Records);
}

impl Export for ExportTraceServiceRequest {
    const SIGNAL: Signal = Signal::Traces;

    fn items(&self) -> usize {
        self.resource_spans.iter().flat_map(|group| &group.scope_spans).map(|scope| scope.spans.len()).sum()
    }

    fn services(&self) -> Vec<String> {
        self.resource_spans.iter().map(|group| service_name(&resource_attributes(group.resource.as_ref()))).collect()
    }

    fn record(self, records: &Records) {
        records.state().spans.extend(Span::all_of(&self.resource_spans));
    }
}

impl Export for ExportLogsServiceRequest {
    const SIGNAL: Signal = Signal::Logs;

    fn items(&self) -> usize {
        self.resource_logs.iter().flat_map(|group| &group.scope_logs).map(|scope| scope.log_records.len()).sum()
    }

    fn services(&self) -> Vec<String> {
        self.resource_logs.iter().map(|group| service_name(&resource_attributes(group.resource.as_ref()))).collect()
    }

    fn record(self, records: &Records) {
        for group in &self.resource_logs {
            let service = service_name(&resource_attributes(group.resource.as_ref()));
            let all = group.scope_logs.iter().flat_map(|scope| &scope.log_records);
            records.state().logs.extend(all.map(|record| LogRecord {
                service: service.clone(),
                body: value(record.body.as_ref()),
                severity: record.severity_text.clone(),
                severity_number: record.severity_number,
                attributes: attributes(&record.attributes),
                trace_id: hex(&record.trace_id),
                span_id: hex(&record.span_id),
                event_name: record.event_name.clone(),
            }));
        }
    }
}

impl Export for ExportMetricsServiceRequest {
    const SIGNAL: Signal = Signal::Metrics;

    fn items(&self) -> usize {
        self.resource_metrics.iter().flat_map(|group| &group.scope_metrics).map(|scope| scope.metrics.len()).sum()
    }

    fn services(&self) -> Vec<String> {
        self.resource_metrics.iter().map(|group| service_name(&resource_attributes(group.resource.as_ref()))).collect()
    }

    fn record(self, records: &Records) {
        for group in &self.resource_metrics {
            let service = service_name(&resource_attributes(group.resource.as_ref()));
            let all = group.scope_metrics.iter().flat_map(|scope| &scope.metrics);
            records.state().metrics.extend(all.map(|metric| self::metric(&service, metric)));
        }
    }
}

fn metric(service: &str, metric: &metrics::Metric) -> Metric {
    use metrics::metric::Data;
    let (kind, points) = match &metric.data {
        Some(Data::Gauge(gauge)) => ("gauge", gauge.data_points.iter().map(number).collect()),
        Some(Data::Sum(sum)) if sum.is_monotonic => ("counter", sum.data_points.iter().map(number).collect()),
        Some(Data::Sum(sum)) => ("up-down counter", sum.data_points.iter().map(number).collect()),
        Some(Data::Histogram(histogram)) => ("histogram", histogram.data_points.iter().map(distribution).collect()),
        _ => ("other", Vec::new()),
    };
    Metric {
        service: service.to_owned(),
        name: metric.name.clone(),
        unit: metric.unit.clone(),
        description: metric.description.clone(),
        kind,
        points,
    }
}

fn number(point: &metrics::NumberDataPoint) -> Point {
    let value = match point.value {
        Some(NumberValue::AsDouble(value)) => value,
        Some(NumberValue::AsInt(value)) => value as f64,
        None => f64::NAN,
    };
    Point {
        attributes: attributes(&point.attributes),
        value,
        count: 1,
        bounds: Vec::new(),
        exemplars: exemplars(&point.exemplars),
    }
}

fn distribution(point: &metrics::HistogramDataPoint) -> Point {
    Point {
        attributes: attributes(&point.attributes),
        value: point.sum.unwrap_or(f64::NAN),
        count: point.count,
        bounds: point.explicit_bounds.clone(),
        exemplars: exemplars(&point.exemplars),
    }
}

fn exemplars(exemplars: &[metrics::Exemplar]) -> Vec<(f64, String)> {
    let value = |exemplar: &metrics::Exemplar| match exemplar.value {
        Some(ExemplarValue::AsDouble(value)) => value,
        Some(ExemplarValue::AsInt(value)) => value as f64,
        None => f64::NAN,
    };
    exemplars.iter().map(|exemplar| (value(exemplar), hex(&exemplar.trace_id))).collect()
}
