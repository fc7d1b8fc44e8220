//! The host interface of `wasi:http` 0.2 components. WASI proposals are imported only with the feature for them,
//! because a component does not start on a host that lacks one of its imports.

mod call;
#[cfg(not(feature = "wasi-config"))]
mod environment;
#[cfg(feature = "wasi-otel")]
mod otel;
mod outgoing;
mod propagation;
#[cfg(not(feature = "wasi-otel"))]
mod stderr;
#[cfg(all(feature = "wasi-keyvalue-draft", not(feature = "wasi-keyvalue")))]
mod store_draft;
#[cfg(not(any(feature = "wasi-keyvalue", feature = "wasi-keyvalue-draft")))]
mod store_none;

#[cfg(feature = "wasi-config")]
pub use crate::proposals::wasi::config::store::{Error as ConfigError, get as config_get};
#[cfg(feature = "wasi-keyvalue")]
pub use crate::proposals::wasi::keyvalue0_2_0_draft2::atomics::{Cas, CasError, swap};
#[cfg(feature = "wasi-keyvalue")]
pub use crate::proposals::wasi::keyvalue0_2_0_draft2::store::{Bucket, Error as StoreError, open};

#[cfg(not(feature = "wasi-config"))]
pub use self::environment::*;
#[cfg(feature = "wasi-otel")]
use self::otel as telemetry;
pub use self::outgoing::{fetch, fetch_all_within, fetch_within};
#[cfg(not(feature = "wasi-otel"))]
use self::stderr as telemetry;
#[cfg(all(feature = "wasi-keyvalue-draft", not(feature = "wasi-keyvalue")))]
pub use self::store_draft::*;
#[cfg(not(any(feature = "wasi-keyvalue", feature = "wasi-keyvalue-draft")))]
pub use self::store_none::*;
pub use self::telemetry::{Counter, Histogram, Span, add_request_event, log, recording, set_request_error};
pub use super::types::{
    Attribute, FetchError, Header, Label, Limited, Method, MetricError, Outgoing, Request, Response, Route, Severity,
    SpanKind, Value,
};

/// Starts a request with these header fields.
pub fn begin(headers: &[Header]) {
    propagation::begin(headers);
    telemetry::begin();
}
