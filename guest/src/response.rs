//! Responses, and the types that convert into one.

use serde::de::DeserializeOwned;

use crate::{Cookie, client, host};

/// An HTTP response: of a handler, or from another service (see [`client`]).
#[derive(Debug, Clone)]
pub struct Response(host::Response);

impl Response {
    /// An empty response with this status code.
    pub fn new(status: u16) -> Self {
        Self(host::Response { status, headers: Vec::new(), body: Vec::new() })
    }

    /// Adds a header field. The name is converted to lower case.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.0.headers.push(host::Header { name: name.to_ascii_lowercase(), value: value.into() });
        self
    }

    /// Adds a `Set-Cookie` field.
    ///
    /// ```
    /// use guest::{Cookie, Response};
    ///
    /// let session = Cookie::build(("session", "s-42")).http_only(true).path("/");
    /// let response = Response::new(204).with_cookie(session);
    /// assert_eq!(response.header("set-cookie"), Some("session=s-42; HttpOnly; Path=/"));
    /// ```
    #[must_use]
    pub fn with_cookie<'c>(self, cookie: impl Into<Cookie<'c>>) -> Self {
        self.with_header("set-cookie", cookie.into().to_string())
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.0.body = body.into();
        self
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// Whether the status code is in 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.0.status)
    }

    /// The value of the first header field with this lower-case name, if it is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        header_text(&self.0.headers, name)
    }

    /// All header fields, in their order. A name may occur several times.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.headers.iter().map(|header| (header.name.as_str(), header.value.as_slice()))
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.0.body
    }

    /// The body, consuming the response.
    pub fn into_body(self) -> Vec<u8> {
        self.0.body
    }

    /// Deserializes the body from JSON.
    ///
    /// # Errors
    /// [`client::Error::Body`] if it is not JSON or does not match `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, client::Error> {
        serde_json::from_slice(&self.0.body).map_err(|error| client::Error::Body(error.to_string()))
    }

    /// Returns the response if its status code is in 200 to 299.
    ///
    /// # Errors
    /// [`client::Error::Status`] otherwise.
    pub fn success(self) -> Result<Self, client::Error> {
        if self.is_success() { Ok(self) } else { Err(client::Error::Status(self.0.status)) }
    }

    pub(crate) fn into_host(self) -> host::Response {
        self.0
    }
}

impl From<host::Response> for Response {
    fn from(response: host::Response) -> Self {
        Self(response)
    }
}

pub(crate) fn header_text<'a>(headers: &'a [host::Header], name: &str) -> Option<&'a str> {
    let header = headers.iter().find(|header| header.name == name)?;
    std::str::from_utf8(&header.value).ok()
}

/// A type that a handler may return.
///
/// Handlers are synchronous. An `async fn` returns a future, which is not a response, and does not compile:
///
/// ```compile_fail
/// # use guest::{Json, Request, Router};
/// async fn hello(_: &Request<'_>) -> Json<&'static str> {
///     Json("hello")
/// }
/// Router::new().get("/hello", hello);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a response",
    label = "the return type of this handler does not implement `guest::IntoResponse`",
    note = "handlers are synchronous functions: write `fn`, not `async fn`",
    note = "to call several other services at the same time, use `guest::client::send_all`"
)]
pub trait IntoResponse {
    /// Converts the value into a response.
    fn into_response(self) -> Response;
}

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

/// The response with another status code.
impl<T: IntoResponse> IntoResponse for (u16, T) {
    fn into_response(self) -> Response {
        let mut response = self.1.into_response();
        response.0.status = self.0;
        response
    }
}

impl<T: IntoResponse, E: IntoResponse> IntoResponse for Result<T, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(value) => value.into_response(),
            Err(error) => error.into_response(),
        }
    }
}
