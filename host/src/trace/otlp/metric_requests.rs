//! Splits metrics into requests of a size that collectors accept.
//!
//! Each Resource has requests of its own, so that the rejection of one service's metrics does not affect others. A
//! request that is too large is split, down to single data points.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, Gauge, Histogram, Metric, ResourceMetrics, ScopeMetrics, Sum, Summary,
};
use prost::Message;

/// The most bytes of a request, unless a single data point exceeds it. Collectors reject 4 MiB by default.
pub(super) const MAX_REQUEST_BYTES: usize = 3 << 20;

/// The requests for all of `resources`, in their order.
pub(super) fn requests(resources: Vec<ResourceMetrics>, most: usize) -> Vec<ExportMetricsServiceRequest> {
    let pieces = resources.into_iter().flat_map(|resource| pieces(resource, most));
    pieces.map(|piece| ExportMetricsServiceRequest { resource_metrics: vec![piece] }).collect()
}

fn pieces(whole: ResourceMetrics, most: usize) -> Vec<ResourceMetrics> {
    let (mut pieces, mut rest) = (Vec::new(), vec![whole]);
    while let Some(mut piece) = rest.pop() {
        if piece.encoded_len() > most
            && let Some(second) = split(&mut piece)
        {
            rest.extend([second, piece]);
        } else {
            pieces.push(piece);
        }
    }
    pieces
}

/// Removes and returns the second half of a piece; `None` if it holds a single data point.
fn split(piece: &mut ResourceMetrics) -> Option<ResourceMetrics> {
    let scope_metrics = match split_half(&mut piece.scope_metrics) {
        Some(scopes) => scopes,
        None => vec![split_scope(piece.scope_metrics.first_mut()?)?],
    };
    Some(ResourceMetrics { resource: piece.resource.clone(), scope_metrics, schema_url: piece.schema_url.clone() })
}

fn split_scope(scope: &mut ScopeMetrics) -> Option<ScopeMetrics> {
    let metrics = match split_half(&mut scope.metrics) {
        Some(metrics) => metrics,
        None => vec![split_metric(scope.metrics.first_mut()?)?],
    };
    Some(ScopeMetrics { scope: scope.scope.clone(), metrics, schema_url: scope.schema_url.clone() })
}

fn split_metric(metric: &mut Metric) -> Option<Metric> {
    let data = match metric.data.as_mut()? {
        Data::Gauge(gauge) => Data::Gauge(Gauge { data_points: split_half(&mut gauge.data_points)? }),
        Data::Sum(sum) => Data::Sum(Sum {
            data_points: split_half(&mut sum.data_points)?,
            aggregation_temporality: sum.aggregation_temporality,
            is_monotonic: sum.is_monotonic,
        }),
        Data::Histogram(histogram) => Data::Histogram(Histogram {
            data_points: split_half(&mut histogram.data_points)?,
            aggregation_temporality: histogram.aggregation_temporality,
        }),
        Data::ExponentialHistogram(histogram) => Data::ExponentialHistogram(ExponentialHistogram {
            data_points: split_half(&mut histogram.data_points)?,
            aggregation_temporality: histogram.aggregation_temporality,
        }),
        Data::Summary(summary) => Data::Summary(Summary { data_points: split_half(&mut summary.data_points)? }),
    };
    Some(Metric {
        name: metric.name.clone(),
        description: metric.description.clone(),
        unit: metric.unit.clone(),
        metadata: metric.metadata.clone(),
        data: Some(data),
    })
}

fn split_half<T>(items: &mut Vec<T>) -> Option<Vec<T>> {
    (items.len() > 1).then(|| items.split_off(items.len() / 2))
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
    use opentelemetry_proto::tonic::metrics::v1::{HistogramDataPoint, NumberDataPoint};
    use opentelemetry_proto::tonic::resource::v1::Resource;

    use super::*;

    const MOST: usize = 10_000;

    fn attribute(key: &str, value: String) -> KeyValue {
        KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(Value::StringValue(value)) }),
            ..KeyValue::default()
        }
    }

    fn sum(name: &str, points: usize, bytes: usize) -> Metric {
        let point = |number: usize| NumberDataPoint {
            attributes: vec![attribute("x", format!("{number:0bytes$}"))],
            ..NumberDataPoint::default()
        };
        let data_points = (0..points).map(point).collect();
        let data = Data::Sum(Sum { data_points, aggregation_temporality: 2, is_monotonic: true });
        Metric { name: name.to_owned(), data: Some(data), ..Metric::default() }
    }

    fn histogram(name: &str, points: usize, bytes: usize) -> Metric {
        let point = |number: usize| HistogramDataPoint {
            attributes: vec![attribute("x", format!("{number:0bytes$}"))],
            ..HistogramDataPoint::default()
        };
        let data_points = (0..points).map(point).collect();
        let data = Data::Histogram(Histogram { data_points, aggregation_temporality: 2 });
        Metric { name: name.to_owned(), data: Some(data), ..Metric::default() }
    }

    fn resource(service: &str, scopes: Vec<Vec<Metric>>) -> ResourceMetrics {
        let attributes = vec![attribute("service.name", service.to_owned())];
        ResourceMetrics {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_metrics: scopes
                .into_iter()
                .map(|metrics| ScopeMetrics { metrics, ..ScopeMetrics::default() })
                .collect(),
            schema_url: String::new(),
        }
    }

    /// Service, metric and the attributes of each data point, in order.
    fn points(requests: &[ExportMetricsServiceRequest]) -> Vec<(String, String, Vec<KeyValue>)> {
        let mut all = Vec::new();
        for resource in requests.iter().flat_map(|request| &request.resource_metrics) {
            let service = format!("{:?}", resource.resource.as_ref().unwrap().attributes[0].value);
            for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
                let attributes: Vec<_> = match metric.data.as_ref().unwrap() {
                    Data::Sum(sum) => {
                        assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
                        sum.data_points.iter().map(|point| point.attributes.clone()).collect()
                    }
                    Data::Histogram(histogram) => {
                        assert_eq!(histogram.aggregation_temporality, 2);
                        histogram.data_points.iter().map(|point| point.attributes.clone()).collect()
                    }
                    other => panic!("{other:?}"),
                };
                all.extend(attributes.into_iter().map(|one| (service.clone(), metric.name.clone(), one)));
            }
        }
        all
    }

    #[test]
    fn each_resource_has_requests_of_its_own() {
        let small = |name: &str| resource(name, vec![vec![sum("a", 3, 10), histogram("b", 2, 10)]]);
        let requests = requests(vec![small("one"), small("two"), small("one")], MOST);
        assert_eq!(requests.len(), 3);
        assert!(requests.iter().all(|request| request.resource_metrics.len() == 1));
    }

    #[test]
    fn large_metrics_are_split_without_loss() {
        for scopes in [
            vec![vec![sum("points", 500, 100)]],
            vec![vec![histogram("points", 500, 100)]],
            (0..100).map(|_| vec![sum("scopes", 1, 1_000)]).collect(),
            vec![(0..100).map(|_| sum("metrics", 1, 1_000)).collect()],
            vec![vec![sum("small", 2, 10), histogram("large", 40, 2_000)], vec![sum("last", 300, 50)]],
        ] {
            let whole = resource("shop", scopes);
            let expected = points(&[ExportMetricsServiceRequest { resource_metrics: vec![whole.clone()] }]);
            let requests = requests(vec![whole], MOST);
            assert!(requests.len() > 1);
            assert!(requests.iter().all(|request| request.encoded_len() <= MOST + 8));
            assert_eq!(points(&requests), expected);
        }
    }

    #[test]
    fn a_data_point_that_is_too_large_is_sent_alone() {
        let large =
            resource("large", vec![vec![sum("small", 2, 10), sum("large", 1, 2 * MOST), histogram("other", 2, 10)]]);
        let requests = requests(vec![large, resource("other", vec![vec![sum("a", 1, 10)]])], MOST);
        let too_large: Vec<_> = requests.iter().filter(|request| request.encoded_len() > MOST).collect();
        assert_eq!(too_large.len(), 1);
        assert_eq!(points(&[too_large[0].clone()]).len(), 1);
        assert_eq!(points(&requests).len(), 6);
    }

    #[test]
    fn empty_metrics_are_sent_unchanged() {
        assert!(requests(Vec::new(), MOST).is_empty());
        assert_eq!(requests(vec![resource("shop", Vec::new())], 1).len(), 1);
        let empty = Metric { name: "x".repeat(MOST), ..Metric::default() };
        assert_eq!(requests(vec![resource("shop", vec![vec![empty]])], 1).len(), 1);
    }
}
