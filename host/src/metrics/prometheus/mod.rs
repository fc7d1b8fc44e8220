//! Writes metrics as a page for Prometheus, in its text format 0.0.4 or in OpenMetrics 1.0.
//!
//! Names follow OpenTelemetry's rules for Prometheus: dots become underscores; the unit and `_total` are appended
//! unless the name contains them. Each sample has its service in `service_name` and its instrumentation scope in
//! `otel_scope_*`; the other attributes of a Resource are in `target_info`.

mod accept;
pub(super) mod format;
mod guests;
pub(super) mod name;
mod page;

use std::borrow::Cow;
use std::collections::BTreeMap;

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::{
    Resource,
    metrics::data::{AggregatedMetrics, HistogramDataPoint, Metric, MetricData, ResourceMetrics},
};

pub use self::format::Exposition;
use self::format::{Kind, Number};
use self::page::{Family, Labels, Page, family};
use crate::trace::{MetricExemplar, SeriesExemplars, ServiceSeries};

/// Writes the page. Families of the same name in several Resources are merged.
pub(super) fn render(
    collected: &[ResourceMetrics],
    (exemplars, guests): (&[SeriesExemplars], &[ServiceSeries]),
    format: Exposition,
) -> String {
    let mut families = BTreeMap::new();
    let mut page = Page::new(format);
    for resource in collected {
        let mut service = ServicePoints::of(resource.resource(), exemplars);
        page.target(&service.info(resource.resource()));
        for scope in resource.scope_metrics() {
            service.scope = scope_labels(scope.scope());
            scope.metrics().for_each(|metric| service.add(metric, format, &mut families));
        }
    }
    guests.iter().for_each(|(resource, series)| guests::add(resource, series, format, &mut families));
    families.values().for_each(|family| page.family(family));
    page.finish()
}

/// Labels that distinguish samples of one scope from those of another.
fn scope_labels(scope: &InstrumentationScope) -> Vec<(Cow<'static, str>, String)> {
    let label = |key: &str, value: String| (Cow::Owned(format!("otel_scope_{key}")), value);
    let named = [("name", Some(scope.name())), ("version", scope.version()), ("schema_url", scope.schema_url())];
    let named = named.into_iter().filter_map(|(key, value)| Some(label(key, value?.to_owned())));
    let own = scope.attributes().map(|attribute| label(attribute.key.as_str(), attribute.value.to_string()));
    named.chain(own).collect()
}

/// One Resource while its metrics are added to the families.
struct ServicePoints<'a> {
    name: String,
    /// The labels of the scope whose metrics are being added.
    scope: Vec<(Cow<'static, str>, String)>,
    exemplars: Vec<&'a SeriesExemplars>,
}

impl<'a> ServicePoints<'a> {
    fn of(resource: &Resource, exemplars: &'a [SeriesExemplars]) -> ServicePoints<'a> {
        let key = opentelemetry::Key::from_static_str("service.name");
        let name = resource.get_ref(&key).map_or_else(String::new, ToString::to_string);
        let exemplars = exemplars.iter().filter(|series| series.service == name);
        ServicePoints { exemplars: exemplars.collect(), scope: Vec::new(), name }
    }

    fn info(&self, resource: &Resource) -> Labels {
        Labels::of(resource.iter().map(|(key, value)| (Cow::Borrowed(key.as_str()), value.to_string())))
    }

    fn labels<'p>(&self, attributes: impl Iterator<Item = &'p KeyValue>) -> Labels {
        let service = (Cow::Borrowed("service_name"), self.name.clone());
        let own = attributes.map(|attribute| (Cow::Borrowed(attribute.key.as_str()), attribute.value.to_string()));
        Labels::of(std::iter::once(service).chain(self.scope.iter().cloned()).chain(own))
    }

    fn add(&self, metric: &Metric, format: Exposition, families: &mut BTreeMap<String, Family>) {
        match metric.data() {
            AggregatedMetrics::F64(data) => self.add_data(metric, data, format, families),
            AggregatedMetrics::U64(data) => self.add_data(metric, data, format, families),
            AggregatedMetrics::I64(data) => self.add_data(metric, data, format, families),
        }
    }

    fn add_data<T: Number>(
        &self,
        metric: &Metric,
        data: &MetricData<T>,
        format: Exposition,
        families: &mut BTreeMap<String, Family>,
    ) {
        let kind = match data {
            MetricData::Sum(sum) if sum.is_monotonic() => Kind::Counter,
            MetricData::Sum(_) | MetricData::Gauge(_) => Kind::Gauge,
            MetricData::Histogram(_) => Kind::Histogram,
            // No instrument of the host creates one.
            MetricData::ExponentialHistogram(_) => return,
        };
        let Some(family) = family(families, (metric.name(), metric.description(), metric.unit()), kind, format) else {
            return;
        };
        match data {
            MetricData::Sum(sum) => sum.data_points().for_each(|point| {
                family.value(&self.labels(point.attributes()), point.value().as_f64());
            }),
            MetricData::Gauge(gauge) => gauge.data_points().for_each(|point| {
                family.value(&self.labels(point.attributes()), point.value().as_f64());
            }),
            MetricData::Histogram(histogram) => histogram.data_points().for_each(|point| {
                let labels = self.labels(point.attributes());
                let exemplars = self.exemplars(metric.name(), point);
                family.histogram(&labels, point, exemplars);
            }),
            MetricData::ExponentialHistogram(_) => {}
        }
    }

    fn exemplars<T>(&self, metric: &str, point: &HistogramDataPoint<T>) -> &'a [MetricExemplar] {
        self.exemplars
            .iter()
            .find(|series| series.metric == metric && series.attributes.iter().eq(point.attributes()))
            .map_or(&[], |series| &series.exemplars)
    }
}
