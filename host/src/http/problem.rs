//! Problem details (RFC 9457): the body of every error response of the host, with the trace id.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::de::IgnoredAny;

/// The media type of problem details.
const PROBLEM: &str = "application/problem+json";
/// The largest body that is parsed.
const BODY_LIMIT: usize = 64 * 1024;
/// Header fields that depend on the exact bytes of a body.
const BODY_DEPENDENT_FIELDS: [HeaderName; 6] = [
    CONTENT_ENCODING,
    CONTENT_RANGE,
    ETAG,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
];

/// A response with problem details.
pub fn problem(status: StatusCode, detail: &str) -> Response<Bytes> {
    let body = serde_json::json!({
        "status": status.as_u16(),
        "title": status.canonical_reason().unwrap_or("Error"),
        "detail": detail,
    });
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
    response
}

/// Adds the member `trace_id` to a body of problem details. Returns `None` if the body has other content or already has
/// the member, or if header fields depend on its exact bytes.
pub fn with_trace_id(headers: &HeaderMap, body: &[u8], trace_id: impl Display) -> Option<Bytes> {
    let has_dependent_fields = || BODY_DEPENDENT_FIELDS.iter().any(|name| headers.contains_key(name));
    if !is_problem(headers) || body.len() > BODY_LIMIT || has_dependent_fields() {
        return None;
    }
    let members: BTreeMap<Cow<'_, str>, IgnoredAny> = serde_json::from_slice(body).ok()?;
    if members.contains_key("trace_id") {
        return None;
    }
    let open = body.trim_ascii_end().strip_suffix(b"}")?;
    let comma = if members.is_empty() { "" } else { "," };
    let member = format!("{comma}\"trace_id\":\"{trace_id}\"}}");
    Some(Bytes::from([open, member.as_bytes()].concat()))
}

fn is_problem(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()?.split(';').next());
    media_type.is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(PROBLEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traced(fields: &[(HeaderName, &str)], body: &str) -> Option<String> {
        let headers = fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        let body = with_trace_id(&headers, body.as_bytes(), "7f")?;
        Some(String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn the_trace_id_is_added_to_problem_details_and_the_other_members_stay_unchanged() {
        for kind in [PROBLEM, "Application/Problem+JSON; charset=utf-8"] {
            let traced = |body: &str| traced(&[(CONTENT_TYPE, kind)], body);
            assert_eq!(traced("{\"b\":1, \"a\":[{}]}").as_deref(), Some("{\"b\":1, \"a\":[{}],\"trace_id\":\"7f\"}"));
            assert_eq!(traced("{ }\n").as_deref(), Some("{ \"trace_id\":\"7f\"}"));
        }
        let made = problem(StatusCode::NOT_FOUND, "a \"detail\"");
        let body = with_trace_id(made.headers(), made.body(), "7f").unwrap();
        let read: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&read["trace_id"], &read["detail"]), (&"7f".into(), &"a \"detail\"".into()));
    }

    #[test]
    fn a_body_that_is_no_problem_or_has_dependent_fields_stays_unchanged() {
        let problem = (CONTENT_TYPE, PROBLEM);
        for body in ["", "{", "[]", "1", "\"}\"", "{\"trace_id\":null}", "{\"trace\\u005fid\":1}", "{} {}", "{a:1}"] {
            assert_eq!(traced(std::slice::from_ref(&problem), body), None, "{body}");
        }
        assert_eq!(traced(std::slice::from_ref(&problem), &format!("{{\"a\":\"{}\"}}", "x".repeat(BODY_LIMIT))), None);
        assert_eq!(traced(&[(CONTENT_TYPE, "application/json")], "{}"), None);
        assert_eq!(traced(&[], "{}"), None);
        for name in BODY_DEPENDENT_FIELDS {
            assert_eq!(traced(&[problem.clone(), (name.clone(), "x")], "{}"), None, "{name}");
        }
    }
}
