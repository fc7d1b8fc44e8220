//! The trace id in responses: the field `traceresponse` of W3C Trace Context Level 2, and the member `trace_id` of
//! problem details, so that the receiver of a response can look up its trace.

use http::response::Parts;
use http::{HeaderName, HeaderValue};

use crate::http::{Body, problem};
use crate::trace::{Pipeline, TraceContext};

/// The field that identifies the trace and the server span of a response.
pub const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");

/// Sets `traceresponse` in the head of a response, replacing a value from the guest.
pub fn name_in_head(parts: &mut Parts, server: &TraceContext, pipeline: &Pipeline) {
    if pipeline.has_response_header()
        && let Ok(value) = HeaderValue::try_from(server.to_traceparent())
    {
        parts.headers.insert(TRACERESPONSE, value);
    }
}

/// Sets `trace_id` in problem details. Streamed bodies stay unchanged.
pub fn name_in_problem(parts: &Parts, body: &mut Body, server: &TraceContext) {
    if let Body::Whole(bytes) = body
        && let Some(named) = problem::with_trace_id(&parts.headers, bytes, server.trace_id)
    {
        *bytes = named;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Response;
    use http::header::CONTENT_TYPE;

    use super::*;
    use crate::trace::Settings;

    fn pipeline(response_header: bool) -> Pipeline {
        let mut settings = Settings { response_header, ..Settings::default() };
        for signal in [&mut settings.traces, &mut settings.metrics, &mut settings.logs] {
            signal.exporters.clear();
        }
        Pipeline::start(settings).unwrap()
    }

    #[tokio::test]
    async fn what_a_guest_says_of_the_trace_is_replaced() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let server = TraceContext::from_traceparent(text).unwrap();
        for (response_header, expected) in [(true, &[text][..]), (false, &["guest", "guest"][..])] {
            let body = Body::Whole(Bytes::from_static(b"{}"));
            let response = Response::builder().header(CONTENT_TYPE, "application/problem+json");
            let response = response.header(TRACERESPONSE, "guest").header(TRACERESPONSE, "guest");
            let (mut parts, mut body) = response.body(body).unwrap().into_parts();
            name_in_head(&mut parts, &server, &pipeline(response_header));
            name_in_problem(&parts, &mut body, &server);
            let sent: Vec<_> = parts.headers.get_all(TRACERESPONSE).iter().collect();
            assert_eq!(sent, expected);
            let body = body.collect().await.unwrap();
            assert_eq!(body, "{\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\"}");
        }
    }
}
