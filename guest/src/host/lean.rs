//! The host interface of lean components: re-exports of the generated bindings, and spans with encoded attributes.

use super::encoding::encoded;
use crate::bindings::spandrel::service::{client, tracing};

pub use crate::bindings::spandrel::service::client::{Error as FetchError, Limited, Outgoing};
pub use crate::bindings::spandrel::service::http::{Header, Method, Request, Response, Route};
pub use crate::bindings::spandrel::service::metrics::{Counter, Error as MetricError, Histogram, Label};
pub use crate::bindings::spandrel::service::tracing::{
    Attribute, Severity, SpanKind, Value, add_request_event, recording, set_request_error,
};
pub use crate::bindings::wasi::config::store::{Error as ConfigError, get as config_get};
pub use crate::bindings::wasi::keyvalue0_2_0_draft2::atomics::{Cas, CasError, swap};
pub use crate::bindings::wasi::keyvalue0_2_0_draft2::store::{Bucket, Error as StoreError, open};

#[derive(Debug)]
pub struct Span(tracing::Span);

impl Span {
    pub fn start<'a>(
        name: &str,
        kind: SpanKind,
        parent: Option<&Span>,
        attributes: impl IntoIterator<Item = Attribute<'a>>,
    ) -> Self {
        encoded(attributes, |bytes| {
            Self(match kind {
                SpanKind::Internal => tracing::Span::start_encoded(name, inner(parent), bytes),
                kind => tracing::Span::start_of_kind(name, kind, inner(parent), bytes),
            })
        })
    }

    pub fn rename(&self, name: &str) {
        self.0.rename(name);
    }

    pub fn set_ok(&self) {
        self.0.set_ok();
    }

    pub fn set_attributes<'a>(&self, attributes: impl IntoIterator<Item = Attribute<'a>>) {
        encoded(attributes, |bytes| self.0.set_encoded_attributes(bytes));
    }

    pub fn add_event(&self, name: &str, attributes: &[Attribute<'_>]) {
        self.0.add_event(name, attributes);
    }

    pub fn set_error(&self, kind: &str, message: &str) {
        self.0.set_error(kind, message);
    }
}

fn inner(span: Option<&Span>) -> Option<&tracing::Span> {
    span.map(|span| &span.0)
}

pub fn log(severity: Severity, body: &str, span: Option<&Span>, attributes: &[Attribute<'_>]) {
    tracing::log(severity, body, inner(span), attributes);
}

pub fn fetch(request: Outgoing<'_>, parent: Option<&Span>) -> Result<Response, FetchError> {
    client::fetch(request, inner(parent))
}

pub fn fetch_within(request: Outgoing<'_>, parent: Option<&Span>, timeout_ms: u32) -> Result<Response, FetchError> {
    client::fetch_within(request, inner(parent), timeout_ms)
}

pub fn fetch_all_within(requests: &[Limited<'_>], parent: Option<&Span>) -> Vec<Result<Response, FetchError>> {
    client::fetch_all_within(requests, inner(parent))
}
