//! Counters and histograms of a service's own. They go out with the host's, under the service's resource: by OTLP, and on
//! the console's `/metrics`.
//!
//! ```
//! use guest::metrics::{Counter, Histogram};
//!
//! static ORDERS: Counter = Counter::new("shop.orders").with_unit("{order}").with_description("Orders placed.");
//! static WEIGHT: Histogram = Histogram::new("shop.parcel.weight").with_unit("kg").with_boundaries(&[0.5, 2.0, 10.0]);
//!
//! ORDERS.add(1, &[("category", "books")]);
//! WEIGHT.record(1.2, &[]);
//! ```
//!
//! Names follow OpenTelemetry's rules (letters, digits, `_`, `.`, `-`, `/`). Those of the host are reserved: what begins
//! with `http`, `otel`, `process`, `spandrel`, `scrape`, `target` or `up`. A service may have 32 instruments, an instrument
//! 100 series (further ones share the series `otel.metric.overflow`), and a measurement 8 labels. Label values come from
//! small sets, such as the category of a product, never from what a client can invent.
//!
//! An instrument that the host refuses records nothing; the log says so, once for each instance of the component.

use std::sync::OnceLock;

use crate::host::{self, Label};

/// Counts what only grows.
#[derive(Debug)]
pub struct Counter(Instrument<host::Counter>);

impl Counter {
    /// A counter of this name, such as `shop.orders`.
    pub const fn new(name: &'static str) -> Self {
        Self(Instrument::new(name))
    }

    /// Says in which unit it counts, in UCUM: `{order}`, `By`.
    #[must_use]
    pub const fn with_unit(mut self, unit: &'static str) -> Self {
        self.0.unit = unit;
        self
    }

    /// Says what it counts.
    #[must_use]
    pub const fn with_description(mut self, description: &'static str) -> Self {
        self.0.description = description;
        self
    }

    /// Adds to the count of these labels.
    pub fn add(&self, value: u64, labels: &[(&str, &str)]) {
        let create = |of: &Instrument<_>| host::Counter::create(of.name, of.unit, of.description);
        if let Some(counter) = self.0.handle(create) {
            counter.add(value, &lent(labels));
        }
    }
}

/// Says how values are distributed.
#[derive(Debug)]
pub struct Histogram {
    instrument: Instrument<host::Histogram>,
    boundaries: &'static [f64],
}

impl Histogram {
    /// A histogram of this name, such as `shop.parcel.weight`.
    pub const fn new(name: &'static str) -> Self {
        Self { instrument: Instrument::new(name), boundaries: &[] }
    }

    /// Says in which unit its values are, in UCUM: `s`, `By`, `kg`.
    #[must_use]
    pub const fn with_unit(mut self, unit: &'static str) -> Self {
        self.instrument.unit = unit;
        self
    }

    /// Says what it measures.
    #[must_use]
    pub const fn with_description(mut self, description: &'static str) -> Self {
        self.instrument.description = description;
        self
    }

    /// Sets the upper bounds of the buckets: up to 160 in ascending order. Without them the host takes those of HTTP
    /// durations where the unit is `s`, and else those of OpenTelemetry's SDKs.
    #[must_use]
    pub const fn with_boundaries(mut self, boundaries: &'static [f64]) -> Self {
        self.boundaries = boundaries;
        self
    }

    /// Records a value under these labels. What is no finite number is left out.
    pub fn record(&self, value: f64, labels: &[(&str, &str)]) {
        let create = |of: &Instrument<_>| host::Histogram::create(of.name, of.unit, of.description, self.boundaries);
        if let Some(histogram) = self.instrument.handle(create) {
            histogram.record(value, &lent(labels));
        }
    }
}

/// What all instruments have: a description, and the host's handle once something was measured.
#[derive(Debug)]
struct Instrument<H> {
    name: &'static str,
    unit: &'static str,
    description: &'static str,
    /// None where the host refuses the instrument.
    handle: OnceLock<Option<H>>,
}

impl<H> Instrument<H> {
    const fn new(name: &'static str) -> Self {
        Self { name, unit: "", description: "", handle: OnceLock::new() }
    }

    /// The host's handle, which the first measurement makes.
    fn handle(&self, create: impl FnOnce(&Self) -> Result<H, host::MetricError>) -> Option<&H> {
        let reason = |error| match error {
            host::MetricError::Invalid(reason) => reason,
            host::MetricError::TooMany => "the service has too many instruments".to_owned(),
        };
        let usable = || {
            let refused = |error| tracing::warn!("the metric `{}` is not recorded: {}", self.name, reason(error));
            create(self).map_err(refused).ok()
        };
        self.handle.get_or_init(usable).as_ref()
    }
}

fn lent<'a>(labels: &[(&'a str, &'a str)]) -> Vec<Label<'a>> {
    labels.iter().map(|(key, value)| Label { key, value }).collect()
}
