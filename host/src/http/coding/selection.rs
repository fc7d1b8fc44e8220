//! Selects the coding of a response, and decides which responses are compressible.

use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::kind::Coding;

/// The size in bytes from which a body is compressed. Smaller bodies gain little.
const MIN_SIZE: u64 = 1024;

/// Compressible media types other than `text/*`.
const COMPRESSIBLE_TYPES: [&str; 12] = [
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

/// The coding in `offered` that the client prefers. Of codings with equal weight, the first in `offered`. `None` if the
/// client prefers the body without a coding.
pub fn select(headers: &HeaderMap, offered: &[Coding]) -> Option<Coding> {
    let fields = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let accepted: Vec<(&str, u16)> = fields.flat_map(|field| field.split(',')).filter_map(member).collect();
    let listed =
        |matches: &dyn Fn(&str) -> bool| accepted.iter().find(|(name, _)| matches(name)).map(|(_, weight)| *weight);
    let any = listed(&|name| name == "*");
    let identity = listed(&|name| name.eq_ignore_ascii_case("identity")).unwrap_or(0);
    let weight = |coding: Coding| listed(&|name| Coding::parse(name) == Some(coding)).or(any).unwrap_or(0);
    let weighed = offered.iter().map(|coding| (*coding, weight(*coding)));
    // `max_by_key` returns the last maximum, so the reversed order selects the first.
    let best = weighed.rev().max_by_key(|(_, weight)| *weight);
    best.filter(|(_, weight)| *weight > 0 && *weight >= identity).map(|(coding, _)| coding)
}

/// Parses a member of `Accept-Encoding`: the name, and the weight in thousandths.
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

/// Whether a response is compressible: of a compressible type, large enough, without a coding, not partial, and without
/// fields that forbid a transformation. `size` is the size of the body if known.
pub fn is_compressible(status: StatusCode, headers: &HeaderMap, size: Option<u64>) -> bool {
    let excluded = [CONTENT_ENCODING, CONTENT_RANGE]
        .into_iter()
        .chain(["content-digest", "repr-digest", "digest"].map(HeaderName::from_static));
    let has_content = !matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
    );
    has_content
        && size.is_none_or(|size| size >= MIN_SIZE)
        && has_compressible_type(headers)
        && !excluded.into_iter().any(|name| headers.contains_key(name))
        && !forbids_transformation(headers)
}

fn has_compressible_type(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let suffix = kind.rsplit_once('+').map(|(_, suffix)| suffix);
    kind.starts_with("text/") || matches!(suffix, Some("json" | "xml" | "yaml")) || COMPRESSIBLE_TYPES.contains(&&*kind)
}

fn forbids_transformation(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    fields.flat_map(|field| field.split(',')).any(|directive| directive.trim().eq_ignore_ascii_case("no-transform"))
}

/// Makes a strong `ETag` weak. A strong one would state that the encoded bytes equal the original (RFC 9110, 8.8.1).
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
    fn the_first_offered_coding_with_the_greatest_weight_is_selected() {
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
    fn no_coding_is_selected_for_a_client_that_accepts_none() {
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
        assert_eq!(selected(&[]), None, "no Accept-Encoding");
    }

    #[test]
    fn responses_that_may_be_transformed_and_have_a_compressible_type_are_compressible() {
        let is_compressible = |status: u16, fields: &[(HeaderName, &str)], size| {
            is_compressible(StatusCode::from_u16(status).unwrap(), &headers(fields), size)
        };
        let json = (CONTENT_TYPE, "application/json; charset=utf-8");
        for kind in ["application/json", "TEXT/HTML;charset=utf-8", "application/problem+json", "image/svg+xml"] {
            assert!(is_compressible(200, &[(CONTENT_TYPE, kind)], Some(1024)), "{kind}");
        }
        for kind in ["image/png", "application/octet-stream", "application/zip", "video/mp4", "textual/x", ""] {
            assert!(!is_compressible(200, &[(CONTENT_TYPE, kind)], Some(1024)), "{kind}");
        }
        assert!(!is_compressible(200, &[], Some(1024)), "no content type");
        assert!(!is_compressible(200, std::slice::from_ref(&json), Some(1023)));
        assert!(is_compressible(404, std::slice::from_ref(&json), None));
        for status in [204, 205, 206, 304] {
            assert!(!is_compressible(status, std::slice::from_ref(&json), None), "{status}");
        }
        let others = [
            (CONTENT_ENCODING, "gzip"),
            (CONTENT_RANGE, "bytes 0-1/2"),
            (CACHE_CONTROL, "public, No-Transform"),
            (HeaderName::from_static("repr-digest"), "x"),
        ];
        for other in others {
            assert!(!is_compressible(200, &[json.clone(), other.clone()], None), "{other:?}");
        }
    }

    #[test]
    fn a_strong_etag_becomes_weak() {
        for (before, after) in [("\"a\"", "W/\"a\""), ("W/\"a\"", "W/\"a\""), ("odd", "odd")] {
            let mut headers = headers(&[(ETAG, before)]);
            weaken_etag(&mut headers);
            assert_eq!(headers[ETAG], after);
        }
    }
}
