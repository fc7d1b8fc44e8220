//! The console: health, metrics and administration on one listener of its own.
//!
//! It listens on loopback, and on any other address only with a token that every caller must then send. Without a token
//! it answers nobody who came through a web page: `Host` must name this machine and `Origin`, where there is one, must
//! be the console itself.

mod admin;
mod auth;
mod health;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;

use self::auth::AdminAuth;
use crate::control::Control;
use crate::http::{Body, problem};
use crate::serve::admission::Admission;
use crate::serve::listener::{Bound, Listener};

/// Everything that the console's handlers need.
pub(crate) struct Console {
    control: Arc<Control>,
    auth: AdminAuth,
}

impl Console {
    /// Answers on a port that was taken for the console.
    pub(crate) fn serve(bound: Bound, control: Arc<Control>) -> Listener {
        let timeouts = control.admission.timeouts;
        let auth = AdminAuth::new(control.config.load().console.admin_token.clone(), bound.address);
        let console = Arc::new(Console { control, auth });
        bound.serve(
            Admission::console(timeouts),
            |_| (),
            move |request, ()| {
                let console = console.clone();
                Box::pin(async move { console.answer(request).await.map(Body::Whole) })
            },
        )
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Bytes> {
        let path = request.uri().path().to_owned();
        let parts: Vec<_> = path.trim_matches('/').split('/').collect();
        if let ["healthz" | "readyz"] = parts.as_slice() {
            return health::answer(self, parts.contains(&"readyz"));
        }
        if let Err(refusal) = self.auth.admit(&request) {
            return refusal.response();
        }
        let method = request.method().clone();
        match (method.as_str(), parts.as_slice()) {
            ("GET" | "HEAD", ["metrics"]) => health::metrics(self, &request),
            ("GET" | "HEAD", ["admin", "v1", "services"]) => json(&self.control.reports()),
            ("PUT", ["admin", "v1", "services", name, "component"]) => admin::swap(self, name, request).await,
            ("POST", ["admin", "v1", "services", name, action @ ("rollback" | "promote" | "abort")]) => {
                admin::act(self, name, action).await
            }
            (_, ["metrics" | "admin", ..]) if method != Method::GET => {
                problem(StatusCode::METHOD_NOT_ALLOWED, "The console does not answer this method here")
            }
            _ => problem(StatusCode::NOT_FOUND, "The console has nothing here"),
        }
    }
}

/// A JSON answer that nothing on the way may keep.
fn json(value: &impl Serialize) -> Response<Bytes> {
    match serde_json::to_vec(value) {
        Ok(body) => with_type(body.into(), "application/json"),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn with_type(body: Bytes, content_type: &'static str) -> Response<Bytes> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
