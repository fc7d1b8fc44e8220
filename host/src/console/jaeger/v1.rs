//! Jaeger's v1 API: the routes below `/api`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::model::{DependencyLink, OperationJson, Structured, StructuredError};
use super::query::{Parameters, Search, parse_id, stored_id};
use super::span::{kind_name, kind_named};
use super::trace::{self, Adjusted};
use crate::console::responses;
use crate::console::state::{Busy, Console};
use crate::trace::{Dependency, TraceStore};

/// Jaeger's message for a missing trace.
pub(super) const NOT_FOUND: &str = "trace not found";

/// `GET /api/services`.
pub(super) async fn services(State(console): State<Arc<Console>>) -> Response {
    match console.query(TraceStore::services).await {
        Ok(services) => names(services),
        Err(busy) => busy_response(busy),
    }
}

/// `GET /api/services/{service}/operations`.
pub(super) async fn operations_of(State(console): State<Arc<Console>>, Path(service): Path<String>) -> Response {
    let operations = match console.query(move |store| store.operations(&service, None)).await {
        Ok(operations) => operations,
        Err(busy) => return busy_response(busy),
    };
    let unique: BTreeSet<String> = operations.into_iter().map(|operation| operation.name).collect();
    names(unique.into_iter().collect())
}

/// `GET /api/operations?service=&spanKind=`.
pub(super) async fn operations(State(console): State<Arc<Console>>, RawQuery(query): RawQuery) -> Response {
    let parameters = Parameters::read(&query.unwrap_or_default());
    let service = parameters.get("service").to_owned();
    if service.is_empty() {
        return error_response(StatusCode::BAD_REQUEST, "parameter 'service' is required".to_owned());
    }
    let wanted = parameters.get("spanKind").to_owned();
    let kind = kind_named(&wanted);
    if kind.is_none() && !wanted.is_empty() {
        return responses::json(&Structured::of([(); 0], 0));
    }
    let operations = match console.query(move |store| store.operations(&service, kind.as_ref())).await {
        Ok(operations) => operations,
        Err(busy) => return busy_response(busy),
    };
    let operations = operations
        .into_iter()
        .map(|found| OperationJson { span_kind: kind_name(found.kind.as_ref()), name: found.name });
    let operations: Vec<_> = operations.collect();
    let total = operations.len();
    responses::json(&Structured::of(operations, total))
}

/// `GET /api/traces`.
pub(super) async fn search(State(console): State<Arc<Console>>, RawQuery(query): RawQuery) -> Response {
    let Search { query, ids, adjusted } = match Parameters::read(&query.unwrap_or_default()).search(SystemTime::now()) {
        Ok(search) => search,
        Err(error) => return error_response(StatusCode::BAD_REQUEST, error),
    };
    if ids.is_empty() {
        let found = console.query(move |store| {
            let found = store.find(&query);
            let traces: Vec<_> = found.iter().map(|stored| trace::trace(stored, adjusted)).collect();
            responses::json(&Structured::of(traces, 0))
        });
        return found.await.unwrap_or_else(busy_response);
    }
    console.query(move |store| by_ids(store, &ids, adjusted)).await.unwrap_or_else(busy_response)
}

/// Returns the existing traces; the response has an error for each missing one.
fn by_ids(store: &TraceStore, ids: &[u128], adjusted: Adjusted) -> Response {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for id in ids {
        match store.trace(stored_id(*id)) {
            Some(stored) => found.push(trace::trace(&stored, adjusted)),
            None => {
                missing.push(StructuredError { code: 0, msg: NOT_FOUND.to_owned(), trace_id: trace::trace_id(*id) })
            }
        }
    }
    let errors = (!missing.is_empty()).then_some(missing);
    responses::json(&Structured { errors, ..Structured::of(found, 0) })
}

/// `GET /api/traces/{id}`.
pub(super) async fn trace(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let parameters = Parameters::read(&query.unwrap_or_default());
    let times = parameters.micros("start").and_then(|_| parameters.micros("end"));
    let asked = parse_id(&id).and_then(|id| times.and_then(|_| Ok((id, parameters.adjusted()?))));
    let (id, adjusted) = match asked {
        Ok(asked) => asked,
        Err(error) => return error_response(StatusCode::BAD_REQUEST, error),
    };
    let found = console.query(move |store| match store.trace(stored_id(id)) {
        Some(stored) => responses::json(&Structured::of([trace::trace(&stored, adjusted)], 0)),
        None => error_response(StatusCode::NOT_FOUND, NOT_FOUND.to_owned()),
    });
    found.await.unwrap_or_else(busy_response)
}

/// `GET /api/dependencies?endTs=&lookback=`.
pub(super) async fn dependencies(State(console): State<Arc<Console>>, RawQuery(query): RawQuery) -> Response {
    let parameters = Parameters::read(&query.unwrap_or_default());
    let (after, before) = match parameters.dependencies(SystemTime::now()) {
        Ok(time) => time,
        Err(error) => return error_response(StatusCode::BAD_REQUEST, error),
    };
    let service = parameters.get("service").to_owned();
    let found = match console.query(move |store| store.dependencies(after, before)).await {
        Ok(found) => found,
        Err(busy) => return busy_response(busy),
    };
    let wanted = |link: &Dependency| service.is_empty() || link.parent == service || link.child == service;
    let links = found.into_iter().filter(wanted);
    let links = links.map(|link| DependencyLink { parent: link.parent, child: link.child, call_count: link.calls });
    responses::json(&Structured::of(links.collect::<Vec<_>>(), 0))
}

/// A list of names, which Jaeger omits if it is empty.
fn names(names: Vec<String>) -> Response {
    let total = names.len();
    responses::json(&Structured::of((total > 0).then_some(names), total))
}

fn busy_response(busy: Busy) -> Response {
    error_response(StatusCode::SERVICE_UNAVAILABLE, busy.to_string())
}

/// An error response.
fn error_response(status: StatusCode, message: String) -> Response {
    #[derive(Serialize)]
    struct Nothing;
    let error = StructuredError { code: status.as_u16(), msg: message, trace_id: String::new() };
    responses::json_with(status, &Structured { errors: Some(vec![error]), ..Structured::of(Nothing, 0) })
}
