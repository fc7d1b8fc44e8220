//! Metrics of the guests' own operations: `otel_operations` and `otel_span_duration_ms`, named as in earlier systems.
//!
//! Both labels come from guests, so only the first [`SERIES_LIMIT`] pairs are distinguished, by the first
//! [`LABEL_BYTES`] bytes of each.

use std::{borrow::Cow, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{BoundCounter, BoundHistogram, Counter, Histogram, Meter},
};

use super::{
    labels::{OTHER, cut},
    table::{SeriesKey, SeriesMap, Table},
};

const SERIES_LIMIT: usize = 200;
/// The longest label value, in bytes.
const LABEL_BYTES: usize = 128;

/// Upper bounds in milliseconds. They start low because most operations of a component take microseconds.
const BUCKETS_MS: [f64; 15] =
    [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0, 5000.0];

pub(super) struct OperationMetrics {
    duration: Histogram<f64>,
    operations: Counter<u64>,
    series: Table<Labels<'static>, (BoundHistogram<f64>, BoundCounter<u64>)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Labels<'a> {
    failed: bool,
    operation_type: Cow<'a, str>,
    span_name: Cow<'a, str>,
}

impl SeriesKey for Labels<'_> {
    type Stored = Labels<'static>;

    fn find<'m, V>(&'m self, series: &'m SeriesMap<Labels<'static>, V>) -> Option<&'m V> {
        series.get(self)
    }

    fn to_stored(&self) -> Labels<'static> {
        Labels {
            failed: self.failed,
            operation_type: Cow::Owned(self.operation_type.to_string()),
            span_name: Cow::Owned(self.span_name.to_string()),
        }
    }

    fn overflow(&self) -> Labels<'static> {
        Labels { failed: self.failed, operation_type: Cow::Borrowed(OTHER), span_name: Cow::Borrowed(OTHER) }
    }
}

impl OperationMetrics {
    pub(super) fn new(meter: &Meter) -> OperationMetrics {
        OperationMetrics {
            // No unit: a conversion to Prometheus would append `_milliseconds` to a name that already contains it.
            duration: meter
                .f64_histogram("otel_span_duration_ms")
                .with_description("Duration of the operations of components, in milliseconds.")
                .with_boundaries(BUCKETS_MS.to_vec())
                .build(),
            operations: meter
                .u64_counter("otel_operations")
                .with_unit("{operation}")
                .with_description("Operations of components, by type and outcome.")
                .build(),
            series: Table::new(SERIES_LIMIT),
        }
    }

    pub(super) fn record(&self, operation_type: &str, span_name: &str, took: Duration, failed: bool) {
        let label = |text| Cow::Borrowed(cut(text, LABEL_BYTES));
        let labels = Labels { failed, operation_type: label(operation_type), span_name: label(span_name) };
        self.series.with(
            &labels,
            |labels| self.series_of(labels),
            |(duration, operations)| {
                duration.record(took.as_secs_f64() * 1000.0);
                operations.add(1);
            },
        );
    }

    fn series_of(&self, labels: &Labels<'_>) -> (BoundHistogram<f64>, BoundCounter<u64>) {
        let operation_type = KeyValue::new("operation_type", labels.operation_type.to_string());
        let span_name = KeyValue::new("span_name", labels.span_name.to_string());
        let status = KeyValue::new("status", if labels.failed { "error" } else { "success" });
        (self.duration.bind(&[operation_type.clone(), span_name]), self.operations.bind(&[operation_type, status]))
    }
}
