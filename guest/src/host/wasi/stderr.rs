//! For hosts without `wasi:otel`: log records are lines on standard error; spans and metrics are not recorded.

use super::propagation;
use crate::host::{Attribute, Header, Label, MetricError, Severity, SpanKind, log_line};

pub fn begin() {}

/// Always false, so no span is ever started.
pub fn recording() -> bool {
    false
}

/// The trace context of the incoming request, unchanged.
pub fn context(_: Option<&Span>) -> Vec<Header> {
    propagation::incoming()
}

#[derive(Debug)]
pub struct Span;

impl Span {
    pub fn start<'a>(_: &str, _: SpanKind, _: Option<&Span>, _: impl IntoIterator<Item = Attribute<'a>>) -> Self {
        Self
    }

    pub fn rename(&self, _: &str) {}

    pub fn set_attributes<'a>(&self, _: impl IntoIterator<Item = Attribute<'a>>) {}

    pub fn add_event(&self, _: &str, _: &[Attribute<'_>]) {}

    pub fn set_error(&self, _: &str, _: &str) {}

    pub fn set_ok(&self) {}
}

pub fn add_request_event(_: &str, _: &[Attribute<'_>]) {}

pub fn set_request_error(_: &str, _: &str) {}

pub fn log(severity: Severity, body: &str, _: Option<&Span>, attributes: &[Attribute<'_>]) {
    eprintln!("{}", log_line::format_record(severity, body, attributes));
}

#[derive(Debug)]
pub struct Counter;

impl Counter {
    pub fn create(_: &str, _: &str, _: &str) -> Result<Self, MetricError> {
        Ok(Self)
    }

    pub fn add(&self, _: u64, _: &[Label<'_>]) {}
}

#[derive(Debug)]
pub struct Histogram;

impl Histogram {
    pub fn create(_: &str, _: &str, _: &str, _: &[f64]) -> Result<Self, MetricError> {
        Ok(Self)
    }

    pub fn record(&self, _: f64, _: &[Label<'_>]) {}
}
