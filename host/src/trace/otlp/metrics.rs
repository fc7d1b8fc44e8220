//! Encodes the SDK's metrics as OTLP, and attaches the exemplars that the SDK does not collect.

use std::time::SystemTime;

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{self, Exemplar, HistogramDataPoint, exemplar, metric};
use opentelemetry_sdk::metrics::data::ResourceMetrics;

use super::encode::nanos;

/// An exemplar: a measurement with its trace.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricExemplar {
    /// The measured value, in the unit of its metric.
    pub value: f64,
    /// The time of the measurement.
    pub time: SystemTime,
    /// The trace id.
    pub trace_id: TraceId,
    /// The span id.
    pub span_id: SpanId,
}

/// The exemplars of one data point.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesExemplars {
    /// `service.name` of the Resource.
    pub service: String,
    /// The name of the metric.
    pub metric: &'static str,
    /// The attributes of the data point.
    pub attributes: Vec<opentelemetry::KeyValue>,
    /// The exemplars.
    pub exemplars: Vec<MetricExemplar>,
}

/// Encodes the collected metrics, one message for each Resource.
pub(super) fn encode(collected: &[ResourceMetrics], exemplars: Vec<SeriesExemplars>) -> Vec<v1::ResourceMetrics> {
    let requests = collected.iter().map(ExportMetricsServiceRequest::from);
    let mut resources: Vec<_> = requests.flat_map(|request| request.resource_metrics).collect();
    for series in exemplars {
        attach(&mut resources, &series);
    }
    resources
}

/// Attaches the exemplars of one series to its data point.
fn attach(resources: &mut [v1::ResourceMetrics], series: &SeriesExemplars) {
    let attributes: Vec<KeyValue> = series.attributes.iter().map(Into::into).collect();
    for resource in resources {
        let of_service = resource
            .resource
            .iter()
            .flat_map(|resource| &resource.attributes)
            .any(|attribute| attribute.key == "service.name" && text(attribute) == Some(series.service.as_str()));
        if !of_service {
            continue;
        }
        let metrics = resource.scope_metrics.iter_mut().flat_map(|scope| &mut scope.metrics);
        for metric in metrics.filter(|metric| metric.name == series.metric) {
            let Some(metric::Data::Histogram(histogram)) = &mut metric.data else { continue };
            for point in histogram.data_points.iter_mut().filter(|point| has_attributes(point, &attributes)) {
                point.exemplars.extend(series.exemplars.iter().map(exemplar));
            }
        }
    }
}

fn has_attributes(point: &HistogramDataPoint, attributes: &[KeyValue]) -> bool {
    point.attributes.len() == attributes.len()
        && attributes.iter().all(|attribute| point.attributes.contains(attribute))
}

fn text(attribute: &KeyValue) -> Option<&str> {
    match attribute.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text),
        _ => None,
    }
}

fn exemplar(exemplar: &MetricExemplar) -> Exemplar {
    Exemplar {
        filtered_attributes: Vec::new(),
        time_unix_nano: nanos(exemplar.time),
        span_id: exemplar.span_id.to_bytes().to_vec(),
        trace_id: exemplar.trace_id.to_bytes().to_vec(),
        value: Some(exemplar::Value::AsDouble(exemplar.value)),
    }
}
