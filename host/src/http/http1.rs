//! Serialises a response as HTTP/1.1 bytes, for a connection on which no further request can be read.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE};
use http::{HeaderValue, Response};

/// The bytes of the last response of a connection.
pub fn last_response(response: Response<Bytes>) -> Vec<u8> {
    let (mut parts, body) = response.into_parts();
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now())) {
        parts.headers.insert(DATE, date);
    }
    let reason = parts.status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", parts.status.as_str()).into_bytes();
    for (name, value) in &parts.headers {
        bytes.extend_from_slice(name.as_ref());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&body);
    bytes
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn the_last_response_has_a_complete_head_and_a_body() {
        let problem = crate::http::problem::problem(StatusCode::URI_TOO_LONG, "too long");
        let text = String::from_utf8(last_response(problem)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 414 URI Too Long\r\n"), "{head}");
        for field in ["content-type: application/problem+json", "connection: close", "date: "] {
            assert!(head.contains(&format!("\r\n{field}")), "{head}");
        }
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        assert!(body.contains("too long"), "{body}");
    }
}
