//! Request attributes: metadata of a whole trace, such as user, session and tenant. The manifest names their sources
//! (`[[telemetry.attributes]]`).
//!
//! A value comes from the request or, if a caller has already read it, from W3C baggage. It is recorded on every span
//! of the request and propagated as baggage if the manifest says so.

use std::borrow::Cow;

use http::HeaderMap;

use crate::config::{AttributeSource, RequestAttribute};
use crate::trace::{Attribute, Recorder};

/// The greatest length of a value, in characters. Longer values are truncated, because every span records them and
/// every call propagates them.
const MAX_VALUE_LENGTH: usize = 128;

/// The parts of a request that attributes are read from.
pub struct AttributeSources<'a> {
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// The query, percent-encoded.
    pub query: Option<&'a str>,
    /// The names and values of the route's parameters.
    pub parameters: Vec<(&'a str, &'a str)>,
}

/// Reads a request's attributes and adds them to its spans and baggage. If tracing is turned off, a request has no
/// spans, and its baggage stays unchanged.
pub fn attach(recorder: &mut Recorder, attributes: &[RequestAttribute], sources: &AttributeSources<'_>) {
    if attributes.is_empty() || !recorder.is_enabled() {
        return;
    }
    let mut shared = Vec::new();
    for attribute in attributes {
        let value = value(recorder, attribute, sources);
        if let Some(value) = value.filter(|_| recorder.is_recording()) {
            shared.push((&attribute.names, value));
        }
    }
    let all = shared.iter().flat_map(|(names, value)| names.iter().map(move |name| Attribute::new(name, value)));
    recorder.set_shared_attributes(all);
}

/// The value in the request, which replaces the value in the baggage. If the request has none, the value in the
/// baggage.
fn value(recorder: &mut Recorder, attribute: &RequestAttribute, sources: &AttributeSources<'_>) -> Option<String> {
    let from_request = attribute.sources.iter().find_map(|source| sources.find(source));
    let from_request = from_request.map(|value| sanitize(&value)).filter(|value| !value.is_empty());
    let key = attribute.names.first().filter(|_| attribute.baggage);
    match (from_request, key) {
        (None, None) => None,
        (None, Some(key)) => recorder.baggage().get(key).map(sanitize),
        (Some(value), None) => Some(value),
        (Some(value), Some(key)) => {
            let baggage = recorder.baggage().with(key, &value);
            recorder.set_baggage(baggage);
            Some(value)
        }
    }
}

impl<'a> AttributeSources<'a> {
    fn find(&self, source: &AttributeSource) -> Option<Cow<'a, str>> {
        match source {
            AttributeSource::Header(name) => {
                self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()))
            }
            AttributeSource::Query(name) => {
                let mut pairs = form_urlencoded::parse(self.query?.as_bytes());
                pairs.find(|(key, _)| key == name).map(|(_, value)| value)
            }
            AttributeSource::Path(name) => {
                let found = self.parameters.iter().find(|(key, _)| key == name);
                found.map(|(_, value)| Cow::Borrowed(*value))
            }
        }
    }
}

/// Removes control characters and truncates long values.
fn sanitize(value: &str) -> String {
    value.trim().chars().filter(|character| !character.is_control()).take(MAX_VALUE_LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::trace::{Baggage, Incoming, Pipeline, Resource, Settings, SpanKind};

    fn sources<'a>(
        headers: &'a HeaderMap,
        query: Option<&'a str>,
        parameters: &[(&'a str, &'a str)],
    ) -> AttributeSources<'a> {
        AttributeSources { headers, query, parameters: parameters.to_vec() }
    }

    fn user(baggage: bool) -> RequestAttribute {
        RequestAttribute {
            sources: vec![AttributeSource::Path("user_id".to_owned()), AttributeSource::Query("user_id".to_owned())],
            names: vec!["app.user".to_owned(), "user.id".to_owned()],
            baggage,
        }
    }

    /// A recorder of a request with this baggage, with tracing turned on or off.
    fn recorder(disabled: bool, baggage: Baggage) -> Recorder {
        let mut settings = Settings { disabled, ..Settings::default() };
        for signal in [&mut settings.traces, &mut settings.metrics, &mut settings.logs] {
            signal.exporters.clear();
        }
        let pipeline = Pipeline::start(settings).unwrap();
        let incoming = Incoming { baggage, ..Incoming::default() };
        pipeline.record(&Resource::new("shop", "1.0.0", &[]), &incoming, "GET /", SpanKind::Server)
    }

    #[tokio::test]
    async fn the_first_source_with_a_value_is_used() {
        let check = |query: Option<&str>, parameters: &[(&str, &str)], expected: Option<&str>| {
            let (headers, mut recorder) = (HeaderMap::new(), recorder(false, Baggage::default()));
            let found = value(&mut recorder, &user(true), &sources(&headers, query, parameters));
            assert_eq!(found.as_deref(), expected, "{query:?} {parameters:?}");
            assert_eq!(recorder.baggage().get("app.user"), expected);
        };
        check(None, &[("user_id", "7")], Some("7"));
        check(Some("a=b&user_id=1%2B1+x"), &[], Some("1+1 x"));
        check(Some("user_id=2"), &[("user_id", "7")], Some("7"));
        check(Some("xuser_id=2"), &[], None);
        // Guests decode names in the same way.
        check(Some("user%5Fid=1&user_id=2"), &[], Some("1"));
    }

    #[tokio::test]
    async fn only_attributes_with_baggage_enabled_are_written_to_and_read_from_baggage() {
        let headers = HeaderMap::new();
        for baggage in [false, true] {
            let mut sent = recorder(false, Baggage::default());
            let found = value(&mut sent, &user(baggage), &sources(&headers, None, &[("user_id", "7")]));
            assert_eq!(found.as_deref(), Some("7"));
            assert_eq!(sent.baggage().is_empty(), !baggage);
            let mut received = recorder(false, Baggage::default().with("app.user", "8"));
            let found = value(&mut received, &user(baggage), &sources(&headers, None, &[]));
            assert_eq!(found.as_deref(), baggage.then_some("8"));
        }
    }

    #[tokio::test]
    async fn without_configured_attributes_the_baggage_stays_empty() {
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x-client-id"), "web".parse().unwrap())]);
        let mut recorder = recorder(false, Baggage::default());
        attach(&mut recorder, &[], &sources(&headers, Some("user_id=7"), &[("user_id", "7")]));
        assert!(recorder.baggage().is_empty());
    }

    #[tokio::test]
    async fn with_tracing_turned_off_the_baggage_stays_unchanged() {
        let headers = HeaderMap::new();
        for disabled in [false, true] {
            let mut recorder = recorder(disabled, Baggage::default());
            attach(&mut recorder, &[user(true)], &sources(&headers, Some("user_id=7"), &[]));
            assert_eq!(recorder.baggage().is_empty(), disabled);
        }
    }

    #[test]
    fn values_are_truncated_and_have_no_control_characters() {
        assert_eq!(sanitize(" a\u{7}b "), "ab");
        assert_eq!(sanitize(&"x".repeat(500)).len(), MAX_VALUE_LENGTH);
    }
}
