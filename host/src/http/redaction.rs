//! Redaction of secrets in the URLs on spans, as the semantic conventions require.
//!
//! The name of a parameter decides whether its value is secret. The name is percent-decoded, and only its letters and
//! digits are compared, without case: `to%6ben`, `Access-Token` and `user[token]` are all tokens. A value that is
//! itself a URL or a form, such as a page to return to, is redacted as a whole if it contains a secret.

use std::borrow::Cow;
use std::sync::Arc;

use http::Uri;

const REDACTED: &str = "REDACTED";

/// Suffixes of secret names, as in `access_token`, `X-Amz-Signature` and `client_secret`.
const SECRET_SUFFIXES: [&str; 15] = [
    "accesskey",
    "accesskeyid",
    "apikey",
    "authorization",
    "credential",
    "credentials",
    "jwt",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "secret",
    "secretkey",
    "signature",
    "token",
];

/// Secret names that are also suffixes of names that are not secret, as in `zip_code`.
const SECRET_NAMES: [&str; 9] =
    ["assertion", "auth", "code", "codeverifier", "otp", "pass", "pwd", "samlresponse", "sig"];

/// How often a value is percent-decoded in search of a secret.
const DECODE_LIMIT: usize = 4;

/// Decides which parameters of URLs are secret. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redaction {
    /// Additional secret names, normalized.
    additional: Arc<[String]>,
}

impl Redaction {
    /// A redaction with these secret names in addition to the built-in ones.
    pub fn with_names(names: impl IntoIterator<Item = String>) -> Redaction {
        Redaction { additional: names.into_iter().map(|name| normalize(name.as_bytes())).collect() }
    }

    /// Whether a parameter or a header field with this name is secret.
    pub fn is_secret(&self, name: &str) -> bool {
        let (name, field) = normalized_names(name);
        let is_listed =
            |name: &str| SECRET_NAMES.contains(&name) || self.additional.iter().any(|additional| additional == name);
        let is_secret = SECRET_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) || is_listed(&name);
        is_secret || field.is_some_and(|field| is_listed(&field))
    }

    /// Whether a name is one of the additional names.
    pub fn is_additional(&self, name: &str) -> bool {
        let (name, field) = normalized_names(name);
        self.additional.iter().any(|additional| *additional == name || field.as_ref() == Some(additional))
    }

    /// `url.query`: a query, without its `?`, with the values of secret parameters replaced.
    pub fn query<'q>(&self, query: &'q str) -> Cow<'q, str> {
        // Some servers accept a semicolon as a separator.
        let pairs = || query.split_inclusive(['&', ';']);
        if !pairs().any(|pair| self.secret_name(pair).is_some()) {
            return query.into();
        }
        let redacted = pairs().map(|pair| match self.secret_name(pair) {
            Some(name) => format!("{name}={REDACTED}{}", separator(pair)).into(),
            None => Cow::Borrowed(pair),
        });
        redacted.collect::<String>().into()
    }

    /// `url.full`: a URL with the user name, the password and the values of secret parameters replaced, including those
    /// in the fragment. `uri` is the parsed URL.
    pub fn url<'u>(&self, url: &'u str, uri: &Uri) -> Cow<'u, str> {
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let mut redacted = match authority.rsplit_once('@') {
            Some((_, host)) => Cow::Owned(url.replacen(authority, &format!("{REDACTED}:{REDACTED}@{host}"), 1)),
            None => Cow::Borrowed(url),
        };
        for mark in ['?', '#'] {
            let Some((before, after)) = redacted.split_once(mark) else { continue };
            let (part, rest) = match after.find('#').filter(|_| mark == '?') {
                Some(end) => after.split_at(end),
                None => (after, ""),
            };
            if let Cow::Owned(part) = self.query(part) {
                redacted = format!("{before}{mark}{part}{rest}").into();
            }
        }
        redacted
    }

    /// The name of a pair whose value is secret or contains a secret.
    fn secret_name<'p>(&self, pair: &'p str) -> Option<&'p str> {
        let (name, value) = pair.split_once('=')?;
        let value = value.trim_end_matches(['&', ';']);
        (!value.is_empty() && (self.is_secret(name) || self.contains_secret(value))).then_some(name)
    }

    /// Whether a value contains a secret, after any number of decodings.
    fn contains_secret(&self, value: &str) -> bool {
        if !value.contains(['%', '=', '@']) {
            return false;
        }
        let mut text = value.to_owned();
        for _ in 0..DECODE_LIMIT {
            if self.has_plain_secret(&text) {
                return true;
            }
            let decoded = percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned();
            if decoded == text {
                return false;
            }
            text = decoded;
        }
        // A value that is encoded more often is treated as secret.
        true
    }

    /// Whether a text has a secret parameter, or a URL with user information.
    fn has_plain_secret(&self, text: &str) -> bool {
        let is_secret = |part: &str| {
            let pair = part.split_once('=').filter(|(_, value)| !value.is_empty());
            pair.is_some_and(|(name, _)| self.is_secret(name))
        };
        let has_user = |rest: &str| rest.split(['/', '?', '#']).next().is_some_and(|host| host.contains('@'));
        text.split(['?', '#', '&', ';']).any(is_secret) || text.split("://").skip(1).any(has_user)
    }
}

/// The separator at the end of a pair.
fn separator(pair: &str) -> &str {
    pair.get(pair.len().saturating_sub(1)..).filter(|last| matches!(*last, "&" | ";")).unwrap_or_default()
}

/// A normalized name, and the innermost name of a nested form field, as in `user[pwd]`.
fn normalized_names(name: &str) -> (String, Option<String>) {
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(name).collect();
    let mut fields = decoded.rsplit(|byte| matches!(byte, b'[' | b']')).map(normalize);
    let field = fields.find(|field| !field.is_empty());
    (normalize(&decoded), field)
}

/// The letters and digits of a name, in lower case.
fn normalize(name: &[u8]) -> String {
    let significant = name.iter().filter(|byte| byte.is_ascii_alphanumeric());
    significant.map(|byte| char::from(byte.to_ascii_lowercase())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(text: &str) -> String {
        Redaction::default().query(text).into_owned()
    }

    #[test]
    fn only_secrets_in_a_query_are_replaced() {
        assert_eq!(query("a=1&sig=s3cret&b="), "a=1&sig=REDACTED&b=");
        assert_eq!(query("X-Amz-Signature=x&X-Goog-Signature=y"), "X-Amz-Signature=REDACTED&X-Goog-Signature=REDACTED");
        for plain in ["", "sig", "token=", "design=1&q=2", "&&", "zip_code=1&encoded=2&tokens=3", "sig;", "=1"] {
            assert_eq!(query(plain), plain);
        }
    }

    #[test]
    fn common_names_of_secrets_are_secret() {
        for name in [
            "token",
            "access_token",
            "refresh-token",
            "id.token",
            "csrfToken",
            "password",
            "new_password",
            "passwd",
            "pwd",
            "api_key",
            "apikey",
            "x-api-key",
            "secret",
            "client_secret",
            "code",
            "signature",
            "Signature",
            "AWSAccessKeyId",
            "X-Amz-Credential",
            "X-Amz-Security-Token",
            "X-Goog-Credential",
            "jwt",
            "Authorization",
        ] {
            for name in [name.to_owned(), name.to_uppercase(), format!("user[{name}]"), format!("{name}[]")] {
                assert_eq!(query(&format!("a=1&{name}=s3cret&b=2")), format!("a=1&{name}=REDACTED&b=2"));
            }
        }
        assert!(Redaction::default().is_secret("x-auth-token") && !Redaction::default().is_secret("x-client-id"));
    }

    #[test]
    fn encoded_repeated_and_semicolon_separated_secrets_are_replaced() {
        assert_eq!(query("to%6ben=1"), "to%6ben=REDACTED");
        assert_eq!(query("%74%4F%6B%65%6E=1&a=2"), "%74%4F%6B%65%6E=REDACTED&a=2");
        assert_eq!(
            query("api%5Fkey=1&api%2dkey=2&api+key=3"),
            "api%5Fkey=REDACTED&api%2dkey=REDACTED&api+key=REDACTED"
        );
        assert_eq!(query("token=1&token=2&a=3&token=4"), "token=REDACTED&token=REDACTED&a=3&token=REDACTED");
        assert_eq!(query("a=1;token=2;b=3"), "a=1;token=REDACTED;b=3");
        assert_eq!(query("token=a=b"), "token=REDACTED");
        assert_eq!(query("tok%00en=1&%=2&token%=3"), "tok%00en=REDACTED&%=2&token%=REDACTED");
    }

    #[test]
    fn a_value_that_contains_a_secret_is_replaced() {
        for value in [
            "https://a.example/cb?token=s3cret",
            "https%3A%2F%2Fa.example%2Fcb%3Ftoken%3Ds3cret",
            "https%3A%2F%2Fa.example%2Fcb%3Fx%3D1%26to%256ben%3Ds3cret%23y",
            "https%253A%252F%252Fa.example%252F%2523access_token%253Ds3cret",
            "https%3A%2F%2Fme%3As3cret%40a.example%2F",
            "password%3Ds3cret",
            "sig=s3cret",
        ] {
            assert_eq!(query(&format!("a=1&next={value}&b=2")), "a=1&next=REDACTED&b=2", "{value}");
        }
        for plain in [
            "next=https%3A%2F%2Fa.example%2Fcb%3Fpage%3D2%26token%3D",
            "mail=me%40a.example",
            "share=100%",
            "q=a%20b%3Dc",
            "id=Zm9v==",
        ] {
            assert_eq!(query(plain), plain);
        }
    }

    #[test]
    fn additional_names_are_secret() {
        let redaction = Redaction::with_names(["e-mail".to_owned(), "SSN".to_owned()]);
        assert_eq!(
            redaction.query("email=a&E%2dMail=b&ssn=c&work_email=d"),
            "email=REDACTED&E%2dMail=REDACTED&ssn=REDACTED&work_email=d"
        );
        assert_eq!(redaction.query("sig=1"), "sig=REDACTED");
        assert_eq!(query("email=a"), "email=a");
    }

    #[test]
    fn credentials_in_a_url_are_replaced() {
        let redacted = |text: &str| Redaction::default().url(text, &text.parse().unwrap()).into_owned();
        assert_eq!(redacted("http://me:secret@host:1/p?q=1"), "http://REDACTED:REDACTED@host:1/p?q=1");
        assert_eq!(redacted("http://host/sig=1?a=1&sig=s3cret#b"), "http://host/sig=1?a=1&sig=REDACTED#b");
        assert_eq!(
            redacted("http://host/?sig=1#access_token=2&a=3"),
            "http://host/?sig=REDACTED#access_token=REDACTED&a=3"
        );
        assert_eq!(redacted("http://host/#token=1?a"), "http://host/#token=REDACTED");
        assert_eq!(redacted("http://me@host?a?sig=1&sig=2"), "http://REDACTED:REDACTED@host?a?sig=1&sig=REDACTED");
        assert_eq!(redacted("http://host/p"), "http://host/p");
    }

    proptest! {
        #[test]
        fn a_secret_value_is_always_replaced_and_plain_queries_stay_unchanged(
            before in "[a-f=&;%0-9]{0,20}", value in "zz[g-z]{4,9}", plain in "[a-f&;=]{0,30}",
        ) {
            let secret = query(&format!("{before}&token={value}"));
            prop_assert!(!secret.contains(&value), "{}", secret);
            prop_assert_eq!(query(&plain), plain);
        }
    }
}
