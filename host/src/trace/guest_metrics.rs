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

use super::exponential_histogram::ExponentialHistogram;
use super::guest_limits::{MAX_BUCKETS, MAX_INSTRUMENTS, MAX_SERIES, OVERFLOW_ATTRIBUTE};
use super::histogram::{Histogram, saturated};
use super::point_error::PointError;
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
            (PointValue::Histogram(now), PointValue::Histogram(before)) => {
                PointValue::Histogram(now.delta_since(before))
            }
            (PointValue::ExponentialHistogram(now), PointValue::ExponentialHistogram(before)) => {
                PointValue::ExponentialHistogram(now.delta_since(before))
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
                known.add(&delta);
            }
            (PointValue::ExponentialHistogram(known), PointValue::ExponentialHistogram(delta)) => known.add(&delta),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::histogram::HistogramTotals;

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

    fn at_scale(scale: i32, value: PointValue) -> PointValue {
        let PointValue::ExponentialHistogram(histogram) = value else { panic!("{value:?}") };
        PointValue::ExponentialHistogram(ExponentialHistogram { scale, ..histogram })
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
    fn exponential_histograms_of_different_scales_are_merged_at_the_lower_one() {
        let (fine, coarse) = ([at_scale(1, exponential(0, &[1, 2]))], [exponential(-1, &[3, 1])]);
        assert_eq!(exported(&[&fine, &coarse]), exponential(-1, &[3, 4]));
        assert_eq!(exported(&[&coarse, &fine]), exponential(-1, &[3, 4]));
        let [fine] = fine;
        assert_eq!(exported(&[&[fine, exponential(0, &[3, 1])]]), exponential(0, &[3, 1]), "one SDK counts each once");
    }

    #[test]
    fn exponential_buckets_that_are_far_apart_are_merged_at_a_scale_at_which_they_fit() {
        for far in [1000, i32::MAX, i32::MIN] {
            let sum = exported(&[&[exponential(0, &[1, 2])], &[exponential(far, &[4])]]);
            let PointValue::ExponentialHistogram(sum) = sum else { panic!("{sum:?}") };
            assert_eq!((sum.totals.count, sum.positive.1.iter().sum::<u64>()), (7, 7), "{far}");
            assert!(sum.positive.1.len() <= MAX_BUCKETS, "{far}");
        }
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
