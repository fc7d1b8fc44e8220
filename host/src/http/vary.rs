//! The field `Vary`, which lists the request fields that a response depends on (RFC 9110, 12.5.5).

use http::header::VARY;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Adds a request field to `Vary`, unless `Vary` already covers it.
pub fn add_vary(headers: &mut HeaderMap, name: &HeaderName) {
    let covers = |member: &str| member == "*" || member.eq_ignore_ascii_case(name.as_str());
    let fields = headers.get_all(VARY).iter().filter_map(|value| value.to_str().ok());
    let is_covered = fields.flat_map(|field| field.split(',')).any(|member| covers(member.trim()));
    if !is_covered {
        headers.append(VARY, HeaderValue::from(name.clone()));
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT_ENCODING, ORIGIN};

    use super::*;

    #[test]
    fn a_field_is_added_once() {
        let varied = |before: &[&str]| {
            let mut headers = HeaderMap::new();
            before.iter().for_each(|value| {
                headers.append(VARY, value.parse().unwrap());
            });
            add_vary(&mut headers, &ORIGIN);
            headers.get_all(VARY).iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(varied(&[]), ["origin"]);
        assert_eq!(varied(&["Accept, ORIGIN"]), ["Accept, ORIGIN"]);
        assert_eq!(varied(&["*"]), ["*"]);
        assert_eq!(varied(&[ACCEPT_ENCODING.as_str()]), ["accept-encoding", "origin"]);
    }
}
