//! The trace id in responses, by which the receiver of a response finds its trace: the header field `traceresponse` of
//! W3C Trace Context Level 2, and the member `trace_id` of problem details.

use http::response::Parts;
use http::{HeaderName, HeaderValue};

use crate::http::{Body, problem};
use crate::trace::TraceContext;

/// The header field with the trace id and the id of the server span.
pub const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// Sets `traceresponse` in the head of a response if responses carry it. A value from the guest is replaced then.
pub fn set_header(parts: &mut Parts, server: &TraceContext, is_on: bool) {
    if is_on && let Ok(value) = HeaderValue::try_from(server.to_traceparent()) {
        parts.headers.insert(TRACERESPONSE, value);
    }
}

/// Sets `trace_id` in problem details. Streamed bodies stay unchanged.
pub fn set_problem_member(parts: &Parts, body: &mut Body, server: &TraceContext) {
    if let Body::Whole(bytes) = body
        && let Some(with_trace_id) = problem::with_trace_id(&parts.headers, bytes, server.trace_id)
    {
        *bytes = with_trace_id;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Response;
    use http::header::CONTENT_TYPE;

    use super::*;

    #[tokio::test]
    async fn a_traceresponse_field_from_the_guest_is_replaced() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let server = TraceContext::from_traceparent(text).unwrap();
        for (is_on, expected) in [(true, &[text][..]), (false, &["guest", "guest"][..])] {
            let body = Body::Whole(Bytes::from_static(b"{}"));
            let response = Response::builder().header(CONTENT_TYPE, "application/problem+json");
            let response = response.header(TRACERESPONSE, "guest").header(TRACERESPONSE, "guest");
            let (mut parts, mut body) = response.body(body).unwrap().into_parts();
            set_header(&mut parts, &server, is_on);
            set_problem_member(&parts, &mut body, &server);
            let sent: Vec<_> = parts.headers.get_all(TRACERESPONSE).iter().collect();
            assert_eq!(sent, expected);
            let body = body.collect().await.unwrap();
            assert_eq!(body, "{\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\"}");
        }
    }
}
