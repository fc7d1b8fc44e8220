//! The field `Vary`: on which fields of a request its answer depends (RFC 9110, 12.5.5).

use http::header::VARY;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Notes that an answer depends on a field, unless its `Vary` says so already.
pub fn vary(headers: &mut HeaderMap, name: &HeaderName) {
    let says = |member: &str| member == "*" || member.eq_ignore_ascii_case(name.as_str());
    let fields = headers.get_all(VARY).iter().filter_map(|value| value.to_str().ok());
    let is_said = fields.flat_map(|field| field.split(',')).any(|member| says(member.trim()));
    if !is_said {
        headers.append(VARY, HeaderValue::from(name.clone()));
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT_ENCODING, ORIGIN};

    use super::*;

    #[test]
    fn a_field_is_named_once() {
        let varied = |before: &[&str]| {
            let mut headers = HeaderMap::new();
            before.iter().for_each(|value| {
                headers.append(VARY, value.parse().unwrap());
            });
            vary(&mut headers, &ORIGIN);
            headers.get_all(VARY).iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(varied(&[]), ["origin"]);
        assert_eq!(varied(&["Accept, ORIGIN"]), ["Accept, ORIGIN"]);
        assert_eq!(varied(&["*"]), ["*"]);
        assert_eq!(varied(&[ACCEPT_ENCODING.as_str()]), ["accept-encoding", "origin"]);
    }
}
