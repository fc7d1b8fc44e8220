//! Counters and histograms that a service defines. They are exported with the host's metrics, under the service's
//! Resource: by OTLP, and on the console's `/metrics`.
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
//! Names follow OpenTelemetry's rules (letters, digits, `_`, `.`, `-`, `/`). The names of the host are reserved: those
//! that begin with `http`, `otel`, `process`, `spandrel`, `scrape`, `target` or `up`. A service may have 32
//! instruments, an instrument 100 series (further ones share the series `otel.metric.overflow`), and a measurement 8
//! labels. Label values must have a low cardinality, such as the category of a product, and never come from clients.
//!
//! If the host rejects an instrument, it records nothing, and each instance of the component logs a warning once.

use std::sync::OnceLock;

use crate::host::{self, Label};

/// A monotonic counter.
#[derive(Debug)]
pub struct Counter(Instrument<host::Counter>);

impl Counter {
    /// A counter with this name, such as `shop.orders`.
    pub const fn new(name: &'static str) -> Self {
        Self(Instrument::new(name))
    }

    /// Sets the unit, in UCUM: `{order}`, `By`.
    #[must_use]
    pub const fn with_unit(mut self, unit: &'static str) -> Self {
        self.0.unit = unit;
        self
    }

    /// Sets the description.
    #[must_use]
    pub const fn with_description(mut self, description: &'static str) -> Self {
        self.0.description = description;
        self
    }

    /// Adds `value` to the series with these labels.
    pub fn add(&self, value: u64, labels: &[(&str, &str)]) {
        let create = |instrument: &Instrument<_>| {
            host::Counter::create(instrument.name, instrument.unit, instrument.description)
        };
        if let Some(counter) = self.0.handle(create) {
            counter.add(value, &borrowed(labels));
        }
    }
}

/// A histogram of measured values.
#[derive(Debug)]
pub struct Histogram {
    instrument: Instrument<host::Histogram>,
    boundaries: &'static [f64],
}

impl Histogram {
    /// A histogram with this name, such as `shop.parcel.weight`.
    pub const fn new(name: &'static str) -> Self {
        Self { instrument: Instrument::new(name), boundaries: &[] }
    }

    /// Sets the unit, in UCUM: `s`, `By`, `kg`.
    #[must_use]
    pub const fn with_unit(mut self, unit: &'static str) -> Self {
        self.instrument.unit = unit;
        self
    }

    /// Sets the description.
    #[must_use]
    pub const fn with_description(mut self, description: &'static str) -> Self {
        self.instrument.description = description;
        self
    }

    /// Sets the upper bounds of the buckets: up to 160 in ascending order. The defaults are the boundaries for HTTP
    /// durations if the unit is `s`, otherwise the defaults of OpenTelemetry SDKs.
    #[must_use]
    pub const fn with_boundaries(mut self, boundaries: &'static [f64]) -> Self {
        self.boundaries = boundaries;
        self
    }

    /// Records a value in the series with these labels. Values that are not finite are ignored.
    pub fn record(&self, value: f64, labels: &[(&str, &str)]) {
        let create = |instrument: &Instrument<_>| {
            host::Histogram::create(instrument.name, instrument.unit, instrument.description, self.boundaries)
        };
        if let Some(histogram) = self.instrument.handle(create) {
            histogram.record(value, &borrowed(labels));
        }
    }
}

/// The common part of all instruments: the description, and the host's handle after the first measurement.
#[derive(Debug)]
struct Instrument<H> {
    name: &'static str,
    unit: &'static str,
    description: &'static str,
    /// `None` if the host rejected the instrument.
    handle: OnceLock<Option<H>>,
}

impl<H> Instrument<H> {
    const fn new(name: &'static str) -> Self {
        Self { name, unit: "", description: "", handle: OnceLock::new() }
    }

    /// The host's handle, created by the first measurement.
    fn handle(&self, create: impl FnOnce(&Self) -> Result<H, host::MetricError>) -> Option<&H> {
        let reason = |error| match error {
            host::MetricError::Invalid(reason) => reason,
            host::MetricError::TooMany => "the service has too many instruments".to_owned(),
        };
        let create_handle = || {
            let refused = |error| tracing::warn!("the metric `{}` is not recorded: {}", self.name, reason(error));
            create(self).map_err(refused).ok()
        };
        self.handle.get_or_init(create_handle).as_ref()
    }
}

fn borrowed<'a>(labels: &[(&'a str, &'a str)]) -> Vec<Label<'a>> {
    labels.iter().map(|(key, value)| Label { key, value }).collect()
}
