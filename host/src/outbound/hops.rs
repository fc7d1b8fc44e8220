//! Hop count: how many services a request has passed through. It is sent with network calls, so that call loops over
//! the network end too.
//!
//! Only values of this process are trusted: they carry a random number that is drawn at start. They are sent only to
//! origins on this machine, from which a call can return; to others they would only reveal which host this is.

use std::net::IpAddr;
use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Origin;

/// How many services one request may pass through.
pub const HOP_BUDGET: u32 = 16;

const HOPS: HeaderName = HeaderName::from_static("spandrel-hops");

/// The number that identifies this process.
static OWN: LazyLock<String> = LazyLock::new(|| {
    // If the operating system provides no random numbers, a client that guesses the number can only end its own
    // request.
    let number = getrandom::u64().unwrap_or_else(|_| fastrand::u64(..));
    format!("{number:016x}")
});

/// The hop count of a request from the network: 0 unless this process has set it.
pub fn told(headers: &HeaderMap) -> u32 {
    let told = headers.get(HOPS).and_then(|value| value.to_str().ok()?.split_once('-'));
    let told = told.filter(|(_, by)| *by == OWN.as_str());
    told.and_then(|(hops, _)| hops.parse().ok()).unwrap_or(0)
}

/// Removes the hop count, which guests do not need.
pub fn forget(headers: &mut HeaderMap) {
    headers.remove(HOPS);
}

/// Sets the hop count if `origin` is on this machine. A value from the guest or the client is removed.
pub(super) fn tell(hops: u32, origin: &Origin, headers: &mut HeaderMap) {
    headers.remove(HOPS);
    if is_on_this_machine(origin)
        && let Ok(value) = HeaderValue::try_from(format!("{hops}-{}", *OWN))
    {
        headers.insert(HOPS, value);
    }
}

fn is_on_this_machine(origin: &Origin) -> bool {
    let name = origin.host.trim_matches(['[', ']']).trim_end_matches('.');
    match name.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::parse(text).unwrap()
    }

    #[test]
    fn what_is_told_comes_back() {
        for here in ["http://localhost:1", "http://a.localhost", "http://127.0.0.2:1", "http://[::1]:1"] {
            let mut headers = HeaderMap::new();
            tell(7, &origin(here), &mut headers);
            assert_eq!(told(&headers), 7, "{here}");
        }
    }

    #[test]
    fn strangers_are_neither_told_nor_believed() {
        for there in
            ["http://example.org", "https://10.0.0.1:8443", "http://localhost.example.org", "http://[2001:db8::1]"]
        {
            let mut headers = HeaderMap::from_iter([(HOPS, HeaderValue::from_static("3"))]);
            tell(7, &origin(there), &mut headers);
            assert!(headers.is_empty(), "{there}");
        }
        for forged in ["99", "99-", "99-0000000000000000", "nonsense", "-1", "99-\u{e9}"] {
            let headers = HeaderMap::from_iter([(HOPS, HeaderValue::from_str(forged).unwrap())]);
            assert_eq!(told(&headers), 0, "{forged}");
        }
    }
}
