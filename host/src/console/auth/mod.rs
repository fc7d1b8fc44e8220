//! Who may come in: holders of the admin token where one is set, else programs of this machine, and never another site.
//!
//! Programs send the token as a bearer. Browsers send it once, by the login form, and get a cookie that no script can
//! read and no other site can make them send. A request that changes something must come from the console's own pages
//! or from a program: what a browser sends says where it comes from.

mod admin_auth;
mod attempts;
mod login;
mod same_site;
mod secret;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::ACCEPT;
use http::{Method, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

pub(super) use self::admin_auth::AdminAuth;
use self::admin_auth::Refusal;
pub(super) use self::login::routes;
use super::answer;
use super::state::Console;

/// Lets a request in or refuses it.
pub(super) async fn guard(State(console): State<Arc<Console>>, request: Request, next: Next) -> Response {
    match console.auth.admit(request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        // The login form looks like the other pages.
        Err(Refusal::NoToken) if request.uri().path().starts_with("/assets/") => next.run(request).await,
        Err(Refusal::NoToken) if wants_page(&request) => answer::see_other(&login_for(request.uri())),
        Err(refusal) => refusal.response(),
    }
}

/// A browser that asks for a page, not for data.
fn wants_page(request: &Request) -> bool {
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    request.method() == Method::GET && accept.contains("text/html")
}

fn login_for(uri: &Uri) -> String {
    let next = uri.path_and_query().map_or("/", |target| target.as_str());
    format!("/login?next={}", utf8_percent_encode(next, NON_ALPHANUMERIC))
}
