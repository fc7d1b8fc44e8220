//! Responses that hyper generates itself for a head that it cannot parse: a status without an explanation.
//!
//! A guest's response can look the same, but only as the last one of its connection. Which of the two it is can only be
//! decided when the connection has ended.

use http::StatusCode;

use crate::http::head::HeadError;

/// The longest such response.
const LONGEST: usize = 192;

/// The status of `written` if hyper may have generated it: it closes the connection, and has no content and no fields
/// other than those that hyper writes.
pub(super) fn status(written: &[u8]) -> Option<StatusCode> {
    if written.len() > LONGEST {
        return None;
    }
    let head = str::from_utf8(written.strip_prefix(b"HTTP/1.1 ")?).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status: StatusCode = lines.next()?.get(..3)?.parse().ok()?;
    let fields: Vec<_> = lines.filter(|line| !line.starts_with("date: ")).collect();
    let is_refusal = matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::URI_TOO_LONG | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
    (is_refusal && fields.len() == 2 && fields.contains(&"connection: close") && fields.contains(&"content-length: 0"))
        .then_some(status)
}

/// Why hyper rejected a head. `held` is the response that it wrote.
pub(super) fn refusal(error: &hyper::Error, held: Option<&[u8]>) -> Option<HeadError> {
    if !error.is_parse() {
        return None;
    }
    Some(match status(held?)? {
        StatusCode::URI_TOO_LONG => HeadError::TargetTooLong,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => HeadError::TooManyFields,
        _ => HeadError::Malformed(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_hyper_is_told_from_one_that_says_more() {
        let date = "date: Sun, 06 Nov 1994 08:49:37 GMT";
        let plain = format!("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n{date}\r\n\r\n");
        assert_eq!(status(plain.as_bytes()), Some(StatusCode::BAD_REQUEST));
        assert_eq!(
            status(plain.replace("400 Bad Request", "431 x").as_bytes()).map(|status| status.as_u16()),
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
            assert_eq!(status(other.as_bytes()), None, "{other}");
        }
    }
}
