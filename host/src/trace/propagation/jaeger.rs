//! The propagation format of Jaeger, which predates W3C Trace Context and Baggage.

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::carrier::{caller, put, single};
use crate::trace::baggage::Baggage;
use crate::trace::context::TraceContext;

const TRACE: HeaderName = HeaderName::from_static("uber-trace-id");
/// The prefix of baggage headers: one header per member.
const BAGGAGE: &str = "uberctx-";
/// Flags.
const SAMPLED: u8 = 0x01;
const DEBUG: u8 = 0x02;

/// Parses `{trace}:{span}:{parent}:{flags}`, in which leading zeros may be omitted.
pub(super) fn extract(headers: &HeaderMap) -> Option<TraceContext> {
    let text = percent_decode_str(single(headers, &TRACE)?).decode_utf8().ok()?;
    let parts: Vec<_> = text.split(':').collect();
    let [trace, span, _, flags] = parts.as_slice() else { return None };
    let digits = (1..=2).contains(&flags.len()) && flags.bytes().all(|byte| byte.is_ascii_hexdigit());
    let flags = digits.then(|| u8::from_str_radix(flags, 16).ok())??;
    caller(trace, span, flags & (SAMPLED | DEBUG) != 0)
}

/// Adds the members in Jaeger's headers to `baggage`.
pub(super) fn extract_baggage(headers: &HeaderMap, baggage: Baggage) -> Baggage {
    let members = headers.iter().filter_map(|(name, value)| {
        let key = name.as_str().strip_prefix(BAGGAGE)?;
        Some((key, percent_decode_str(value.to_str().ok()?).decode_utf8_lossy().into_owned()))
    });
    members.fold(baggage, |baggage, (key, value)| baggage.with(key, &value))
}

pub(super) fn inject(context: Option<&TraceContext>, baggage: Option<&Baggage>, headers: &mut HeaderMap) {
    let text =
        |context: &TraceContext| format!("{}:{}:0:{}", context.trace_id, context.span_id, u8::from(context.sampled));
    put(headers, TRACE, context.map(text));
    remove_baggage(headers);
    for (key, value) in baggage.iter().flat_map(|baggage| baggage.sent_members()) {
        let name = HeaderName::try_from(format!("{BAGGAGE}{key}"));
        let value = HeaderValue::try_from(utf8_percent_encode(value, NON_ALPHANUMERIC).to_string());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
}

pub(super) fn remove_context(headers: &mut HeaderMap) {
    headers.remove(TRACE);
}

/// Whether this is a header of trace context or baggage.
pub(super) fn is_header(name: &HeaderName) -> bool {
    *name == TRACE || name.as_str().starts_with(BAGGAGE)
}

pub(super) fn remove_baggage(headers: &mut HeaderMap) {
    let found: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with(BAGGAGE)).cloned().collect();
    found.iter().for_each(|name| drop(headers.remove(name)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(header: &str) -> Option<bool> {
        let headers = HeaderMap::from_iter([(TRACE, header.parse().unwrap())]);
        extract(&headers).map(|context| context.sampled)
    }

    #[test]
    fn ids_may_be_short_and_colons_escaped() {
        assert_eq!(found("abc:def:0:1"), Some(true));
        assert_eq!(found("abc%3Adef%3A0%3A0"), Some(false));
        assert_eq!(found("4bf92f3577b34da6a3ce929d0e0e4736:00f067aa0ba902b7:0:3"), Some(true));
    }

    #[test]
    fn malformed_headers_are_ignored() {
        for header in ["", "abc:def:0", "0:def:0:1", "abc:0:0:1", "abc:def:0:x", "abc:def:0:+1", "abc:def:0:1:2"] {
            assert_eq!(found(header), None, "{header}");
        }
    }

    #[test]
    fn each_baggage_member_has_a_header() {
        let baggage = Baggage::default().with("user", "42 & ä");
        let mut headers = HeaderMap::from_iter([(HeaderName::from_static("uberctx-forged"), "1".parse().unwrap())]);
        inject(None, Some(&baggage), &mut headers);
        assert_eq!(headers.len(), 1);
        assert_eq!(extract_baggage(&headers, Baggage::default()), baggage);
    }
}
