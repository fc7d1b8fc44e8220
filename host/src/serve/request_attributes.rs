//! The metadata that belongs to a whole trace: who asked, in which session, for whom.
//!
//! It comes from the headers `x-client-id` and `x-session-id` and the parameter `user_id`, or, where a caller has
//! already read those, from W3C baggage. It stands on every span of the request and travels on as baggage.

use std::borrow::Cow;

use http::HeaderMap;

use crate::trace::{Attribute, Recorder};

/// Values longer than this (in characters) are cut: they go on every span and over every wire.
const LONGEST: usize = 128;

/// One piece of metadata: the baggage key, which is the attribute too, and an attribute of the conventions beside it.
struct Field {
    key: &'static str,
    also: Option<&'static str>,
}

const CLIENT: Field = Field { key: "business.client_id", also: None };
const SESSION: Field = Field { key: "business.session_id", also: Some("session.id") };
const USER: Field = Field { key: "business.user_id", also: Some("user.id") };

/// Reads a request's metadata and puts it on its spans and into its baggage. Where the host takes no part in traces
/// there are no spans, and a caller's baggage is passed on as it came.
pub fn attach<'a>(
    recorder: &mut Recorder,
    headers: &HeaderMap,
    query: Option<&'a str>,
    params: impl Iterator<Item = (&'a str, &'a String)>,
) {
    if !recorder.is_enabled() {
        return;
    }
    let header = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let user = user_id(query, params);
    let given = [(CLIENT, header("x-client-id")), (SESSION, header("x-session-id")), (USER, user)];
    let mut shared = Vec::new();
    for (field, given) in given {
        let given = given.map(|value| tidy(&value)).filter(|value| !value.is_empty());
        let value = match given {
            Some(value) => {
                let baggage = recorder.baggage().with(field.key, &value);
                recorder.set_baggage(baggage);
                Some(value)
            }
            None => recorder.baggage().get(field.key).map(tidy),
        };
        if let Some(value) = value.filter(|_| recorder.is_recording()) {
            shared.push((field, value));
        }
    }
    let keys = |field: &Field| field.also.into_iter().chain([field.key]);
    let both = shared.iter().flat_map(|(field, value)| keys(field).map(move |key| Attribute::new(key, value)));
    recorder.set_shared_attributes(both);
}

fn user_id<'a>(
    query: Option<&'a str>,
    mut params: impl Iterator<Item = (&'a str, &'a String)>,
) -> Option<Cow<'a, str>> {
    let in_path = params.find(|(name, _)| *name == "user_id").map(|(_, value)| Cow::Borrowed(value.as_str()));
    in_path.or_else(|| {
        let mut pairs = form_urlencoded::parse(query?.as_bytes());
        pairs.find(|(name, _)| name == "user_id").map(|(_, value)| value)
    })
}

/// No control characters, no endless values.
fn tidy(value: &str) -> String {
    value.trim().chars().filter(|character| !character.is_control()).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::trace::{Incoming, Pipeline, Resource, Settings, SpanKind};

    fn user(query: Option<&str>, params: &[(&str, &str)]) -> Option<String> {
        let owned: Vec<_> = params.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        user_id(query, owned.iter().map(|(name, value)| (*name, value))).map(Cow::into_owned)
    }

    #[test]
    fn the_user_is_read_from_the_path_or_the_query() {
        assert_eq!(user(None, &[("user_id", "7")]).as_deref(), Some("7"));
        assert_eq!(user(Some("a=b&user_id=1%2B1+x"), &[]).as_deref(), Some("1+1 x"));
        assert_eq!(user(Some("user_id=2"), &[("user_id", "7")]).as_deref(), Some("7"));
        assert_eq!(user(Some("xuser_id=2"), &[]), None);
        assert_eq!(user(Some("user%5Fid=1&user_id=2"), &[]).as_deref(), Some("1"), "as guests read it");
    }

    #[tokio::test]
    async fn where_the_host_takes_no_part_in_traces_the_baggage_stays_as_it_came() {
        for disabled in [false, true] {
            let mut settings = Settings { disabled, ..Settings::default() };
            for signal in [&mut settings.traces, &mut settings.metrics, &mut settings.logs] {
                signal.exporters.clear();
            }
            let pipeline = Pipeline::start(settings).unwrap();
            let resource = Resource::new("shop", "1.0.0", &[]);
            let mut recorder = pipeline.record(&resource, &Incoming::default(), "GET /", SpanKind::Server);
            let headers = HeaderMap::from_iter([(HeaderName::from_static("x-client-id"), "web".parse().unwrap())]);
            attach(&mut recorder, &headers, Some("user_id=7"), std::iter::empty());
            assert_eq!(recorder.baggage().is_empty(), disabled);
        }
    }

    #[test]
    fn values_are_kept_short_and_printable() {
        assert_eq!(tidy(" a\u{7}b "), "ab");
        assert_eq!(tidy(&"x".repeat(500)).len(), LONGEST);
    }
}
