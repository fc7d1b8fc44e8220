//! Probes the health of a candidate before it serves requests.
//!
//! The probe runs inside the candidate, under the service's own limits. A candidate that fails in the same way as the
//! serving version (for instance because a dependency of both is down) may still be published.

use std::sync::Arc;

use http::Method;

use super::error::SwapError;
use crate::component::Kind;
use crate::http::routes::Match;
use crate::serve::dispatch::Dispatcher;
use crate::services::Generation;
use crate::trace::{Incoming, Pipeline, SpanKind};

/// The default path, used if the manifest names none and the component has such a route.
const HEALTH: &str = "/health";

/// Probes `candidate`. A candidate without the default route is not probed.
pub(super) async fn probe(
    dispatcher: &Arc<Dispatcher>,
    pipeline: &Pipeline,
    candidate: &Arc<Generation>,
    old: &Arc<Generation>,
) -> Result<(), SwapError> {
    let path = candidate.config.probe.as_deref().unwrap_or(HEALTH);
    let failed = |reason: String| Err(SwapError::Probe { path: path.to_owned(), reason });
    let route = match candidate.routes().find(&Method::GET, path) {
        Match::Found { index, .. } => candidate.routes().get(index),
        Match::WrongMethod(_) | Match::NotFound => None,
    };
    match (&candidate.config.probe, candidate.kind()) {
        (Some(_), _) if route.is_some() => {}
        // Of a route such as `/**`, it is not known whether the component responds to this path.
        (None, _) if route.is_some_and(|route| *route.template == *HEALTH) => {}
        // A standard component declares no routes, so only a request shows whether it has this one.
        (Some(_), Kind::Standard(_)) => {}
        (Some(_), _) => return failed("has no route".to_owned()),
        // Instantiation has already succeeded.
        (None, _) => return Ok(()),
    }
    let send = |generation: Arc<Generation>| async move {
        let (incoming, name) = (Incoming::default(), format!("probe {path}"));
        let recorder = pipeline.record(&generation.resource, &incoming, name, SpanKind::Internal);
        dispatcher.probe(&generation, recorder, path).await
    };
    match send(candidate.clone()).await {
        Ok(status) if status.is_success() => Ok(()),
        Ok(status) if send(old.clone()).await.is_ok_and(|serving| serving == status) => Ok(()),
        Ok(status) => failed(format!("answered {status}")),
        Err(failure) => failed(failure.to_string()),
    }
}
