//! The admin API `/admin/v1`: swaps, rollbacks and canaries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{get, post, put};
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;

use super::history::{History, RecentStats};
use super::responses::{json, problem};
use super::state::Console;
use crate::control::swap::{ServiceReport, SwapError, SwapOptions, Swapped, parse_share};

/// The largest uploaded component, in bytes.
const COMPONENT_LIMIT: usize = 128 * 1024 * 1024;
/// The longest time that an upload of a component may take.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// The response to a completed swap.
#[derive(Serialize)]
struct SwapResponse {
    generation: u64,
    digest: String,
    /// False if the component was already serving.
    changed: bool,
    /// Milliseconds per step.
    timings_ms: BTreeMap<&'static str, f64>,
}

impl From<Swapped> for SwapResponse {
    fn from(swapped: Swapped) -> SwapResponse {
        let timings = swapped.timings.into_iter();
        SwapResponse {
            generation: swapped.generation,
            digest: swapped.digest,
            changed: swapped.changed,
            timings_ms: timings.map(|(step, duration)| (step, duration.as_secs_f64() * 1e3)).collect(),
        }
    }
}

/// A service, with its request statistics of the last minute.
#[derive(Serialize)]
struct Status {
    #[serde(flatten)]
    report: ServiceReport,
    recent: RecentStats,
}

impl Status {
    fn of(report: ServiceReport, history: &History) -> Status {
        let recent = history.recent(&report.name);
        Status { report, recent }
    }
}

/// The routes below `/admin` that concern services.
pub(super) fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/admin/v1/services", get(services))
        .route("/admin/v1/services/{name}/component", put(swap))
        .route("/admin/v1/services/{name}/rollback", post(roll_back))
        .route("/admin/v1/services/{name}/promote", post(promote))
        .route("/admin/v1/services/{name}/abort", post(abort))
}

/// `GET /admin/v1/services`.
async fn services(State(console): State<Arc<Console>>) -> Response {
    let reports = console.control.reports().into_iter();
    json(&reports.map(|report| Status::of(report, &console.page_state.history)).collect::<Vec<_>>())
}

/// `PUT /admin/v1/services/{name}/component`: the body is the component.
async fn swap(State(console): State<Arc<Console>>, Path(name): Path<String>, request: Request) -> Response {
    let Some(service) = console.control.catalog.find(&name) else { return absent(&console, &name) };
    let options = match options(request.uri().query().unwrap_or_default()) {
        Ok(options) => options,
        Err(reason) => return problem(StatusCode::BAD_REQUEST, &reason),
    };
    let permit = tokio::time::timeout(UPLOAD_TIMEOUT, console.uploads.acquire()).await;
    let Ok(Ok(_permit)) = permit else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "The console is receiving other components; try again later");
    };
    let bytes = match read(request.into_body()).await {
        Ok(bytes) => bytes,
        Err(response) => return response,
    };
    swap_response(console.control.swap(&service, bytes, options).await)
}

/// `POST /admin/v1/services/{name}/rollback`.
async fn roll_back(State(console): State<Arc<Console>>, Path(name): Path<String>) -> Response {
    let Some(service) = console.control.catalog.find(&name) else { return absent(&console, &name) };
    swap_response(console.control.swapper.rollback(&service).await)
}

/// `POST /admin/v1/services/{name}/promote`.
async fn promote(State(console): State<Arc<Console>>, Path(name): Path<String>) -> Response {
    let Some(service) = console.control.catalog.find(&name) else { return absent(&console, &name) };
    swap_response(console.control.promote(&service).await)
}

/// `POST /admin/v1/services/{name}/abort`.
async fn abort(State(console): State<Arc<Console>>, Path(name): Path<String>) -> Response {
    let Some(service) = console.control.catalog.find(&name) else { return absent(&console, &name) };
    swap_response(console.control.abort(&service).await)
}

fn swap_response(result: Result<Swapped, SwapError>) -> Response {
    match result {
        Ok(swapped) => json(&SwapResponse::from(swapped)),
        Err(error) => problem(status(&error), &error.to_string()),
    }
}

fn status(error: &SwapError) -> StatusCode {
    match error {
        SwapError::Superseded
        | SwapError::Removed
        | SwapError::Stopping
        | SwapError::CanaryRunning(_)
        | SwapError::NoCanary
        | SwapError::NoEarlierGeneration => StatusCode::CONFLICT,
        SwapError::NoInstance(_) => StatusCode::SERVICE_UNAVAILABLE,
        SwapError::Failed(_) | SwapError::Unreadable(_) => StatusCode::INTERNAL_SERVER_ERROR,
        SwapError::Component(_) | SwapError::DroppedRoutes(_) | SwapError::Probe { .. } => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
    }
}

fn absent(console: &Console, name: &str) -> Response {
    if console.control.is_starting(name) {
        let detail = format!("The service `{name}` has not started yet; try again later");
        return problem(StatusCode::SERVICE_UNAVAILABLE, &detail);
    }
    problem(StatusCode::NOT_FOUND, &format!("There is no service `{name}`"))
}

async fn read(body: Body) -> Result<Arc<[u8]>, Response> {
    let body = Limited::new(body, COMPONENT_LIMIT).collect();
    let body = tokio::time::timeout(UPLOAD_TIMEOUT, body).await;
    let body = body.map_err(|_| problem(StatusCode::REQUEST_TIMEOUT, "The component did not arrive in time"))?;
    let body = body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let detail = format!("The component is larger than {COMPONENT_LIMIT} bytes");
            problem(StatusCode::PAYLOAD_TOO_LARGE, &detail)
        } else {
            problem(StatusCode::BAD_REQUEST, "The component was not received completely")
        }
    })?;
    Ok(Arc::from(&body.to_bytes()[..]))
}

/// Parses `allow-dropped-routes=true` and `canary=10%` in the query.
fn options(query: &str) -> Result<SwapOptions, String> {
    let mut options = SwapOptions::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
        match (key, value) {
            ("allow-dropped-routes", "true") => options.allow_dropped_routes = true,
            ("allow-dropped-routes", "false") => options.allow_dropped_routes = false,
            ("canary", share) => options.canary = Some(parse_share(&share.replace("%25", "%"))?),
            _ => {
                return Err(format!(
                    "`{pair}` is not an option of a swap: the options are allow-dropped-routes and canary"
                ));
            }
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_parsed_from_the_query() {
        let read = options("allow-dropped-routes=true&canary=10%25").unwrap();
        assert!(read.allow_dropped_routes);
        assert_eq!(read.canary, Some(1000));
        assert_eq!(options("canary=0.5%").unwrap().canary, Some(50));
        assert_eq!(options("").unwrap().canary, None);
        for bad in ["canary=0", "canary=100%", "canary=x", "force=true", "allow-dropped-routes=maybe"] {
            assert!(options(bad).is_err(), "{bad}");
        }
    }
}
