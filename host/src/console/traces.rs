//! `/admin/v1/traces`: summaries of the stored traces, for the command line and for scripts.

use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::jaeger::parse_duration;
use super::state::Console;
use super::{responses, timestamp};
use crate::trace::{ServiceSpans, TraceQuery, TraceSummary};

/// The default number of listed traces.
const LIMIT: usize = 20;
/// The largest number of listed traces.
const MAX_LIMIT: usize = 10_000;

/// The query parameters.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TraceListParams {
    service: Option<String>,
    operation: Option<String>,
    /// As in `250ms`.
    min_duration: Option<String>,
    max_duration: Option<String>,
    /// As in `1h`, or `all`.
    lookback: Option<String>,
    #[serde(default)]
    errors: bool,
    limit: Option<usize>,
}

/// The summary of one trace.
#[derive(Serialize)]
struct TraceEntry<'s> {
    trace_id: String,
    start: String,
    duration_ms: f64,
    service: Option<&'s str>,
    operation: Option<&'s str>,
    http_status: Option<i64>,
    services: Vec<ServiceEntry<'s>>,
    spans: usize,
    errors: usize,
    logs: usize,
}

/// The spans of a service in it.
#[derive(Serialize)]
struct ServiceEntry<'s> {
    name: &'s str,
    spans: usize,
    errors: usize,
}

/// Statistics of the store.
#[derive(Serialize)]
struct StoreReport {
    capacity_bytes: usize,
    bytes: usize,
    traces: usize,
    failed: usize,
    slow: usize,
    left_out: LeftOutCounts,
}

/// Traces that were left out or evicted, by reason.
#[derive(Serialize)]
struct LeftOutCounts {
    sampled: u64,
    overflow: u64,
    too_large: u64,
    evicted: u64,
}

pub(super) fn routes() -> Router<Arc<Console>> {
    Router::new().route("/admin/v1/traces", get(traces)).route("/admin/v1/store", get(store))
}

/// `GET /admin/v1/traces`.
async fn traces(State(console): State<Arc<Console>>, Query(asked): Query<TraceListParams>) -> Response {
    let query = match asked.query(SystemTime::now()) {
        Ok(query) => query,
        Err(reason) => return responses::problem(StatusCode::BAD_REQUEST, &reason),
    };
    let found = console.query(move |store| {
        let found = store.search(&query);
        responses::json(&found.iter().map(TraceEntry::of).collect::<Vec<_>>())
    });
    found.await.into_response()
}

/// `GET /admin/v1/store`.
async fn store(State(console): State<Arc<Console>>) -> Response {
    let stats = console.query(|store| {
        let stats = store.stats();
        responses::json(&StoreReport {
            capacity_bytes: stats.capacity,
            bytes: stats.bytes,
            traces: stats.traces,
            failed: stats.failed,
            slow: stats.slow,
            left_out: LeftOutCounts {
                sampled: stats.sampled_out,
                overflow: stats.overflowed,
                too_large: stats.too_large,
                evicted: stats.evicted,
            },
        })
    });
    stats.await.into_response()
}

impl TraceListParams {
    fn query(self, now: SystemTime) -> Result<TraceQuery, String> {
        let bound = |text: Option<String>| text.as_deref().map(parse_duration).transpose();
        let after = match self.lookback.as_deref() {
            None | Some("all") => None,
            Some(text) => now.checked_sub(parse_duration(text)?),
        };
        Ok(TraceQuery {
            service: self.service.filter(|service| !service.is_empty()),
            operation: self.operation.filter(|operation| !operation.is_empty()),
            min_duration: bound(self.min_duration)?,
            max_duration: bound(self.max_duration)?,
            after,
            errors_only: self.errors,
            limit: self.limit.filter(|limit| *limit > 0).unwrap_or(LIMIT).min(MAX_LIMIT),
            ..TraceQuery::default()
        })
    }
}

impl TraceEntry<'_> {
    fn of(summary: &TraceSummary) -> TraceEntry<'_> {
        let root = summary.root.as_ref();
        TraceEntry {
            trace_id: format!("{:032x}", summary.trace_id),
            start: timestamp::text(summary.start),
            duration_ms: summary.duration.as_secs_f64() * 1e3,
            service: root.map(|root| &*root.service),
            operation: root.map(|root| root.name.as_str()),
            http_status: root.and_then(|root| root.http_status),
            services: summary.services.iter().map(ServiceEntry::of).collect(),
            spans: summary.spans,
            errors: summary.errors,
            logs: summary.logs,
        }
    }
}

impl ServiceEntry<'_> {
    fn of(part: &ServiceSpans) -> ServiceEntry<'_> {
        ServiceEntry { name: &part.service, spans: part.spans, errors: part.errors }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_limit_has_a_default_and_a_maximum() {
        let limit = |limit| TraceListParams { limit, ..TraceListParams::default() }.query(UNIX_EPOCH).unwrap().limit;
        assert_eq!([limit(None), limit(Some(0)), limit(Some(5)), limit(Some(usize::MAX))], [20, 20, 5, MAX_LIMIT]);
    }

    #[test]
    fn invalid_durations_are_rejected() {
        let asked = |text: &str| {
            TraceListParams { min_duration: Some(text.to_owned()), ..TraceListParams::default() }.query(UNIX_EPOCH)
        };
        assert_eq!(asked("1.5s").unwrap().min_duration, Some(Duration::from_millis(1500)));
        assert!(asked("5").unwrap_err().contains("missing unit"));
        assert!(asked("-5s").is_err());
    }
}
