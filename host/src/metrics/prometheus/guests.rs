//! Metrics of guests' own SDKs on the page. Prometheus' text formats have no exponential buckets: such a histogram has
//! only its sum and its count.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::format::Exposition;
use super::name;
use super::page::{Family, Labels, family};
use crate::metrics::guest::kind_of;
use crate::trace::{GuestSeries, PointValue, Resource};

/// Adds the series of one service to the families.
pub(super) fn add(
    resource: &Resource,
    series: &[GuestSeries],
    format: Exposition,
    families: &mut BTreeMap<String, Family>,
) {
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    for series in series {
        let kind = kind_of(&series.value);
        let (name, unit) = (series.key.name.as_str(), series.key.unit.as_str());
        // Two names that map to the same family would yield duplicate series.
        if *owners.entry(name::family(name, unit, kind)).or_insert(name) != name {
            continue;
        }
        if let Some(family) = family(families, (name, &series.description, unit), kind, format) {
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
    fn metrics_of_two_services_with_one_name_and_different_types_are_both_shown() {
        let of = |value| vec![series("shop.clicks_total", "", value)];
        let counter = PointValue::Sum { value: Number::Int(2), is_monotonic: true };
        let services = [
            (Resource::new("a", "1", &[]), of(PointValue::Gauge(Number::Int(1)))),
            (Resource::new("b", "1", &[]), of(counter)),
        ];
        for format in [Exposition::Prometheus, Exposition::OpenMetrics] {
            let page = render(&[], (&[], &services), format);
            let lines: Vec<_> = page.lines().filter(|line| line.starts_with("shop_")).collect();
            let labels = |service| format!(r#"{{kind="book",otel_scope_name="sdk",service_name="{service}"}}"#);
            let expected =
                [format!("shop_clicks_counter_total{} 2", labels("b")), format!("shop_clicks_total{} 1", labels("a"))];
            assert_eq!(lines, expected);
        }
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
