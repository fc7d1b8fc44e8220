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
pub struct Counter {
    name: &'static str,
    unit: &'static str,
    description: &'static str,
    handle: OnceLock<Option<host::Counter>>,
}

impl Counter {
    /// A counter of this name, such as `shop.orders`.
    pub const fn new(name: &'static str) -> Self {
        Self { name, unit: "", description: "", handle: OnceLock::new() }
    }

    /// Says in which unit it counts, in UCUM: `{order}`, `By`.
    #[must_use]
    pub const fn with_unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    /// Says what it counts.
    #[must_use]
    pub const fn with_description(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// Adds to the count of these labels.
    pub fn add(&self, value: u64, labels: &[(&str, &str)]) {
        let create = || usable(self.name, host::Counter::create(self.name, self.unit, self.description));
        if let Some(counter) = self.handle.get_or_init(create) {
            counter.add(value, &lent(labels));
        }
    }
}

/// Says how values are distributed.
#[derive(Debug)]
pub struct Histogram {
    name: &'static str,
    unit: &'static str,
    description: &'static str,
    boundaries: &'static [f64],
    handle: OnceLock<Option<host::Histogram>>,
}

impl Histogram {
    /// A histogram of this name, such as `shop.parcel.weight`.
    pub const fn new(name: &'static str) -> Self {
        Self { name, unit: "", description: "", boundaries: &[], handle: OnceLock::new() }
    }

    /// Says in which unit its values are, in UCUM: `s`, `By`, `kg`.
    #[must_use]
    pub const fn with_unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    /// Says what it measures.
    #[must_use]
    pub const fn with_description(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// Sets the upper bounds of the buckets: up to 32 in ascending order. Without them the host takes those of HTTP
    /// durations where the unit is `s`, and else those of OpenTelemetry's SDKs.
    #[must_use]
    pub const fn with_boundaries(mut self, boundaries: &'static [f64]) -> Self {
        self.boundaries = boundaries;
        self
    }

    /// Records a value under these labels. What is no finite number is left out.
    pub fn record(&self, value: f64, labels: &[(&str, &str)]) {
        let create = || {
            let created = host::Histogram::create(self.name, self.unit, self.description, self.boundaries);
            usable(self.name, created)
        };
        if let Some(histogram) = self.handle.get_or_init(create) {
            histogram.record(value, &lent(labels));
        }
    }
}

fn usable<T>(name: &str, created: Result<T, host::MetricError>) -> Option<T> {
    let reason = match created {
        Ok(instrument) => return Some(instrument),
        Err(host::MetricError::Invalid(reason)) => reason,
        Err(host::MetricError::TooMany) => "the service has too many instruments".to_owned(),
    };
    tracing::warn!("the metric `{name}` is not recorded: {reason}");
    None
}

fn lent<'a>(labels: &[(&'a str, &'a str)]) -> Vec<Label<'a>> {
    labels.iter().map(|(key, value)| Label { key, value }).collect()
}
