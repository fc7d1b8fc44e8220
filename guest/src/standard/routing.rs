//! Routing, rejections and response validation, without I/O. The messages are those of a Spandrel host.

use std::collections::BTreeSet;

use http::{HeaderMap, Method, StatusCode};
use spandrel_routes::{Match, Route, RouteError, RouteTable};

use crate::host::{Header, Response};
use crate::limits::{REQUEST_BODY, RESPONSE_BODY};
use crate::{Service, header_rules};

/// A response that is ready to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// Why a request gets an error response from the library.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The service's own routes are invalid.
    #[error("The service has a route that no host would serve: {0}")]
    Routes(#[from] RouteError),
    #[error("No route of this service matches the path")]
    NotFound,
    /// The path has routes, but none for this method.
    #[error("This path allows {}", join(.0))]
    MethodNotAllowed(BTreeSet<String>),
    #[error("The request body is larger than {REQUEST_BODY} bytes")]
    BodyTooLarge,
    #[error("The request body ended early")]
    IncompleteBody,
    #[error("The service returned an invalid HTTP response: {0}")]
    InvalidResponse(String),
    #[error("The service's response of {0} bytes exceeds its limit")]
    ResponseTooLarge(usize),
}

impl Rejection {
    fn status(&self) -> StatusCode {
        match self {
            Rejection::NotFound => StatusCode::NOT_FOUND,
            Rejection::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Rejection::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Rejection::IncompleteBody => StatusCode::BAD_REQUEST,
            Rejection::Routes(_) | Rejection::InvalidResponse(_) | Rejection::ResponseTooLarge(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// The response: problem details (RFC 9457) with the same fields as the host's.
    pub fn reply(&self) -> Reply {
        let status = self.status();
        let body = serde_json::json!({
            "status": status.as_u16(),
            "title": status.canonical_reason().unwrap_or("Error"),
            "detail": self.to_string(),
        });
        let mut headers = vec![header("content-type", "application/problem+json")];
        if let Rejection::MethodNotAllowed(allowed) = self {
            headers.push(header("allow", &join(allowed)));
        }
        Reply { status, headers: header_map(&headers), body: body.to_string().into_bytes() }
    }
}

/// The route table of a service.
///
/// # Errors
/// If a template is malformed, or two of them match the same requests.
pub fn table(service: &Service) -> Result<RouteTable, RouteError> {
    let routes = service.routes().into_iter();
    RouteTable::new(
        routes.map(|route| Route { method: Some(route.method.into()), template: route.path.into() }).collect(),
    )
}

/// The result of route matching.
#[derive(Debug, PartialEq, Eq)]
pub enum RouteMatch {
    /// The handler of this route, with the path parameters.
    Handler { route: u32, params: Vec<String> },
    /// The response to `OPTIONS *`, which queries the server and not a resource (RFC 9110, section 9.3.7).
    Response(Reply),
}

/// Finds the route for a request.
///
/// # Errors
/// If no route matches.
pub fn find(table: &RouteTable, method: &Method, path: &str) -> Result<RouteMatch, Rejection> {
    if method == Method::OPTIONS && path == "*" {
        let headers = header_map(&[header("allow", &join(&table.methods()))]);
        return Ok(RouteMatch::Response(Reply { status: StatusCode::NO_CONTENT, headers, body: Vec::new() }));
    }
    match table.find(method, path) {
        Match::Found { index: route, params } => Ok(RouteMatch::Handler { route, params }),
        Match::WrongMethod(allowed) => Err(Rejection::MethodNotAllowed(allowed)),
        Match::NotFound => Err(Rejection::NotFound),
    }
}

/// Validates the response of a handler.
///
/// # Errors
/// If it cannot be sent.
pub fn check(response: Response) -> Result<Reply, Rejection> {
    let Response { status, headers, body } = response;
    if body.len() > RESPONSE_BODY {
        return Err(Rejection::ResponseTooLarge(body.len()));
    }
    let status = match status {
        200..600 => StatusCode::from_u16(status).map_err(|error| error.to_string()),
        other => Err(format!("{other} is not the status of a final response")),
    };
    let status = status.map_err(Rejection::InvalidResponse)?;
    let headers = header_rules::check(headers.iter()).map_err(Rejection::InvalidResponse)?;
    Ok(Reply { status, headers, body })
}

impl Reply {
    /// The value of `Content-Length`; `None` if a response with this status code has no body.
    pub fn content_length(&self) -> Option<usize> {
        let has_body = ![StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&self.status);
        has_body.then_some(self.body.len())
    }
}

fn header(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: value.as_bytes().to_vec() }
}

/// Converts header fields of this module, which are always valid.
fn header_map(headers: &[Header]) -> HeaderMap {
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
    fn a_request_is_routed_to_its_handler() {
        let found = |method, path| find(&shop(), &method, path).unwrap();
        assert_eq!(found(Method::HEAD, "/health"), RouteMatch::Handler { route: 0, params: Vec::new() });
        assert_eq!(
            found(Method::POST, "/items/a%20b"),
            RouteMatch::Handler { route: 1, params: vec!["a b".to_owned()] }
        );
    }

    #[test]
    fn a_request_without_a_route_gets_the_same_response_as_from_the_host() {
        let problem = "application/problem+json";
        let missing = find(&shop(), &Method::GET, "/none").unwrap_err().reply();
        let body = r#"{"detail":"No route of this service matches the path","status":404,"title":"Not Found"}"#;
        check_reply(&missing, 404, &[("content-type", problem)], body);
        let wrong = find(&shop(), &Method::POST, "/health").unwrap_err().reply();
        let body = r#"{"detail":"This path allows GET, HEAD","status":405,"title":"Method Not Allowed"}"#;
        check_reply(&wrong, 405, &[("content-type", problem), ("allow", "GET, HEAD")], body);
    }

    #[test]
    fn options_asterisk_lists_the_methods_of_the_service() {
        let Ok(RouteMatch::Response(reply)) = find(&shop(), &Method::OPTIONS, "*") else { unreachable!("no answer") };
        check_reply(&reply, 204, &[("allow", "GET, HEAD, OPTIONS, POST")], "");
        assert_eq!(reply.content_length(), None);
    }

    #[test]
    fn an_invalid_response_is_rejected() {
        let refused = |response| check(response).unwrap_err().to_string();
        assert!(refused(response(100, "x", Vec::new())).ends_with("100 is not the status of a final response"));
        assert!(refused(response(200, "a b", Vec::new())).ends_with("`a b` is not a header field name"));
        let large = response(200, "x", vec![0; RESPONSE_BODY + 1]);
        assert_eq!(refused(large), "The service's response of 8388609 bytes exceeds its limit");
        assert_eq!(check(response(200, "x", vec![0; RESPONSE_BODY])).unwrap().content_length(), Some(RESPONSE_BODY));
    }

    #[test]
    fn an_unreadable_body_is_a_client_error() {
        assert_eq!(Rejection::BodyTooLarge.reply().status, 413);
        assert_eq!(Rejection::BodyTooLarge.to_string(), "The request body is larger than 1048576 bytes");
        assert_eq!(Rejection::IncompleteBody.reply().status, 400);
    }

    #[test]
    fn invalid_routes_are_rejected() {
        let refused = table(&Service::new("shop", Router::new().get("users", healthy))).unwrap_err();
        let reply = Rejection::from(refused).reply();
        assert_eq!(reply.status, 500);
        assert!(String::from_utf8_lossy(&reply.body).contains("route `users` does not start with `/`"));
    }
}
