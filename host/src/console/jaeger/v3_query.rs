//! Jaeger's v3 API: the routes below `/api/v3`.
//!
//! Parameters are accepted in the form of protobuf JSON and in the older one with underscores.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::query::{Parameters, go_bool, parse_id, stored_id};
use super::span::{kind_name, kind_named};
use super::trace::Adjusted;
use super::{duration, v3};
use crate::console::state::{Busy, Console};
use crate::console::{responses, timestamp};
use crate::trace::{TimeScope, TraceQuery, TraceStore};

/// The default number of traces.
const LIMIT: usize = 100;

const SERVICE: [&str; 2] = ["query.serviceName", "query.service_name"];
const OPERATION: [&str; 2] = ["query.operationName", "query.operation_name"];
const START_TIME_MIN: [&str; 2] = ["query.startTimeMin", "query.start_time_min"];
const START_TIME_MAX: [&str; 2] = ["query.startTimeMax", "query.start_time_max"];
const DURATION_MIN: [&str; 2] = ["query.durationMin", "query.duration_min"];
const DURATION_MAX: [&str; 2] = ["query.durationMax", "query.duration_max"];
const SEARCH_DEPTH: [&str; 3] = ["query.searchDepth", "query.search_depth", "query.num_traces"];
const RAW_SEARCH: [&str; 2] = ["query.rawTraces", "query.raw_traces"];
const RAW_TRACE: [&str; 2] = ["rawTraces", "raw_traces"];
const TIME_RANGE: [&str; 4] = ["startTime", "start_time", "endTime", "end_time"];

/// `GET /api/v3/services`.
pub(super) async fn services(State(console): State<Arc<Console>>) -> Response {
    match console.query(TraceStore::services).await {
        Ok(services) => listed("services", services.into_iter().map(Value::from).collect()),
        Err(busy) => busy_response(busy),
    }
}

/// `GET /api/v3/operations?service=&spanKind=`.
pub(super) async fn operations(State(console): State<Arc<Console>>, RawQuery(query): RawQuery) -> Response {
    let parameters = Parameters::read(&query.unwrap_or_default());
    let service = parameters.get("service").to_owned();
    let wanted = parameters.any(&["spanKind", "span_kind"]).map(|(_, kind)| kind_named(kind));
    let kind = match wanted {
        None => None,
        Some(Some(kind)) => Some(kind),
        Some(None) => return listed("operations", Vec::new()),
    };
    let operations = match console.query(move |store| store.operations(&service, kind.as_ref())).await {
        Ok(operations) => operations,
        Err(busy) => return busy_response(busy),
    };
    let shown = operations.into_iter().map(|operation| {
        let mut shown = Map::new();
        for (field, value) in [("name", &*operation.name), ("spanKind", kind_name(operation.kind.as_ref()))] {
            if !value.is_empty() {
                shown.insert(field.to_owned(), value.into());
            }
        }
        Value::from(shown)
    });
    listed("operations", shown.collect())
}

/// `GET /api/v3/traces`.
pub(super) async fn search(State(console): State<Arc<Console>>, RawQuery(query): RawQuery) -> Response {
    let (query, adjusted) = match read_search(&Parameters::read(&query.unwrap_or_default())) {
        Ok(asked) => asked,
        Err(message) => return error_response(StatusCode::BAD_REQUEST, &message),
    };
    let found = console.query(move |store| match store.find(&query).as_slice() {
        [] => error_response(StatusCode::NOT_FOUND, "No traces found"),
        found => responses::json(&v3::wrapped(found, adjusted)),
    });
    found.await.unwrap_or_else(busy_response)
}

/// `GET /api/v3/traces/{id}`.
pub(super) async fn trace(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let parameters = Parameters::read(&query.unwrap_or_default());
    let asked = read_trace(&id, &parameters);
    let (id, adjusted) = match asked {
        Ok(asked) => asked,
        Err(message) => return error_response(StatusCode::BAD_REQUEST, &message),
    };
    let found = console.query(move |store| match store.trace(stored_id(id)) {
        Some(stored) => responses::json(&v3::wrapped(&[stored], adjusted)),
        None => error_response(StatusCode::NOT_FOUND, "No traces found"),
    });
    found.await.unwrap_or_else(busy_response)
}

fn read_trace(id: &str, parameters: &Parameters) -> Result<(u128, Adjusted), String> {
    let id = parse_id(id).map_err(|error| malformed("trace_id", &error))?;
    for name in TIME_RANGE {
        time(parameters, &[name])?;
    }
    Ok((id, raw(parameters, &RAW_TRACE)?))
}

fn read_search(parameters: &Parameters) -> Result<(TraceQuery, Adjusted), String> {
    let (Some(after), Some(before)) = (time(parameters, &START_TIME_MIN)?, time(parameters, &START_TIME_MAX)?) else {
        return Err(format!("{} and {} are required", START_TIME_MIN[1], START_TIME_MAX[1]));
    };
    let limit = match parameters.any(&SEARCH_DEPTH) {
        None => LIMIT,
        Some((name, text)) => text
            .parse::<usize>()
            .ok()
            .filter(|depth| *depth > 0)
            .ok_or_else(|| malformed(name, &format!("strconv.Atoi: parsing {text:?}: invalid syntax")))?,
    };
    let given = |names: &[&'static str]| parameters.any(names).map(|(_, value)| value.to_owned());
    let query = TraceQuery {
        service: given(&SERVICE),
        operation: given(&OPERATION),
        tags: tags(parameters)?,
        after: Some(after),
        before: Some(before),
        min_duration: bound(parameters, &DURATION_MIN)?,
        max_duration: bound(parameters, &DURATION_MAX)?,
        time_scope: TimeScope::Span,
        limit,
        ..TraceQuery::default()
    };
    Ok((query, raw(parameters, &RAW_SEARCH)?))
}

fn tags(parameters: &Parameters) -> Result<Vec<(String, String)>, String> {
    match parameters.get("query.attributes") {
        "" => Ok(Vec::new()),
        json => serde_json::from_str::<std::collections::BTreeMap<String, String>>(json)
            .map(|tags| tags.into_iter().collect())
            .map_err(|error| malformed("query.attributes", &error.to_string())),
    }
}

fn time(parameters: &Parameters, names: &[&'static str]) -> Result<Option<SystemTime>, String> {
    let Some((name, text)) = parameters.any(names) else { return Ok(None) };
    timestamp::parse(text).map(Some).ok_or_else(|| malformed(name, &format!("parsing time {text:?} as RFC 3339")))
}

fn bound(parameters: &Parameters, names: &[&'static str]) -> Result<Option<Duration>, String> {
    let Some((name, text)) = parameters.any(names) else { return Ok(None) };
    let nanos = duration::parse(text).map_err(|error| malformed(name, &error))?;
    Ok((nanos > 0).then(|| Duration::from_nanos(nanos.unsigned_abs())))
}

fn raw(parameters: &Parameters, names: &[&'static str]) -> Result<Adjusted, String> {
    let Some((name, text)) = parameters.any(names) else { return Ok(Adjusted::Yes) };
    if go_bool(text).map_err(|error| malformed(name, &error))? { Ok(Adjusted::Raw) } else { Ok(Adjusted::Yes) }
}

fn malformed(parameter: &str, error: &str) -> String {
    format!("malformed parameter {parameter}: {error}")
}

/// A list under its name.
fn listed(name: &str, values: Vec<Value>) -> Response {
    responses::json(&json!({ name: values }))
}

fn busy_response(busy: Busy) -> Response {
    error_response(StatusCode::SERVICE_UNAVAILABLE, &busy.to_string())
}

fn error_response(status: StatusCode, message: &str) -> Response {
    responses::json_with(status, &json!({ "error": { "httpCode": status.as_u16(), "message": message } }))
}
