//! `wasi:otel/metrics`: metrics that a guest's own SDK exports.

use opentelemetry::KeyValue;
use wasmtime::component::{Access, HasSelf};

use super::super::caller::with_caller;
use super::value::GuestAttributes;
use crate::component::standard_bindings::wasi::otel::{metrics as wit, types};
use crate::component::{ServiceContext, StoreData};
use crate::metrics::{InstrumentError, check_guest_metric, is_label};
use crate::trace::guest_limits::{MAX_LABELS, MAX_TEXT_BYTES};
use crate::trace::{
    AttributeLimits, ExponentialHistogram, GuestPoint, Histogram, HistogramTotals, Number, PointError, PointValue,
    SeriesKey,
};

/// The most points in one export.
const MAX_POINTS: usize = 10_000;
/// The most bytes of the attributes of a point. A point that exceeds it is dropped.
const MAX_ATTRIBUTE_BYTES: usize = 4 << 10;

/// The most bytes of attributes that are read. Attributes that exceed it would also exceed [`MAX_ATTRIBUTE_BYTES`] as
/// text.
const MAX_ATTRIBUTE_BYTES_READ: usize = 8 * MAX_ATTRIBUTE_BYTES;

impl wit::Host for StoreData {}

impl wit::HostWithStore<StoreData> for HasSelf<StoreData> {
    /// The Resource of the export is ignored; the metrics have the Resource of the service.
    fn export(
        access: Access<'_, StoreData, Self>,
        metrics: wit::ResourceMetrics,
    ) -> wasmtime::Result<Result<(), String>> {
        Ok(with_caller(access, |data| data.add_metrics(metrics)))
    }
}

impl StoreData {
    fn add_metrics(&mut self, metrics: wit::ResourceMetrics) -> Result<(), String> {
        let (mut points, mut error) = (Vec::new(), None);
        for scope in metrics.scope_metrics {
            for metric in scope.metrics {
                error = read(&scope.scope.name, metric, &mut points).err().or(error);
            }
        }
        if points.len() > MAX_POINTS {
            let reason = format!("an export is limited to {MAX_POINTS} points");
            self.log_first_rejection(&reason);
            return Err(reason);
        }
        if let Some(request) = self.http.request() {
            let recorder = request.recorder.clone();
            let points = self.http.new_metric_points(points, &self.account);
            recorder.with(|recorder| recorder.add_guest_metrics(points));
        }
        // The valid part of the export was recorded.
        let Some(error) = error else { return Ok(()) };
        let reason = error.to_string();
        self.log_first_rejection(&reason);
        Err(reason)
    }

    /// Most SDKs ignore the error of an export, so that the metric would be missing without an explanation.
    fn log_first_rejection(&self, reason: &str) {
        let ServiceContext { name, metric_rejected, .. } = &**self.context();
        metric_rejected.call_once(|| {
            tracing::warn!(service = &**name, reason, "a metric of the guest is rejected; further ones are not logged");
        });
    }
}

fn read(scope: &str, metric: wit::Metric, points: &mut Vec<GuestPoint>) -> Result<(), InstrumentError> {
    use wit::MetricData;
    let wit::Metric { name, description, unit, data } = metric;
    // These are copied into each point.
    let (scope, description) = (truncated(scope), truncated(&description));
    let (mut validity, mut first_invalid) = (Ok(()), Ok(()));
    let mut add = |attributes, value: PointValue, is_delta| {
        if validity.is_ok() {
            validity = check_guest_metric(&name, &unit, &value);
        }
        // The export is refused once there are more than [`MAX_POINTS`].
        if points.len() > MAX_POINTS || validity.is_err() {
            return;
        }
        if let Err(error) = value.check() {
            first_invalid = first_invalid.and(Err(error));
            return;
        }
        let Some(attributes) = GuestAttributes::for_metric(attributes) else { return };
        let sorted_text = attributes.sorted_text();
        if sorted_text.len() > MAX_ATTRIBUTE_BYTES {
            return;
        }
        let (scope, name, unit) = (scope.to_owned(), name.to_owned(), unit.to_owned());
        let key = SeriesKey { scope, name, unit, attributes: sorted_text };
        let (description, attributes) = (description.to_owned(), attributes.into_key_values());
        points.push(GuestPoint { key, description, attributes, value, is_delta });
    };
    match data {
        MetricData::F64Gauge(gauge) | MetricData::U64Gauge(gauge) | MetricData::S64Gauge(gauge) => {
            gauge.data_points.into_iter().for_each(|point| {
                add(point.attributes, PointValue::Gauge(number(point.value)), false);
            });
        }
        MetricData::F64Sum(sum) | MetricData::U64Sum(sum) | MetricData::S64Sum(sum) => {
            let (is_monotonic, is_delta) = (sum.is_monotonic, is_delta(sum.temporality));
            sum.data_points.into_iter().for_each(|point| {
                add(point.attributes, PointValue::Sum { value: number(point.value), is_monotonic }, is_delta);
            });
        }
        MetricData::F64Histogram(data) | MetricData::U64Histogram(data) | MetricData::S64Histogram(data) => {
            let is_delta = is_delta(data.temporality);
            for point in data.data_points {
                let totals = totals(point.count, point.sum, (point.min, point.max));
                let buckets = buckets(&point.bounds, point.bucket_counts, point.count);
                let histogram = Histogram { totals, bounds: point.bounds, buckets };
                add(point.attributes, PointValue::Histogram(histogram), is_delta);
            }
        }
        MetricData::F64ExponentialHistogram(data)
        | MetricData::U64ExponentialHistogram(data)
        | MetricData::S64ExponentialHistogram(data) => {
            let is_delta = is_delta(data.temporality);
            for point in data.data_points {
                let exponential = ExponentialHistogram {
                    totals: totals(point.count, point.sum, (point.min, point.max)),
                    scale: point.scale.into(),
                    zero_count: point.zero_count,
                    zero_threshold: point.zero_threshold,
                    positive: (point.positive_bucket.offset, point.positive_bucket.counts),
                    negative: (point.negative_bucket.offset, point.negative_bucket.counts),
                };
                add(point.attributes, PointValue::ExponentialHistogram(exponential), is_delta);
            }
        }
    }
    validity.and(first_invalid.map_err(|error| invalid_point(&name, error)))
}

fn invalid_point(name: &str, error: PointError) -> InstrumentError {
    InstrumentError::Invalid(format!("a data point of `{name}` is invalid: {error}"))
}

/// The start of a text, as much of it as is kept.
fn truncated(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT_BYTES)).unwrap_or_default()
}

/// With `LowMemory`, an SDK forgets what it has exported.
fn is_delta(temporality: wit::Temporality) -> bool {
    match temporality {
        wit::Temporality::Cumulative => false,
        wit::Temporality::Delta | wit::Temporality::LowMemory => true,
    }
}

/// The integers of data points are signed in OTLP, so a greater one becomes the greatest of them.
fn number(number: wit::MetricNumber) -> Number {
    match number {
        wit::MetricNumber::F64(number) => Number::Double(number),
        wit::MetricNumber::S64(number) => Number::Int(number),
        wit::MetricNumber::U64(number) => Number::Int(i64::try_from(number).unwrap_or(i64::MAX)),
    }
}

/// The counts of the buckets. A histogram without bounds may have no buckets in OTLP: it has one for all measurements.
fn buckets(bounds: &[f64], counts: Vec<u64>, count: u64) -> Vec<u64> {
    if bounds.is_empty() && counts.is_empty() { vec![count] } else { counts }
}

/// Minimum and maximum are optional. Those that are not finite are of no use, and some SDKs give them for no measurements.
fn totals(
    count: u64,
    sum: wit::MetricNumber,
    (min, max): (Option<wit::MetricNumber>, Option<wit::MetricNumber>),
) -> HistogramTotals {
    let double = |value: wit::MetricNumber| number(value).as_f64();
    let finite = |value: Option<wit::MetricNumber>| value.map(double).filter(|value| value.is_finite());
    HistogramTotals { count, sum: double(sum), min: finite(min), max: finite(max) }
}

impl GuestAttributes {
    /// The attributes that may be metric labels, within the limits for labels; `None` if they exceed
    /// [`MAX_ATTRIBUTE_BYTES_READ`].
    fn for_metric(mut pairs: Vec<types::KeyValue>) -> Option<GuestAttributes> {
        pairs.retain(|pair| is_label(&pair.key));
        pairs.truncate(MAX_LABELS);
        let limits = AttributeLimits { count: MAX_LABELS, value_length: Some(MAX_TEXT_BYTES) };
        let mut bytes = MAX_ATTRIBUTE_BYTES_READ;
        let mut attributes = GuestAttributes::parse(pairs, limits, &mut bytes);
        attributes.truncate(MAX_TEXT_BYTES);
        attributes.is_complete().then_some(attributes)
    }

    fn into_key_values(self) -> Vec<KeyValue> {
        self.into_iter().map(|(key, value)| KeyValue::new(key, value.into_opentelemetry())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::standard_bindings::wasi::clocks::wall_clock::Datetime;

    const TIME: Datetime = Datetime { seconds: 1, nanoseconds: 0 };

    fn metric(name: &str, data: wit::MetricData) -> wit::Metric {
        wit::Metric { name: name.to_owned(), description: String::new(), unit: String::new(), data }
    }

    fn gauge(value: wit::MetricNumber) -> wit::MetricData {
        let point = wit::GaugeDataPoint { attributes: Vec::new(), value, exemplars: Vec::new() };
        wit::MetricData::F64Gauge(wit::Gauge { data_points: vec![point], start_time: None, time: TIME })
    }

    fn sum(values: &[wit::MetricNumber], is_monotonic: bool) -> wit::MetricData {
        let point = |value| wit::SumDataPoint { attributes: Vec::new(), value, exemplars: Vec::new() };
        let (data_points, temporality) = (values.iter().copied().map(point).collect(), wit::Temporality::Cumulative);
        wit::MetricData::F64Sum(wit::Sum { data_points, start_time: TIME, time: TIME, temporality, is_monotonic })
    }

    /// The values of the points that are accepted, and the error.
    fn accepted(data: wit::MetricData) -> (Vec<PointValue>, Option<String>) {
        let mut points = Vec::new();
        let error = read("sdk", metric("shop.orders", data), &mut points).err();
        (points.into_iter().map(|point| point.value).collect(), error.map(|error| error.to_string()))
    }

    #[test]
    fn metric_names_of_the_host_are_refused() {
        let mut points = Vec::new();
        let gauge = |name| metric(name, gauge(wit::MetricNumber::F64(1.0)));
        for name in ["http.server.request.duration", "spandrel.instances", "process.memory", "otel.x", "up", "1st", ""]
        {
            assert!(read("sdk", gauge(name), &mut points).is_err(), "{name}");
        }
        assert!(points.is_empty());
        read("sdk", gauge("shop.shelf"), &mut points).unwrap();
        assert_eq!(points.len(), 1);
    }

    #[test]
    fn points_of_sums_that_would_make_the_total_decrease_or_no_number_are_rejected_alone() {
        use wit::MetricNumber::{F64, S64, U64};
        for invalid in [F64(f64::NAN), F64(f64::INFINITY), F64(f64::NEG_INFINITY), F64(-0.5), S64(-1)] {
            let (values, error) = accepted(sum(&[U64(1), invalid, F64(2.0)], true));
            assert_eq!(values.len(), 2, "{invalid:?}");
            assert!(error.is_some_and(|error| error.contains("`shop.orders`")), "{invalid:?}");
        }
        for valid in [F64(-0.5), S64(-1)] {
            assert_eq!(accepted(sum(&[valid], false)).1, None, "{valid:?}");
        }
        assert!(accepted(sum(&[F64(f64::NAN)], false)).1.is_some());
        assert_eq!(accepted(gauge(F64(f64::NAN))).1, None, "the next value replaces that of a gauge");
    }

    #[test]
    fn histograms_with_contradictory_buckets_are_rejected() {
        let check = |bounds: &[f64], bucket_counts: &[u64], count, is_valid| {
            let sum = wit::MetricNumber::F64(1.0);
            let (bounds, bucket_counts) = (bounds.to_vec(), bucket_counts.to_vec());
            let (attributes, exemplars) = (Vec::new(), Vec::new());
            let (min, max) = (None, None);
            let point = wit::HistogramDataPoint { attributes, count, bounds, bucket_counts, min, max, sum, exemplars };
            let shown = format!("{point:?}");
            let (values, error) = accepted(histogram(point));
            assert_eq!((values.len(), error.is_none()), (usize::from(is_valid), is_valid), "{shown}");
        };
        check(&[1.0, 2.0], &[1, 0, 2], 3, true);
        check(&[], &[3], 3, true);
        check(&[], &[], 3, true);
        for bounds in [[2.0, 1.0], [1.0, 1.0], [f64::NAN, 1.0], [1.0, f64::NAN], [1.0, f64::INFINITY]] {
            check(&bounds, &[1, 0, 2], 3, false);
        }
        check(&[1.0, 2.0], &[1, 2], 3, false);
        check(&[1.0, 2.0], &[1, 0, 0, 2], 3, false);
        check(&[1.0, 2.0], &[], 0, false);
        check(&[1.0], &[1, 1], 3, false);
        check(&[1.0], &[u64::MAX, 2], 1, false);
    }

    #[test]
    fn histograms_without_buckets_have_one_for_all_measurements() {
        let point = histogram_point(wit::MetricNumber::F64(1.0));
        let (values, _) = accepted(histogram(wit::HistogramDataPoint { bucket_counts: Vec::new(), ..point }));
        let [PointValue::Histogram(histogram)] = values.as_slice() else { panic!("{values:?}") };
        assert_eq!(histogram.buckets, [3]);
    }

    #[test]
    fn histograms_of_measurements_that_are_no_numbers_are_rejected() {
        for sum in [f64::NAN, f64::INFINITY] {
            assert!(accepted(histogram(histogram_point(wit::MetricNumber::F64(sum)))).1.is_some(), "{sum}");
            assert!(accepted(exponential(exponential_point(wit::MetricNumber::F64(sum)))).1.is_some(), "{sum}");
        }
        let none = Some(wit::MetricNumber::F64(f64::NAN));
        let point = histogram_point(wit::MetricNumber::F64(1.0));
        let (values, error) = accepted(histogram(wit::HistogramDataPoint { min: none, max: none, ..point }));
        let [PointValue::Histogram(histogram)] = values.as_slice() else { panic!("{error:?}") };
        assert_eq!((histogram.totals.min, histogram.totals.max), (None, None));
    }

    #[test]
    fn exponential_histograms_with_contradictory_buckets_are_rejected() {
        let valid = || exponential_point(wit::MetricNumber::U64(11));
        let check = |point: wit::ExponentialHistogramDataPoint, is_valid| {
            let shown = format!("{point:?}");
            let (values, error) = accepted(exponential(point));
            assert_eq!((values.len(), error.is_none()), (usize::from(is_valid), is_valid), "{shown}");
        };
        check(valid(), true);
        check(wit::ExponentialHistogramDataPoint { count: 6, ..valid() }, false);
        check(wit::ExponentialHistogramDataPoint { zero_count: u64::MAX, ..valid() }, false);
        check(wit::ExponentialHistogramDataPoint { zero_threshold: f64::NAN, ..valid() }, false);
        check(wit::ExponentialHistogramDataPoint { zero_threshold: -1.0, ..valid() }, false);
        let positive_bucket = wit::ExponentialBucket { offset: 0, counts: vec![0; 1000] };
        check(wit::ExponentialHistogramDataPoint { positive_bucket, ..valid() }, false);
    }

    fn histogram(point: wit::HistogramDataPoint) -> wit::MetricData {
        let (data_points, temporality) = (vec![point], wit::Temporality::Cumulative);
        wit::MetricData::F64Histogram(wit::Histogram { data_points, start_time: TIME, time: TIME, temporality })
    }

    /// Three measurements in one bucket.
    fn histogram_point(sum: wit::MetricNumber) -> wit::HistogramDataPoint {
        let (attributes, exemplars, bounds) = (Vec::new(), Vec::new(), Vec::new());
        let (bucket_counts, min, max) = (vec![3], None, None);
        wit::HistogramDataPoint { attributes, count: 3, bounds, bucket_counts, min, max, sum, exemplars }
    }

    fn exponential(point: wit::ExponentialHistogramDataPoint) -> wit::MetricData {
        let (data_points, temporality) = (vec![point], wit::Temporality::Cumulative);
        let data = wit::ExponentialHistogram { data_points, start_time: TIME, time: TIME, temporality };
        wit::MetricData::F64ExponentialHistogram(data)
    }

    /// Three positive measurements, a negative one, and a zero.
    fn exponential_point(sum: wit::MetricNumber) -> wit::ExponentialHistogramDataPoint {
        wit::ExponentialHistogramDataPoint {
            attributes: Vec::new(),
            count: 5,
            min: None,
            max: None,
            sum,
            scale: 0,
            zero_count: 1,
            positive_bucket: wit::ExponentialBucket { offset: 0, counts: vec![1, 2] },
            negative_bucket: wit::ExponentialBucket { offset: 3, counts: vec![1] },
            zero_threshold: 0.0,
            exemplars: Vec::new(),
        }
    }
}
