//! Origins of URLs, normalized so that equal origins compare as equal.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::http::authority::without_brackets;

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// The default port is 80.
    Http,
    /// The default port is 443.
    Https,
}

/// Scheme, host and port of a URL (RFC 6454).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The scheme.
    pub scheme: Scheme,
    /// The host in lower case; an IPv6 address in brackets and in its canonical form.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Origin {
    /// The origin of an absolute http or https URL. `None` if the port is invalid: with the scheme's default port
    /// instead, a call could be allowed that the manifest does not allow.
    pub fn of(uri: &http::Uri) -> Option<Origin> {
        let (scheme, standard) = match uri.scheme_str()? {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            _ => return None,
        };
        let authority = uri.authority()?;
        let written = authority.as_str().rsplit('@').next()?;
        let port = match written.strip_prefix(authority.host())? {
            "" | ":" => standard,
            rest => port(rest.strip_prefix(':')?)?,
        };
        Some(Origin { scheme, host: host(authority.host())?, port })
    }

    /// The host as in `server.address`: an IPv6 address without brackets.
    pub fn address(&self) -> &str {
        without_brackets(&self.host)
    }

    /// Whether a call to this origin from this machine reaches a listener at `listen`. `localhost` stands for the loopback
    /// addresses.
    pub fn reaches(&self, listen: SocketAddr) -> bool {
        let host = self.address();
        let is_same_host = match host.parse::<IpAddr>() {
            Ok(address) => address == listen.ip() || (address.is_loopback() && listen.ip().is_unspecified()),
            Err(_) => host == "localhost" && (listen.ip().is_loopback() || listen.ip().is_unspecified()),
        };
        is_same_host && self.scheme == Scheme::Http && self.port == listen.port()
    }

    /// Parses an origin: a URL without user, path, query, fragment and wildcards.
    pub fn parse(text: &str) -> Option<Origin> {
        let uri: http::Uri = text.parse().ok()?;
        let bare = matches!(uri.path(), "" | "/") && !text.contains(['@', '?', '#']);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let named = |host: &str| host.starts_with('[') || host.bytes().all(plain);
        Origin::of(&uri).filter(|origin| bare && named(&origin.host))
    }
}

fn host(text: &str) -> Option<String> {
    match text.strip_prefix('[') {
        Some(rest) => {
            let address: Ipv6Addr = rest.strip_suffix(']')?.parse().ok()?;
            Some(format!("[{address}]"))
        }
        None => Some(text.to_ascii_lowercase()).filter(|host| !host.is_empty()),
    }
}

fn port(text: &str) -> Option<u16> {
    let number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| number && *port != 0)
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_origins_in_different_notations_compare_as_equal() {
        let same = [
            ("http://LOCALHOST", "http://localhost:80/"),
            ("https://a.example", "https://A.example:443"),
            ("http://a:", "http://a"),
            ("http://[0:0:0:0:0:0:0:1]:8000", "http://[::1]:8000"),
        ];
        for (one, other) in same {
            assert!(Origin::parse(one).is_some(), "{one}");
            assert_eq!(Origin::parse(one), Origin::parse(other), "{one} and {other}");
        }
        assert_ne!(Origin::parse("http://a"), Origin::parse("https://a"));
    }

    #[test]
    fn the_text_of_an_origin_includes_its_port() {
        let shown = [
            ("https://a.example", "https://a.example:443"),
            ("http://localhost:8002", "http://localhost:8002"),
            ("http://[::1]", "http://[::1]:80"),
        ];
        for (text, expected) in shown {
            assert_eq!(Origin::parse(text).unwrap().to_string(), expected);
        }
        for (text, address) in [("http://[::1]:80", "::1"), ("http://a", "a"), ("http://127.0.0.1", "127.0.0.1")] {
            assert_eq!(Origin::parse(text).unwrap().address(), address);
        }
    }

    #[test]
    fn urls_that_are_not_origins_are_rejected() {
        let bad = [
            "",
            "localhost:8000",
            "localhost",
            "//a",
            "http://",
            "http://a/path",
            "http://a?q",
            "http://a#f",
            "ftp://a",
            "http://me@a",
            "http://a b",
            "http://*",
            "http://*.example.com",
            "http://[::g]",
        ];
        for text in bad {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_invalid_port_never_becomes_the_default_one() {
        for port in ["99999", "1x", "0", "+1", "-1", "65536"] {
            let url = format!("http://a:{port}");
            assert_eq!(Origin::parse(&url), None, "{url}");
            assert_eq!(url.parse().ok().and_then(|uri| Origin::of(&uri)), None, "{url}");
        }
    }

    #[test]
    fn the_user_part_of_a_url_does_not_affect_its_origin() {
        let origin = |url: &str| Origin::of(&url.parse().unwrap()).unwrap().to_string();
        assert_eq!(origin("http://a.example:1@b.example:2/path?q#f"), "http://b.example:2");
        assert_eq!(origin("https://B.example/users/1"), "https://b.example:443");
        // The text of the host occurs in the port too.
        assert_eq!(origin("http://0:8080/"), "http://0:8080");
    }
}
