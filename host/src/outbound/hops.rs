//! How many services a request has been through, told along with calls over the network so that circles there end too.
//!
//! Only this process itself is believed: what it tells carries a number that was drawn when it started. It tells origins
//! on this machine alone, where a call can come back from; to others it is nothing but a trait of the host to know.

use std::net::IpAddr;
use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Origin;

/// How many services one request may go through.
pub const HOP_BUDGET: u32 = 16;

const HOPS: HeaderName = HeaderName::from_static("spandrel-hops");

/// What this process tells apart from everybody else.
static OWN: LazyLock<String> = LazyLock::new(|| {
    // Where the system has no random numbers, a stranger who guesses well can end his own request.
    let number = getrandom::u64().unwrap_or_else(|_| fastrand::u64(..));
    format!("{number:016x}")
});

/// How many services a request from the network has been through: none, unless this process says so.
pub fn told(headers: &HeaderMap) -> u32 {
    let told = headers.get(HOPS).and_then(|value| value.to_str().ok()?.split_once('-'));
    let told = told.filter(|(_, by)| *by == OWN.as_str());
    told.and_then(|(hops, _)| hops.parse().ok()).unwrap_or(0)
}

/// Takes away what was told, which is no concern of a guest.
pub fn forget(headers: &mut HeaderMap) {
    headers.remove(HOPS);
}

/// Tells it to `origin`, where that is on this machine. What a guest or a client wrote there goes.
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
