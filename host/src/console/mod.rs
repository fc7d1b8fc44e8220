//! The console: health, metrics, administration and the stored traces, on a listener of its own.
//!
//! It listens on loopback; on any other address only with a token, which every caller must send. Without a token it
//! rejects requests from pages of other sites. Slow operations run on blocking threads, a few at a time, so that the
//! console does not take the CPU from the services.

mod admin;
mod auth;
mod health;
mod history;
mod jaeger;
mod pages;
mod responses;
mod state;
mod timestamp;
mod traces;
mod web;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::get;
use http::{Request, StatusCode};
use tower::ServiceExt;

use self::auth::admin_auth::AdminAuth;
#[cfg(test)]
pub(crate) use self::pages::sample;
pub(crate) use self::pages::{
    AttributeModel, Event, SpanKindModel, SpanModel, TraceModel, TreeNode, ValueModel, find, units,
};
use self::state::Console;
pub(crate) use self::web::address_url;
use crate::control::Control;
use crate::http::Body;
use crate::serve::admission::Admission;
use crate::serve::listener::{BoundPort, Listener};
use crate::trace::otlp_receiver;

/// Serves the console on a bound port.
pub(crate) fn serve(bound: BoundPort, control: Arc<Control>) -> Listener {
    let admission = Admission::console(control.admission.timeouts());
    let config = control.config.load_full();
    let auth = AdminAuth::new(config.console.admin_token.clone(), bound.address);
    let console = Console::new(control, auth);
    let ui = config.console.jaeger_ui.as_deref().map(jaeger::ui_routes).unwrap_or_default();
    let router = router(&console, ui).with_state(console);
    bound.serve(admission, |_| (), move |request, ()| Box::pin(respond(router.clone(), request)))
}

/// Receives spans of other processes by OTLP, on a separate port.
pub(crate) fn serve_otlp(bound: BoundPort, control: &Control) -> Listener {
    let admission = Admission::console(control.admission.timeouts());
    let router = otlp_receiver(control.pipeline.store().clone());
    bound.serve(admission, |_| (), move |request, ()| Box::pin(respond(router.clone(), request)))
}

async fn respond(router: Router, request: Request<Body>) -> http::Response<Body> {
    let answered = router.oneshot(request).await.unwrap_or_else(|never| match never {});
    answered.map(Body::from_transport)
}

/// All paths of the console, each with its methods.
fn router(console: &Arc<Console>, ui: Router<Arc<Console>>) -> Router<Arc<Console>> {
    let guarded = Router::new()
        .route("/metrics", get(health::metrics))
        .merge(admin::routes())
        .merge(traces::routes())
        .merge(web::routes())
        .merge(jaeger::routes())
        .merge(ui)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(console.clone(), auth::authenticate));
    let open = Router::new()
        .route("/healthz", get(health::healthy))
        .route("/readyz", get(health::ready))
        .merge(auth::routes())
        .method_not_allowed_fallback(method_not_allowed);
    open.merge(guarded)
}

async fn not_found() -> Response {
    responses::problem(StatusCode::NOT_FOUND, "The console has no such path")
}

/// The router adds `Allow`.
async fn method_not_allowed() -> Response {
    responses::problem(StatusCode::METHOD_NOT_ALLOWED, "This path does not allow this method")
}
