//! Names of hosts as requests have them: `host` or `host:port` (RFC 3986, 3.2.2 and 3.2.3).

use std::net::Ipv6Addr;

use thiserror::Error;

/// A host and perhaps a port, without anything about a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    text: String,
    host: usize,
    port: Option<u16>,
}

/// Why a text names no host.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AuthorityError {
    /// It names a user before an `@` (RFC 9110, 4.2.4).
    #[error("it names a user")]
    User,
    /// A character that no name of a host has.
    #[error("it has a character that no host has")]
    Characters,
    /// Brackets that hold no IPv6 address.
    #[error("it is no IPv6 address")]
    Address,
    /// What follows the colon is no port.
    #[error("it has a port that is none")]
    Port,
}

impl Authority {
    /// Reads a name. An empty host is one: that of a request for nobody in particular.
    ///
    /// # Errors
    ///
    /// Where the text is something else.
    pub fn parse(text: &str) -> Result<Authority, AuthorityError> {
        if text.contains('@') {
            return Err(AuthorityError::User);
        }
        let host = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, _) = rest.split_once(']').ok_or(AuthorityError::Address)?;
                address.parse::<Ipv6Addr>().map_err(|_| AuthorityError::Address)?;
                address.len() + 2
            }
            None => text.find(':').unwrap_or(text.len()),
        };
        let (name, rest) = text.split_at(host);
        if !name.starts_with('[') && !name.bytes().all(is_of_a_name) {
            return Err(AuthorityError::Characters);
        }
        Ok(Authority { text: text.to_owned(), host, port: port(rest)? })
    }

    /// The text as it came.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host; an IPv6 address in its brackets.
    pub fn host(&self) -> &str {
        self.text.get(..self.host).unwrap_or_default()
    }

    /// The host as telemetry names it: an IPv6 address without brackets.
    pub fn address(&self) -> &str {
        without_brackets(self.host())
    }

    /// Whether there is a host at all.
    pub fn has_host(&self) -> bool {
        self.host > 0
    }

    /// The port, where one is named.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

/// A host without the brackets that an IPv6 address has in a URL: the conventions want `server.address` like that.
pub fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

fn port(rest: &str) -> Result<Option<u16>, AuthorityError> {
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Ok(None),
        Some("") => Ok(None),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map(Some).map_err(|_| AuthorityError::Port)
        }
        _ => Err(AuthorityError::Port),
    }
}

/// `reg-name` of RFC 3986.
fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_told_apart() {
        for (text, address, port) in [
            ("shop.example", "shop.example", None),
            ("shop:8000", "shop", Some(8000)),
            ("shop:", "shop", None),
            ("[::1]:9000", "::1", Some(9000)),
            ("[2001:db8::7]", "2001:db8::7", None),
            ("127.0.0.1:1", "127.0.0.1", Some(1)),
            ("", "", None),
            (":80", "", Some(80)),
        ] {
            let authority = Authority::parse(text).unwrap();
            assert_eq!((authority.address(), authority.port(), authority.as_str()), (address, port, text));
        }
    }

    #[test]
    fn what_names_no_host_is_refused() {
        for (text, error) in [
            ("me@shop", AuthorityError::User),
            ("me:secret@shop:80", AuthorityError::User),
            ("a b", AuthorityError::Characters),
            ("a,b", AuthorityError::Characters),
            ("a/b", AuthorityError::Characters),
            ("b\u{fc}cher", AuthorityError::Characters),
            ("[::g]", AuthorityError::Address),
            ("[::1", AuthorityError::Address),
            ("[127.0.0.1]", AuthorityError::Address),
            ("a:65536", AuthorityError::Port),
            ("a:-1", AuthorityError::Port),
            ("::1", AuthorityError::Port),
            ("[::1]8000", AuthorityError::Port),
        ] {
            assert_eq!(Authority::parse(text), Err(error), "{text}");
        }
    }
}
