//! A request as a handler sees it: typed parameters, headers, cookies and body.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::multipart::{self, Part};
use crate::problem::Invalid;
use crate::response::text_of;
use crate::{Cookie, Problem, host};

/// One request. The host has already parsed, limited and routed it.
#[derive(Debug)]
pub struct Request<'a> {
    service: &'static str,
    /// The names of the route template's parameters, in the order of `incoming.params`.
    names: &'a [&'static str],
    incoming: &'a host::Request,
}

impl<'a> Request<'a> {
    pub(crate) fn new(service: &'static str, names: &'a [&'static str], incoming: &'a host::Request) -> Self {
        Self { service, names, incoming }
    }

    /// The name of the service that answers.
    pub fn service(&self) -> &'static str {
        self.service
    }

    /// The path parameter that the route's template calls `{name}`.
    ///
    /// # Errors
    /// A 422 that names the parameter where its text is no `T`; a 500 where the template has no such parameter.
    pub fn param<T>(&self, name: &str) -> Result<T, Problem>
    where
        T: FromStr<Err: Display>,
    {
        let position = self.names.iter().position(|candidate| *candidate == name);
        let text = position
            .and_then(|position| self.incoming.params.get(position))
            .ok_or_else(|| Problem::internal(format!("the route has no parameter `{name}`")))?;
        parsed("path", name, text)
    }

    /// The query parameter `name`, which must be there.
    ///
    /// # Errors
    /// A 422 that names the parameter where it is missing or its text is no `T`.
    pub fn query<T>(&self, name: &str) -> Result<T, Problem>
    where
        T: FromStr<Err: Display>,
    {
        self.optional_query(name)?.ok_or_else(|| Invalid::missing("query", name).into())
    }

    /// The query parameter `name`, where it is there. Of several the first counts.
    ///
    /// # Errors
    /// A 422 that names the parameter where its text is no `T`.
    pub fn optional_query<T>(&self, name: &str) -> Result<Option<T>, Problem>
    where
        T: FromStr<Err: Display>,
    {
        self.query_text(name).map(|text| parsed("query", name, &text)).transpose()
    }

    /// The query string as the client sent it, without the `?`.
    pub fn raw_query(&self) -> Option<&'a str> {
        self.incoming.query.as_deref()
    }

    /// The first header field of this lower-case name, where its value is text.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        text_of(&self.incoming.headers, name)
    }

    /// The body's bytes.
    pub fn body(&self) -> &'a [u8] {
        &self.incoming.body
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    /// A 422 that says where the body is not JSON or not of the shape of `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(self.body()).map_err(|error| Invalid::body(error.to_string()).into())
    }

    /// Reads the body as an HTML form (`application/x-www-form-urlencoded`).
    ///
    /// # Errors
    /// A 415 where the body is of another content type; a 422 where it is not of the shape of `T`.
    pub fn form<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        self.expect_type("application/x-www-form-urlencoded")?;
        serde_urlencoded::from_bytes(self.body()).map_err(|error| Invalid::body(error.to_string()).into())
    }

    /// Reads the body as an HTML form with files (`multipart/form-data`): its parts, in their order.
    ///
    /// # Errors
    /// A 415 where the body is of another content type; a 422 where it is malformed.
    pub fn multipart(&self) -> Result<Vec<Part>, Problem> {
        let content_type = self.expect_type("multipart/form-data")?;
        multipart::parts(content_type, self.body())
    }

    /// The cookies that the client sent, in their order. What is malformed is left out.
    pub fn cookies(&self) -> impl Iterator<Item = Cookie<'a>> {
        let fields = self.incoming.headers.iter().filter(|header| header.name == "cookie");
        let texts = fields.filter_map(|header| std::str::from_utf8(&header.value).ok());
        texts.flat_map(Cookie::split_parse).filter_map(Result::ok)
    }

    /// The value of the first cookie of this name.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let cookie = self.cookies().find(|cookie| cookie.name() == name)?;
        Some(cookie.value_trimmed().to_owned())
    }

    /// The content type, where it is `expected`, whatever its parameters are.
    fn expect_type(&self, expected: &str) -> Result<&'a str, Problem> {
        let content_type = self.header("content-type").unwrap_or_default();
        let (kind, _) = content_type.split_once(';').unwrap_or((content_type, ""));
        if kind.trim().eq_ignore_ascii_case(expected) {
            Ok(content_type)
        } else {
            Err(Problem::new(415, format!("the request body must be of the content type {expected}")))
        }
    }

    fn query_text(&self, name: &str) -> Option<Cow<'a, str>> {
        let query = self.raw_query()?;
        form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

fn parsed<T>(place: &'static str, name: &str, text: &str) -> Result<T, Problem>
where
    T: FromStr<Err: Display>,
{
    text.parse().map_err(|error: T::Err| Invalid::parameter(place, name, error.to_string()).into())
}
