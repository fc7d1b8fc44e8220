//! Metrics that guests' own SDKs export, added up over all instances of a service.
//!
//! An SDK counts from its instance's own beginning, and instances come and go with the requests. What an instance says is
//! therefore turned into what is new in it, and the service's series is the sum of that. A gauge is what was said last.
//! The number of series is bounded, for an instance and for a service; what an instance has said is held on its account.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::KeyValue;

use super::guest_bounds::{BUCKETS, INSTRUMENTS, OVERFLOW, SERIES};
use super::resource::Resource;

/// The most series of one instance.
const OF_INSTANCE: usize = INSTRUMENTS * SERIES;
/// What a series takes besides its texts and its buckets, in bytes.
const AROUND: usize = 256;
/// How long the series of a service are exported after a guest has said something about them last.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);

/// A number as an instrument counts it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Of an instrument of integers.
    Int(i64),
    /// Of an instrument of floating-point numbers.
    Double(f64),
}

/// What a series measures.
#[derive(Clone, Debug, PartialEq)]
pub enum Measured {
    /// A value that stands for itself.
    Gauge(Number),
    /// A value that adds up.
    Sum {
        /// The value.
        value: Number,
        /// Whether it only grows.
        is_monotonic: bool,
    },
    /// A distribution over buckets.
    Histogram(Histogram),
    /// A distribution over buckets of exponential width.
    Exponential(Exponential),
}

/// What every distribution has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// How many measurements.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The least of them.
    pub min: Option<f64>,
    /// The largest of them.
    pub max: Option<f64>,
}

/// A distribution over buckets with explicit bounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Count, sum, least and largest.
    pub totals: Totals,
    /// The upper bounds of all buckets but the last.
    pub bounds: Vec<f64>,
    /// Measurements by bucket.
    pub buckets: Vec<u64>,
}

/// A distribution over buckets of exponential width.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exponential {
    /// Count, sum, least and largest.
    pub totals: Totals,
    /// Says how wide the buckets are.
    pub scale: i32,
    /// Measurements that count as zero.
    pub zeros: u64,
    /// What counts as zero.
    pub zero_threshold: f64,
    /// The index of the first bucket and the measurements by bucket, above zero.
    pub positive: (i32, Vec<u64>),
    /// The same below zero.
    pub negative: (i32, Vec<u64>),
}

/// Which series a measurement belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeriesKey {
    /// The instrumentation scope.
    pub scope: String,
    /// The metric's name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// The attributes as JSON, in order: what tells series of one metric apart.
    pub attributes: String,
}

/// What a guest said of one series.
#[derive(Clone, Debug)]
pub struct GuestPoint {
    /// The series.
    pub key: SeriesKey,
    /// The metric's description.
    pub description: String,
    /// The attributes.
    pub attributes: Vec<KeyValue>,
    /// What it measures.
    pub measured: Measured,
    /// Whether the guest said only what is new.
    pub is_delta: bool,
}

/// A series of a service as it is exported.
#[derive(Clone, Debug)]
pub struct GuestSeries {
    /// The series.
    pub key: SeriesKey,
    /// The metric's description.
    pub description: String,
    /// The attributes.
    pub attributes: Vec<KeyValue>,
    /// What it measures, from the beginning.
    pub measured: Measured,
    /// When a guest said something of it first.
    pub began: SystemTime,
    /// When a guest said something of it last.
    pub time: SystemTime,
}

/// What the guests of one service have said.
pub type SeriesOfService = (Arc<Resource>, Vec<GuestSeries>);

impl GuestPoint {
    /// What an instance that has said it takes in the host's memory, in bytes. A histogram may yet get more buckets.
    fn size(&self) -> usize {
        let SeriesKey { scope, name, unit, attributes } = &self.key;
        let buckets = match &self.measured {
            Measured::Gauge(_) | Measured::Sum { .. } => 0,
            Measured::Histogram(_) | Measured::Exponential(_) => BUCKETS,
        };
        AROUND + scope.len() + name.len() + unit.len() + attributes.len() + 2 * buckets * size_of::<u64>()
    }
}

/// What one instance has said so far.
#[derive(Debug, Default)]
pub struct InstanceMetrics(BTreeMap<SeriesKey, Measured>);

impl InstanceMetrics {
    /// Turns what the instance says into what is new in it. `hold` is asked for room for each new series, in bytes; what
    /// finds none is left out.
    pub fn news(&mut self, points: Vec<GuestPoint>, mut hold: impl FnMut(usize) -> bool) -> Vec<GuestPoint> {
        points.into_iter().filter_map(|point| self.news_of(point, &mut hold)).collect()
    }

    fn news_of(&mut self, point: GuestPoint, hold: &mut impl FnMut(usize) -> bool) -> Option<GuestPoint> {
        if point.is_delta || matches!(point.measured, Measured::Gauge(_)) {
            return Some(point);
        }
        let is_new = !self.0.contains_key(&point.key);
        if is_new && (self.0.len() >= OF_INSTANCE || !hold(point.size())) {
            return None;
        }
        let before = self.0.insert(point.key.clone(), point.measured.clone());
        let measured = match &before {
            Some(before) => point.measured.since(before),
            None => point.measured,
        };
        Some(GuestPoint { measured, ..point })
    }
}

/// The series of all services.
#[derive(Default)]
pub(super) struct GuestMetrics(Mutex<BTreeMap<String, OfService>>);

struct OfService {
    resource: Arc<Resource>,
    heard: Instant,
    series: BTreeMap<SeriesKey, GuestSeries>,
    /// How many series each instrument has.
    instruments: BTreeMap<Instrument, usize>,
}

/// Scope, name and unit.
type Instrument = (String, String, String);

impl GuestMetrics {
    /// Adds what is new.
    pub fn add(&self, resource: &Arc<Resource>, news: Vec<GuestPoint>) {
        let mut services = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_service = services.entry(resource.name().to_owned()).or_insert_with(|| OfService {
            resource: resource.clone(),
            heard: Instant::now(),
            series: BTreeMap::new(),
            instruments: BTreeMap::new(),
        });
        of_service.resource = resource.clone();
        of_service.heard = Instant::now();
        news.into_iter().for_each(|point| of_service.add(point));
    }

    /// Every series, by service.
    pub fn collect(&self) -> Vec<SeriesOfService> {
        let mut services = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        services.retain(|_, service| service.heard.elapsed() < FORGOTTEN);
        services
            .values()
            .map(|service| (service.resource.clone(), service.series.values().cloned().collect()))
            .collect()
    }
}

impl OfService {
    fn add(&mut self, point: GuestPoint) {
        let GuestPoint { mut key, description, mut attributes, measured, .. } = point;
        if !self.series.contains_key(&key) {
            let instrument = (key.scope.clone(), key.name.clone(), key.unit.clone());
            let instruments = self.instruments.len();
            match self.instruments.get_mut(&instrument) {
                Some(series) if *series < SERIES => *series += 1,
                // What does not fit shares a series.
                Some(_) => {
                    attributes = vec![KeyValue::new(OVERFLOW, true)];
                    key.attributes = OVERFLOW.to_owned();
                }
                None if instruments >= INSTRUMENTS => return,
                None => drop(self.instruments.insert(instrument, 1)),
            }
        }
        let now = SystemTime::now();
        if let Some(known) = self.series.get_mut(&key) {
            known.time = now;
            known.measured.add(measured);
        } else {
            let series = GuestSeries { key: key.clone(), description, attributes, measured, began: now, time: now };
            self.series.insert(key, series);
        }
    }
}

impl Measured {
    /// What is new since `before`. Where the guest began anew, all of it is.
    fn since(&self, before: &Measured) -> Measured {
        match (self, before) {
            (Measured::Sum { value, is_monotonic }, Measured::Sum { value: before, .. }) => {
                let value = if *is_monotonic && value.is_below(*before) { *value } else { value.minus(*before) };
                Measured::Sum { value, is_monotonic: *is_monotonic }
            }
            (Measured::Histogram(now), Measured::Histogram(before)) if now.goes_on(before) => {
                let buckets = now.buckets.iter().zip(&before.buckets).map(|(now, before)| now.saturating_sub(*before));
                let totals = now.totals.since(before.totals);
                Measured::Histogram(Histogram { totals, bounds: now.bounds.clone(), buckets: buckets.collect() })
            }
            (Measured::Exponential(now), Measured::Exponential(before)) if now.goes_on(before) => {
                Measured::Exponential(Exponential {
                    totals: now.totals.since(before.totals),
                    zeros: now.zeros.saturating_sub(before.zeros),
                    positive: combine(&now.positive, &before.positive, u64::saturating_sub),
                    negative: combine(&now.negative, &before.negative, u64::saturating_sub),
                    ..now.clone()
                })
            }
            (now, _) => now.clone(),
        }
    }

    /// Adds what is new. Where it measures something else from now on, it takes the place of what was.
    fn add(&mut self, news: Measured) {
        match (&mut *self, news) {
            (Measured::Sum { value, .. }, Measured::Sum { value: news, .. }) => *value = value.plus(news),
            (Measured::Histogram(known), Measured::Histogram(news)) if known.bounds == news.bounds => {
                known.totals.add(news.totals);
                known
                    .buckets
                    .iter_mut()
                    .zip(news.buckets)
                    .for_each(|(known, news)| *known = known.saturating_add(news));
            }
            (Measured::Exponential(known), Measured::Exponential(news)) if known.scale == news.scale => {
                known.totals.add(news.totals);
                known.zeros = known.zeros.saturating_add(news.zeros);
                known.positive = combine(&known.positive, &news.positive, u64::saturating_add);
                known.negative = combine(&known.negative, &news.negative, u64::saturating_add);
            }
            (known, news) => *known = news,
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
            (one, other) => Number::Double(one.as_f64() - other.as_f64()),
        }
    }

    fn plus(self, other: Number) -> Number {
        match (self, other) {
            (Number::Int(one), Number::Int(other)) => Number::Int(one.saturating_add(other)),
            (one, other) => Number::Double(one.as_f64() + other.as_f64()),
        }
    }

    /// The number as a floating-point one.
    pub fn as_f64(self) -> f64 {
        match self {
            Number::Int(number) => number as f64,
            Number::Double(number) => number,
        }
    }
}

impl Totals {
    fn since(self, before: Totals) -> Totals {
        Totals { count: self.count.saturating_sub(before.count), sum: self.sum - before.sum, ..self }
    }

    fn add(&mut self, news: Totals) {
        self.count = self.count.saturating_add(news.count);
        self.sum += news.sum;
        self.min = [self.min, news.min].into_iter().flatten().reduce(f64::min);
        self.max = [self.max, news.max].into_iter().flatten().reduce(f64::max);
    }
}

impl Histogram {
    fn goes_on(&self, before: &Histogram) -> bool {
        self.bounds == before.bounds && self.totals.count >= before.totals.count
    }

    /// Whether buckets and bounds fit each other and are not too many.
    pub fn is_sound(&self) -> bool {
        self.buckets.len() <= BUCKETS && self.buckets.len() == self.bounds.len() + 1
    }
}

impl Exponential {
    fn goes_on(&self, before: &Exponential) -> bool {
        self.scale == before.scale && self.totals.count >= before.totals.count
    }

    /// Whether the buckets are not too many.
    pub fn is_sound(&self) -> bool {
        [&self.positive, &self.negative].into_iter().all(|(_, counts)| counts.len() <= BUCKETS)
    }
}

/// Combines two runs of buckets index by index. A run that would be too long stays as the first one is.
fn combine(one: &(i32, Vec<u64>), other: &(i32, Vec<u64>), with: fn(u64, u64) -> u64) -> (i32, Vec<u64>) {
    if one.1.is_empty() || other.1.is_empty() {
        let kept = if one.1.is_empty() { other } else { one };
        // Nothing less something is nothing.
        let counts = kept.1.iter().map(|count| if one.1.is_empty() { with(0, *count) } else { *count });
        return (kept.0, counts.collect());
    }
    let end = |run: &(i32, Vec<u64>)| i64::from(run.0) + run.1.len() as i64;
    let (start, end) = (one.0.min(other.0), end(one).max(end(other)));
    let Some(length) = usize::try_from(end - i64::from(start)).ok().filter(|length| *length <= BUCKETS) else {
        return one.clone();
    };
    let at = |run: &(i32, Vec<u64>), index: i64| {
        let position = usize::try_from(index - i64::from(run.0)).ok();
        position.and_then(|position| run.1.get(position)).copied().unwrap_or(0)
    };
    let counts =
        (0..length as i64).map(|step| i64::from(start) + step).map(|index| with(at(one, index), at(other, index)));
    (start, counts.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(measured: Measured, is_delta: bool) -> GuestPoint {
        let text = String::new;
        let key = SeriesKey { scope: text(), name: "orders".to_owned(), unit: text(), attributes: text() };
        GuestPoint { key, description: text(), attributes: Vec::new(), measured, is_delta }
    }

    fn sum(value: i64) -> Measured {
        Measured::Sum { value: Number::Int(value), is_monotonic: true }
    }

    fn histogram(buckets: [u64; 2]) -> Measured {
        let count = buckets.iter().sum();
        let totals = Totals { count, sum: count as f64, min: Some(1.0), max: Some(2.0) };
        Measured::Histogram(Histogram { totals, bounds: vec![1.5], buckets: buckets.to_vec() })
    }

    fn exported(instances: &[&[Measured]]) -> Measured {
        let (all, resource) = (GuestMetrics::default(), Resource::new("s", "1", &[]));
        for said in instances {
            let mut instance = InstanceMetrics::default();
            for measured in *said {
                all.add(&resource, instance.news(vec![point(measured.clone(), false)], |_| true));
            }
        }
        all.collect().remove(0).1.remove(0).measured
    }

    #[test]
    fn what_instances_count_for_themselves_adds_up_to_what_the_service_counts() {
        assert_eq!(exported(&[&[sum(1), sum(3)], &[sum(2)]]), sum(5));
        assert_eq!(exported(&[&[histogram([1, 0]), histogram([1, 2])], &[histogram([0, 1])]]), histogram([1, 3]));
    }

    #[test]
    fn a_guest_that_begins_anew_takes_nothing_away() {
        assert_eq!(exported(&[&[sum(5), sum(2)]]), sum(7));
    }

    #[test]
    fn a_gauge_is_what_was_said_last() {
        let gauge = |value| Measured::Gauge(Number::Double(value));
        assert_eq!(exported(&[&[gauge(1.0)], &[gauge(0.5)]]), gauge(0.5));
    }

    #[test]
    fn exponential_buckets_meet_at_their_indices() {
        let exponential = |offset, counts: &[u64]| {
            let totals = Totals { count: counts.iter().sum(), ..Totals::default() };
            Measured::Exponential(Exponential { totals, positive: (offset, counts.to_vec()), ..Exponential::default() })
        };
        let expected = exponential(-1, &[1, 1, 3]);
        assert_eq!(exported(&[&[exponential(0, &[1, 2])], &[exponential(-1, &[1, 0, 1])]]), expected);
    }

    #[test]
    fn a_guest_may_not_make_series_without_end() {
        let (all, resource) = (GuestMetrics::default(), Resource::new("s", "1", &[]));
        let mut instance = InstanceMetrics::default();
        for number in 0..3 * SERIES {
            let mut point = point(sum(1), true);
            point.key.attributes = number.to_string();
            all.add(&resource, instance.news(vec![point], |_| true));
        }
        let series = all.collect().remove(0).1;
        assert_eq!(series.len(), SERIES + 1);
        let rest = series.iter().find(|series| series.key.attributes == OVERFLOW).expect("what does not fit");
        assert_eq!((&rest.measured, rest.attributes[0].key.as_str()), (&sum(2 * SERIES as i64), OVERFLOW));
        for number in 0..2 * INSTRUMENTS {
            let mut point = point(sum(1), true);
            point.key.name = format!("orders.{number}");
            all.add(&resource, instance.news(vec![point], |_| true));
        }
        assert_eq!(all.collect()[0].1.len(), SERIES + INSTRUMENTS);
    }

    #[test]
    fn what_an_instance_has_said_takes_room() {
        let (mut instance, mut room) = (InstanceMetrics::default(), 10 * AROUND);
        let mut hold = |bytes: usize| {
            let fits = bytes <= room;
            room -= if fits { bytes } else { 0 };
            fits
        };
        let mut kept = 0;
        for number in 0..100 {
            let mut point = point(sum(1), false);
            point.key.attributes = number.to_string();
            kept += instance.news(vec![point.clone()], &mut hold).len();
            kept += instance.news(vec![point], |_| false).len();
        }
        assert!((10..=20).contains(&kept), "{kept}");
        assert_eq!(instance.0.len(), kept / 2, "a series that is there takes no more room");
    }
}
