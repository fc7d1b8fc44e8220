//! `/login` and `/logout`: exchange of the admin token for a cookie.

use std::sync::Arc;

use axum::extract::{Form, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Router, extract::DefaultBodyLimit};
use http::header::{ORIGIN, RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use serde::Deserialize;

use super::admin_auth::{COOKIE_NAME, host};
use super::login_limiter::TokenCheck;
use super::request_origin;
use crate::console::state::Console;
use crate::console::{pages, responses, web};

/// The largest form, in bytes.
const MAX_FORM: usize = 16 * 1024;

/// The path to redirect to after the login.
#[derive(Deserialize)]
struct LoginParams {
    #[serde(default)]
    next: String,
}

/// The fields of the form.
#[derive(Deserialize)]
struct Credentials {
    token: String,
    #[serde(default)]
    next: String,
}

/// The routes that do not require a login.
pub(in crate::console) fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/login", get(form).post(log_in))
        .route("/logout", post(log_out))
        .layer(DefaultBodyLimit::max(MAX_FORM))
}

async fn form(State(console): State<Arc<Console>>, Query(params): Query<LoginParams>) -> Response {
    match &console.auth.token {
        Some(_) => web::page(StatusCode::OK, pages::login(false, local_path(&params.next))),
        None => responses::see_other(local_path(&params.next)),
    }
}

async fn log_in(
    State(console): State<Arc<Console>>,
    uri: Uri,
    headers: HeaderMap,
    Form(given): Form<Credentials>,
) -> Response {
    if request_origin::of(&Method::POST, &headers, host(&uri, &headers)) == request_origin::RequestOrigin::CrossSite {
        return super::AuthRejection::ForeignOrigin.response();
    }
    let next = local_path(&given.next);
    let Some(token) = &console.auth.token else { return responses::see_other(next) };
    match (console.auth.login_limiter.check(&given.token, token.reveal()).await, &console.auth.session) {
        (TokenCheck::Valid, Some(session)) => with_cookie(responses::see_other(next), session, &headers),
        (TokenCheck::Valid, None) => responses::problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "No session can be created: the system has no source of randomness",
        ),
        (TokenCheck::Invalid, _) => web::page(StatusCode::UNAUTHORIZED, pages::login(true, next)),
        (TokenCheck::TooMany, _) => too_many(),
    }
}

fn too_many() -> Response {
    let mut response =
        responses::problem(StatusCode::TOO_MANY_REQUESTS, "Too many login attempts; try again in a few seconds");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

async fn log_out(uri: Uri, headers: HeaderMap) -> Response {
    if request_origin::of(&Method::POST, &headers, host(&uri, &headers)) == request_origin::RequestOrigin::CrossSite {
        return super::AuthRejection::ForeignOrigin.response();
    }
    with_cookie(responses::see_other("/login"), "; Max-Age=0", &headers)
}

fn with_cookie(mut response: Response, value: &str, request: &HeaderMap) -> Response {
    let secure = if is_https(request) { "; Secure" } else { "" };
    let cookie = format!("{COOKIE_NAME}={value}; Path=/; HttpOnly; SameSite=Strict{secure}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

/// Whether a browser connects through a proxy with TLS. Forging this only adds `Secure` to the forger's own cookie.
fn is_https(headers: &HeaderMap) -> bool {
    let field = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_https = |scheme: &str| scheme.trim().eq_ignore_ascii_case("https");
    let forwarded = field("x-forwarded-proto").rsplit(',').next().is_some_and(is_https);
    forwarded || field(ORIGIN.as_str()).split_once("://").is_some_and(|(scheme, _)| is_https(scheme))
}

/// `next` if it is a path of this console, else `/`: never another site.
fn local_path(next: &str) -> &str {
    let is_local = next.starts_with('/') && !next.starts_with("//") && !next.contains(['\\', '\r', '\n', '\t']);
    if is_local { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_redirects_to_paths_of_the_console_only() {
        for next in ["/", "/traces?service=a", "/traces/abc#span"] {
            assert_eq!(local_path(next), next);
        }
        for next in ["", "//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/\t/evil"]
        {
            assert_eq!(local_path(next), "/", "{next}");
        }
    }

    #[test]
    fn a_cookie_that_was_set_over_https_is_secure() {
        let cookie = |fields: &[(&str, &str)]| {
            let fields = fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let response = with_cookie(responses::see_other("/"), "s", &fields.collect());
            response.headers()[SET_COOKIE].to_str().unwrap().to_owned()
        };
        for fields in [[("origin", "https://a.example")], [("x-forwarded-proto", "HTTPS")]] {
            assert!(cookie(&fields).ends_with("; SameSite=Strict; Secure"), "{fields:?}");
        }
        for fields in
            [[("origin", "http://a.example")], [("x-forwarded-proto", "https, http")], [("host", "https://a")]]
        {
            assert!(cookie(&fields).ends_with("; SameSite=Strict"), "{fields:?}");
        }
    }
}
