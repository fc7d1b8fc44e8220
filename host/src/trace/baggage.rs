//! W3C Baggage: key-value pairs that are propagated with a trace.

use std::sync::Arc;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// The most members that are parsed or sent, as W3C Baggage specifies.
const MAX_MEMBERS: usize = 64;
/// The most bytes that are sent.
const MAX_BYTES: usize = 8192;
/// The characters that must be percent-encoded in a value: all outside `baggage-octet`, and the percent sign.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b',').add(b';').add(b'\\').add(b'%');

/// Ordered key-value pairs. Cheap to clone; empty baggage allocates nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baggage(Option<Arc<Vec<Member>>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    key: String,
    value: String,
    /// The properties, unchanged.
    properties: String,
}

impl Baggage {
    /// Parses header values. Malformed members are skipped.
    pub fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Baggage {
        let members = headers.flat_map(|header| header.split(',')).filter_map(parse_member);
        let mut baggage = Baggage::default();
        for member in members.take(MAX_MEMBERS) {
            baggage.put(member);
        }
        baggage
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.list().iter().find(|member| member.key == key).map(|member| member.value.as_str())
    }

    /// Keys and values.
    pub fn members(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list().iter().map(|member| (member.key.as_str(), member.value.as_str()))
    }

    /// The same baggage with `key` set to `value`. A key that is not a token changes nothing.
    pub fn with(&self, key: &str, value: &str) -> Baggage {
        if self.get(key) == Some(value) {
            return self.clone();
        }
        let mut baggage = self.clone();
        if !is_token(key) {
            return baggage;
        }
        baggage.put(Member { key: key.to_owned(), value: value.to_owned(), properties: String::new() });
        baggage
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    /// The header value.
    pub fn to_header(&self) -> String {
        self.sent().map(|(_, text)| text).collect::<Vec<_>>().join(",")
    }

    /// Keys and values of the members that are sent.
    pub fn sent_members(&self) -> impl Iterator<Item = (&str, &str)> {
        self.sent().map(|(member, _)| (member.key.as_str(), member.value.as_str()))
    }

    /// The members that are sent, with their W3C form. Members beyond the limits are skipped.
    fn sent(&self) -> impl Iterator<Item = (&Member, String)> {
        // The host sets its members last: if there are too many, the caller's first ones are skipped.
        let members = self.list().iter().skip(self.list().len().saturating_sub(MAX_MEMBERS));
        let mut bytes = 0;
        members.filter_map(move |member| {
            let value = utf8_percent_encode(&member.value, ESCAPED);
            let text = format!("{}={value}{}", member.key, member.properties);
            (bytes + text.len() <= MAX_BYTES).then(|| {
                // One more for the comma.
                bytes += text.len() + 1;
                (member, text)
            })
        })
    }

    fn list(&self) -> &[Member] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    fn put(&mut self, member: Member) {
        let members = Arc::make_mut(self.0.get_or_insert_default());
        match members.iter_mut().find(|known| known.key == member.key) {
            Some(known) => *known = member,
            None => members.push(member),
        }
    }
}

fn parse_member(text: &str) -> Option<Member> {
    let (pair, properties) = match text.split_once(';') {
        Some((pair, properties)) => (pair, format!(";{}", properties.trim())),
        None => (text, String::new()),
    };
    let (key, value) = pair.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let good = is_token(key) && value.bytes().all(is_baggage_octet);
    good.then(|| Member {
        key: key.to_owned(),
        value: percent_decode_str(value).decode_utf8_lossy().into_owned(),
        properties: if properties.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            properties
        } else {
            String::new()
        },
    })
}

/// Whether a text is a `token` (RFC 9110, 5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_baggage_octet(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, expected: &str) {
        assert_eq!(Baggage::parse([header].into_iter()).to_header(), expected, "{header}");
    }

    #[test]
    fn malformed_members_are_skipped() {
        check("a=1,b=2", "a=1,b=2");
        check(" a = 1 ; p=1 , b=2", "a=1;p=1,b=2");
        check("a=x%20y", "a=x%20y");
        check("a=1,=2,c,d e=3,f=4", "a=1,f=4");
        check("a=1,a=2", "a=2");
        check("a=b=c", "a=b=c");
        check("", "");
        check(",,,", "");
    }

    #[test]
    fn values_with_any_text_round_trip() {
        let baggage = Baggage::default().with("k", "ä, b; \"c\" 100%");
        let header = baggage.to_header();
        assert!(header.is_ascii());
        assert_eq!(Baggage::parse([header.as_str()].into_iter()), baggage);
    }

    #[test]
    fn sent_baggage_is_bounded() {
        let mut baggage = Baggage::default();
        for index in 0..200 {
            baggage = baggage.with(&format!("k{index}"), &"x".repeat(500));
        }
        assert!(baggage.to_header().len() <= MAX_BYTES);
        let small = baggage.with("large", &"x".repeat(MAX_BYTES)).with("small", "1");
        assert!(small.get("large").is_some());
        assert!(small.sent_members().all(|(key, _)| key != "large"));
        let fits = Baggage::default().with("a", "1").with("b", &"x".repeat(MAX_BYTES - "a=1,b=".len()));
        assert_eq!(fits.to_header().len(), MAX_BYTES);
    }
}
