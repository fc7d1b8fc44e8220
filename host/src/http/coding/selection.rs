//! Which responses are coded, and how.

use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::kind::Coding;

/// Bodies smaller than this, in bytes, are hardly smaller when they are coded.
const SMALLEST: u64 = 1024;

/// Media types outside `text/` that are text all the same, or of a form that leaves much to save.
const TYPES: [&str; 12] = [
    "application/json",
    "application/javascript",
    "application/ecmascript",
    "application/xml",
    "application/wasm",
    "application/x-ndjson",
    "application/x-www-form-urlencoded",
    "application/yaml",
    "application/toml",
    "font/otf",
    "font/ttf",
    "image/x-icon",
];

/// The coding among `offered`, in the order of preference, that a client wants most; none where it wants the body as it is.
pub fn select(headers: &HeaderMap, offered: &[Coding]) -> Option<Coding> {
    let fields = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let accepted: Vec<(&str, u16)> = fields.flat_map(|field| field.split(',')).filter_map(member).collect();
    let listed = |fits: &dyn Fn(&str) -> bool| accepted.iter().find(|(name, _)| fits(name)).map(|(_, weight)| *weight);
    let any = listed(&|name| name == "*");
    let identity = listed(&|name| name.eq_ignore_ascii_case("identity")).unwrap_or(0);
    let weight = |coding: Coding| listed(&|name| Coding::parse(name) == Some(coding)).or(any).unwrap_or(0);
    let weighed = offered.iter().map(|coding| (*coding, weight(*coding)));
    // Of several with one weight the first is taken.
    let best = weighed.rev().max_by_key(|(_, weight)| *weight);
    best.filter(|(_, weight)| *weight > 0 && *weight >= identity).map(|(coding, _)| coding)
}

/// A member of `Accept-Encoding`: its name, and its weight in thousandths.
fn member(text: &str) -> Option<(&str, u16)> {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let Some(parameter) = parts.next() else { return Some((name, 1000)) };
    let (key, value) = parameter.split_once('=')?;
    let weight = key.trim().eq_ignore_ascii_case("q").then_some(value.trim())?;
    let is_plain = weight.len() <= 5 && weight.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let weight: f32 = weight.parse().ok().filter(|weight| is_plain && *weight <= 1.0)?;
    Some((name, (weight * 1000.0).round() as u16))
}

/// Whether a response is one to code: of a type that gets smaller, large enough, not coded yet, not a part, and free to be
/// changed. `size` is the size of its body where that is known.
pub fn is_codable(status: StatusCode, headers: &HeaderMap, size: Option<u64>) -> bool {
    let bound = [CONTENT_ENCODING, CONTENT_RANGE]
        .into_iter()
        .chain(["content-digest", "repr-digest", "digest"].map(HeaderName::from_static));
    let has_content = !matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
    );
    has_content
        && size.is_none_or(|size| size >= SMALLEST)
        && is_codable_type(headers)
        && !bound.into_iter().any(|name| headers.contains_key(name))
        && !forbids_transformation(headers)
}

fn is_codable_type(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let suffix = kind.rsplit_once('+').map(|(_, suffix)| suffix);
    kind.starts_with("text/") || matches!(suffix, Some("json" | "xml" | "yaml")) || TYPES.contains(&&*kind)
}

fn forbids_transformation(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    fields.flat_map(|field| field.split(',')).any(|directive| directive.trim().eq_ignore_ascii_case("no-transform"))
}

/// A strong validator says that the bytes are the same, which those of another coding are not (RFC 9110, 8.8.1).
pub fn weaken_etag(headers: &mut HeaderMap) {
    let strong = headers.get(ETAG).filter(|etag| etag.as_bytes().starts_with(b"\""));
    let weak = strong.and_then(|etag| HeaderValue::from_bytes(&[b"W/", etag.as_bytes()].concat()).ok());
    if let Some(weak) = weak {
        headers.insert(ETAG, weak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.clone(), value.parse().unwrap());
        }
        headers
    }

    fn selected(accepted: &[&str]) -> Option<&'static str> {
        let fields: Vec<_> = accepted.iter().map(|value| (ACCEPT_ENCODING, *value)).collect();
        select(&headers(&fields), &Coding::ALL).map(Coding::name)
    }

    #[test]
    fn the_coding_with_the_greatest_weight_is_taken_and_of_several_the_first_that_is_offered() {
        assert_eq!(selected(&["gzip, deflate, br, zstd"]), Some("zstd"));
        assert_eq!(selected(&["gzip, br"]), Some("br"));
        assert_eq!(selected(&["gzip;q=1.0, br;q=0.9"]), Some("gzip"));
        assert_eq!(selected(&["GZIP ; Q=0.5"]), Some("gzip"));
        assert_eq!(selected(&["x-gzip"]), Some("gzip"));
        assert_eq!(selected(&["gzip;q=0.2", "br;q=0.3"]), Some("br"), "several fields are one list");
        assert_eq!(selected(&["*"]), Some("zstd"));
        assert_eq!(selected(&["zstd;q=0, *;q=0.1"]), Some("br"));
        assert_eq!(selected(&["identity;q=0.5, gzip;q=0.5"]), Some("gzip"));
        let gzip_alone = headers(&[(ACCEPT_ENCODING, "br, gzip;q=0.1")]);
        assert_eq!(select(&gzip_alone, &[Coding::Gzip]), Some(Coding::Gzip));
    }

    #[test]
    fn a_client_that_wants_none_gets_none() {
        for accepted in [
            "",
            "identity",
            "deflate",
            "gzip;q=0",
            "*;q=0",
            "identity;q=1, gzip;q=0.5",
            "gzip;q=x",
            "gzip;q=2",
            "gzip;level=1",
            ";",
            "gzip;q=NaN",
            "gzip;q=1e0",
        ] {
            assert_eq!(selected(&[accepted]), None, "{accepted}");
        }
        assert_eq!(selected(&[]), None, "no field says nothing");
    }

    #[test]
    fn what_gets_smaller_and_may_be_changed_is_coded() {
        let is_codable = |status: u16, fields: &[(HeaderName, &str)], size| {
            is_codable(StatusCode::from_u16(status).unwrap(), &headers(fields), size)
        };
        let json = (CONTENT_TYPE, "application/json; charset=utf-8");
        for kind in ["application/json", "TEXT/HTML;charset=utf-8", "application/problem+json", "image/svg+xml"] {
            assert!(is_codable(200, &[(CONTENT_TYPE, kind)], Some(1024)), "{kind}");
        }
        for kind in ["image/png", "application/octet-stream", "application/zip", "video/mp4", "textual/x", ""] {
            assert!(!is_codable(200, &[(CONTENT_TYPE, kind)], Some(1024)), "{kind}");
        }
        assert!(!is_codable(200, &[], Some(1024)), "nothing says what it is");
        assert!(!is_codable(200, std::slice::from_ref(&json), Some(1023)));
        assert!(is_codable(404, std::slice::from_ref(&json), None));
        for status in [204, 205, 206, 304] {
            assert!(!is_codable(status, std::slice::from_ref(&json), None), "{status}");
        }
        let others = [
            (CONTENT_ENCODING, "gzip"),
            (CONTENT_RANGE, "bytes 0-1/2"),
            (CACHE_CONTROL, "public, No-Transform"),
            (HeaderName::from_static("repr-digest"), "x"),
        ];
        for other in others {
            assert!(!is_codable(200, &[json.clone(), other.clone()], None), "{other:?}");
        }
    }

    #[test]
    fn a_strong_validator_becomes_a_weak_one() {
        for (before, after) in [("\"a\"", "W/\"a\""), ("W/\"a\"", "W/\"a\""), ("odd", "odd")] {
            let mut headers = headers(&[(ETAG, before)]);
            weaken_etag(&mut headers);
            assert_eq!(headers[ETAG], after);
        }
    }
}
