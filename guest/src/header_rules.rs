//! The rules of a Spandrel host for header fields of a service: hop-by-hop fields are removed, and invalid fields are
//! rejected by name.

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::host::Header;

/// The most header fields of a message.
const MAX_FIELDS: usize = 1024;
/// The most bytes of an invalid name in an error message.
const MAX_SHOWN_NAME: usize = 64;

/// The hop-by-hop fields (RFC 9110, section 7.6.1), and the content length, which is computed from the body.
const HOP_BY_HOP: [&str; 8] =
    ["connection", "proxy-connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length"];

/// Whether a field is a hop-by-hop field.
pub fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
}

/// Validates the header fields of a service and removes hop-by-hop fields.
///
/// # Errors
/// A message with the name of the invalid field.
pub fn check<'a>(fields: impl ExactSizeIterator<Item = &'a Header>) -> Result<HeaderMap, String> {
    if fields.len() > MAX_FIELDS {
        return Err(format!("there are more than {MAX_FIELDS} header fields"));
    }
    let mut headers = HeaderMap::with_capacity(fields.len());
    for Header { name, value } in fields {
        let shown = || name.get(..name.floor_char_boundary(MAX_SHOWN_NAME)).unwrap_or_default().escape_debug();
        let parsed = HeaderName::from_bytes(name.as_bytes());
        let parsed = parsed.map_err(|_| format!("`{}` is not a header field name", shown()))?;
        let value = HeaderValue::from_bytes(value);
        let value = value.map_err(|_| format!("the header field `{parsed}` has a value that HTTP does not allow"))?;
        headers.append(parsed, value);
    }
    for name in connection_options(&headers) {
        headers.remove(name);
    }
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(*name)));
    Ok(headers)
}

/// The fields that `Connection` lists, which are hop-by-hop too.
fn connection_options(headers: &HeaderMap) -> Vec<HeaderName> {
    let options = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let names = options.flat_map(|options| options.split(',')).filter_map(|option| option.trim().parse().ok());
    names.filter(|name: &HeaderName| *name != http::header::HOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &str) -> Header {
        Header { name: name.to_owned(), value: value.as_bytes().to_vec() }
    }

    #[test]
    fn hop_by_hop_fields_are_removed() {
        let given = [
            header("x-kept", "1"),
            header("x-kept", "2"),
            header("connection", "x-gone, close"),
            header("x-gone", "1"),
            header("content-length", "7"),
        ];
        let checked = check(given.iter()).unwrap();
        assert_eq!(checked.keys().collect::<Vec<_>>(), ["x-kept"]);
        assert_eq!(checked.get_all("x-kept").iter().count(), 2);
        assert!(is_hop_by_hop("te") && !is_hop_by_hop("x-kept"));
    }

    #[test]
    fn an_invalid_field_is_named() {
        let refused = |given: Header| check([given].iter()).unwrap_err();
        assert_eq!(refused(header("a b", "1")), "`a b` is not a header field name");
        let value = refused(header("x-one", "line\nbreak"));
        assert_eq!(value, "the header field `x-one` has a value that HTTP does not allow");
        let many: Vec<_> = (0..=MAX_FIELDS).map(|_| header("x", "1")).collect();
        assert_eq!(check(many.iter()).unwrap_err(), "there are more than 1024 header fields");
    }
}
