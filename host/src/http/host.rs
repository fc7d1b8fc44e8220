//! The host that requests name, and the cache that spares a connection from parsing the same host for every request.

use std::sync::{Arc, Mutex, PoisonError};

use http::uri;

use super::authority::{Authority, AuthorityError};

/// The most bytes of a host that is kept: a domain name has up to 253, and a client may send many kilobytes.
const MAX_CACHED: usize = 300;

/// The host of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The host and the port, as the client wrote them.
    pub authority: Authority,
    /// The same as part of a URI. `None` if the host is empty.
    pub uri: Option<uri::Authority>,
}

/// The host that the last request of a connection named. Most requests of a connection name the same one.
#[derive(Debug, Default)]
pub struct HostCache(Mutex<Option<Arc<Host>>>);

impl Host {
    /// Parses a host.
    ///
    /// # Errors
    ///
    /// If the text is not an authority.
    pub fn parse(text: &str) -> Result<Host, AuthorityError> {
        let authority = Authority::parse(text)?;
        let uri = text.parse().ok().filter(|_| authority.has_host());
        Ok(Host { authority, uri })
    }
}

impl HostCache {
    /// Parses a host, unless it is that of the last call.
    ///
    /// # Errors
    ///
    /// If the text is not an authority. The cache stays unchanged.
    pub fn parse(&self, text: &str) -> Result<Arc<Host>, AuthorityError> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = last.as_ref().filter(|host| host.authority.as_str() == text) {
            return Ok(host.clone());
        }
        let host = Arc::new(Host::parse(text)?);
        if text.len() <= MAX_CACHED {
            *last = Some(host.clone());
        }
        Ok(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_is_repeated_is_parsed_once() {
        let cache = HostCache::default();
        let first = cache.parse("shop:8000").unwrap();
        assert!(Arc::ptr_eq(&first, &cache.parse("shop:8000").unwrap()));
        assert_eq!(cache.parse("a b"), Err(AuthorityError::Characters));
        assert!(Arc::ptr_eq(&first, &cache.parse("shop:8000").unwrap()), "an error does not change the cache");
        assert_eq!(cache.parse("SHOP:8000").unwrap().authority.as_str(), "SHOP:8000");
        assert_eq!(*cache.parse("shop:8000").unwrap(), *first);
        let long = "a".repeat(MAX_CACHED + 1);
        assert_eq!(cache.parse(&long).unwrap().authority.as_str(), long);
        let kept = cache.0.lock().unwrap();
        assert_eq!(kept.as_ref().unwrap().authority.as_str(), "shop:8000", "a long host is not kept");
    }

    #[test]
    fn an_empty_host_is_valid_but_no_part_of_a_uri() {
        for text in ["", ":80"] {
            assert_eq!(Host::parse(text).unwrap().uri, None, "{text:?}");
        }
        assert_eq!(Host::parse("[::1]:1").unwrap().uri.unwrap(), "[::1]:1");
    }
}
