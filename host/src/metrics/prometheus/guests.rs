//! Metrics of guests' own SDKs on the page. Prometheus' text formats have no exponential buckets: such a histogram has
//! only its sum and its count.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::format::Exposition;
use super::name;
use super::page::{Family, Labels};
use crate::metrics::guest::kind_of;
use crate::trace::{GuestSeries, PointValue, Resource};

/// Adds the series of one service to the families. A metric whose name already belongs to a family of another type is
/// left out.
pub(super) fn add(
    resource: &Resource,
    series: &[GuestSeries],
    format: Exposition,
    families: &mut BTreeMap<String, Family>,
) {
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    for series in series {
        let kind = kind_of(&series.value);
        let name = name::family(&series.key.name, &series.key.unit, kind);
        // Two names that map to the same family would yield duplicate series.
        if *owners.entry(name.clone()).or_insert(&series.key.name) != series.key.name {
            continue;
        }
        let family = families
            .entry(name.clone())
            .or_insert_with(|| Family::new(name, &series.description, &series.key.unit, kind, format));
        if family.is(kind) {
            put(family, &labels(resource, series), &series.value);
        }
    }
}

fn labels(resource: &Resource, series: &GuestSeries) -> Labels {
    let service = (Cow::Borrowed("service_name"), resource.name().to_owned());
    let scope = (Cow::Borrowed("otel_scope_name"), series.key.scope.clone());
    let own = series.attributes.iter().map(|pair| (Cow::Borrowed(pair.key.as_str()), pair.value.to_string()));
    Labels::of([service, scope].into_iter().chain(own))
}

fn put(family: &mut Family, labels: &Labels, value: &PointValue) {
    match value {
        PointValue::Gauge(value) | PointValue::Sum { value, .. } => family.value(labels, value.as_f64()),
        PointValue::Histogram(histogram) => {
            let buckets =
                histogram.bounds.iter().copied().chain([f64::INFINITY]).zip(histogram.buckets.iter().copied());
            family.buckets(labels, buckets, (histogram.totals.sum, histogram.totals.count));
        }
        PointValue::ExponentialHistogram(exponential) => {
            let (sum, count) = (exponential.totals.sum, exponential.totals.count);
            family.buckets(labels, [(f64::INFINITY, count)].into_iter(), (sum, count));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use opentelemetry::KeyValue;

    use super::*;
    use crate::metrics::prometheus::render;
    use crate::trace::{Histogram, HistogramTotals, Number, SeriesKey};

    fn series(name: &str, unit: &str, value: PointValue) -> GuestSeries {
        let (scope, attributes) = ("sdk".to_owned(), vec![KeyValue::new("kind", "book")]);
        let key = SeriesKey { scope, name: name.to_owned(), unit: unit.to_owned(), attributes: String::new() };
        let now = SystemTime::now();
        GuestSeries { key, description: "What is sold.".to_owned(), attributes, value, started: now, time: now }
    }

    #[test]
    fn metrics_of_a_guests_own_sdk_are_on_the_page_like_any_other() {
        let totals = HistogramTotals { count: 3, sum: 4.5, ..HistogramTotals::default() };
        let histogram = Histogram { totals, bounds: vec![1.0], buckets: vec![2, 1] };
        let sold = |is_monotonic| PointValue::Sum { value: Number::Int(2), is_monotonic };
        let all = vec![
            series("shop.sold", "", sold(true)),
            series("shop.sold_total", "", sold(false)),
            series("shop.weight", "kg", PointValue::Histogram(histogram)),
        ];
        let page = render(&[], (&[], &[(Resource::new("shop", "1", &[]), all)]), Exposition::Prometheus);
        let lines: Vec<_> = page.lines().filter(|line| line.starts_with("shop_")).collect();
        let labels = r#"kind="book",otel_scope_name="sdk",service_name="shop""#;
        assert_eq!(
            lines,
            [
                format!("shop_sold_total{{{labels}}} 2"),
                format!("shop_weight_kg_bucket{{{labels},le=\"1\"}} 2"),
                format!("shop_weight_kg_bucket{{{labels},le=\"+Inf\"}} 3"),
                format!("shop_weight_kg_sum{{{labels}}} 4.5"),
                format!("shop_weight_kg_count{{{labels}}} 3"),
            ]
        );
    }
}
