//! Counters and histograms through `wasi:otel/metrics`. Each measurement is exported at once as a delta, so that none
//! is lost with the instance; the host aggregates them.

use super::values;
use crate::host::{Attribute, Label, MetricError, Value};
use crate::proposals::wasi::otel::metrics::{
    self, Histogram as HistogramData, HistogramDataPoint, Metric, MetricData, MetricNumber, ResourceMetrics,
    ScopeMetrics, Sum, SumDataPoint, Temporality,
};
use crate::proposals::wasi::otel::types::{KeyValue, Resource};

/// The boundaries for durations in seconds, as in the HTTP semantic conventions.
const SECONDS_BOUNDARIES: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// The default boundaries of OpenTelemetry SDKs.
const DEFAULT_BOUNDARIES: [f64; 15] =
    [0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0];

#[derive(Debug)]
struct Instrument {
    name: String,
    unit: String,
    description: String,
}

impl Instrument {
    fn new(name: &str, unit: &str, description: &str) -> Self {
        Self { name: name.to_owned(), unit: unit.to_owned(), description: description.to_owned() }
    }

    /// Exports a metric. An error does not fail the request.
    fn export(&self, data: MetricData) {
        let metric =
            Metric { name: self.name.clone(), description: self.description.clone(), unit: self.unit.clone(), data };
        let scope_metrics = vec![ScopeMetrics { scope: values::scope(), metrics: vec![metric] }];
        let resource = Resource { attributes: Vec::new(), schema_url: None };
        let _ = metrics::export(&ResourceMetrics { resource, scope_metrics });
    }
}

#[derive(Debug)]
pub struct Counter(Instrument);

impl Counter {
    pub fn create(name: &str, unit: &str, description: &str) -> Result<Self, MetricError> {
        Ok(Self(Instrument::new(name, unit, description)))
    }

    pub fn add(&self, value: u64, labels: &[Label<'_>]) {
        let now = values::now();
        let point =
            SumDataPoint { attributes: attributes(labels), value: MetricNumber::U64(value), exemplars: Vec::new() };
        self.0.export(MetricData::U64Sum(Sum {
            data_points: vec![point],
            start_time: now,
            time: now,
            temporality: Temporality::Delta,
            is_monotonic: true,
        }));
    }
}

#[derive(Debug)]
pub struct Histogram {
    instrument: Instrument,
    boundaries: Vec<f64>,
}

impl Histogram {
    pub fn create(name: &str, unit: &str, description: &str, boundaries: &[f64]) -> Result<Self, MetricError> {
        let boundaries = match boundaries {
            [] if unit == "s" => SECONDS_BOUNDARIES.to_vec(),
            [] => DEFAULT_BOUNDARIES.to_vec(),
            boundaries => boundaries.to_vec(),
        };
        Ok(Self { instrument: Instrument::new(name, unit, description), boundaries })
    }

    pub fn record(&self, value: f64, labels: &[Label<'_>]) {
        if !value.is_finite() {
            return;
        }
        let bucket = self.boundaries.iter().take_while(|bound| value > **bound).count();
        let mut bucket_counts = vec![0; self.boundaries.len() + 1];
        bucket_counts[bucket] = 1;
        let number = MetricNumber::F64(value);
        let point = HistogramDataPoint {
            attributes: attributes(labels),
            count: 1,
            bounds: self.boundaries.clone(),
            bucket_counts,
            min: Some(number),
            max: Some(number),
            sum: number,
            exemplars: Vec::new(),
        };
        let now = values::now();
        self.instrument.export(MetricData::F64Histogram(HistogramData {
            data_points: vec![point],
            start_time: now,
            time: now,
            temporality: Temporality::Delta,
        }));
    }
}

fn attributes(labels: &[Label<'_>]) -> Vec<KeyValue> {
    let pairs = labels.iter().map(|label| Attribute { key: label.key, value: Value::Text(label.value) });
    pairs.map(values::attribute).collect()
}
