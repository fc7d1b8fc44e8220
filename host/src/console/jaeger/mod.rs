//! Jaeger's query API over the trace store: v1, which its UI and Grafana use, and v3, which returns OTLP JSON.
//!
//! Parameters, responses, errors and their statuses are Jaeger's, so that its clients work. Times and durations in a
//! search refer to single spans, as in Jaeger.

mod adjust;
mod clock_skew;
mod duration;
mod model;
mod query;
mod span;
mod trace;
mod ui;
mod v1;
mod v3;
mod v3_query;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;

use super::state::Console;

pub(super) use self::ui::routes as ui_routes;

/// The routes below `/api`.
pub(super) fn routes() -> Router<Arc<Console>> {
    Router::new().nest("/api", api())
}

/// The API, under any base path.
fn api() -> Router<Arc<Console>> {
    Router::new()
        .route("/services", get(v1::services))
        .route("/services/{service}/operations", get(v1::operations_of))
        .route("/operations", get(v1::operations))
        .route("/traces", get(v1::search))
        .route("/traces/{id}", get(v1::trace))
        .route("/dependencies", get(v1::dependencies))
        .route("/v3/services", get(v3_query::services))
        .route("/v3/operations", get(v3_query::operations))
        .route("/v3/traces", get(v3_query::search))
        .route("/v3/traces/{id}", get(v3_query::trace))
}

/// A duration in a search, as Jaeger's clients write it.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let nanos = duration::parse(text)?;
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| format!("the duration {text:?} is below zero"))
}
