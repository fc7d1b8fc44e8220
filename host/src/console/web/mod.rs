//! Serves the web pages: creates view models of the services and the stored traces.

mod events;
mod form;
pub(super) mod page_state;
mod stored;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use maud::Markup;
use serde::Deserialize;

use self::form::Params;
pub(crate) use self::view::address_url;
use super::history;
use super::pages::{self, assets};
use super::state::Console;
use crate::telemetry;
use crate::trace::{TraceQuery, TraceStore, TraceSummary, parse_trace_id};

/// How many traces the start page lists.
const LATEST: usize = 20;
/// How many of the latest traces are searched for them.
const SEARCHED: usize = 4 * LATEST;
/// How many traces are offered for comparison.
const MAX_SIMILAR: usize = 10;

/// The routes for browsers.
pub(super) fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/", get(services))
        .route("/services/{name}/{action}", post(service_action))
        .route("/traces", get(search))
        .route("/traces/{id}", get(trace))
        .route("/compare", get(compare))
        .route("/events", get(events::subscribe))
        .route("/assets/{version}/{name}", get(asset))
}

/// A page with its response headers.
pub(super) fn page(status: StatusCode, markup: Markup) -> Response {
    const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
    let fixed = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, assets::CONTENT_SECURITY_POLICY),
        // Forms of the console must send `Origin`; other sites get no referrer.
        (REFERRER_POLICY, "same-origin"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-store"),
        (OPENER, "same-origin"),
    ];
    (status, fixed, markup.into_string()).into_response()
}

fn problem(status: StatusCode, detail: &str) -> Response {
    page(status, pages::problem(status.canonical_reason().unwrap_or("Error"), detail))
}

async fn asset(Path((_, name)): Path<(String, String)>) -> Response {
    let Some((kind, content)) = assets::find(&name) else {
        return problem(StatusCode::NOT_FOUND, "There is no such asset");
    };
    let headers = [
        (CONTENT_TYPE, kind),
        // The URL changes with the content.
        (CACHE_CONTROL, "private, max-age=31536000, immutable"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, content).into_response()
}

/// The query parameters of the start page.
#[derive(Deserialize)]
struct StartPageParams {
    /// The service whose swaps are expanded.
    opened: Option<String>,
}

async fn services(
    State(console): State<Arc<Console>>,
    Query(StartPageParams { opened }): Query<StartPageParams>,
) -> Response {
    let latest = |store: &TraceStore| {
        let mut found = store.search(&TraceQuery { limit: SEARCHED, ..TraceQuery::default() });
        found.retain(is_of_services);
        found.truncate(LATEST);
        (store.is_on(), found)
    };
    let Ok((traced, found)) = console.query(latest).await else { return busy() };
    let shown = pages::services::Services {
        services: view::services(&console.control, &console.page_state.history),
        traces: found.iter().map(stored::row).collect(),
        traced,
        slots: history::SAMPLES,
        interval: history::INTERVAL.as_secs(),
        opened,
    };
    page(StatusCode::OK, pages::services::services(&shown))
}

/// Whether a trace is more than the host's own doing, such as its start.
fn is_of_services(trace: &TraceSummary) -> bool {
    trace.services.iter().any(|spans| &*spans.service != telemetry::SERVICE)
}

async fn search(State(console): State<Arc<Console>>, Query(params): Query<Params>) -> Response {
    let (form, query) = form::parse(params);
    let errors = query.as_ref().err().cloned().unwrap_or_default();
    let service = form.service.clone();
    let query_store = move |store: &TraceStore| {
        let services = store.services();
        let mut operations: Vec<_> = if service.is_empty() {
            services.iter().flat_map(|service| store.operations(service, None)).collect()
        } else {
            store.operations(&service, None)
        };
        operations.sort_by(|one, other| one.name.cmp(&other.name));
        operations.dedup_by(|one, other| one.name == other.name);
        operations.truncate(form::MAX_OPERATIONS);
        let found = query.map(|query| store.search(&query)).unwrap_or_default();
        (services, operations, found, store.stats())
    };
    let Ok((services, operations, found, stats)) = console.query(query_store).await else { return busy() };
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let shown = pages::search::Search {
        form,
        errors,
        services,
        operations: operations.into_iter().map(|operation| operation.name).collect(),
        found: found.iter().map(stored::row).collect(),
        note: view::store(&stats),
    };
    page(status, pages::search::search(&shown))
}

async fn trace(State(console): State<Arc<Console>>, Path(id): Path<String>) -> Response {
    let Some(id) = parse_trace_id(&id) else { return trace_not_found(&id) };
    let query_store = move |store: &TraceStore| {
        let found = store.trace(id)?;
        let root = store.summary(id).and_then(|summary| summary.root);
        let similar = root.map(|root| TraceQuery {
            service: Some(root.service.to_string()),
            operation: Some(root.name),
            limit: MAX_SIMILAR + 1,
            ..TraceQuery::default()
        });
        let mut similar = similar.map(|query| store.search(&query)).unwrap_or_default();
        similar.retain(|other| other.trace_id != id);
        Some((found, similar))
    };
    let Ok(found) = console.query(query_store).await else { return busy() };
    let Some((found, similar)) = found else { return trace_not_found(&id.to_string()) };
    let similar = similar.iter().map(stored::row).collect();
    page(StatusCode::OK, pages::trace::trace(&pages::trace::TracePage { trace: stored::trace(&found), similar }))
}

/// The traces to compare.
#[derive(Deserialize)]
struct CompareParams {
    #[serde(default)]
    a: String,
    #[serde(default)]
    b: String,
}

async fn compare(State(console): State<Arc<Console>>, Query(CompareParams { a, b }): Query<CompareParams>) -> Response {
    let mut traces = Vec::new();
    for text in [a, b] {
        let text = text.trim().to_owned();
        let Some(id) = parse_trace_id(&text) else { return trace_not_found(&text) };
        let Ok(found) = console.query(move |store| store.trace(id)).await else { return busy() };
        let Some(found) = found else { return trace_not_found(&text) };
        traces.push(stored::trace(&found));
    }
    let [a, b] = traces.as_slice() else { return trace_not_found("") };
    page(StatusCode::OK, pages::compare::compare(a, b))
}

/// A rollback, promotion or abort from a form. The result is in the swaps of the service, which the next page shows.
async fn service_action(
    State(console): State<Arc<Console>>,
    Path((name, action)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    // The origin of the form was checked during authentication.
    if !headers.contains_key(ORIGIN) {
        return problem(StatusCode::FORBIDDEN, "This form must be sent from the console's own page");
    }
    let Some(service) = console.control.catalog.find(&name) else {
        return problem(StatusCode::NOT_FOUND, "There is no such service");
    };
    let done = match action.as_str() {
        "rollback" => console.control.swapper.rollback(&service).await,
        "promote" => console.control.promote(&service).await,
        "abort" => console.control.abort(&service).await,
        _ => return problem(StatusCode::NOT_FOUND, "There is no such action"),
    };
    // The reason of a failure has been recorded.
    drop(done);
    let name = pages::services::encoded(&name);
    match HeaderValue::from_str(&format!("/?opened={name}#service-{name}")) {
        Ok(location) => (StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response(),
        Err(_) => problem(StatusCode::BAD_REQUEST, "The name of the service is invalid"),
    }
}

fn trace_not_found(id: &str) -> Response {
    let detail = format!(
        "The store has no trace `{id}`. It holds the latest traces in memory: this one may have been evicted for later \
         ones, or was never recorded by this host."
    );
    page(StatusCode::NOT_FOUND, pages::problem("Trace not found", &detail))
}

fn busy() -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, "The console is busy with other searches; try again")
}
