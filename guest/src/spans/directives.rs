//! The fields that change a span instead of becoming attributes, as in `tracing-opentelemetry`.

use crate::host::SpanKind;

/// The status code that a service sets on a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusCode {
    /// `OK`.
    Ok,
    /// `ERROR`.
    Error,
}

/// The directives among the fields of a span.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Directives<'a> {
    /// `otel.name`: the name of the span, instead of the function's name.
    pub name: Option<&'a str>,
    /// `otel.kind`, case-insensitive. Only read when the span starts.
    pub kind: Option<SpanKind>,
    /// `otel.status_code`: `OK` or `ERROR`, case-insensitive.
    pub status: Option<StatusCode>,
    /// `otel.status_description`, or its earlier name `otel.status_message`: why the span failed.
    pub message: Option<&'a str>,
    /// `error.type`: the span failed with this kind of error.
    pub error_type: Option<&'a str>,
}

/// Whether a field of this name is one of [`Directives`].
pub fn is_directive(name: &str) -> bool {
    name == "error.type" || is_hidden(name)
}

/// Whether a field with this name is a directive only, and no attribute.
pub fn is_hidden(name: &str) -> bool {
    let Some(name) = name.strip_prefix("otel.") else { return false };
    matches!(name, "name" | "kind" | "status_code" | "status_message" | "status_description")
}

impl<'a> Directives<'a> {
    /// Reads one field. Invalid values are ignored.
    pub fn read(&mut self, name: &str, value: &'a str) {
        match name {
            "otel.name" => self.name = Some(value),
            "otel.kind" => self.kind = kind(value),
            "otel.status_code" => self.status = status(value),
            "otel.status_message" | "otel.status_description" => self.message = Some(value),
            "error.type" => self.error_type = Some(value),
            _ => {}
        }
    }

    /// Whether the directives mark the span as failed.
    pub fn fails(&self) -> bool {
        self.status == Some(StatusCode::Error) || self.message.is_some() || self.error_type.is_some()
    }
}

fn kind(text: &str) -> Option<SpanKind> {
    let kinds = [
        ("internal", SpanKind::Internal),
        ("server", SpanKind::Server),
        ("client", SpanKind::Client),
        ("producer", SpanKind::Producer),
        ("consumer", SpanKind::Consumer),
    ];
    kinds.into_iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, kind)| kind)
}

fn status(text: &str) -> Option<StatusCode> {
    if text.eq_ignore_ascii_case("ok") {
        Some(StatusCode::Ok)
    } else if text.eq_ignore_ascii_case("error") {
        Some(StatusCode::Error)
    } else {
        None
    }
}
