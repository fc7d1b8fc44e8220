//! The hop count: how many services a request has passed through. Network calls carry it in a header field, so that
//! call loops over the network end too.
//!
//! The host trusts only values that this process has set: they include a random id of the process. They are sent only
//! to origins on this machine, from which a call can return. To other origins they would reveal the identity of the
//! host.

use std::net::IpAddr;
use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Origin;

/// How many services one request may pass through.
pub const HOP_BUDGET: u32 = 16;

/// The header field of the hop count.
const HOPS_FIELD: HeaderName = HeaderName::from_static("spandrel-hops");

/// The random id of this process.
static PROCESS_ID: LazyLock<String> = LazyLock::new(|| {
    // A weaker random number is sufficient: a client that guesses it can only end its own request.
    let id = getrandom::u64().unwrap_or_else(|_| fastrand::u64(..));
    format!("{id:016x}")
});

/// The hop count of a request from the network: 0 unless this process has set it.
pub fn read(headers: &HeaderMap) -> u32 {
    let value = headers.get(HOPS_FIELD).and_then(|value| value.to_str().ok()?.split_once('-'));
    let value = value.filter(|(_, process_id)| *process_id == PROCESS_ID.as_str());
    value.and_then(|(hops, _)| hops.parse().ok()).unwrap_or(0)
}

/// Removes the hop count from a request for a guest.
pub fn remove(headers: &mut HeaderMap) {
    headers.remove(HOPS_FIELD);
}

/// Sets the hop count if `origin` is on this machine. Removes a value from the guest or the client.
pub(super) fn write(hops: u32, origin: &Origin, headers: &mut HeaderMap) {
    headers.remove(HOPS_FIELD);
    if is_on_this_machine(origin)
        && let Ok(value) = HeaderValue::try_from(format!("{hops}-{}", *PROCESS_ID))
    {
        headers.insert(HOPS_FIELD, value);
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
    fn a_written_hop_count_is_read_again() {
        for here in ["http://localhost:1", "http://a.localhost", "http://127.0.0.2:1", "http://[::1]:1"] {
            let mut headers = HeaderMap::new();
            write(7, &origin(here), &mut headers);
            assert_eq!(read(&headers), 7, "{here}");
        }
    }

    #[test]
    fn the_hop_count_is_not_sent_to_other_machines_and_forged_values_are_ignored() {
        for there in
            ["http://example.org", "https://10.0.0.1:8443", "http://localhost.example.org", "http://[2001:db8::1]"]
        {
            let mut headers = HeaderMap::from_iter([(HOPS_FIELD, HeaderValue::from_static("3"))]);
            write(7, &origin(there), &mut headers);
            assert!(headers.is_empty(), "{there}");
        }
        for forged in ["99", "99-", "99-0000000000000000", "nonsense", "-1", "99-\u{e9}"] {
            let headers = HeaderMap::from_iter([(HOPS_FIELD, HeaderValue::from_str(forged).unwrap())]);
            assert_eq!(read(&headers), 0, "{forged}");
        }
    }
}
