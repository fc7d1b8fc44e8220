//! Authentication: with an admin token, requests must carry it; without one, only programs on this machine are allowed.
//! Pages of other sites are never allowed.
//!
//! Programs send the token as a bearer token. Browsers send it once, in the login form, and receive a cookie that is
//! not available to scripts and not sent by other sites. A request that changes something must come from the console's
//! own pages or from a program: browsers state the origin of such a request.

pub(super) mod admin_auth;
mod login;
mod login_limiter;
mod request_origin;
mod secret;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::ACCEPT;
use http::{Method, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use self::admin_auth::AuthRejection;
pub(super) use self::login::routes;
use super::responses;
use super::state::Console;

/// Accepts or rejects a request.
pub(super) async fn authenticate(State(console): State<Arc<Console>>, request: Request, next: Next) -> Response {
    match console.auth.authorize(request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        // The login form looks like the other pages.
        Err(AuthRejection::MissingToken) if request.uri().path().starts_with("/assets/") => next.run(request).await,
        Err(AuthRejection::MissingToken) if wants_page(&request) => responses::see_other(&login_for(request.uri())),
        Err(refusal) => refusal.response(),
    }
}

/// Whether the client is a browser that requests a page, not data.
fn wants_page(request: &Request) -> bool {
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    request.method() == Method::GET && accept.contains("text/html")
}

fn login_for(uri: &Uri) -> String {
    let next = uri.path_and_query().map_or("/", |target| target.as_str());
    format!("/login?next={}", utf8_percent_encode(next, NON_ALPHANUMERIC))
}
