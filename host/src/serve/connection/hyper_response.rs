//! Recognises responses that hyper generates for a request head that it cannot parse. They have a status, but no
//! explanation.
//!
//! A guest's response can look the same if it is the last one of its connection. The connection's end decides whose
//! response it is.

use http::StatusCode;

use crate::http::head::HeadError;

/// The greatest length of a response that hyper generates, in bytes.
const MAX_LENGTH: usize = 192;

/// The status of `written` if hyper may have generated it: the response closes the connection, and has no content and
/// no fields other than those that hyper writes.
pub(super) fn generated_status(written: &[u8]) -> Option<StatusCode> {
    if written.len() > MAX_LENGTH {
        return None;
    }
    let head = str::from_utf8(written.strip_prefix(b"HTTP/1.1 ")?).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status: StatusCode = lines.next()?.get(..3)?.parse().ok()?;
    let fields: Vec<_> = lines.filter(|line| !line.starts_with("date: ")).collect();
    let is_head_error = matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::URI_TOO_LONG | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
    (is_head_error
        && fields.len() == 2
        && fields.contains(&"connection: close")
        && fields.contains(&"content-length: 0"))
    .then_some(status)
}

/// Why hyper rejected a head. `written` is the response that hyper generated.
pub(super) fn head_error(error: &hyper::Error, written: Option<&[u8]>) -> Option<HeadError> {
    if !error.is_parse() {
        return None;
    }
    Some(match generated_status(written?)? {
        StatusCode::URI_TOO_LONG => HeadError::TargetTooLong,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => HeadError::TooManyFields,
        _ => HeadError::Malformed(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_that_hyper_generated_is_distinguished_from_a_response_of_a_guest() {
        let date = "date: Sun, 06 Nov 1994 08:49:37 GMT";
        let plain = format!("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n{date}\r\n\r\n");
        assert_eq!(generated_status(plain.as_bytes()), Some(StatusCode::BAD_REQUEST));
        assert_eq!(
            generated_status(plain.replace("400 Bad Request", "431 x").as_bytes()).map(|status| status.as_u16()),
            Some(431)
        );
        let others = [
            plain.replace("400", "404"),
            plain.replace("connection: close\r\n", ""),
            plain.replace("length: 0", "length: 1"),
            plain.replace("date", "x-own: 1\r\ndate"),
            format!("{plain}rest"),
            String::new(),
            "HTTP/1.1 ".to_owned(),
        ];
        for other in others {
            assert_eq!(generated_status(other.as_bytes()), None, "{other}");
        }
    }
}
