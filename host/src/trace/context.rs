//! W3C Trace Context: which trace a request belongs to and which span it comes from. Pure.

use std::sync::Arc;

use opentelemetry::trace::{SpanId, TraceId};

use super::baggage::Baggage;

/// The most members of `tracestate` that are passed on.
const STATE_MEMBERS: usize = 32;
/// The most bytes of `tracestate` that are passed on.
const STATE_BYTES: usize = 512;

/// A span as another service sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// Whether the trace is recorded.
    pub sampled: bool,
    /// `tracestate`, passed on as it came.
    pub state: Option<Arc<str>>,
    /// Whether it came from another process.
    pub remote: bool,
}

/// What came with a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    /// The caller's span, if the caller is traced.
    pub parent: Option<TraceContext>,
    /// What travels with the trace.
    pub baggage: Baggage,
}

impl TraceContext {
    /// Reads `traceparent`. Anything malformed gives nothing, and a new trace starts.
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
        TraceContext::valid(trace_id, span_id, flags & 1 == 1)
    }

    /// A remote context, unless one of the ids is all zeros.
    pub(super) fn valid(trace_id: TraceId, span_id: SpanId, sampled: bool) -> Option<TraceContext> {
        let valid = trace_id != TraceId::INVALID && span_id != SpanId::INVALID;
        valid.then_some(TraceContext { trace_id, span_id, sampled, state: None, remote: true })
    }

    /// `traceparent` for this span.
    pub fn to_traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// Checks and joins `tracestate` headers. Nothing of a malformed one is passed on.
pub(super) fn parse_state<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Arc<str>> {
    let joined: Vec<_> =
        headers.flat_map(|header| header.split(',')).map(|member| member.trim_matches([' ', '\t'])).collect();
    let members: Vec<_> = joined.into_iter().filter(|member| !member.is_empty()).collect();
    let keys: std::collections::BTreeSet<_> = members.iter().filter_map(|member| member.split('=').next()).collect();
    let good = members.iter().all(|member| is_state_member(member)) && keys.len() == members.len();
    if members.is_empty() || members.len() > STATE_MEMBERS || !good {
        return None;
    }
    let mut state = String::new();
    for member in members {
        if state.len() + member.len() + 1 > STATE_BYTES {
            break;
        }
        if !state.is_empty() {
            state.push(',');
        }
        state.push_str(member);
    }
    Some(state.into())
}

fn is_state_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return false };
    let (tenant, system) = match key.split_once('@') {
        Some((tenant, system)) => (Some(tenant), system),
        None => (None, key),
    };
    let key_byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(&byte);
    let starts_well =
        |part: &str| part.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let part_is_good = |part: &str, longest| starts_well(part) && part.len() <= longest && part.bytes().all(key_byte);
    let key_is_good = match tenant {
        Some(tenant) => part_is_good(tenant, 241) && part_is_good(system, 14),
        None => part_is_good(system, 256),
    };
    let value_byte = |byte: u8| matches!(byte, 0x20..=0x7e) && byte != b'=' && byte != b',';
    key_is_good && !value.is_empty() && value.len() <= 256 && value.bytes().all(value_byte)
}

/// Exactly `N` bytes of lower-case hexadecimal digits.
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
    fn a_good_traceparent_survives_the_journey() {
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
    fn a_later_version_may_say_more() {
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-holds";
        assert!(TraceContext::from_traceparent(later).is_some());
        assert!(TraceContext::from_traceparent(&later.replace("01-what", "01.what")).is_none());
    }

    #[test]
    fn tracestate_is_passed_on_or_dropped_whole() {
        let parse = |text: &str| parse_state([text].into_iter()).as_deref().map(str::to_owned);
        assert_eq!(parse("a=1, b=2").as_deref(), Some("a=1,b=2"));
        assert_eq!(parse("t@v=x y").as_deref(), Some("t@v=x y"));
        for bad in ["", "a", "A=1", "a=1,a=2", "a=", "a=\u{7f}", "=1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let many: Vec<_> = (0..33).map(|index| format!("k{index}=v")).collect();
        assert_eq!(parse(&many.join(",")), None);
    }
}
