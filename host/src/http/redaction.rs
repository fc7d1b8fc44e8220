//! What of a URL may stand on a span: the semantic conventions ask for secrets to be left out.
//!
//! A parameter is judged by its name as a server reads it: percent-encoding is undone, case and everything that is neither
//! a letter nor a digit count for nothing. So `to%6ben`, `Access-Token` and `user[token]` are all tokens. A value that is a
//! URL or a form in its turn, such as a page to go back to, is left out whole where there is a secret in it.

use std::borrow::Cow;
use std::sync::Arc;

use http::Uri;

const REDACTED: &str = "REDACTED";

/// Names of secrets. A name that ends in one of them is the name of a secret too, as in `access_token`,
/// `X-Amz-Signature` and `client_secret`.
const ENDINGS: [&str; 15] = [
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

/// Names of secrets that other names end in too, as in `zip_code`.
const WHOLE: [&str; 9] = ["assertion", "auth", "code", "codeverifier", "otp", "pass", "pwd", "samlresponse", "sig"];

/// How often a value is decoded in search of a secret.
const NESTED: usize = 4;

/// Which parameters of URLs are secret. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redaction {
    /// Names besides those that look like secrets, normalized.
    more: Arc<[String]>,
}

impl Redaction {
    /// Takes parameters of these names for secret too.
    pub fn of_more(names: impl IntoIterator<Item = String>) -> Redaction {
        Redaction { more: names.into_iter().map(|name| normalize(name.as_bytes())).collect() }
    }

    /// Whether a parameter, or a header field, of this name is secret.
    pub fn is_secret(&self, name: &str) -> bool {
        let (name, field) = read_name(name);
        let is_whole = |name: &str| WHOLE.contains(&name) || self.more.iter().any(|more| more == name);
        let is_secret = ENDINGS.iter().any(|ending| name.ends_with(ending)) || is_whole(&name);
        is_secret || field.is_some_and(|field| is_whole(&field))
    }

    /// Whether a name is one of those that were given besides those that look like secrets.
    pub fn lists(&self, name: &str) -> bool {
        let (name, field) = read_name(name);
        self.more.iter().any(|more| *more == name || field.as_ref() == Some(more))
    }

    /// `url.query`: a query, without its `?`, with the values of secret parameters replaced.
    pub fn query<'q>(&self, query: &'q str) -> Cow<'q, str> {
        // Some servers take a semicolon for what an ampersand is.
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

    /// `url.full`: a URL with user name, password and the values of secret parameters replaced, those of a fragment among
    /// them. `uri` is what it was read as.
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

    /// The name of a pair whose value is secret, or has a secret in it.
    fn secret_name<'p>(&self, pair: &'p str) -> Option<&'p str> {
        let (name, value) = pair.split_once('=')?;
        let value = value.trim_end_matches(['&', ';']);
        (!value.is_empty() && (self.is_secret(name) || self.has_secret(value))).then_some(name)
    }

    /// Whether a value has a secret in it, however often it is encoded.
    fn has_secret(&self, value: &str) -> bool {
        if !value.contains(['%', '=', '@']) {
            return false;
        }
        let mut text = value.to_owned();
        for _ in 0..NESTED {
            if self.shows_secret(&text) {
                return true;
            }
            let decoded = percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned();
            if decoded == text {
                return false;
            }
            text = decoded;
        }
        // Nobody encodes that often who has nothing to hide.
        true
    }

    /// Whether a text has a secret parameter, or a user before a host.
    fn shows_secret(&self, text: &str) -> bool {
        let is_secret = |part: &str| {
            let pair = part.split_once('=').filter(|(_, value)| !value.is_empty());
            pair.is_some_and(|(name, _)| self.is_secret(name))
        };
        let has_user = |rest: &str| rest.split(['/', '?', '#']).next().is_some_and(|host| host.contains('@'));
        text.split(['?', '#', '&', ';']).any(is_secret) || text.split("://").skip(1).any(has_user)
    }
}

/// What stands between a pair and the next one.
fn separator(pair: &str) -> &str {
    pair.get(pair.len().saturating_sub(1)..).filter(|last| matches!(*last, "&" | ";")).unwrap_or_default()
}

/// A name as a server reads it, and the field of a form that is nested in another one, as in `user[pwd]`.
fn read_name(name: &str) -> (String, Option<String>) {
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(name).collect();
    let mut fields = decoded.rsplit(|byte| matches!(byte, b'[' | b']')).map(normalize);
    let field = fields.find(|field| !field.is_empty());
    (normalize(&decoded), field)
}

fn normalize(name: &[u8]) -> String {
    let counting = name.iter().filter(|byte| byte.is_ascii_alphanumeric());
    counting.map(|byte| char::from(byte.to_ascii_lowercase())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(text: &str) -> String {
        Redaction::default().query(text).into_owned()
    }

    #[test]
    fn secrets_in_a_query_are_replaced_and_nothing_else() {
        assert_eq!(query("a=1&sig=s3cret&b="), "a=1&sig=REDACTED&b=");
        assert_eq!(query("X-Amz-Signature=x&X-Goog-Signature=y"), "X-Amz-Signature=REDACTED&X-Goog-Signature=REDACTED");
        for plain in ["", "sig", "token=", "design=1&q=2", "&&", "zip_code=1&encoded=2&tokens=3", "sig;", "=1"] {
            assert_eq!(query(plain), plain);
        }
    }

    #[test]
    fn whatever_looks_like_a_secret_is_one() {
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
    fn neither_encoding_nor_repetition_nor_another_separator_hides_a_secret() {
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
    fn a_secret_within_a_value_takes_the_value_along() {
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
    fn more_names_may_be_secret() {
        let redaction = Redaction::of_more(["e-mail".to_owned(), "SSN".to_owned()]);
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
        fn a_secret_value_never_stays_and_plain_queries_do(
            before in "[a-f=&;%0-9]{0,20}", value in "zz[g-z]{4,9}", plain in "[a-f&;=]{0,30}",
        ) {
            let secret = query(&format!("{before}&token={value}"));
            prop_assert!(!secret.contains(&value), "{}", secret);
            prop_assert_eq!(query(&plain), plain);
        }
    }
}
