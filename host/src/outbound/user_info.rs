//! The user information of a URL, as in `http://user:password@host/`. It must not be part of a request (RFC 9110,
//! 4.2.4): it becomes an `Authorization` field of scheme Basic (RFC 7617), as with other HTTP clients.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

/// Removes the user information from `uri`. It becomes a field of `headers` unless they have an `Authorization`.
pub(super) fn move_to_headers(uri: &mut Uri, headers: &mut HeaderMap) {
    let Some((user_info, host)) = uri.authority().and_then(|authority| authority.as_str().rsplit_once('@')) else {
        return;
    };
    let (authorization, Ok(host)) = (basic(user_info), Authority::try_from(host)) else { return };
    if let Some(authorization) = authorization {
        headers.entry(AUTHORIZATION).or_insert(authorization);
    }
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(host);
    if let Ok(without) = Uri::from_parts(parts) {
        *uri = without;
    }
}

fn basic(user_info: &str) -> Option<HeaderValue> {
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let credentials: Vec<u8> = percent_decode_str(user).chain([b':']).chain(percent_decode_str(password)).collect();
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(credentials))).ok()?;
    value.set_sensitive(true);
    Some(value).filter(|_| !matches!(user_info, "" | ":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(url: &str, authorization: Option<&'static str>) -> (String, Option<String>) {
        let (mut uri, mut headers) = (url.parse().unwrap(), HeaderMap::new());
        headers.extend(authorization.map(|value| (AUTHORIZATION, HeaderValue::from_static(value))));
        move_to_headers(&mut uri, &mut headers);
        (uri.to_string(), headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned()))
    }

    #[test]
    fn the_user_of_a_url_becomes_authorization() {
        let check = |url: &str, expected: &str, authorization: Option<&str>| {
            assert_eq!(moved(url, None), (expected.to_owned(), authorization.map(str::to_owned)), "{url}");
        };
        check("http://c/a@b?c@d", "http://c/a@b?c@d", None);
        check("http://u:p@c:80/", "http://c:80/", Some("Basic dTpw"));
        check("http://u@[::1]/..", "http://[::1]/..", Some("Basic dTo="));
        check("http://:p@c/", "http://c/", Some("Basic OnA="));
        check("http://u%40x:p%3A@c/", "http://c/", Some("Basic dUB4OnA6"));
        check("http://@c/", "http://c/", None);
        assert_eq!(moved("http://u:p@c/", Some("Bearer x")).1.unwrap(), "Bearer x");
    }
}
