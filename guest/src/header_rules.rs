//! The header fields that a service may give a message, by the rules of a Spandrel host: what belongs to a connection stays
//! behind, and what HTTP does not allow is refused by name.

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::host::Header;

/// The most fields of a message.
const FIELDS: usize = 1024;
/// How much of a name that is none is shown, in bytes.
const SHOWN: usize = 64;

/// Fields of RFC 9110, 7.6.1, and the length, which is known without them.
const HOP_BY_HOP: [&str; 8] =
    ["connection", "proxy-connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length"];

/// Whether a field belongs to a connection.
pub fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
}

/// The fields of a message that a service made, without those that belong to a connection.
///
/// # Errors
/// A text that names the field where HTTP does not allow it.
pub fn check<'a>(fields: impl ExactSizeIterator<Item = &'a Header>) -> Result<HeaderMap, String> {
    if fields.len() > FIELDS {
        return Err(format!("there are more than {FIELDS} header fields"));
    }
    let mut headers = HeaderMap::with_capacity(fields.len());
    for Header { name, value } in fields {
        let shown = || name.get(..name.floor_char_boundary(SHOWN)).unwrap_or_default().escape_debug();
        let parsed = HeaderName::from_bytes(name.as_bytes());
        let parsed = parsed.map_err(|_| format!("`{}` is no name of a header field", shown()))?;
        let value = HeaderValue::from_bytes(value);
        let value = value.map_err(|_| format!("the header field `{parsed}` has a value that HTTP does not allow"))?;
        headers.append(parsed, value);
    }
    for name in nominated(&headers) {
        headers.remove(name);
    }
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(*name)));
    Ok(headers)
}

/// The fields that `Connection` names: they are for the next hop alone.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
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
    fn what_belongs_to_a_connection_stays_behind() {
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
    fn what_http_does_not_allow_is_named() {
        let refused = |given: Header| check([given].iter()).unwrap_err();
        assert_eq!(refused(header("a b", "1")), "`a b` is no name of a header field");
        let value = refused(header("x-one", "line\nbreak"));
        assert_eq!(value, "the header field `x-one` has a value that HTTP does not allow");
        let many: Vec<_> = (0..=FIELDS).map(|_| header("x", "1")).collect();
        assert_eq!(check(many.iter()).unwrap_err(), "there are more than 1024 header fields");
    }
}
