//! A service's custom instruments: counters and histograms that its component creates, and the rules for names and
//! labels, which also apply to metrics of a guest's own SDK.
//!
//! Names, labels and their number come from guests, so all are bounded: [`MAX_INSTRUMENTS`] per service, [`MAX_SERIES`] per
//! instrument (further ones share the series `otel.metric.overflow`), [`MAX_LABELS`] per measurement. An instrument lives
//! as long as its service's metrics: all versions of a component share it.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use opentelemetry::{
    KeyValue,
    metrics::{BoundCounter, BoundHistogram, Counter, Histogram, Meter},
};
use thiserror::Error;

use super::{
    labels::cut,
    prometheus::format::Kind,
    prometheus::name::{family as family_name, label as label_name},
    reader::HTTP_BUCKETS,
    table::{SeriesKey, SeriesMap, Table},
};
use crate::trace::PointValue;
use crate::trace::guest_limits::{
    MAX_BUCKETS, MAX_INSTRUMENTS, MAX_LABELS, MAX_NAME_BYTES, MAX_SERIES, MAX_TEXT_BYTES, OVERFLOW_ATTRIBUTE,
};

/// Reserved first words of names: the host and the Prometheus page use them.
const RESERVED: [&str; 7] = ["http", "otel", "process", "scrape", "spandrel", "target", "up"];
/// Reserved names of the host that start with other words.
const RESERVED_NAMES: [&str; 2] = ["memory_usage_mb", "cpu_usage_percent"];

/// Why an instrument is rejected.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InstrumentError {
    /// The name, the unit or the boundaries are invalid, or the name is used for another instrument.
    #[error("{0}")]
    Invalid(String),
    /// The service has reached its limit of instruments.
    #[error("a service may create at most {MAX_INSTRUMENTS} instruments")]
    TooMany,
}

/// The description of an instrument that a component creates.
#[derive(Clone, Debug)]
pub struct InstrumentDescription<'a> {
    /// The name, as OpenTelemetry writes it: `shop.orders`.
    pub name: &'a str,
    /// The unit, in UCUM; empty if there is none.
    pub unit: &'a str,
    /// The description, one sentence.
    pub description: &'a str,
}

/// A label as the component passes it.
pub type Label<'a> = (&'a str, &'a str);

/// The instruments that a service's component has created.
pub(super) struct GuestMetrics {
    meter: Meter,
    instruments: ArcSwap<Vec<Arc<Instrument>>>,
    growth_lock: Mutex<()>,
}

struct Instrument {
    name: String,
    unit: String,
    /// The name on the Prometheus page, which must be unique.
    family: String,
    series: Series,
}

enum Series {
    Counter(Counter<u64>, Table<Labels<'static>, BoundCounter<u64>>),
    Histogram(Vec<f64>, Histogram<f64>, Table<Labels<'static>, BoundHistogram<f64>>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Labels<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl SeriesKey for Labels<'_> {
    type Stored = Labels<'static>;

    fn find<'m, V>(&'m self, series: &'m SeriesMap<Labels<'static>, V>) -> Option<&'m V> {
        series.get(self)
    }

    fn to_stored(&self) -> Labels<'static> {
        let owned = |text: &Cow<'_, str>| Cow::Owned(text.to_string());
        Labels(self.0.iter().map(|(key, value)| (owned(key), owned(value))).collect())
    }

    fn overflow(&self) -> Labels<'static> {
        Labels(vec![(Cow::Borrowed(OVERFLOW_ATTRIBUTE), Cow::Borrowed("true"))])
    }
}

impl<'a> Labels<'a> {
    /// The labels of a measurement that are kept. Of duplicate keys the first value counts.
    fn of(given: &[Label<'a>]) -> Labels<'a> {
        let usable = given.iter().filter(|(key, _)| is_label(key)).take(MAX_LABELS);
        let mut labels: Vec<_> =
            usable.map(|(key, value)| (Cow::Borrowed(*key), Cow::Borrowed(cut(value, MAX_TEXT_BYTES)))).collect();
        labels.sort_by(|(one, _), (other, _)| one.cmp(other));
        labels.dedup_by(|(later, _), (earlier, _)| later == earlier);
        Labels(labels)
    }

    fn attributes(&self) -> Vec<KeyValue> {
        let attribute = |(key, value): &(Cow<'_, str>, Cow<'_, str>)| match &**key {
            OVERFLOW_ATTRIBUTE => KeyValue::new(OVERFLOW_ATTRIBUTE, true),
            key => KeyValue::new(key.to_owned(), value.to_string()),
        };
        self.0.iter().map(attribute).collect()
    }
}

impl GuestMetrics {
    pub(super) fn new(meter: Meter) -> GuestMetrics {
        GuestMetrics { meter, instruments: ArcSwap::default(), growth_lock: Mutex::new(()) }
    }

    /// The counter of this name, created if it does not exist.
    pub(super) fn counter(&self, instrument: &InstrumentDescription<'_>) -> Result<u32, InstrumentError> {
        let family = check(instrument, Kind::Counter)?;
        self.instrument(
            instrument,
            family,
            |series| matches!(series, Series::Counter(..)),
            |meter| {
                let counter = meter.u64_counter(instrument.name.to_owned());
                let counter = counter.with_unit(instrument.unit.to_owned()).with_description(description(instrument));
                Series::Counter(counter.build(), Table::new(MAX_SERIES))
            },
        )
    }

    /// The histogram of this name, created if it does not exist. Without boundaries it gets those for durations if its
    /// unit is seconds, and the SDK's defaults otherwise.
    pub(super) fn histogram(
        &self,
        instrument: &InstrumentDescription<'_>,
        boundaries: &[f64],
    ) -> Result<u32, InstrumentError> {
        let family = check(instrument, Kind::Histogram)?;
        check_boundaries(instrument.name, boundaries)?;
        let is_same = |series: &Series| matches!(series, Series::Histogram(known, ..) if known == boundaries);
        self.instrument(instrument, family, is_same, |meter| {
            let histogram = meter.f64_histogram(instrument.name.to_owned());
            let histogram = histogram.with_unit(instrument.unit.to_owned()).with_description(description(instrument));
            let histogram = match boundaries {
                [] if instrument.unit == "s" => histogram.with_boundaries(HTTP_BUCKETS.to_vec()),
                [] => histogram,
                _ => histogram.with_boundaries(boundaries.to_vec()),
            };
            Series::Histogram(boundaries.to_vec(), histogram.build(), Table::new(MAX_SERIES))
        })
    }

    /// Adds to a counter.
    pub(super) fn add(&self, instrument: u32, value: u64, labels: &[Label<'_>]) {
        let instruments = self.instruments.load();
        let Some(instrument) = instruments.get(instrument as usize) else { return };
        if let Series::Counter(counter, series) = &instrument.series {
            let labels = Labels::of(labels);
            series.with(&labels, |labels| counter.bind(&labels.attributes()), |series| series.add(value));
        }
    }

    /// Records a value in a histogram. Non-finite numbers would make the sum unusable and are dropped.
    pub(super) fn record(&self, instrument: u32, value: f64, labels: &[Label<'_>]) {
        let instruments = self.instruments.load();
        let Some(instrument) = instruments.get(instrument as usize).filter(|_| value.is_finite()) else { return };
        if let Series::Histogram(_, histogram, series) = &instrument.series {
            let labels = Labels::of(labels);
            series.with(&labels, |labels| histogram.bind(&labels.attributes()), |series| series.record(value));
        }
    }

    fn instrument(
        &self,
        instrument: &InstrumentDescription<'_>,
        family: String,
        is_same: impl Fn(&Series) -> bool,
        make: impl FnOnce(&Meter) -> Series,
    ) -> Result<u32, InstrumentError> {
        let _one_at_a_time = self.growth_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let instruments = self.instruments.load_full();
        let collides =
            |known: &Arc<Instrument>| known.family == family || known.name.eq_ignore_ascii_case(instrument.name);
        if let Some(position) = instruments.iter().position(collides) {
            let known = instruments.get(position).filter(|known| {
                known.name == instrument.name && known.unit == instrument.unit && is_same(&known.series)
            });
            return known.map(|_| position as u32).ok_or_else(|| name_conflict(instrument.name));
        }
        if instruments.len() >= MAX_INSTRUMENTS {
            return Err(InstrumentError::TooMany);
        }
        let mut grown = Vec::clone(&instruments);
        let (name, unit) = (instrument.name.to_owned(), instrument.unit.to_owned());
        grown.push(Arc::new(Instrument { name, unit, family, series: make(&self.meter) }));
        self.instruments.store(Arc::new(grown));
        Ok(instruments.len() as u32)
    }
}

fn name_conflict(name: &str) -> InstrumentError {
    let reason = format!("the name `{name}` belongs to another instrument with a different kind, unit or boundaries");
    InstrumentError::Invalid(reason)
}

/// Whether a guest's own SDK may use this name, by the same rules as for the instruments that a component creates.
pub fn check_guest_metric(name: &str, unit: &str, value: &PointValue) -> Result<(), InstrumentError> {
    check(&InstrumentDescription { name, unit, description: "" }, kind_of(value)).map(drop)
}

/// The kind of a metric of a guest's own SDK in Prometheus.
pub(super) fn kind_of(value: &PointValue) -> Kind {
    match value {
        PointValue::Sum { is_monotonic: true, .. } => Kind::Counter,
        PointValue::Sum { .. } | PointValue::Gauge(_) => Kind::Gauge,
        PointValue::Histogram(_) | PointValue::ExponentialHistogram(_) => Kind::Histogram,
    }
}

/// The Prometheus name of an instrument, if it can have one.
fn check(instrument: &InstrumentDescription<'_>, kind: Kind) -> Result<String, InstrumentError> {
    let InstrumentDescription { name, unit, .. } = instrument;
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(is_of_name);
    if !is_name || name.len() > MAX_NAME_BYTES {
        let rule = "starts with a letter and consists of letters, digits and any of `_.-/`";
        return Err(InstrumentError::Invalid(format!(
            "`{}` is not a valid metric name: a name {rule}",
            cut(name, MAX_NAME_BYTES)
        )));
    }
    if !unit.chars().all(|c| c.is_ascii_graphic()) || unit.len() > MAX_NAME_BYTES {
        return Err(InstrumentError::Invalid(format!("`{}` is not a valid unit", cut(unit, MAX_NAME_BYTES))));
    }
    let family = family_name(name, unit, kind);
    let first = family.split('_').next().unwrap_or_default();
    // The Prometheus formats reserve these suffixes.
    let ending =
        kind == Kind::Histogram && ["_total", "_bucket", "_sum", "_count"].iter().any(|end| family.ends_with(end));
    if RESERVED.contains(&first) || RESERVED_NAMES.iter().any(|name| family.starts_with(name)) || ending {
        return Err(InstrumentError::Invalid(format!("the name `{name}` is reserved")));
    }
    Ok(family)
}

fn check_boundaries(name: &str, boundaries: &[f64]) -> Result<(), InstrumentError> {
    let ascending = boundaries.iter().zip(boundaries.iter().skip(1)).all(|(lower, upper)| lower < upper);
    if ascending && boundaries.iter().all(|bound| bound.is_finite()) && boundaries.len() <= MAX_BUCKETS {
        return Ok(());
    }
    let rule = format!("up to {MAX_BUCKETS} finite numbers, each greater than the one before");
    Err(InstrumentError::Invalid(format!("the boundaries of `{name}` must be {rule}")))
}

/// Whether a key can be a Prometheus label without colliding with those that the host and scrapers set.
pub fn is_label(key: &str) -> bool {
    let name = label_name(key);
    let reserved = matches!(name.as_str(), "service_name" | "le" | "quantile" | "job" | "instance");
    !key.is_empty() && key.len() <= MAX_NAME_BYTES && !reserved && !name.starts_with("__") && !name.starts_with("otel_")
}

fn description(instrument: &InstrumentDescription<'_>) -> String {
    cut(instrument.description, MAX_TEXT_BYTES).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    fn instrument(name: &str) -> InstrumentDescription<'_> {
        InstrumentDescription { name, unit: "", description: "What a test counts." }
    }

    fn metrics() -> (Metrics, Arc<super::super::ServiceMetrics>) {
        let metrics = Metrics::new(Vec::new());
        let shop = metrics.service("shop", vec![KeyValue::new("service.name", "shop")]);
        (metrics, shop)
    }

    fn samples(page: &str, family: &str) -> Vec<String> {
        page.lines().filter(|line| line.starts_with(family)).map(super::super::tests::without_scope).collect()
    }

    #[test]
    fn a_counter_of_a_guest_is_on_the_page_with_its_service() {
        let (metrics, shop) = metrics();
        let orders = shop.guest_counter(&instrument("shop.orders")).unwrap();
        shop.guest_add(orders, 2, &[("category", "books"), ("size", "s")]);
        shop.guest_add(orders, 1, &[("size", "s"), ("category", "books")]);
        let expected = r#"shop_orders_total{category="books",service_name="shop",size="s"} 3"#;
        assert_eq!(samples(&metrics.prometheus(), "shop_orders"), [expected]);
    }

    #[test]
    fn a_histogram_has_the_boundaries_that_the_guest_requested() {
        let (metrics, shop) = metrics();
        let weight = InstrumentDescription { unit: "kg", ..instrument("parcel.weight") };
        let weight = shop.guest_histogram(&weight, &[1.0, 5.0]).unwrap();
        for kilograms in [0.5, 3.0, f64::NAN, f64::INFINITY] {
            shop.guest_record(weight, kilograms, &[]);
        }
        let page = metrics.prometheus();
        let expected = [
            r#"parcel_weight_kg_bucket{service_name="shop",le="1"} 1"#,
            r#"parcel_weight_kg_bucket{service_name="shop",le="5"} 2"#,
            r#"parcel_weight_kg_bucket{service_name="shop",le="+Inf"} 2"#,
            r#"parcel_weight_kg_sum{service_name="shop"} 3.5"#,
            r#"parcel_weight_kg_count{service_name="shop"} 2"#,
        ];
        assert_eq!(samples(&page, "parcel_weight"), expected);
    }

    #[test]
    fn ambiguous_and_reserved_names_are_rejected() {
        let (_, shop) = metrics();
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        for name in ["", "1st", "a b", "größe", "http.requests", "spandrel.x", "otel_span", "up", &long] {
            assert!(shop.guest_counter(&instrument(name)).is_err(), "{name}");
        }
        for name in ["orders_total", "orders.count", "orders_sum"] {
            assert!(shop.guest_histogram(&instrument(name), &[]).is_err(), "{name}");
        }
        let first = shop.guest_counter(&instrument("shop.orders"));
        assert_eq!(shop.guest_counter(&instrument("shop.orders")), first);
        assert!(shop.guest_counter(&instrument("shop_orders")).is_err());
        assert!(shop.guest_counter(&instrument("Shop.Orders")).is_err());
        assert!(shop.guest_counter(&InstrumentDescription { unit: "s", ..instrument("shop.orders") }).is_err());
        assert!(shop.guest_histogram(&instrument("shop.orders"), &[]).is_err());
        let many: Vec<f64> = (0..200).map(f64::from).collect();
        for boundaries in [&[2.0, 1.0][..], &[f64::NAN], &[1.0, f64::INFINITY], &many] {
            assert!(shop.guest_histogram(&instrument("shop.size"), boundaries).is_err(), "{boundaries:?}");
        }
    }

    #[test]
    fn instruments_series_and_labels_are_bounded() {
        let (metrics, shop) = metrics();
        let names: Vec<_> = (0..MAX_INSTRUMENTS).map(|number| format!("many.x{number}")).collect();
        let instruments: Vec<_> = names.iter().map(|name| shop.guest_counter(&instrument(name)).unwrap()).collect();
        assert_eq!(shop.guest_counter(&instrument("many.more")), Err(InstrumentError::TooMany));
        for number in 0..1_000 {
            shop.guest_add(instruments[0], 1, &[("number", &number.to_string())]);
        }
        let page = metrics.prometheus();
        let series = samples(&page, "many_x0_total");
        assert_eq!(series.len(), MAX_SERIES + 1);
        let overflow = r#"many_x0_total{otel_metric_overflow="true",service_name="shop"} 900"#;
        assert!(series.iter().any(|line| line == overflow), "{series:?}");
        shop.guest_add(u32::MAX, 1, &[]);
        shop.guest_record(instruments[1], 1.0, &[]);
        assert!(samples(&metrics.prometheus(), "many_x1").is_empty());
    }

    #[test]
    fn labels_are_truncated_and_those_of_the_host_dropped() {
        let long = "ü".repeat(MAX_TEXT_BYTES);
        let keys: Vec<_> = (0..20).map(|number| format!("k{number:02}")).collect();
        let many: Vec<_> = keys.iter().map(|key| (key.as_str(), "v")).collect();
        assert_eq!(Labels::of(&many).0.len(), MAX_LABELS);
        let labels = Labels::of(&[("service.name", "x"), ("le", "1"), ("", "x"), ("a", &long), ("a", "second")]);
        assert_eq!(labels.0, [(Cow::Borrowed("a"), Cow::Borrowed(&long[..MAX_TEXT_BYTES]))]);
    }
}
