//! The types that `wit-bindgen` generates for lean components, for the other implementations of the host interface.

#![allow(dead_code, reason = "no host makes every value, but callers handle all of them")]

/// An HTTP method that a route can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

#[derive(Clone, Debug)]
pub struct Route {
    pub method: Method,
    pub path: String,
}

#[derive(Clone, Debug)]
pub struct Header {
    pub name: String,
    pub value: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub route: u32,
    pub params: Vec<String>,
    pub query: Option<String>,
    pub headers: Vec<Header>,
    pub body: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<Header>,
    pub body: Vec<u8>,
}

#[derive(Clone, Debug)]
pub enum Value<'a> {
    Text(&'a str),
    Int(i64),
    Double(f64),
    Boolean(bool),
    Texts(&'a [&'a str]),
}

#[derive(Clone, Debug)]
pub struct Attribute<'a> {
    pub key: &'a str,
    pub value: Value<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// The role of a span, as OpenTelemetry defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SpanKind {
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

#[derive(Clone, Debug)]
pub enum FetchError {
    Denied,
    InvalidUrl(String),
    Unreachable(String),
    TimedOut,
    TooLarge,
}

#[derive(Clone, Debug)]
pub enum ConfigError {
    Upstream(String),
    Io(String),
}

#[derive(Clone, Debug)]
pub enum StoreError {
    NoSuchStore,
    AccessDenied,
    Other(String),
}

#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    pub method: Method,
    pub url: &'a str,
    pub headers: &'a [&'a Header],
    pub body: &'a [u8],
}

#[derive(Clone, Debug)]
pub struct Limited<'a> {
    pub request: Outgoing<'a>,
    pub timeout_ms: Option<u32>,
}

#[derive(Clone, Debug)]
pub struct Label<'a> {
    pub key: &'a str,
    pub value: &'a str,
}

#[derive(Clone, Debug)]
pub enum MetricError {
    Invalid(String),
    TooMany,
}

impl From<Method> for http::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Head => Self::HEAD,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
            Method::Delete => Self::DELETE,
            Method::Options => Self::OPTIONS,
        }
    }
}
