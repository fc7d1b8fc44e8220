//! Request attributes: metadata of a whole trace, such as user, session and tenant, read from the places that the
//! manifest names (`[[telemetry.attributes]]`).
//! Values come from the request or, if a caller has already read them, from W3C baggage. They are recorded on every
//! span of the request and, if the manifest says so, propagated as baggage.

use std::borrow::Cow;

use http::HeaderMap;

use crate::config::{AttributeSource, RequestAttribute};
use crate::trace::{Attribute, Recorder};

/// Longer values (in characters) are truncated, because they are recorded on every span and sent with every call.
const LONGEST: usize = 128;

/// The parts of a request that values are read from.
pub struct Places<'a> {
    /// Its header fields.
    pub headers: &'a HeaderMap,
    /// Its query, as sent.
    pub query: Option<&'a str>,
    /// The names and values of its route's parameters.
    pub parameters: Vec<(&'a str, &'a str)>,
}

/// Reads a request's attributes and adds them to its spans and baggage. If tracing is turned off, there are no spans,
/// and a caller's baggage is passed on unchanged.
pub fn attach(recorder: &mut Recorder, attributes: &[RequestAttribute], places: &Places<'_>) {
    if attributes.is_empty() || !recorder.is_enabled() {
        return;
    }
    let mut shared = Vec::new();
    for attribute in attributes {
        let value = value(recorder, attribute, places);
        if let Some(value) = value.filter(|_| recorder.is_recording()) {
            shared.push((&attribute.names, value));
        }
    }
    let all = shared.iter().flat_map(|(names, value)| names.iter().map(move |name| Attribute::new(name, value)));
    recorder.set_shared_attributes(all);
}

/// The value in the request, which replaces the one in the baggage, or else the one in the baggage.
fn value(recorder: &mut Recorder, attribute: &RequestAttribute, places: &Places<'_>) -> Option<String> {
    let given = attribute.sources.iter().find_map(|source| places.find(source));
    let given = given.map(|value| tidy(&value)).filter(|value| !value.is_empty());
    let key = attribute.names.first().filter(|_| attribute.baggage);
    match (given, key) {
        (None, None) => None,
        (None, Some(key)) => recorder.baggage().get(key).map(tidy),
        (Some(value), None) => Some(value),
        (Some(value), Some(key)) => {
            let baggage = recorder.baggage().with(key, &value);
            recorder.set_baggage(baggage);
            Some(value)
        }
    }
}

impl<'a> Places<'a> {
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
fn tidy(value: &str) -> String {
    value.trim().chars().filter(|character| !character.is_control()).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::trace::{Baggage, Incoming, Pipeline, Resource, Settings, SpanKind};

    fn places<'a>(headers: &'a HeaderMap, query: Option<&'a str>, parameters: &[(&'a str, &'a str)]) -> Places<'a> {
        Places { headers, query, parameters: parameters.to_vec() }
    }

    fn user(baggage: bool) -> RequestAttribute {
        RequestAttribute {
            sources: vec![AttributeSource::Path("user_id".to_owned()), AttributeSource::Query("user_id".to_owned())],
            names: vec!["app.user".to_owned(), "user.id".to_owned()],
            baggage,
        }
    }

    /// A recorder for a request that came with this baggage, with tracing turned on or off.
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
    async fn the_first_place_that_has_a_value_counts() {
        let check = |query: Option<&str>, parameters: &[(&str, &str)], expected: Option<&str>| {
            let (headers, mut recorder) = (HeaderMap::new(), recorder(false, Baggage::default()));
            let found = value(&mut recorder, &user(true), &places(&headers, query, parameters));
            assert_eq!(found.as_deref(), expected, "{query:?} {parameters:?}");
            assert_eq!(recorder.baggage().get("app.user"), expected);
        };
        check(None, &[("user_id", "7")], Some("7"));
        check(Some("a=b&user_id=1%2B1+x"), &[], Some("1+1 x"));
        check(Some("user_id=2"), &[("user_id", "7")], Some("7"));
        check(Some("xuser_id=2"), &[], None);
        // The format in which guests read it.
        check(Some("user%5Fid=1&user_id=2"), &[], Some("1"));
    }

    #[tokio::test]
    async fn only_what_travels_is_put_into_baggage_and_taken_from_it() {
        let headers = HeaderMap::new();
        for travels in [false, true] {
            let mut told = recorder(false, Baggage::default());
            let found = value(&mut told, &user(travels), &places(&headers, None, &[("user_id", "7")]));
            assert_eq!(found.as_deref(), Some("7"));
            assert_eq!(told.baggage().is_empty(), !travels);
            let mut untold = recorder(false, Baggage::default().with("app.user", "8"));
            let found = value(&mut untold, &user(travels), &places(&headers, None, &[]));
            assert_eq!(found.as_deref(), travels.then_some("8"));
        }
    }

    #[tokio::test]
    async fn without_entries_nothing_of_a_request_is_taken() {
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x-client-id"), "web".parse().unwrap())]);
        let mut recorder = recorder(false, Baggage::default());
        attach(&mut recorder, &[], &places(&headers, Some("user_id=7"), &[("user_id", "7")]));
        assert!(recorder.baggage().is_empty());
    }

    #[tokio::test]
    async fn where_the_host_takes_no_part_in_traces_the_baggage_stays_as_it_came() {
        let headers = HeaderMap::new();
        for disabled in [false, true] {
            let mut recorder = recorder(disabled, Baggage::default());
            attach(&mut recorder, &[user(true)], &places(&headers, Some("user_id=7"), &[]));
            assert_eq!(recorder.baggage().is_empty(), disabled);
        }
    }

    #[test]
    fn values_are_kept_short_and_printable() {
        assert_eq!(tidy(" a\u{7}b "), "ab");
        assert_eq!(tidy(&"x".repeat(500)).len(), LONGEST);
    }
}
