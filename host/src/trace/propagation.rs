//! The headers in which trace context and baggage travel: W3C, B3 (one header or several) and Jaeger's own.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanId, TraceId};

use super::baggage::Baggage;
use super::context::{Incoming, TraceContext, hex, parse_state};
use super::settings::Propagator;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
const JAEGER: HeaderName = HeaderName::from_static("uber-trace-id");

/// The formats in use, in order: the first that finds a caller wins; all are sent.
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

    /// Reads what came with a request. What is malformed is ignored.
    pub fn extract(&self, headers: &HeaderMap) -> Incoming {
        let parent = self.0.iter().find_map(|format| match format {
            Propagator::TraceContext => extract_w3c(headers),
            Propagator::B3 => extract_b3(headers),
            Propagator::B3Multi => extract_b3_multi(headers),
            Propagator::Jaeger => extract_jaeger(headers),
            Propagator::Baggage => None,
        });
        let baggage = match self.0.contains(&Propagator::Baggage) {
            true => Baggage::parse(texts(headers, &BAGGAGE)),
            false => Baggage::default(),
        };
        Incoming { parent, baggage }
    }

    /// Writes what goes with a request, in place of what a guest may have put there.
    pub fn inject(&self, context: &TraceContext, baggage: Option<&Baggage>, headers: &mut HeaderMap) {
        for format in &self.0 {
            match format {
                Propagator::TraceContext => {
                    put(headers, TRACEPARENT, &context.to_traceparent());
                    headers.remove(TRACESTATE);
                    if let Some(state) = &context.state {
                        put(headers, TRACESTATE, state);
                    }
                }
                Propagator::Baggage => {
                    headers.remove(BAGGAGE);
                    if let Some(baggage) = baggage.filter(|baggage| !baggage.is_empty()) {
                        put(headers, BAGGAGE, &baggage.to_header());
                    }
                }
                Propagator::B3 => {
                    let sampled = u8::from(context.sampled);
                    put(headers, B3, &format!("{}-{}-{sampled}", context.trace_id, context.span_id));
                }
                Propagator::B3Multi => {
                    put(headers, B3_TRACE, &context.trace_id.to_string());
                    put(headers, B3_SPAN, &context.span_id.to_string());
                    put(headers, B3_SAMPLED, if context.sampled { "1" } else { "0" });
                }
                Propagator::Jaeger => {
                    let flags = u8::from(context.sampled);
                    put(headers, JAEGER, &format!("{}:{}:0:{flags}", context.trace_id, context.span_id));
                }
            }
        }
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn texts<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
}

/// The value of a field that may stand only once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn extract_w3c(headers: &HeaderMap) -> Option<TraceContext> {
    let mut context = TraceContext::from_traceparent(single(headers, &TRACEPARENT)?)?;
    context.state = parse_state(texts(headers, &TRACESTATE));
    Some(context)
}

/// `{trace}-{span}[-{sampled}[-{parent}]]`.
fn extract_b3(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parts = single(headers, &B3)?.split('-');
    let (trace, span) = (parts.next()?, parts.next()?);
    context(trace, span, matches!(parts.next(), Some("1" | "d")))
}

fn extract_b3_multi(headers: &HeaderMap) -> Option<TraceContext> {
    let sampled = matches!(single(headers, &B3_SAMPLED), Some("1" | "true")) || single(headers, &B3_FLAGS) == Some("1");
    context(single(headers, &B3_TRACE)?, single(headers, &B3_SPAN)?, sampled)
}

/// `{trace}:{span}:{parent}:{flags}`, in which leading zeros may be left out.
fn extract_jaeger(headers: &HeaderMap) -> Option<TraceContext> {
    let text = single(headers, &JAEGER)?.replace("%3A", ":").replace("%3a", ":");
    let parts: Vec<_> = text.split(':').collect();
    let [trace, span, _, flags] = parts.as_slice() else { return None };
    let flags = u8::from_str_radix(flags, 16).ok()?;
    context(trace, span, flags & 1 == 1)
}

/// Ids with leading zeros left out, as B3's 64-bit trace ids and Jaeger's ids may be.
fn context(trace: &str, span: &str, sampled: bool) -> Option<TraceContext> {
    if trace.is_empty() || span.is_empty() || trace.len() > 32 || span.len() > 16 {
        return None;
    }
    let trace_id = TraceId::from_bytes(hex(&format!("{:0>32}", trace.to_ascii_lowercase()))?);
    let span_id = SpanId::from_bytes(hex(&format!("{:0>16}", span.to_ascii_lowercase()))?);
    TraceContext::valid(trace_id, span_id, sampled)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Propagator; 4] = [Propagator::TraceContext, Propagator::B3, Propagator::B3Multi, Propagator::Jaeger];

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn every_format_reads_what_it_wrote() {
        let context = TraceContext::valid(TraceId::from(7_u128), SpanId::from(9_u64), true).unwrap();
        for format in ALL {
            let propagators = Propagators::new(&[format]);
            let mut headers = HeaderMap::new();
            propagators.inject(&context, None, &mut headers);
            assert_eq!(propagators.extract(&headers).parent.as_ref(), Some(&context), "{format:?}");
        }
    }

    #[test]
    fn two_traceparents_are_as_bad_as_none() {
        let one = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let twice = headers(&[("traceparent", one), ("traceparent", one)]);
        assert_eq!(Propagators::default().extract(&twice).parent, None);
    }

    #[test]
    fn short_b3_and_jaeger_ids_are_filled_with_zeros() {
        let b3 =
            Propagators::new(&[Propagator::B3]).extract(&headers(&[("b3", "80f198ee56343ba8-e457b5a2e4d86bd1-d")]));
        assert!(b3.parent.unwrap().sampled);
        let jaeger = Propagators::new(&[Propagator::Jaeger]);
        assert!(jaeger.extract(&headers(&[("uber-trace-id", "abc:def:0:1")])).parent.is_some());
        assert!(jaeger.extract(&headers(&[("uber-trace-id", "abc:def:0")])).parent.is_none());
    }

    #[test]
    fn a_guest_cannot_forge_what_the_host_sends() {
        let mut headers = headers(&[("tracestate", "forged=1"), ("baggage", "forged=1")]);
        let context = TraceContext::valid(TraceId::from(7_u128), SpanId::from(9_u64), true).unwrap();
        Propagators::default().inject(&context, None, &mut headers);
        assert!(!headers.contains_key("tracestate") && !headers.contains_key("baggage"));
    }

    proptest! {
        #[test]
        fn no_header_value_makes_the_parsers_fail(value in "\\PC*", ascii in "[ -~]{0,80}") {
            for text in [value, ascii] {
                let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) else { continue };
                let mut headers = HeaderMap::new();
                for name in [TRACEPARENT, TRACESTATE, BAGGAGE, B3, B3_TRACE, B3_SPAN, JAEGER] {
                    headers.insert(name, value.clone());
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
        fn any_baggage_survives_the_journey(pairs in proptest::collection::vec(("[a-z]{1,8}", "\\PC{0,20}"), 0..10)) {
            let mut baggage = Baggage::default();
            for (key, value) in &pairs {
                baggage = baggage.with(key, value);
            }
            let header = baggage.to_header();
            prop_assert_eq!(Baggage::parse([header.as_str()].into_iter()), baggage);
        }
    }
}
