//! Encodes metrics of guests' own SDKs as OTLP.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1;

use super::encode::nanos;
use crate::trace::exponential_histogram;
use crate::trace::guest_metrics::{GuestSeries, Number, PointValue};
use crate::trace::resource::Resource;

const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

/// The metrics of one service: one for each scope, name and unit.
pub(super) fn encode(resource: &Arc<Resource>, series: Vec<GuestSeries>) -> ResourceMetrics {
    let mut scopes: Vec<ScopeMetrics> = Vec::new();
    // Series are sorted by key, so those of one scope and one metric are adjacent.
    for series in series {
        let is_same =
            |scope: &&mut ScopeMetrics| scope.scope.as_ref().is_some_and(|scope| scope.name == series.key.scope);
        match scopes.last_mut().filter(is_same) {
            Some(scope) => add_series(&mut scope.metrics, series),
            None => {
                let scope = InstrumentationScope { name: series.key.scope.clone(), ..InstrumentationScope::default() };
                let mut metrics = Vec::new();
                add_series(&mut metrics, series);
                scopes.push(ScopeMetrics { scope: Some(scope), metrics, schema_url: String::new() });
            }
        }
    }
    let attributes = resource.attributes().iter().map(KeyValue::from).collect();
    let resource = v1::Resource { attributes, ..v1::Resource::default() };
    ResourceMetrics { resource: Some(resource), scope_metrics: scopes, schema_url: String::new() }
}

fn add_series(metrics: &mut Vec<Metric>, series: GuestSeries) {
    let (name, unit, description) = (series.key.name.clone(), series.key.unit.clone(), series.description.clone());
    let data = data(series);
    let known = metrics.last_mut().filter(|metric| metric.name == name && metric.unit == unit);
    if !known.and_then(|metric| metric.data.as_mut()).is_some_and(|known| merge(known, &data)) {
        metrics.push(Metric { name, description, unit, metadata: Vec::new(), data: Some(data) });
    }
}

/// Adds data points to a metric of the same type. Returns whether the types match.
fn merge(known: &mut metric::Data, data: &metric::Data) -> bool {
    use metric::Data;
    match (known, data) {
        (Data::Gauge(known), Data::Gauge(data)) => known.data_points.extend(data.data_points.iter().cloned()),
        (Data::Sum(known), Data::Sum(data)) if known.is_monotonic == data.is_monotonic => {
            known.data_points.extend(data.data_points.iter().cloned());
        }
        (Data::Histogram(known), Data::Histogram(data)) => known.data_points.extend(data.data_points.iter().cloned()),
        (Data::ExponentialHistogram(known), Data::ExponentialHistogram(data)) => {
            known.data_points.extend(data.data_points.iter().cloned());
        }
        _ => return false,
    }
    true
}

fn data(series: GuestSeries) -> metric::Data {
    let GuestSeries { attributes, value, started, time, .. } = series;
    let attributes: Vec<_> = attributes.iter().map(KeyValue::from).collect();
    let (start, time) = (nanos(started), nanos(time));
    let number = |attributes, value, start| NumberDataPoint {
        attributes,
        start_time_unix_nano: start,
        time_unix_nano: time,
        value: Some(match value {
            Number::Int(number) => number_data_point::Value::AsInt(number),
            Number::Double(number) => number_data_point::Value::AsDouble(number),
        }),
        ..NumberDataPoint::default()
    };
    match value {
        PointValue::Gauge(value) => metric::Data::Gauge(Gauge { data_points: vec![number(attributes, value, 0)] }),
        PointValue::Sum { value, is_monotonic } => metric::Data::Sum(Sum {
            data_points: vec![number(attributes, value, start)],
            aggregation_temporality: CUMULATIVE,
            is_monotonic,
        }),
        PointValue::Histogram(histogram) => metric::Data::Histogram(Histogram {
            data_points: vec![HistogramDataPoint {
                attributes,
                start_time_unix_nano: start,
                time_unix_nano: time,
                count: histogram.totals.count,
                sum: Some(histogram.totals.sum),
                min: histogram.totals.min,
                max: histogram.totals.max,
                bucket_counts: histogram.buckets,
                explicit_bounds: histogram.bounds,
                ..HistogramDataPoint::default()
            }],
            aggregation_temporality: CUMULATIVE,
        }),
        PointValue::ExponentialHistogram(exponential) => {
            metric::Data::ExponentialHistogram(self::exponential(exponential, attributes, (start, time)))
        }
    }
}

fn exponential(
    exponential: exponential_histogram::ExponentialHistogram,
    attributes: Vec<KeyValue>,
    (start, time): (u64, u64),
) -> ExponentialHistogram {
    let buckets = |(offset, bucket_counts)| Some(Buckets { offset, bucket_counts });
    let point = ExponentialHistogramDataPoint {
        attributes,
        start_time_unix_nano: start,
        time_unix_nano: time,
        count: exponential.totals.count,
        sum: Some(exponential.totals.sum),
        min: exponential.totals.min,
        max: exponential.totals.max,
        scale: exponential.scale,
        zero_count: exponential.zero_count,
        zero_threshold: exponential.zero_threshold,
        positive: buckets(exponential.positive),
        negative: buckets(exponential.negative),
        ..ExponentialHistogramDataPoint::default()
    };
    ExponentialHistogram { data_points: vec![point], aggregation_temporality: CUMULATIVE }
}
