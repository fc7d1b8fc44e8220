//! W3C Trace Context: the trace that a request belongs to and the span of its caller. Pure functions.

use std::collections::BTreeSet;
use std::sync::Arc;

use opentelemetry::trace::{SpanId, TraceId};

use super::baggage::Baggage;

/// The most members of `tracestate` that are propagated.
const MAX_STATE_MEMBERS: usize = 32;
/// The most bytes of `tracestate` that are propagated.
const MAX_STATE_BYTES: usize = 512;
/// Members longer than this are removed first if `tracestate` is too long.
const LONG_MEMBER: usize = 128;
/// The maximum length of a member's key or value.
const MAX_STATE_PART: usize = 256;
/// The length of `traceparent` in bytes.
const TRACEPARENT_LENGTH: usize = 55;
/// Flags of `traceparent`.
const SAMPLED: u8 = 0x01;
const RANDOM: u8 = 0x02;

/// A span context, as it is propagated between services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// Whether the trace is sampled.
    pub sampled: bool,
    /// `tracestate`, propagated unchanged.
    pub state: Option<Arc<str>>,
    /// Whether it was received from another process.
    pub remote: bool,
    /// Whether the low 56 bits of the trace's id are known to be random (W3C Trace Context Level 2).
    pub(super) random: bool,
    /// Whether the caller defers the sampling decision, as B3 allows.
    pub(super) undecided: bool,
    /// Whether the caller has set B3's debug flag.
    pub(super) debug: bool,
}

/// The trace context and baggage of an incoming request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    /// The caller's span context, if the request carries one.
    pub parent: Option<TraceContext>,
    /// The baggage.
    pub baggage: Baggage,
    /// Whether a caller without a span context asks not to sample, as B3 allows.
    pub denied: bool,
}

impl TraceContext {
    /// Parses `traceparent`. Returns `None` if it is malformed; a new trace then starts.
    pub fn from_traceparent(text: &str) -> Option<TraceContext> {
        let text = text.trim_matches([' ', '\t']);
        let version = hex(text.get(..2)?)?;
        let known = match version {
            [0xff] => return None,
            // A later version may append fields, which start with another dash.
            [version] if version > 0 => text.len() == 55 || text.as_bytes().get(55) == Some(&b'-'),
            _ => text.len() == 55,
        };
        let dashes = [2, 35, 52].iter().all(|at| text.as_bytes().get(*at) == Some(&b'-'));
        if !known || !dashes {
            return None;
        }
        let trace_id = TraceId::from_bytes(hex(text.get(3..35)?)?);
        let span_id = SpanId::from_bytes(hex(text.get(36..52)?)?);
        let [flags] = hex(text.get(53..55)?)?;
        let context = TraceContext::valid(trace_id, span_id, flags & SAMPLED != 0)?;
        Some(TraceContext { random: flags & RANDOM != 0, ..context })
    }

    /// A remote context, unless one of the ids is all zeros.
    pub(super) fn valid(trace_id: TraceId, span_id: SpanId, sampled: bool) -> Option<TraceContext> {
        let context = TraceContext { trace_id, span_id, sampled, remote: true, ..TraceContext::none() };
        context.is_valid().then_some(context)
    }

    /// An invalid context, which is not propagated.
    pub fn none() -> TraceContext {
        TraceContext {
            trace_id: TraceId::INVALID,
            span_id: SpanId::INVALID,
            sampled: false,
            state: None,
            remote: false,
            random: false,
            undecided: false,
            debug: false,
        }
    }

    /// Whether both ids are valid.
    pub fn is_valid(&self) -> bool {
        self.trace_id != TraceId::INVALID && self.span_id != SpanId::INVALID
    }

    /// The value of `traceparent` for this span.
    pub fn to_traceparent(&self) -> String {
        let flags = if self.sampled { SAMPLED } else { 0 } | if self.random { RANDOM } else { 0 };
        let mut text = String::with_capacity(TRACEPARENT_LENGTH);
        text.push_str("00-");
        text.push_str(const_hex::Buffer::<16>::new().format(&self.trace_id.to_bytes()));
        text.push('-');
        text.push_str(const_hex::Buffer::<8>::new().format(&self.span_id.to_bytes()));
        text.push('-');
        text.push_str(const_hex::Buffer::<1>::new().format(&[flags]));
        text
    }
}

/// Validates and joins `tracestate` headers. If one of them is malformed, nothing is propagated. Of members with the
/// same key only the first one is kept, which is the most recent: a duplicate of one vendor does not remove the members
/// of others.
pub(super) fn parse_state<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Arc<str>> {
    let members = headers.flat_map(|header| header.split(',')).map(|member| member.trim_matches([' ', '\t']));
    let mut members: Vec<_> = members.filter(|member| !member.is_empty()).take(MAX_STATE_MEMBERS + 1).collect();
    if members.len() > MAX_STATE_MEMBERS || !members.iter().all(|member| is_state_member(member)) {
        return None;
    }
    let mut keys = BTreeSet::new();
    members.retain(|member| member.split('=').next().is_some_and(|key| keys.insert(key)));
    shorten(&mut members);
    (!members.is_empty()).then(|| members.join(",").into())
}

/// Removes members until the value is short enough: long members first, then the last ones, as W3C Trace Context
/// specifies.
fn shorten(members: &mut Vec<&str>) {
    let length = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>().saturating_sub(1);
    while length(members) > MAX_STATE_BYTES {
        let long = members.iter().rposition(|member| member.len() > LONG_MEMBER);
        members.remove(long.unwrap_or(members.len() - 1));
    }
}

fn is_state_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return false };
    let begins = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let key_byte = |byte: u8| begins(byte) || b"_-*/@".contains(&byte);
    let value_byte = |byte: u8| matches!(byte, 0x20..=0x7e) && byte != b'=' && byte != b',';
    key.bytes().next().is_some_and(begins)
        && key.len() <= MAX_STATE_PART
        && key.bytes().all(key_byte)
        && !value.is_empty()
        && value.len() <= MAX_STATE_PART
        && value.bytes().all(value_byte)
}

/// Parses exactly `N` bytes of lower-case hexadecimal digits.
pub(super) fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_traceparent_round_trips() {
        let context = TraceContext::from_traceparent(GOOD).unwrap();
        assert!(context.sampled);
        assert_eq!(context.to_traceparent(), GOOD);
    }

    #[test]
    fn a_malformed_traceparent_is_ignored() {
        let bad = [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            "äö-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ];
        for text in bad {
            assert_eq!(TraceContext::from_traceparent(text), None, "{text}");
        }
    }

    #[test]
    fn a_later_version_may_append_fields() {
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-a-future-field";
        assert!(TraceContext::from_traceparent(later).is_some());
        assert!(TraceContext::from_traceparent(&later.replace("01-a-future", "01.a-future")).is_none());
    }

    #[test]
    fn tracestate_is_propagated_or_dropped_as_a_whole() {
        let parse = |text: &str| parse_state([text].into_iter()).as_deref().map(str::to_owned);
        assert_eq!(parse("a=1, b=2").as_deref(), Some("a=1,b=2"));
        assert_eq!(parse("t@v=x y").as_deref(), Some("t@v=x y"));
        for bad in ["", "a", "A=1", "a=1,a=2,b", "a=", "a=1,a=", "a=\u{7f}", "=1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let many: Vec<_> = (0..33).map(|index| format!("k{index}=v")).collect();
        assert_eq!(parse(&many.join(",")), None);
        assert_eq!(parse(&many[1..].join(",")), Some(many[1..].join(",")));
    }

    #[test]
    fn of_members_with_the_same_key_only_the_first_is_propagated() {
        let check = |headers: &[&str], expected: &str| {
            assert_eq!(parse_state(headers.iter().copied()).as_deref(), Some(expected), "{headers:?}");
        };
        check(&["foo=1,foo=1"], "foo=1");
        check(&["foo=1,foo=2"], "foo=1");
        check(&["foo=1", "foo=1"], "foo=1");
        check(&["foo=1", "foo=2"], "foo=1");
        check(&["foo=1,bar=2,foo=3,baz=4", "bar=5"], "foo=1,bar=2,baz=4");
        check(&["foo=1,foo@a=2,a@foo=3"], "foo=1,foo@a=2,a@foo=3");
        // The limit applies to the members received, not to those that remain.
        let many = vec!["foo=1"; 33].join(",");
        assert_eq!(parse_state([many.as_str()].into_iter()), None);
    }

    #[test]
    fn a_long_tracestate_loses_long_members_first_and_then_the_last_ones() {
        let parse = |members: &[String]| parse_state([members.join(",").as_str()].into_iter());
        let long = format!("long={}", "x".repeat(200));
        let short: Vec<_> = (0..6).map(|index| format!("k{index}={}", "y".repeat(90))).collect();
        let mut all = vec![long];
        all.extend_from_slice(&short);
        assert_eq!(parse(&all).as_deref(), Some(short[..5].join(",").as_str()));
    }

    #[test]
    fn the_random_flag_is_propagated() {
        let random = GOOD.replace("-01", "-03");
        assert_eq!(TraceContext::from_traceparent(&random).unwrap().to_traceparent(), random);
        let unknown = GOOD.replace("-01", "-ff");
        assert_eq!(TraceContext::from_traceparent(&unknown).unwrap().to_traceparent(), random);
    }

    proptest::proptest! {
        #[test]
        fn every_propagated_tracestate_is_well_formed(header in "[ -~]{0,700}", more in "[a-c@=, ]{0,40}") {
            if let Some(state) = parse_state([header.as_str(), more.as_str()].into_iter()) {
                proptest::prop_assert!(state.len() <= MAX_STATE_BYTES);
                proptest::prop_assert_eq!(parse_state([&*state].into_iter()), Some(state.clone()));
            }
        }
    }
}
