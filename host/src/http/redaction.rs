//! What of a URL may stand on a span: the semantic conventions ask for secrets to be left out.

use std::borrow::Cow;

use http::Uri;

const REDACTED: &str = "REDACTED";

/// Query parameters whose values are credentials: those that the conventions name, and the like of AWS signatures of
/// version 4. The conventions compare them as they are written.
const SECRET: [&str; 7] = [
    "AWSAccessKeyId",
    "Signature",
    "sig",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Goog-Signature",
];

/// `url.query`: a query, without its `?`, with the values of secret parameters replaced.
pub fn query(query: &str) -> Cow<'_, str> {
    if !query.split('&').any(is_secret) {
        return query.into();
    }
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((key, _)) if is_secret(pair) => format!("{key}={REDACTED}"),
        _ => pair.to_owned(),
    });
    pairs.collect::<Vec<_>>().join("&").into()
}

fn is_secret(pair: &str) -> bool {
    pair.split_once('=').is_some_and(|(key, _)| SECRET.contains(&key))
}

/// `url.full`: a URL with user name, password and the values of secret parameters replaced. `uri` is what it was read as.
pub fn url<'u>(url: &'u str, uri: &Uri) -> Cow<'u, str> {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let url = match authority.rsplit_once('@') {
        Some((_, host)) => Cow::Owned(url.replacen(authority, &format!("{REDACTED}:{REDACTED}@{host}"), 1)),
        None => Cow::Borrowed(url),
    };
    let Some(before) = uri.query().filter(|query| query.split('&').any(is_secret)) else { return url };
    url.replacen(before, &query(before), 1).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_a_query_are_replaced_and_nothing_else() {
        assert_eq!(query("a=1&sig=s3cret&b="), "a=1&sig=REDACTED&b=");
        assert_eq!(query("X-Amz-Signature=x&X-Goog-Signature=y"), "X-Amz-Signature=REDACTED&X-Goog-Signature=REDACTED");
        for plain in ["", "sig", "design=1&signature=2", "a=sig=1"] {
            assert_eq!(query(plain), plain);
        }
    }

    #[test]
    fn credentials_in_a_url_are_replaced() {
        let redacted = |text: &str| url(text, &text.parse().unwrap()).into_owned();
        assert_eq!(redacted("http://me:secret@host:1/p?q=1"), "http://REDACTED:REDACTED@host:1/p?q=1");
        assert_eq!(redacted("http://host/sig=1?a=1&sig=s3cret#sig=2"), "http://host/sig=1?a=1&sig=REDACTED#sig=2");
        assert_eq!(redacted("http://host/p"), "http://host/p");
    }
}
