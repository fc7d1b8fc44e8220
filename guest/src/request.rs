//! A request as a handler sees it: typed parameters, headers and body.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use crate::response::text_of;
use crate::{Problem, host};

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
        self.optional_query(name)?.ok_or_else(|| Problem::unprocessable(format!("query parameter `{name}` is missing")))
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
        serde_json::from_slice(self.body()).map_err(|error| Problem::unprocessable(format!("request body: {error}")))
    }

    fn query_text(&self, name: &str) -> Option<Cow<'a, str>> {
        let query = self.raw_query()?;
        form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

fn parsed<T>(place: &str, name: &str, text: &str) -> Result<T, Problem>
where
    T: FromStr<Err: Display>,
{
    text.parse().map_err(|error| Problem::unprocessable(format!("{place} parameter `{name}`: {error}")))
}
