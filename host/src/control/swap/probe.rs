//! Asks a candidate whether it is well, before anybody else does.
//!
//! The probe runs inside the candidate, under the service's own limits. A candidate that is unwell in exactly the way
//! in which the serving version is (a dependency of both is down, say) is no worse than it and may be published.

use std::sync::Arc;

use http::Method;

use super::error::SwapError;
use crate::component::Kind;
use crate::http::routes::Match;
use crate::serve::dispatch::Dispatcher;
use crate::services::Generation;
use crate::trace::{Incoming, Pipeline, SpanKind};

/// What is asked where the manifest names nothing else and the component has such a route.
const HEALTH: &str = "/health";

/// Probes `candidate`. One without the default route is not asked.
pub(super) async fn ask(
    dispatcher: &Arc<Dispatcher>,
    pipeline: &Pipeline,
    candidate: &Arc<Generation>,
    old: &Arc<Generation>,
) -> Result<(), SwapError> {
    let path = candidate.config.probe.as_deref().unwrap_or(HEALTH);
    let refusal = |reason: String| Err(SwapError::Probe { path: path.to_owned(), reason });
    let is_found = matches!(candidate.routes().find(&Method::GET, path), Match::Found { .. });
    match (&candidate.config.probe, candidate.kind()) {
        _ if is_found => {}
        // Whether a standard component has such a path, only asking tells.
        (Some(_), Kind::Standard(_)) => {}
        (Some(_), _) => return refusal("has no route".to_owned()),
        // That it can be instantiated is known.
        (None, _) => return Ok(()),
    }
    let probe = |generation: Arc<Generation>| async move {
        let (incoming, name) = (Incoming::default(), format!("probe {path}"));
        let recorder = pipeline.record(&generation.resource, &incoming, name, SpanKind::Internal);
        dispatcher.probe(&generation, recorder, path).await
    };
    match probe(candidate.clone()).await {
        Ok(status) if status.is_success() => Ok(()),
        Ok(status) if probe(old.clone()).await.is_ok_and(|serving| serving == status) => Ok(()),
        Ok(status) => refusal(format!("answered {status}")),
        Err(failure) => refusal(failure.to_string()),
    }
}
