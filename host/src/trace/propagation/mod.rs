//! Propagation of trace context and baggage in headers: W3C, B3 and Jaeger.

mod b3;
mod carrier;
#[cfg(test)]
mod interop_tests;
mod jaeger;
#[cfg(test)]
mod jaeger_interop_tests;
#[cfg(test)]
mod w3c_tests;

use http::{HeaderMap, HeaderName, HeaderValue};

use self::carrier::{put, single};
use super::baggage::Baggage;
use super::context::{Incoming, TraceContext, parse_state};
use super::settings::Propagator;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// The formats in use, in order: the first one that finds a caller's context wins; all are injected.
#[derive(Clone, Debug)]
pub struct Propagators(Vec<Propagator>);

impl Default for Propagators {
    fn default() -> Propagators {
        Propagators(vec![Propagator::TraceContext, Propagator::Baggage])
    }
}

impl Propagators {
    /// The formats of `OTEL_PROPAGATORS`.
    pub fn new(formats: &[Propagator]) -> Propagators {
        Propagators(formats.to_vec())
    }

    /// Extracts trace context and baggage from a request. Malformed headers are ignored.
    pub fn extract(&self, headers: &HeaderMap) -> Incoming {
        let parent = self.0.iter().find_map(|format| match format {
            Propagator::TraceContext => extract_w3c(headers),
            Propagator::B3 | Propagator::B3Multi => b3::extract(headers),
            Propagator::Jaeger => jaeger::extract(headers),
            Propagator::Baggage => None,
        });
        let mut baggage = match self.0.contains(&Propagator::Baggage) {
            true => {
                // Invalid text affects only its own member, not the others.
                let fields = headers.get_all(&BAGGAGE).into_iter();
                let fields: Vec<_> = fields.map(|field| String::from_utf8_lossy(field.as_bytes())).collect();
                Baggage::parse(fields.iter().map(|field| &**field))
            }
            false => Baggage::default(),
        };
        if self.0.contains(&Propagator::Jaeger) {
            baggage = jaeger::extract_baggage(headers, baggage);
        }
        let denied = parent.is_none() && self.uses_b3() && b3::denies(headers);
        Incoming { parent, baggage, denied }
    }

    /// Injects trace context and baggage into a request, replacing headers that a guest has set.
    pub fn inject(&self, context: &TraceContext, baggage: Option<&Baggage>, headers: &mut HeaderMap) {
        let context = Some(context).filter(|context| context.is_valid());
        let baggage = baggage.filter(|baggage| !baggage.is_empty());
        if self.uses_b3() {
            // Readers of B3 accept both forms, so both forms set by a guest are removed.
            b3::remove(headers);
        }
        for format in &self.0 {
            match format {
                Propagator::TraceContext => {
                    put(headers, TRACEPARENT, context.map(TraceContext::to_traceparent));
                    put(headers, TRACESTATE, context.and_then(|context| context.state.as_deref()));
                }
                Propagator::Baggage => put(headers, BAGGAGE, baggage.map(Baggage::to_header)),
                Propagator::B3 => b3::inject_single(context, headers),
                Propagator::B3Multi => b3::inject_multi(context, headers),
                Propagator::Jaeger => jaeger::inject(context, baggage, headers),
            }
        }
    }

    /// The same as [`inject`](Self::inject) if there is any header of trace context or baggage, in use or not. Other
    /// headers stay unchanged.
    pub fn replace(&self, context: &TraceContext, baggage: &Baggage, headers: &mut HeaderMap) {
        if headers.keys().any(is_propagation_header) {
            self.inject(context, Some(baggage), headers);
        }
    }

    fn uses_b3(&self) -> bool {
        self.0.iter().any(|format| matches!(format, Propagator::B3 | Propagator::B3Multi))
    }
}

/// Removes baggage that a guest has set, in every format, whether or not that format is in use.
pub fn remove_baggage(headers: &mut HeaderMap) {
    headers.remove(&BAGGAGE);
    jaeger::remove_baggage(headers);
}

/// Removes trace context that a guest has set, in every format, whether or not that format is in use.
pub fn remove_context(headers: &mut HeaderMap) {
    headers.remove(&TRACEPARENT);
    headers.remove(&TRACESTATE);
    b3::remove(headers);
    jaeger::remove_context(headers);
}

/// Whether a header carries trace context or baggage in any format.
fn is_propagation_header(name: &HeaderName) -> bool {
    [TRACEPARENT, TRACESTATE, BAGGAGE].contains(name) || b3::is_header(name) || jaeger::is_header(name)
}

/// The values of a field that may occur several times. If one of them is not valid text, all are ignored.
fn texts<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let texts: Result<Vec<_>, _> = headers.get_all(name).into_iter().map(HeaderValue::to_str).collect();
    texts.unwrap_or_default().into_iter()
}

fn extract_w3c(headers: &HeaderMap) -> Option<TraceContext> {
    let mut context = TraceContext::from_traceparent(single(headers, &TRACEPARENT)?)?;
    context.state = parse_state(texts(headers, &TRACESTATE));
    Some(context)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use opentelemetry::trace::{SpanId, TraceId};
    use proptest::prelude::*;

    use super::*;

    const ALL: [Propagator; 4] = [Propagator::TraceContext, Propagator::B3, Propagator::B3Multi, Propagator::Jaeger];

    const NAMES: [&str; 9] = [
        "traceparent",
        "tracestate",
        "baggage",
        "b3",
        "x-b3-traceid",
        "x-b3-spanid",
        "x-b3-sampled",
        "uber-trace-id",
        "uberctx-user",
    ];

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn every_format_round_trips() {
        let context = TraceContext::valid(TraceId::from(7_u128), SpanId::from(9_u64), true).unwrap();
        for format in ALL {
            let propagators = Propagators::new(&[format]);
            let mut headers = HeaderMap::new();
            propagators.inject(&context, None, &mut headers);
            assert_eq!(propagators.extract(&headers).parent.as_ref(), Some(&context), "{format:?}");
        }
    }

    #[test]
    fn two_traceparents_are_ignored() {
        let one = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let twice = headers(&[("traceparent", one), ("traceparent", one)]);
        assert_eq!(Propagators::default().extract(&twice).parent, None);
    }

    #[test]
    fn a_tracestate_without_a_traceparent_is_ignored() {
        let alone = headers(&[("tracestate", "a=1")]);
        assert_eq!(Propagators::default().extract(&alone).parent, None);
    }

    #[test]
    fn tracestate_headers_are_joined_and_all_ignored_if_one_is_not_text() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut headers = headers(&[("traceparent", parent), ("tracestate", "a=1"), ("tracestate", "b=2")]);
        let state = |headers: &HeaderMap| {
            let incoming = Propagators::default().extract(headers);
            incoming.parent.unwrap().state
        };
        assert_eq!(state(&headers).as_deref(), Some("a=1,b=2"));
        headers.append(TRACESTATE, HeaderValue::from_bytes(b"c=\xff").unwrap());
        assert_eq!(state(&headers), None);
    }

    #[test]
    fn a_baggage_member_that_is_not_text_affects_no_other() {
        let mut headers = headers(&[("baggage", "a=1")]);
        headers.append(BAGGAGE, HeaderValue::from_bytes(b"b=\xff,c=3").unwrap());
        let baggage = Propagators::default().extract(&headers).baggage;
        assert_eq!(baggage.members().collect::<Vec<_>>(), [("a", "1"), ("c", "3")]);
    }

    #[test]
    fn the_first_format_that_finds_a_context_wins() {
        let both = headers(&[
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1"),
        ]);
        let first = |formats: &[Propagator]| {
            let parent = Propagators::new(formats).extract(&both).parent;
            parent.unwrap().span_id.to_string()
        };
        assert_eq!(first(&[Propagator::TraceContext, Propagator::B3]), "00f067aa0ba902b7");
        assert_eq!(first(&[Propagator::B3, Propagator::TraceContext]), "e457b5a2e4d86bd1");
    }

    #[test]
    fn a_guest_cannot_forge_propagated_headers() {
        let mut headers = headers(&[("tracestate", "forged=1"), ("baggage", "forged=1")]);
        let context = TraceContext::valid(TraceId::from(7_u128), SpanId::from(9_u64), true).unwrap();
        Propagators::default().inject(&context, None, &mut headers);
        assert!(!headers.contains_key("tracestate") && !headers.contains_key("baggage"));
    }

    #[test]
    fn both_forms_of_b3_are_read_and_the_single_header_takes_precedence() {
        let one = ("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1");
        let many = [("x-b3-traceid", "80f198ee56343ba864fe8b2a57d3eff7"), ("x-b3-spanid", "00f067aa0ba902b7")];
        for format in [Propagator::B3, Propagator::B3Multi] {
            let found = |fields: &[(&str, &str)]| {
                let parent = Propagators::new(&[format]).extract(&headers(fields)).parent;
                parent.map(|parent| parent.span_id.to_string())
            };
            assert_eq!(found(&many).as_deref(), Some("00f067aa0ba902b7"), "{format:?}");
            assert_eq!(found(&[one]).as_deref(), Some("e457b5a2e4d86bd1"), "{format:?}");
            assert_eq!(found(&[one, many[0], many[1]]).as_deref(), Some("e457b5a2e4d86bd1"), "{format:?}");
            assert_eq!(found(&[("b3", "bad"), many[0], many[1]]).as_deref(), Some("00f067aa0ba902b7"), "{format:?}");
        }
    }

    #[test]
    fn only_the_b3_forms_in_use_are_sent() {
        let context = TraceContext::valid(TraceId::from(7_u128), SpanId::from(9_u64), true).unwrap();
        let names = |format| {
            let mut headers = headers(&[("b3", "forged"), ("x-b3-traceid", "forged"), ("x-b3-flags", "1")]);
            Propagators::new(&[format]).inject(&context, None, &mut headers);
            let mut names: Vec<_> = headers.keys().map(|name| name.as_str().to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(names(Propagator::B3), ["b3"]);
        assert_eq!(names(Propagator::B3Multi), ["x-b3-sampled", "x-b3-spanid", "x-b3-traceid"]);
    }

    #[test]
    fn a_b3_denial_counts_if_b3_is_in_use_and_no_context_is_found() {
        let denied = |formats: &[Propagator], fields: &[(&str, &str)]| {
            Propagators::new(formats).extract(&headers(fields)).denied
        };
        let caller = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert!(denied(&[Propagator::B3], &[("b3", "0")]));
        assert!(denied(&[Propagator::B3], &[("x-b3-sampled", "0")]));
        assert!(denied(&[Propagator::B3Multi], &[("b3", "0")]));
        assert!(!denied(&[Propagator::TraceContext], &[("b3", "0")]));
        assert!(!denied(&[Propagator::TraceContext, Propagator::B3], &[caller, ("b3", "0")]));
    }

    #[test]
    fn baggage_is_removed_in_every_format() {
        let mut headers = headers(&[("baggage", "a=1"), ("uberctx-user", "7"), ("accept", "*/*")]);
        remove_baggage(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn trace_context_is_removed_in_every_format() {
        let mut headers = headers(&NAMES.map(|name| (name, "a")));
        remove_context(&mut headers);
        let left: BTreeSet<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, BTreeSet::from(["baggage", "uberctx-user"]));
    }

    #[test]
    fn headers_are_replaced_if_there_are_any() {
        let context = TraceContext::valid(TraceId::from(7_u128), SpanId::from(9_u64), true).unwrap();
        let replaced = |name: &str| {
            let mut headers = headers(&[(name, "forged"), ("accept", "*/*")]);
            Propagators::default().replace(&context, &Baggage::default().with("a", "1"), &mut headers);
            let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned());
            (text("traceparent"), text("tracestate"), text("baggage"))
        };
        for name in NAMES {
            assert_eq!(replaced(name), (Some(context.to_traceparent()), None, Some("a=1".to_owned())), "{name}");
        }
        assert_eq!(replaced("x-other"), (None, None, None));
    }

    #[test]
    fn an_invalid_context_is_not_sent() {
        let mut headers = headers(&[("traceparent", "forged"), ("b3", "forged"), ("uber-trace-id", "forged")]);
        Propagators::new(&ALL).inject(&TraceContext::none(), None, &mut headers);
        assert!(headers.is_empty(), "{headers:?}");
    }

    proptest! {
        #[test]
        fn any_context_round_trips_in_any_format(trace in 1_u128.., span in 1_u64.., sampled: bool) {
            let context = TraceContext::valid(TraceId::from(trace), SpanId::from(span), sampled).unwrap();
            for format in ALL {
                let mut headers = HeaderMap::new();
                let propagators = Propagators::new(&[format]);
                propagators.inject(&context, None, &mut headers);
                prop_assert_eq!(propagators.extract(&headers).parent, Some(context.clone()));
            }
        }

        #[test]
        fn mutated_headers_are_read_or_ignored(
            trace in 1_u128.., changes in proptest::collection::vec((any::<u16>(), 0x20_u8..0x7f, 0..3_u8), 1..4),
        ) {
            let context = TraceContext::valid(TraceId::from(trace), SpanId::from(9_u64), true).unwrap();
            for format in ALL {
                let propagators = Propagators::new(&[format]);
                let mut valid = HeaderMap::new();
                propagators.inject(&context, None, &mut valid);
                let mut changed = HeaderMap::new();
                for (name, value) in &valid {
                    let mut bytes = value.as_bytes().to_vec();
                    for (at, byte, change) in &changes {
                        let at = usize::from(*at) % bytes.len();
                        match change {
                            0 => bytes[at] = *byte,
                            1 => bytes.insert(at, *byte),
                            _ if bytes.len() > 1 => drop(bytes.remove(at)),
                            _ => {}
                        }
                    }
                    changed.insert(name, HeaderValue::from_bytes(&bytes).unwrap());
                }
                // Every accepted context can be propagated.
                if let Some(parent) = propagators.extract(&changed).parent {
                    prop_assert!(parent.is_valid());
                    let mut sent = HeaderMap::new();
                    propagators.inject(&parent, None, &mut sent);
                    let read = propagators.extract(&sent).parent;
                    prop_assert_eq!(read.map(|read| read.span_id), Some(parent.span_id), "{:?}", changed);
                }
            }
        }

        #[test]
        fn no_header_value_makes_the_parsers_panic(value in "\\PC*", ascii in "[ -~]{0,80}") {
            for text in [value, ascii] {
                let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) else { continue };
                let mut headers = HeaderMap::new();
                for name in NAMES {
                    headers.insert(HeaderName::from_static(name), value.clone());
                }
                for format in ALL {
                    Propagators::new(&[format, Propagator::Baggage]).extract(&headers);
                }
            }
        }

        #[test]
        fn any_valid_traceparent_is_continued(trace in 1_u128.., span in 1_u64.., flags in 0_u8..) {
            let text = format!("00-{trace:032x}-{span:016x}-{flags:02x}");
            let context = TraceContext::from_traceparent(&text).unwrap();
            prop_assert_eq!(context.trace_id, TraceId::from(trace));
            prop_assert_eq!(context.span_id, SpanId::from(span));
            prop_assert_eq!(context.sampled, flags & 1 == 1);
        }

        #[test]
        fn any_baggage_round_trips(pairs in proptest::collection::vec(("[a-z]{1,8}", "\\PC{0,20}"), 0..10)) {
            let mut baggage = Baggage::default();
            for (key, value) in &pairs {
                baggage = baggage.with(key, value);
            }
            let header = baggage.to_header();
            prop_assert_eq!(Baggage::parse([header.as_str()].into_iter()), baggage);
        }
    }
}
