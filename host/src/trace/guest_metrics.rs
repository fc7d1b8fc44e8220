//! Metrics of guests' own SDKs, aggregated over all instances of a service.
//!
//! An SDK accumulates from the start of its instance, and instances come and go with the requests. The cumulative
//! values of an instance are therefore converted to deltas, and the series of the service is their sum. A gauge has its
//! last value. The number of series is bounded for each instance and for each service; the memory for the last values
//! of an instance is charged to its account.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::KeyValue;
use thiserror::Error;

use super::guest_limits::{MAX_BUCKETS, MAX_INSTRUMENTS, MAX_SERIES, OVERFLOW_ATTRIBUTE};
use super::resource::Resource;

/// The most series of one instance.
const MAX_INSTANCE_SERIES: usize = MAX_INSTRUMENTS * MAX_SERIES;
/// The memory of a series in addition to its texts and buckets, in bytes.
const SERIES_OVERHEAD: usize = 256;
/// How long the series of a service are exported after its guests have last reported.
const SERIES_EXPIRY: Duration = Duration::from_secs(15 * 60);

/// A value of a number data point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
}

/// The value of a data point, by type of metric.
#[derive(Clone, Debug, PartialEq)]
pub enum PointValue {
    /// A gauge.
    Gauge(Number),
    /// A sum.
    Sum {
        /// The value.
        value: Number,
        /// Whether it is monotonic.
        is_monotonic: bool,
    },
    /// A histogram with explicit bounds.
    Histogram(Histogram),
    /// An exponential histogram.
    ExponentialHistogram(ExponentialHistogram),
}

/// Why a data point is rejected.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PointError {
    /// Added to a series, it would make the sum of the series NaN or infinite.
    #[error("the sum is not a finite number")]
    NotFinite,
    /// A monotonic sum starts at zero and does not decrease.
    #[error("a monotonic sum is negative")]
    NegativeMonotonicSum,
    /// The bounds of a histogram do not divide the numbers into buckets.
    #[error("the bounds are not finite numbers, each greater than the one before")]
    Bounds,
    /// The width of the zero bucket of an exponential histogram is not one.
    #[error("the zero threshold is not a finite number of at least 0")]
    ZeroThreshold,
    /// A histogram has one bucket more than bounds.
    #[error("the number of buckets is not that of the bounds plus one")]
    BucketCount,
    /// A histogram has too many buckets.
    #[error("there are more than {MAX_BUCKETS} buckets")]
    TooManyBuckets,
    /// Each measurement is in one bucket.
    #[error("the counts of the buckets do not add up to the count")]
    Count,
}

/// The fields that all histograms have.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HistogramTotals {
    /// The number of measurements.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The smallest measurement.
    pub min: Option<f64>,
    /// The largest measurement.
    pub max: Option<f64>,
}

/// A histogram with explicit bounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Count, sum, minimum and maximum.
    pub totals: HistogramTotals,
    /// The upper bounds of all buckets but the last.
    pub bounds: Vec<f64>,
    /// The counts of the buckets.
    pub buckets: Vec<u64>,
}

/// An exponential histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExponentialHistogram {
    /// Count, sum, minimum and maximum.
    pub totals: HistogramTotals,
    /// The scale, which determines the width of the buckets.
    pub scale: i32,
    /// The number of measurements that count as zero.
    pub zero_count: u64,
    /// The largest absolute value that counts as zero.
    pub zero_threshold: f64,
    /// Positive measurements: the index of the first bucket, and the counts of the buckets.
    pub positive: (i32, Vec<u64>),
    /// Negative measurements, in the same form.
    pub negative: (i32, Vec<u64>),
}

/// The identity of a series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeriesKey {
    /// The instrumentation scope.
    pub scope: String,
    /// The metric's name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// The attributes as JSON, in order: they distinguish the series of a metric.
    pub attributes: String,
}

/// A data point that a guest has reported.
#[derive(Clone, Debug)]
pub struct GuestPoint {
    /// The series.
    pub key: SeriesKey,
    /// The metric's description.
    pub description: String,
    /// The attributes.
    pub attributes: Vec<KeyValue>,
    /// The value.
    pub value: PointValue,
    /// Whether the value has delta temporality.
    pub is_delta: bool,
}

/// A series of a service, ready for export.
#[derive(Clone, Debug)]
pub struct GuestSeries {
    /// The series.
    pub key: SeriesKey,
    /// The metric's description.
    pub description: String,
    /// The attributes.
    pub attributes: Vec<KeyValue>,
    /// The cumulative value.
    pub value: PointValue,
    /// When a guest has first reported it.
    pub started: SystemTime,
    /// When a guest has last reported it.
    pub time: SystemTime,
}

/// The series of one service, with its Resource.
pub type ServiceSeries = (Arc<Resource>, Vec<GuestSeries>);

impl GuestPoint {
    /// The memory that the last value takes, in bytes. A histogram may still get more buckets.
    fn size(&self) -> usize {
        let SeriesKey { scope, name, unit, attributes } = &self.key;
        let buckets = match &self.value {
            PointValue::Gauge(_) | PointValue::Sum { .. } => 0,
            PointValue::Histogram(_) | PointValue::ExponentialHistogram(_) => MAX_BUCKETS,
        };
        SERIES_OVERHEAD + scope.len() + name.len() + unit.len() + attributes.len() + 2 * buckets * size_of::<u64>()
    }
}

/// The last values of one instance.
#[derive(Debug, Default)]
pub struct InstanceMetrics(BTreeMap<SeriesKey, PointValue>);

impl InstanceMetrics {
    /// Converts cumulative points to deltas. `reserve` is called with the bytes of each new series; if it returns
    /// false, the series is dropped.
    pub fn deltas(&mut self, points: Vec<GuestPoint>, mut reserve: impl FnMut(usize) -> bool) -> Vec<GuestPoint> {
        points.into_iter().filter_map(|point| self.delta(point, &mut reserve)).collect()
    }

    fn delta(&mut self, point: GuestPoint, reserve: &mut impl FnMut(usize) -> bool) -> Option<GuestPoint> {
        if point.is_delta || matches!(point.value, PointValue::Gauge(_)) {
            return Some(point);
        }
        let is_new = !self.0.contains_key(&point.key);
        if is_new && (self.0.len() >= MAX_INSTANCE_SERIES || !reserve(point.size())) {
            return None;
        }
        let before = self.0.insert(point.key.clone(), point.value.clone());
        let value = match &before {
            Some(before) => point.value.delta_since(before),
            None => point.value,
        };
        Some(GuestPoint { value, ..point })
    }
}

/// The series of all services.
#[derive(Default)]
pub(super) struct GuestMetrics(Mutex<BTreeMap<String, ServiceTotals>>);

struct ServiceTotals {
    resource: Arc<Resource>,
    last_reported: Instant,
    series: BTreeMap<SeriesKey, GuestSeries>,
    /// The number of series, by instrument.
    instruments: BTreeMap<Instrument, usize>,
}

/// Scope, name and unit of an instrument.
type Instrument = (String, String, String);

impl GuestMetrics {
    /// Adds deltas of one service.
    pub fn add(&self, resource: &Arc<Resource>, delta: Vec<GuestPoint>) {
        let mut services = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let service = services.entry(resource.name().to_owned()).or_insert_with(|| ServiceTotals {
            resource: resource.clone(),
            last_reported: Instant::now(),
            series: BTreeMap::new(),
            instruments: BTreeMap::new(),
        });
        service.resource = resource.clone();
        service.last_reported = Instant::now();
        delta.into_iter().for_each(|point| service.add(point));
    }

    /// All series, by service.
    pub fn collect(&self) -> Vec<ServiceSeries> {
        let mut services = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        services.retain(|_, service| service.last_reported.elapsed() < SERIES_EXPIRY);
        services
            .values()
            .map(|service| (service.resource.clone(), service.series.values().cloned().collect()))
            .collect()
    }
}

impl ServiceTotals {
    fn add(&mut self, point: GuestPoint) {
        let GuestPoint { mut key, description, mut attributes, value, .. } = point;
        if !self.series.contains_key(&key) {
            let instrument = (key.scope.clone(), key.name.clone(), key.unit.clone());
            let instruments = self.instruments.len();
            match self.instruments.get_mut(&instrument) {
                Some(series) if *series < MAX_SERIES => *series += 1,
                // Attribute sets beyond the limit share the overflow series.
                Some(_) => {
                    attributes = vec![KeyValue::new(OVERFLOW_ATTRIBUTE, true)];
                    key.attributes = OVERFLOW_ATTRIBUTE.to_owned();
                }
                None if instruments >= MAX_INSTRUMENTS => return,
                None => drop(self.instruments.insert(instrument, 1)),
            }
        }
        let now = SystemTime::now();
        if let Some(known) = self.series.get_mut(&key) {
            known.time = now;
            known.value.add(value);
        } else {
            let series = GuestSeries { key: key.clone(), description, attributes, value, started: now, time: now };
            self.series.insert(key, series);
        }
    }
}

impl PointValue {
    /// Checks whether the value can be added to a series. A gauge may have any value, since the next one replaces it.
    pub fn check(&self) -> Result<(), PointError> {
        match self {
            PointValue::Sum { value, .. } if !value.as_f64().is_finite() => Err(PointError::NotFinite),
            PointValue::Sum { value, is_monotonic: true } if value.as_f64() < 0.0 => {
                Err(PointError::NegativeMonotonicSum)
            }
            PointValue::Gauge(_) | PointValue::Sum { .. } => Ok(()),
            PointValue::Histogram(histogram) => histogram.check(),
            PointValue::ExponentialHistogram(exponential) => exponential.check(),
        }
    }

    /// The delta since `before`. If the instrument was reset or has changed, the delta is the whole value.
    fn delta_since(&self, before: &PointValue) -> PointValue {
        match (self, before) {
            (
                PointValue::Sum { value, is_monotonic },
                PointValue::Sum { value: before, is_monotonic: was_monotonic },
            ) if is_monotonic == was_monotonic => {
                let value = if *is_monotonic && value.is_below(*before) { *value } else { value.minus(*before) };
                PointValue::Sum { value, is_monotonic: *is_monotonic }
            }
            (PointValue::Histogram(now), PointValue::Histogram(before)) if now.continues(before) => {
                let buckets = now.buckets.iter().zip(&before.buckets).map(|(now, before)| now.saturating_sub(*before));
                let totals = now.totals.delta_since(before.totals);
                PointValue::Histogram(Histogram { totals, bounds: now.bounds.clone(), buckets: buckets.collect() })
            }
            (PointValue::ExponentialHistogram(now), PointValue::ExponentialHistogram(before))
                if now.continues(before) =>
            {
                PointValue::ExponentialHistogram(ExponentialHistogram {
                    totals: now.totals.delta_since(before.totals),
                    zero_count: now.zero_count.saturating_sub(before.zero_count),
                    positive: combine(&now.positive, &before.positive, u64::saturating_sub),
                    negative: combine(&now.negative, &before.negative, u64::saturating_sub),
                    ..now.clone()
                })
            }
            (now, _) => now.clone(),
        }
    }

    /// Adds a delta. If the type of the metric or its buckets have changed, the delta replaces the value.
    fn add(&mut self, delta: PointValue) {
        match (&mut *self, delta) {
            (PointValue::Sum { value, is_monotonic }, PointValue::Sum { value: delta, is_monotonic: of_delta })
                if *is_monotonic == of_delta =>
            {
                *value = value.plus(delta);
            }
            (PointValue::Histogram(known), PointValue::Histogram(delta)) if known.bounds == delta.bounds => {
                known.totals.add(delta.totals);
                known
                    .buckets
                    .iter_mut()
                    .zip(delta.buckets)
                    .for_each(|(known, delta)| *known = known.saturating_add(delta));
            }
            (PointValue::ExponentialHistogram(known), PointValue::ExponentialHistogram(delta))
                if known.scale == delta.scale =>
            {
                known.totals.add(delta.totals);
                known.zero_count = known.zero_count.saturating_add(delta.zero_count);
                known.positive = combine(&known.positive, &delta.positive, u64::saturating_add);
                known.negative = combine(&known.negative, &delta.negative, u64::saturating_add);
            }
            (known, delta) => *known = delta,
        }
    }
}

impl Number {
    fn is_below(self, other: Number) -> bool {
        match (self, other) {
            (Number::Int(one), Number::Int(other)) => one < other,
            (one, other) => one.as_f64() < other.as_f64(),
        }
    }

    fn minus(self, other: Number) -> Number {
        match (self, other) {
            (Number::Int(one), Number::Int(other)) => Number::Int(one.saturating_sub(other)),
            (one, other) => Number::Double(saturated(one.as_f64() - other.as_f64())),
        }
    }

    fn plus(self, other: Number) -> Number {
        match (self, other) {
            (Number::Int(one), Number::Int(other)) => Number::Int(one.saturating_add(other)),
            (one, other) => Number::Double(saturated(one.as_f64() + other.as_f64())),
        }
    }

    /// The number as `f64`.
    pub fn as_f64(self) -> f64 {
        match self {
            Number::Int(number) => number as f64,
            Number::Double(number) => number,
        }
    }
}

/// The largest or smallest finite number instead of an infinite one. Sums of finite numbers overflow to infinity, and the
/// difference of infinities is NaN, which a sum would keep forever.
fn saturated(sum: f64) -> f64 {
    sum.clamp(f64::MIN, f64::MAX)
}

impl HistogramTotals {
    /// Checks the totals against the counts of all buckets.
    fn check<'a>(&self, counts: impl IntoIterator<Item = &'a u64>) -> Result<(), PointError> {
        if !self.sum.is_finite() {
            return Err(PointError::NotFinite);
        }
        let total = counts.into_iter().try_fold(0_u64, |total, count| total.checked_add(*count));
        if total == Some(self.count) { Ok(()) } else { Err(PointError::Count) }
    }

    fn delta_since(self, before: HistogramTotals) -> HistogramTotals {
        HistogramTotals {
            count: self.count.saturating_sub(before.count),
            sum: saturated(self.sum - before.sum),
            ..self
        }
    }

    fn add(&mut self, delta: HistogramTotals) {
        self.count = self.count.saturating_add(delta.count);
        self.sum = saturated(self.sum + delta.sum);
        self.min = [self.min, delta.min].into_iter().flatten().reduce(f64::min);
        self.max = [self.max, delta.max].into_iter().flatten().reduce(f64::max);
    }
}

impl Histogram {
    fn check(&self) -> Result<(), PointError> {
        let is_ascending = self.bounds.is_sorted_by(|lower, upper| lower < upper);
        if !is_ascending || !self.bounds.iter().all(|bound| bound.is_finite()) {
            return Err(PointError::Bounds);
        }
        if self.buckets.len() != self.bounds.len() + 1 {
            return Err(PointError::BucketCount);
        }
        if self.buckets.len() > MAX_BUCKETS {
            return Err(PointError::TooManyBuckets);
        }
        self.totals.check(&self.buckets)
    }

    /// Whether no bucket has decreased, as it does when the instrument is reset.
    fn continues(&self, before: &Histogram) -> bool {
        self.bounds == before.bounds && self.buckets.iter().zip(&before.buckets).all(|(now, before)| now >= before)
    }
}

impl ExponentialHistogram {
    fn check(&self) -> Result<(), PointError> {
        if !self.zero_threshold.is_finite() || self.zero_threshold < 0.0 {
            return Err(PointError::ZeroThreshold);
        }
        if [&self.positive, &self.negative].iter().any(|(_, counts)| counts.len() > MAX_BUCKETS) {
            return Err(PointError::TooManyBuckets);
        }
        self.totals.check(self.positive.1.iter().chain(&self.negative.1).chain([&self.zero_count]))
    }

    /// Whether no bucket has decreased, as it does when the instrument is reset.
    fn continues(&self, before: &ExponentialHistogram) -> bool {
        self.scale == before.scale
            && self.zero_count >= before.zero_count
            && includes(&self.positive, &before.positive)
            && includes(&self.negative, &before.negative)
    }
}

/// Whether each bucket has at least the count that it has in `before`.
fn includes(now: &(i32, Vec<u64>), before: &(i32, Vec<u64>)) -> bool {
    let indexes = (i64::from(before.0)..).zip(&before.1);
    indexes.into_iter().all(|(index, count)| count_at(now, index) >= *count)
}

/// The count of the bucket at an index.
fn count_at((first, counts): &(i32, Vec<u64>), index: i64) -> u64 {
    let position = usize::try_from(index - i64::from(*first)).ok();
    position.and_then(|position| counts.get(position)).copied().unwrap_or(0)
}

/// Combines two ranges of buckets, index by index. If the result would be too long, the first one stays unchanged.
fn combine(one: &(i32, Vec<u64>), other: &(i32, Vec<u64>), with: fn(u64, u64) -> u64) -> (i32, Vec<u64>) {
    if one.1.is_empty() || other.1.is_empty() {
        let kept = if one.1.is_empty() { other } else { one };
        // Subtracting from an empty bucket yields zero.
        let counts = kept.1.iter().map(|count| if one.1.is_empty() { with(0, *count) } else { *count });
        return (kept.0, counts.collect());
    }
    let end = |buckets: &(i32, Vec<u64>)| i64::from(buckets.0) + buckets.1.len() as i64;
    let (start, end) = (one.0.min(other.0), end(one).max(end(other)));
    let Some(length) = usize::try_from(end - i64::from(start)).ok().filter(|length| *length <= MAX_BUCKETS) else {
        return one.clone();
    };
    let indexes = (i64::from(start)..).take(length);
    (start, indexes.map(|index| with(count_at(one, index), count_at(other, index))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(value: PointValue, is_delta: bool) -> GuestPoint {
        let text = String::new;
        let key = SeriesKey { scope: text(), name: "orders".to_owned(), unit: text(), attributes: text() };
        GuestPoint { key, description: text(), attributes: Vec::new(), value, is_delta }
    }

    fn sum(value: i64) -> PointValue {
        PointValue::Sum { value: Number::Int(value), is_monotonic: true }
    }

    fn histogram(buckets: [u64; 2]) -> PointValue {
        let count = buckets.iter().sum();
        let totals = HistogramTotals { count, sum: count as f64, min: Some(1.0), max: Some(2.0) };
        PointValue::Histogram(Histogram { totals, bounds: vec![1.5], buckets: buckets.to_vec() })
    }

    fn exponential(offset: i32, counts: &[u64]) -> PointValue {
        let totals = HistogramTotals { count: counts.iter().sum(), ..HistogramTotals::default() };
        let positive = (offset, counts.to_vec());
        PointValue::ExponentialHistogram(ExponentialHistogram { totals, positive, ..ExponentialHistogram::default() })
    }

    fn exported(instances: &[&[PointValue]]) -> PointValue {
        let (all, resource) = (GuestMetrics::default(), Resource::new("s", "1", &[]));
        for reported in instances {
            let mut instance = InstanceMetrics::default();
            for value in *reported {
                all.add(&resource, instance.deltas(vec![point(value.clone(), false)], |_| true));
            }
        }
        all.collect().remove(0).1.remove(0).value
    }

    #[test]
    fn values_of_instances_add_up_to_the_value_of_the_service() {
        assert_eq!(exported(&[&[sum(1), sum(3)], &[sum(2)]]), sum(5));
        assert_eq!(exported(&[&[histogram([1, 0]), histogram([1, 2])], &[histogram([0, 1])]]), histogram([1, 3]));
    }

    #[test]
    fn a_reset_of_a_guest_does_not_reduce_the_sum() {
        assert_eq!(exported(&[&[sum(5), sum(2)]]), sum(7));
    }

    #[test]
    fn a_histogram_whose_bucket_decreases_was_reset() {
        assert_eq!(exported(&[&[histogram([5, 0]), histogram([0, 6])]]), histogram([5, 6]));
        let both = [exponential(0, &[5]), exponential(1, &[6])];
        assert_eq!(exported(&[&both]), exponential(0, &[5, 6]));
    }

    #[test]
    fn a_counter_that_becomes_an_up_down_counter_replaces_the_series() {
        let up_down = |value| PointValue::Sum { value: Number::Int(value), is_monotonic: false };
        assert_eq!(exported(&[&[sum(5)], &[up_down(-7)]]), up_down(-7));
        assert_eq!(exported(&[&[up_down(-7), sum(5)]]), sum(5));
    }

    #[test]
    fn sums_stay_finite() {
        let sum = |value| PointValue::Sum { value: Number::Double(value), is_monotonic: false };
        let largest = [sum(f64::MAX), sum(f64::MIN), sum(f64::MAX)];
        let PointValue::Sum { value, .. } = exported(&[&largest, &largest]) else { panic!("a sum") };
        assert!(value.as_f64().is_finite(), "{value:?}");
    }

    #[test]
    fn a_gauge_has_its_last_value() {
        let gauge = |value| PointValue::Gauge(Number::Double(value));
        assert_eq!(exported(&[&[gauge(1.0)], &[gauge(0.5)]]), gauge(0.5));
    }

    #[test]
    fn exponential_buckets_are_merged_by_index() {
        let expected = exponential(-1, &[1, 1, 3]);
        assert_eq!(exported(&[&[exponential(0, &[1, 2])], &[exponential(-1, &[1, 0, 1])]]), expected);
    }

    #[test]
    fn the_series_of_a_guest_are_bounded() {
        let (all, resource) = (GuestMetrics::default(), Resource::new("s", "1", &[]));
        let mut instance = InstanceMetrics::default();
        for number in 0..3 * MAX_SERIES {
            let mut point = point(sum(1), true);
            point.key.attributes = number.to_string();
            all.add(&resource, instance.deltas(vec![point], |_| true));
        }
        let series = all.collect().remove(0).1;
        assert_eq!(series.len(), MAX_SERIES + 1);
        let rest =
            series.iter().find(|series| series.key.attributes == OVERFLOW_ATTRIBUTE).expect("the overflow series");
        assert_eq!((&rest.value, rest.attributes[0].key.as_str()), (&sum(2 * MAX_SERIES as i64), OVERFLOW_ATTRIBUTE));
        for number in 0..2 * MAX_INSTRUMENTS {
            let mut point = point(sum(1), true);
            point.key.name = format!("orders.{number}");
            all.add(&resource, instance.deltas(vec![point], |_| true));
        }
        assert_eq!(all.collect()[0].1.len(), MAX_SERIES + MAX_INSTRUMENTS);
    }

    #[test]
    fn the_last_values_of_an_instance_are_charged() {
        let (mut instance, mut available) = (InstanceMetrics::default(), 10 * SERIES_OVERHEAD);
        let mut reserve = |bytes: usize| {
            let fits = bytes <= available;
            available -= if fits { bytes } else { 0 };
            fits
        };
        let mut kept = 0;
        for number in 0..100 {
            let mut point = point(sum(1), false);
            point.key.attributes = number.to_string();
            kept += instance.deltas(vec![point.clone()], &mut reserve).len();
            kept += instance.deltas(vec![point], |_| false).len();
        }
        assert!((10..=20).contains(&kept), "{kept}");
        assert_eq!(instance.0.len(), kept / 2, "a known series is not charged again");
    }
}
