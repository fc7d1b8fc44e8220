//! Lines of the text formats: families, samples, escaping. Independent of OpenTelemetry's model, except for the
//! histogram data point.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write, time::UNIX_EPOCH};

use opentelemetry_sdk::metrics::data::HistogramDataPoint;

use super::format::{Exposition, Kind, Number};
use super::name;
use crate::trace::MetricExemplar;

/// Labels in text form: `a="1",b="2"`, sorted, without braces.
pub(super) struct Labels(String);

impl Labels {
    /// Keys that sanitise to the same name are merged, as OpenTelemetry specifies: their values are joined with `;`, in
    /// the order of the keys.
    pub(super) fn of<'a>(pairs: impl Iterator<Item = (Cow<'a, str>, String)>) -> Labels {
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_by(|(first, _), (second, _)| first.cmp(second));
        let mut named: BTreeMap<String, String> = BTreeMap::new();
        for (key, value) in pairs {
            named
                .entry(name::label(&key))
                .and_modify(|known| {
                    known.push(';');
                    known.push_str(&value);
                })
                .or_insert(value);
        }
        let written = named.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value)));
        Labels(written.collect::<Vec<_>>().join(","))
    }

    fn with(&self, name: &str, value: &str) -> Labels {
        if self.0.is_empty() {
            Labels(format!("{name}=\"{value}\""))
        } else {
            Labels(format!("{},{name}=\"{value}\"", self.0))
        }
    }
}

/// A metric family and its samples, ready to be written.
pub(super) struct Family {
    /// With `_total` for a counter.
    name: String,
    help: String,
    /// In words; empty if there is none.
    unit: String,
    kind: Kind,
    format: Exposition,
    samples: String,
}

/// The family of a metric with this name, description and unit. A family has one type: if metrics of two services have the
/// same name and different types, the type becomes part of the name of the second one. `None` if that name is taken, too.
pub(super) fn family<'f>(
    families: &'f mut BTreeMap<String, Family>,
    (name, description, unit): (&str, &str, &str),
    kind: Kind,
    format: Exposition,
) -> Option<&'f mut Family> {
    let mut of_family = name::family(name, unit, kind);
    if families.get(&of_family).is_some_and(|family| !family.is(kind)) {
        of_family = name::family(&format!("{name}_{}", kind.name()), unit, kind);
    }
    let family =
        families.entry(of_family.clone()).or_insert_with(|| Family::new(of_family, description, unit, kind, format));
    family.is(kind).then_some(family)
}

impl Family {
    /// `unit` is the instrument's, in UCUM.
    pub(super) fn new(name: String, help: &str, unit: &str, kind: Kind, format: Exposition) -> Family {
        let unit = name::unit(unit, kind);
        Family { name, help: help.to_owned(), unit, kind, format, samples: String::new() }
    }

    pub(super) fn value(&mut self, labels: &Labels, value: f64) {
        self.sample("", labels, value);
        self.samples.push('\n');
    }

    pub(super) fn histogram<T: Number>(
        &mut self,
        labels: &Labels,
        point: &HistogramDataPoint<T>,
        exemplars: &[MetricExemplar],
    ) {
        let bounds = point.bounds().chain(std::iter::once(f64::INFINITY));
        let (mut below, mut lower) = (0, f64::NEG_INFINITY);
        for (bound, count) in bounds.zip(point.bucket_counts()) {
            below += count;
            self.sample("_bucket", &labels.with("le", &self.bound(bound)), below.as_f64());
            let exemplar = exemplars.iter().find(|e| lower < e.value && e.value <= bound);
            if let Some(exemplar) = exemplar {
                self.exemplar(exemplar);
            }
            self.samples.push('\n');
            lower = bound;
        }
        self.sample("_sum", labels, point.sum().as_f64());
        self.samples.push('\n');
        self.sample("_count", labels, point.count().as_f64());
        self.samples.push('\n');
    }

    /// Adds a histogram without exemplars: its buckets with their upper bounds, its sum and its count.
    pub(super) fn buckets(
        &mut self,
        labels: &Labels,
        buckets: impl Iterator<Item = (f64, u64)>,
        (sum, count): (f64, u64),
    ) {
        let mut below = 0_u64;
        for (bound, count) in buckets {
            below = below.saturating_add(count);
            self.sample("_bucket", &labels.with("le", &self.bound(bound)), below.as_f64());
            self.samples.push('\n');
        }
        for (suffix, value) in [("_sum", sum), ("_count", count.as_f64())] {
            self.sample(suffix, labels, value);
            self.samples.push('\n');
        }
    }

    /// Whether the family has this type.
    pub(super) fn is(&self, kind: Kind) -> bool {
        self.kind == kind
    }

    fn sample(&mut self, suffix: &str, Labels(labels): &Labels, value: f64) {
        let (name, value) = (&self.name, number(value));
        let written = if labels.is_empty() {
            write!(self.samples, "{name}{suffix} {value}")
        } else {
            write!(self.samples, "{name}{suffix}{{{labels}}} {value}")
        };
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
    }

    fn exemplar(&mut self, exemplar: &MetricExemplar) {
        let seconds = exemplar.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let written = write!(
            self.samples,
            " # {{trace_id=\"{}\",span_id=\"{}\"}} {} {}.{:03}",
            exemplar.trace_id,
            exemplar.span_id,
            number(exemplar.value),
            seconds.as_secs(),
            seconds.subsec_millis(),
        );
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
    }

    /// The value of `le`, which has one canonical form in OpenMetrics: `10.0`, not `10`.
    fn bound(&self, bound: f64) -> String {
        match self.format {
            Exposition::OpenMetrics if bound.is_finite() => format!("{bound:?}"),
            _ => number(bound),
        }
    }

    /// The unit for `# UNIT`, which only OpenMetrics has, and which the name must end with.
    fn declared_unit(&self) -> Option<&str> {
        let before = self.declared().strip_suffix(&self.unit)?;
        (self.format == Exposition::OpenMetrics && !self.unit.is_empty() && before.ends_with('_')).then_some(&self.unit)
    }

    /// The name for `# TYPE`, which in OpenMetrics omits the suffix of counters.
    fn declared(&self) -> &str {
        match self.format {
            Exposition::OpenMetrics => self.name.strip_suffix("_total").unwrap_or(&self.name),
            Exposition::Prometheus => &self.name,
        }
    }
}

/// The page under construction. Targets come before families.
pub(super) struct Page {
    format: Exposition,
    targets: String,
    families: String,
}

impl Page {
    pub(super) fn new(format: Exposition) -> Page {
        Page { format, targets: String::new(), families: String::new() }
    }

    pub(super) fn target(&mut self, Labels(labels): &Labels) {
        self.targets.push_str(&format!("target_info{{{labels}}} 1\n"));
    }

    pub(super) fn family(&mut self, family: &Family) {
        let name = family.declared();
        let help = match self.format {
            Exposition::Prometheus => family.help.replace('\\', "\\\\").replace('\n', "\\n"),
            Exposition::OpenMetrics => escape(&family.help),
        };
        self.families.push_str(&format!("# HELP {name} {help}\n"));
        self.families.push_str(&format!("# TYPE {name} {}\n", family.kind.name()));
        if let Some(unit) = family.declared_unit() {
            self.families.push_str(&format!("# UNIT {name} {unit}\n"));
        }
        self.families.push_str(&family.samples);
    }

    pub(super) fn finish(self) -> String {
        let (declared, kind, end) = match self.format {
            Exposition::Prometheus => ("target_info", "gauge", ""),
            Exposition::OpenMetrics => ("target", "info", "# EOF\n"),
        };
        let Page { targets, families, .. } = self;
        format!(
            "# HELP {declared} The services and their resources.\n# TYPE {declared} {kind}\n{targets}{families}{end}"
        )
    }
}

fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\\\");
    text.replace('"', "\\\"").replace('\n', "\\n")
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let Labels(labels) = Labels::of([("path".into(), "a\\b\"c\nd".to_owned())].into_iter());
        assert_eq!(labels, r#"path="a\\b\"c\nd""#);
    }

    #[test]
    fn values_of_colliding_keys_are_joined_in_the_order_of_the_keys() {
        let check = |pairs: &[(&str, &str)], expected: &str| {
            let owned = |(key, value): &(&str, &str)| (Cow::Owned((*key).to_owned()), (*value).to_owned());
            let Labels(forwards) = Labels::of(pairs.iter().map(owned));
            let Labels(backwards) = Labels::of(pairs.iter().rev().map(owned));
            assert_eq!((forwards.as_str(), backwards.as_str()), (expected, expected));
        };
        check(&[("a.b", "1"), ("a_b", "2")], r#"a_b="1;2""#);
        check(&[("a_b", "3"), ("a.b", "2"), ("a-b", "1")], r#"a_b="1;2;3""#);
        check(&[("a__b", "3"), ("a.b", "2"), ("a..b", "1"), ("c", "4")], r#"a_b="1;2;3",c="4""#);
    }

    #[test]
    fn a_unit_is_declared_if_the_name_ends_with_it() {
        let declared = |name: &str, unit: &str, kind, format| {
            let mut page = Page::new(format);
            page.family(&Family::new(name.to_owned(), "Help.", unit, kind, format));
            let page = page.finish();
            page.lines().find_map(|line| line.strip_prefix("# UNIT ").map(str::to_owned))
        };
        let open = |name, unit, kind| declared(name, unit, kind, Exposition::OpenMetrics);
        assert_eq!(open("wait_seconds", "s", Kind::Histogram).as_deref(), Some("wait_seconds seconds"));
        assert_eq!(open("cpu_seconds_total", "s", Kind::Counter).as_deref(), Some("cpu_seconds seconds"));
        assert_eq!(open("bytes_sent", "By", Kind::Gauge), None);
        assert_eq!(open("http_requests_total", "{request}", Kind::Counter), None);
        assert_eq!(open("seconds", "s", Kind::Gauge), None);
        assert_eq!(declared("wait_seconds", "s", Kind::Histogram, Exposition::Prometheus), None);
    }

    #[test]
    fn numbers_are_written_as_prometheus_reads_them() {
        assert_eq!(number(0.005), "0.005");
        assert_eq!(number(10.0), "10");
        assert_eq!(number(f64::INFINITY), "+Inf");
        assert_eq!(number(f64::NAN), "NaN");
    }
}
