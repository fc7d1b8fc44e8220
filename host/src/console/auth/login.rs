//! `/login` and `/logout`: the admin token for a cookie.

use std::sync::Arc;

use axum::extract::{Form, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Router, extract::DefaultBodyLimit};
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use serde::Deserialize;

use super::admin_auth::{COOKIE_NAME, host, same};
use super::same_site;
use crate::console::state::Console;
use crate::console::{answer, pages, web};

/// The most bytes of a form.
const FORM: usize = 16 * 1024;

/// Where to go after the login.
#[derive(Deserialize)]
struct Target {
    #[serde(default)]
    next: String,
}

/// What the form sends.
#[derive(Deserialize)]
struct Credentials {
    token: String,
    #[serde(default)]
    next: String,
}

/// The routes that nobody needs to be logged in for.
pub(in crate::console) fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/login", get(form).post(log_in))
        .route("/logout", post(log_out))
        .layer(DefaultBodyLimit::max(FORM))
}

async fn form(State(console): State<Arc<Console>>, Query(target): Query<Target>) -> Response {
    match &console.auth.token {
        Some(_) => web::page(StatusCode::OK, pages::login(false, place(&target.next))),
        None => answer::see_other(place(&target.next)),
    }
}

async fn log_in(
    State(console): State<Arc<Console>>,
    uri: Uri,
    headers: HeaderMap,
    Form(given): Form<Credentials>,
) -> Response {
    if same_site::of(&Method::POST, &headers, host(&uri, &headers)) == same_site::Caller::OtherSite {
        return super::Refusal::ForeignOrigin.response();
    }
    let next = place(&given.next);
    match &console.auth.token {
        None => answer::see_other(next),
        Some(token) if same(&given.token, token.reveal()) => match &console.auth.session {
            Some(session) => with_cookie(answer::see_other(next), session),
            None => answer::problem(StatusCode::SERVICE_UNAVAILABLE, "There is no randomness to make a session of"),
        },
        Some(_) => web::page(StatusCode::UNAUTHORIZED, pages::login(true, next)),
    }
}

async fn log_out(uri: Uri, headers: HeaderMap) -> Response {
    if same_site::of(&Method::POST, &headers, host(&uri, &headers)) == same_site::Caller::OtherSite {
        return super::Refusal::ForeignOrigin.response();
    }
    with_cookie(answer::see_other("/login"), "; Max-Age=0")
}

fn with_cookie(mut response: Response, value: &str) -> Response {
    let cookie = format!("{COOKIE_NAME}={value}; Path=/; HttpOnly; SameSite=Strict");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

/// A place on this console, and nowhere else.
fn place(next: &str) -> &str {
    let is_here = next.starts_with('/') && !next.starts_with("//") && !next.contains(['\\', '\r', '\n', '\t']);
    if is_here { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_the_console_only() {
        for next in ["/", "/traces?service=a", "/traces/abc#span"] {
            assert_eq!(place(next), next);
        }
        for next in ["", "//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/\t/evil"]
        {
            assert_eq!(place(next), "/", "{next}");
        }
    }
}
