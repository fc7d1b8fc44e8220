//! The authority of a request: `host` or `host:port` (RFC 3986, 3.2.2 and 3.2.3).

use std::net::Ipv6Addr;

use thiserror::Error;

/// A host and an optional port, without user information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    text: String,
    /// The length of the host in `text`.
    host_length: usize,
    port: Option<u16>,
}

/// Why a text is not an authority.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AuthorityError {
    /// The text has user information before an `@` (RFC 9110, 4.2.4).
    #[error("it has user information")]
    UserInfo,
    /// The text has a character that a host must not have.
    #[error("it has an invalid character")]
    Characters,
    /// The brackets do not enclose an IPv6 address.
    #[error("the address in brackets is not an IPv6 address")]
    Ipv6Address,
    /// The text after the colon is not a port number.
    #[error("the port is invalid")]
    Port,
}

impl Authority {
    /// Parses an authority. The host may be empty (RFC 9110, 7.2).
    ///
    /// # Errors
    ///
    /// If the text is not an authority.
    pub fn parse(text: &str) -> Result<Authority, AuthorityError> {
        if text.contains('@') {
            return Err(AuthorityError::UserInfo);
        }
        let host_length = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, _) = rest.split_once(']').ok_or(AuthorityError::Ipv6Address)?;
                address.parse::<Ipv6Addr>().map_err(|_| AuthorityError::Ipv6Address)?;
                address.len() + 2
            }
            None => text.find(':').unwrap_or(text.len()),
        };
        let (name, rest) = text.split_at(host_length);
        if !name.starts_with('[') && !name.bytes().all(is_reg_name_byte) {
            return Err(AuthorityError::Characters);
        }
        Ok(Authority { text: text.to_owned(), host_length, port: port(rest)? })
    }

    /// The authority as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host. An IPv6 address is in brackets.
    pub fn host(&self) -> &str {
        self.text.get(..self.host_length).unwrap_or_default()
    }

    /// The host as in `server.address` of the semantic conventions: an IPv6 address has no brackets.
    pub fn address(&self) -> &str {
        without_brackets(self.host())
    }

    /// Whether the host is not empty.
    pub fn has_host(&self) -> bool {
        self.host_length > 0
    }

    /// The port, if the authority has one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

/// Removes the brackets that an IPv6 address has in a URL.
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

/// Whether a byte may occur in a `reg-name` (RFC 3986, 3.2.2).
fn is_reg_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_parsed() {
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
    fn a_text_that_is_not_an_authority_is_rejected() {
        for (text, error) in [
            ("me@shop", AuthorityError::UserInfo),
            ("me:secret@shop:80", AuthorityError::UserInfo),
            ("a b", AuthorityError::Characters),
            ("a,b", AuthorityError::Characters),
            ("a/b", AuthorityError::Characters),
            ("b\u{fc}cher", AuthorityError::Characters),
            ("[::g]", AuthorityError::Ipv6Address),
            ("[::1", AuthorityError::Ipv6Address),
            ("[127.0.0.1]", AuthorityError::Ipv6Address),
            ("a:65536", AuthorityError::Port),
            ("a:-1", AuthorityError::Port),
            ("::1", AuthorityError::Port),
            ("[::1]8000", AuthorityError::Port),
        ] {
            assert_eq!(Authority::parse(text), Err(error), "{text}");
        }
    }
}
