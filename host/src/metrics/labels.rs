//! The values of labels: small closed sets, so that clients cannot create series.

use opentelemetry::KeyValue;

/// The value for everything outside a closed set.
pub(super) const OTHER: &str = "_OTHER";

const METHODS: [&str; 11] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY", OTHER];

/// A method that the semantic conventions know, or `_OTHER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Method(u8);

impl Method {
    pub(super) const COUNT: usize = METHODS.len();
    pub(super) const OTHER: Method = Method(10);

    pub(super) fn of(method: &http::Method) -> Method {
        let name = method.as_str();
        let known = METHODS.iter().take(10).position(|known| *known == name);
        match known {
            Some(index) => Method(u8::try_from(index).unwrap_or(Self::OTHER.0)),
            None => Self::OTHER,
        }
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(super) fn name(self) -> &'static str {
        METHODS.get(self.index()).copied().unwrap_or(OTHER)
    }
}

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SchemeLabel {
    Http,
    Https,
}

impl SchemeLabel {
    pub(super) const COUNT: usize = 2;

    pub(super) fn of(scheme: &str) -> SchemeLabel {
        match scheme {
            "https" => SchemeLabel::Https,
            _ => SchemeLabel::Http,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            SchemeLabel::Http => "http",
            SchemeLabel::Https => "https",
        }
    }
}

/// The value of `network.protocol.version`.
pub(super) fn protocol_version(version: http::Version) -> Option<&'static str> {
    match version {
        http::Version::HTTP_09 => Some("0.9"),
        http::Version::HTTP_10 => Some("1.0"),
        http::Version::HTTP_11 => Some("1.1"),
        http::Version::HTTP_2 => Some("2"),
        http::Version::HTTP_3 => Some("3"),
        _ => None,
    }
}

/// `error.type`: the host's own value if there is one, else the status code if it is an error.
pub(super) fn error_type(own: Option<&'static str>, status: Option<u16>, errors_from: u16) -> Option<KeyValue> {
    match (own, status) {
        (Some(own), _) => Some(KeyValue::new("error.type", own)),
        (None, Some(status)) if status >= errors_from => Some(KeyValue::new("error.type", status.to_string())),
        (None, _) => None,
    }
}

/// The longest prefix of a text that fits into `length` bytes, cut between characters.
pub(super) fn cut(text: &str, length: usize) -> &str {
    text.get(..text.floor_char_boundary(length)).unwrap_or_default()
}

/// Attributes sorted by key, the order in which the SDK keeps them.
pub(super) fn sorted(mut attributes: Vec<KeyValue>) -> Vec<KeyValue> {
    attributes.sort_by(|a, b| a.key.cmp(&b.key));
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_methods_are_counted_as_other() {
        assert_eq!(Method::of(&http::Method::GET).name(), "GET");
        assert_eq!(Method::of(&http::Method::PATCH).name(), "PATCH");
        let query = http::Method::from_bytes(b"QUERY").unwrap();
        assert_eq!(Method::of(&query).name(), "QUERY");
        for odd in ["get", "BREW", "_OTHER", "PROPFIND"] {
            let odd = http::Method::from_bytes(odd.as_bytes()).unwrap();
            assert_eq!(Method::of(&odd), Method::OTHER);
        }
    }

    #[test]
    fn an_error_status_is_the_error_type_if_the_host_has_none() {
        assert_eq!(error_type(None, Some(404), 500), None);
        assert_eq!(error_type(None, Some(404), 400), Some(KeyValue::new("error.type", "404")));
        assert_eq!(error_type(Some("timeout"), Some(504), 500), Some(KeyValue::new("error.type", "timeout")));
    }
}
