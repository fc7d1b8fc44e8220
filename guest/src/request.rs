//! The request of a handler: typed parameters, headers, cookies and body.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::multipart::{self, Part};
use crate::problem::Invalid;
use crate::response::header_text;
use crate::{Cookie, Problem, host};

/// A request. The host has already parsed and routed it and checked its size.
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

    /// The name of the service.
    pub fn service(&self) -> &'static str {
        self.service
    }

    /// The path parameter `{name}` of the route's template.
    ///
    /// # Errors
    /// 422 with the name of the parameter if its text does not parse as `T`; 500 if the template has no such parameter.
    pub fn param<T>(&self, name: &str) -> Result<T, Problem>
    where
        T: FromStr<Err: Display>,
    {
        let position = self.names.iter().position(|candidate| *candidate == name);
        let text = position
            .and_then(|position| self.incoming.params.get(position))
            .ok_or_else(|| Problem::internal(format!("the route has no parameter `{name}`")))?;
        parse("path", name, text)
    }

    /// The query parameter `name`, which is required.
    ///
    /// # Errors
    /// 422 with the name of the parameter if it is missing or its text does not parse as `T`.
    pub fn query<T>(&self, name: &str) -> Result<T, Problem>
    where
        T: FromStr<Err: Display>,
    {
        self.optional_query(name)?.ok_or_else(|| Invalid::missing("query", name).into())
    }

    /// The query parameter `name`, if present; the first one if it occurs several times.
    ///
    /// # Errors
    /// 422 with the name of the parameter if its text does not parse as `T`.
    pub fn optional_query<T>(&self, name: &str) -> Result<Option<T>, Problem>
    where
        T: FromStr<Err: Display>,
    {
        self.query_text(name).map(|text| parse("query", name, &text)).transpose()
    }

    /// The query string as the client sent it, without the `?`.
    pub fn raw_query(&self) -> Option<&'a str> {
        self.incoming.query.as_deref()
    }

    /// The value of the first header field with this lower-case name, if it is UTF-8.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        header_text(&self.incoming.headers, name)
    }

    /// The body.
    pub fn body(&self) -> &'a [u8] {
        &self.incoming.body
    }

    /// Deserializes the body from JSON.
    ///
    /// # Errors
    /// 422 with the position in the body if it is not JSON or does not match `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(self.body()).map_err(|error| Invalid::body(error.to_string()).into())
    }

    /// Deserializes the body from an HTML form (`application/x-www-form-urlencoded`).
    ///
    /// # Errors
    /// 415 if the body has another content type; 422 if it does not match `T`.
    pub fn form<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        self.require_content_type("application/x-www-form-urlencoded")?;
        serde_urlencoded::from_bytes(self.body()).map_err(|error| Invalid::body(error.to_string()).into())
    }

    /// The parts of an HTML form with files (`multipart/form-data`), in their order.
    ///
    /// # Errors
    /// 415 if the body has another content type; 422 if it is malformed.
    pub fn multipart(&self) -> Result<Vec<Part>, Problem> {
        let content_type = self.require_content_type("multipart/form-data")?;
        multipart::parts(content_type, self.body())
    }

    /// The cookies of the request, in their order. Malformed cookies are skipped.
    pub fn cookies(&self) -> impl Iterator<Item = Cookie<'a>> {
        let fields = self.incoming.headers.iter().filter(|header| header.name == "cookie");
        let texts = fields.filter_map(|header| std::str::from_utf8(&header.value).ok());
        texts.flat_map(Cookie::split_parse).filter_map(Result::ok)
    }

    /// The value of the first cookie with this name.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let cookie = self.cookies().find(|cookie| cookie.name() == name)?;
        Some(cookie.value_trimmed().to_owned())
    }

    /// Returns the content type if it is `expected`, with any parameters.
    fn require_content_type(&self, expected: &str) -> Result<&'a str, Problem> {
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

fn parse<T>(location: &'static str, name: &str, text: &str) -> Result<T, Problem>
where
    T: FromStr<Err: Display>,
{
    text.parse().map_err(|error: T::Err| Invalid::parameter(location, name, error.to_string()).into())
}
