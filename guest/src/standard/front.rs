//! The decisions around a handler, without any input or output. Refusals read as those of a Spandrel host.

use std::collections::BTreeSet;

use http::{HeaderMap, Method, StatusCode};
use spandrel_routes::{Match, Route, RouteError, RouteTable};

use crate::host::{Header, Response};
use crate::limits::{REQUEST_BODY, RESPONSE_BODY};
use crate::{Service, header_rules};

/// A response that can be sent as it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// Why a request is answered in place of the handler.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The service's own routes are of no use.
    #[error("The service has a route that no host would serve: {0}")]
    Routes(#[from] RouteError),
    #[error("No route of this service matches the path")]
    NotFound,
    /// The path has routes, but not for this method.
    #[error("This path answers {}", join(.0))]
    MethodNotAllowed(BTreeSet<String>),
    #[error("The request body is larger than {REQUEST_BODY} bytes")]
    BodyTooLarge,
    #[error("The request body broke off")]
    BrokenBody,
    #[error("The service answered with something that is no HTTP response: {0}")]
    InvalidResponse(String),
    #[error("The service's answer of {0} bytes is over its limit")]
    ResponseTooLarge(usize),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Refusal::NotFound => StatusCode::NOT_FOUND,
            Refusal::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::BrokenBody => StatusCode::BAD_REQUEST,
            Refusal::Routes(_) | Refusal::InvalidResponse(_) | Refusal::ResponseTooLarge(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// The answer: problem details (RFC 9457), field by field as the host has them.
    pub fn reply(&self) -> Reply {
        let status = self.status();
        let body = serde_json::json!({
            "status": status.as_u16(),
            "title": status.canonical_reason().unwrap_or("Error"),
            "detail": self.to_string(),
        });
        let mut headers = vec![header("content-type", "application/problem+json")];
        if let Refusal::MethodNotAllowed(allowed) = self {
            headers.push(header("allow", &join(allowed)));
        }
        Reply { status, headers: valid(&headers), body: body.to_string().into_bytes() }
    }
}

/// The routes of a service, arranged for matching.
///
/// # Errors
/// Where a template is malformed, or two of them match the same requests.
pub fn table(service: &Service) -> Result<RouteTable, RouteError> {
    let routes = service.routes().into_iter();
    RouteTable::new(routes.map(|route| Route { method: route.method.into(), template: route.path.into() }).collect())
}

/// What a request's method and path lead to.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The handler of this route, with the path's parameters.
    Handler { route: u32, params: Vec<String> },
    /// `OPTIONS *`, which asks what the server can do and no resource of it (RFC 9110, 9.3.7).
    Answer(Reply),
}

/// Finds the route for a request.
///
/// # Errors
/// Where there is none.
pub fn find(table: &RouteTable, method: &Method, path: &str) -> Result<Found, Refusal> {
    if method == Method::OPTIONS && path == "*" {
        let headers = valid(&[header("allow", &join(&table.methods()))]);
        return Ok(Found::Answer(Reply { status: StatusCode::NO_CONTENT, headers, body: Vec::new() }));
    }
    match table.find(method, path) {
        Match::Found { index: route, params } => Ok(Found::Handler { route, params }),
        Match::WrongMethod(allowed) => Err(Refusal::MethodNotAllowed(allowed)),
        Match::NotFound => Err(Refusal::NotFound),
    }
}

/// Checks what a handler answered.
///
/// # Errors
/// Where it is no response that could be sent.
pub fn check(response: Response) -> Result<Reply, Refusal> {
    let Response { status, headers, body } = response;
    if body.len() > RESPONSE_BODY {
        return Err(Refusal::ResponseTooLarge(body.len()));
    }
    let status = match status {
        200..600 => StatusCode::from_u16(status).map_err(|error| error.to_string()),
        other => Err(format!("{other} is no status of a final response")),
    };
    let status = status.map_err(Refusal::InvalidResponse)?;
    let headers = header_rules::check(headers.iter()).map_err(Refusal::InvalidResponse)?;
    Ok(Reply { status, headers, body })
}

impl Reply {
    /// The length that goes into `Content-Length`; none where a message of this status has no body.
    pub fn announced_length(&self) -> Option<usize> {
        let has_body = ![StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&self.status);
        has_body.then_some(self.body.len())
    }
}

fn header(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: value.as_bytes().to_vec() }
}

/// Fields that this file made, all of which are valid.
fn valid(headers: &[Header]) -> HeaderMap {
    header_rules::check(headers.iter()).unwrap_or_default()
}

fn join(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Router, healthy};

    fn shop() -> RouteTable {
        let router = Router::new().get("/health", healthy).post("/items/{item}", healthy);
        table(&Service::new("shop", router)).unwrap()
    }

    fn response(status: u16, name: &str, body: Vec<u8>) -> Response {
        Response { status, headers: vec![header(name, "1")], body }
    }

    #[track_caller]
    fn check_reply(reply: &Reply, status: u16, fields: &[(&str, &str)], body: &str) {
        let headers: Vec<_> =
            reply.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!((reply.status.as_u16(), headers.as_slice()), (status, fields));
        assert_eq!(String::from_utf8_lossy(&reply.body), body);
    }

    #[test]
    fn a_request_is_led_to_its_handler() {
        let found = |method, path| find(&shop(), &method, path).unwrap();
        assert_eq!(found(Method::HEAD, "/health"), Found::Handler { route: 0, params: Vec::new() });
        assert_eq!(found(Method::POST, "/items/a%20b"), Found::Handler { route: 1, params: vec!["a b".to_owned()] });
    }

    #[test]
    fn a_request_without_a_route_is_answered_as_the_host_does() {
        let problem = "application/problem+json";
        let missing = find(&shop(), &Method::GET, "/none").unwrap_err().reply();
        let body = r#"{"detail":"No route of this service matches the path","status":404,"title":"Not Found"}"#;
        check_reply(&missing, 404, &[("content-type", problem)], body);
        let wrong = find(&shop(), &Method::POST, "/health").unwrap_err().reply();
        let body = r#"{"detail":"This path answers GET, HEAD","status":405,"title":"Method Not Allowed"}"#;
        check_reply(&wrong, 405, &[("content-type", problem), ("allow", "GET, HEAD")], body);
    }

    #[test]
    fn the_methods_of_the_whole_service_can_be_asked_for() {
        let Ok(Found::Answer(reply)) = find(&shop(), &Method::OPTIONS, "*") else { unreachable!("no answer") };
        check_reply(&reply, 204, &[("allow", "GET, HEAD, OPTIONS, POST")], "");
        assert_eq!(reply.announced_length(), None);
    }

    #[test]
    fn an_answer_that_is_no_response_is_refused() {
        let refused = |response| check(response).unwrap_err().to_string();
        assert!(refused(response(100, "x", Vec::new())).ends_with("100 is no status of a final response"));
        assert!(refused(response(200, "a b", Vec::new())).ends_with("`a b` is no name of a header field"));
        let large = response(200, "x", vec![0; RESPONSE_BODY + 1]);
        assert_eq!(refused(large), "The service's answer of 8388609 bytes is over its limit");
        assert_eq!(check(response(200, "x", vec![0; RESPONSE_BODY])).unwrap().announced_length(), Some(RESPONSE_BODY));
    }

    #[test]
    fn a_body_that_cannot_be_read_is_the_clients_fault() {
        assert_eq!(Refusal::BodyTooLarge.reply().status, 413);
        assert_eq!(Refusal::BodyTooLarge.to_string(), "The request body is larger than 1048576 bytes");
        assert_eq!(Refusal::BrokenBody.reply().status, 400);
    }

    #[test]
    fn routes_that_no_host_would_serve_are_refused() {
        let refused = table(&Service::new("shop", Router::new().get("users", healthy))).unwrap_err();
        let reply = Refusal::from(refused).reply();
        assert_eq!(reply.status, 500);
        assert!(String::from_utf8_lossy(&reply.body).contains("route `users` does not start with `/`"));
    }
}
