//! The hop count: how many services a request has passed through. Network calls carry it in a header field, so that
//! call loops over the network end too.
//!
//! The field lists the count of each host with the random id of its process: `2-0123456789abcdef, 1-fedcba9876543210`.
//! A host trusts only the count with its own id, and passes on those of the others, so that a loop over several hosts
//! ends at each of them. The field is sent only to origins on this machine, from which a call can return, and only where
//! trace context is sent: it reveals the identity of the host.

use std::net::IpAddr;
use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Origin;

/// How many services one request may pass through.
pub const HOP_BUDGET: u32 = 16;
/// The most counts of other hosts that are passed on.
const MAX_OTHERS: usize = 8;
/// The digits of the random id of a process, and the most digits of a count.
const ID_DIGITS: usize = 16;
const MAX_COUNT_DIGITS: usize = 10;

/// The header field of the hop count.
const HOPS_FIELD: HeaderName = HeaderName::from_static("spandrel-hops");

/// The random id of this process.
static PROCESS_ID: LazyLock<String> = LazyLock::new(|| {
    // A weaker random number is sufficient: a client that guesses it can only end its own request.
    let id = getrandom::u64().unwrap_or_else(|_| fastrand::u64(..));
    format!("{id:016x}")
});

/// The hop count of one request at one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hops {
    /// How many services of this process the request has passed through, including this one.
    count: u32,
    /// The counts of other hosts, in the format of the field.
    others: Option<Box<str>>,
}

impl Hops {
    /// The count of a request that has passed through no other service.
    pub fn first() -> Hops {
        Hops { count: 1, others: None }
    }

    /// The count of a request from the network.
    pub fn read(headers: &HeaderMap) -> Hops {
        let field = headers.get(HOPS_FIELD).and_then(|value| value.to_str().ok());
        field.map_or(Hops::first(), |field| Hops::parse(field, &PROCESS_ID))
    }

    fn parse(field: &str, own_id: &str) -> Hops {
        let (mut before, mut others) = (0, Vec::new());
        for (entry, count, id) in field.split(',').filter_map(parse_entry).take(MAX_OTHERS + 1) {
            if id == own_id {
                before = count.parse().unwrap_or(u32::MAX);
            } else {
                others.push(entry);
            }
        }
        others.truncate(MAX_OTHERS);
        let others = (!others.is_empty()).then(|| others.join(", ").into_boxed_str());
        Hops { count: u32::saturating_add(before, 1), others }
    }

    /// The count at the next service of this process.
    pub fn next(&self) -> Hops {
        Hops { count: self.count.saturating_add(1), others: self.others.clone() }
    }

    /// Whether the request has passed through more services than it may.
    pub fn is_exceeded(&self) -> bool {
        self.count > HOP_BUDGET
    }

    /// Sets the field if `origin` is on this machine.
    pub(super) fn write(&self, origin: &Origin, headers: &mut HeaderMap) {
        if is_on_this_machine(origin)
            && let Ok(value) = HeaderValue::try_from(self.field(&PROCESS_ID))
        {
            headers.insert(HOPS_FIELD, value);
        }
    }

    fn field(&self, own_id: &str) -> String {
        let Hops { count, others } = self;
        match others {
            Some(others) => format!("{count}-{own_id}, {others}"),
            None => format!("{count}-{own_id}"),
        }
    }
}

/// One count of the field: the whole entry, the count and the id of the process. `None` if it is malformed.
fn parse_entry(entry: &str) -> Option<(&str, &str, &str)> {
    let entry = entry.trim();
    let (count, id) = entry.split_once('-')?;
    let is_count = (1..=MAX_COUNT_DIGITS).contains(&count.len()) && count.bytes().all(|digit| digit.is_ascii_digit());
    let is_id = id.len() == ID_DIGITS && id.bytes().all(|digit| digit.is_ascii_hexdigit());
    (is_count && is_id).then_some((entry, count, id))
}

/// Removes the field from a request for a guest, or of a guest.
pub fn remove(headers: &mut HeaderMap) {
    headers.remove(HOPS_FIELD);
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

    const ONE: &str = "0123456789abcdef";
    const TWO: &str = "fedcba9876543210";

    fn origin(text: &str) -> Origin {
        Origin::parse(text).unwrap()
    }

    #[test]
    fn a_written_hop_count_is_read_again() {
        for here in ["http://localhost:1", "http://a.localhost", "http://127.0.0.2:1", "http://[::1]:1"] {
            let mut headers = HeaderMap::new();
            Hops { count: 7, others: None }.write(&origin(here), &mut headers);
            assert_eq!(Hops::read(&headers), Hops { count: 8, others: None }, "{here}");
        }
    }

    #[test]
    fn a_loop_over_two_hosts_ends() {
        let mut at_one = Hops::first();
        for round in 1.. {
            let at_two = Hops::parse(&at_one.field(ONE), TWO);
            assert_eq!(at_two.count, round);
            at_one = Hops::parse(&at_two.field(TWO), ONE);
            if at_one.is_exceeded() {
                assert_eq!(round, HOP_BUDGET);
                return;
            }
        }
    }

    #[test]
    fn the_counts_that_are_passed_on_are_bounded() {
        let many: Vec<_> = (0..1000).map(|number| format!("1-{number:016x}")).collect();
        let others = Hops::parse(&many.join(","), ONE).others.unwrap();
        assert_eq!(others.split(", ").count(), MAX_OTHERS);
    }

    #[test]
    fn the_hop_count_is_not_sent_to_other_machines() {
        for there in
            ["http://example.org", "https://10.0.0.1:8443", "http://localhost.example.org", "http://[2001:db8::1]"]
        {
            let mut headers = HeaderMap::new();
            Hops::first().write(&origin(there), &mut headers);
            assert!(headers.is_empty(), "{there}");
        }
    }

    #[test]
    fn forged_values_are_ignored() {
        for forged in ["99", "99-", "nonsense", "-1", "99-\u{e9}", ",,", "99999999999-0123456789abcdef"] {
            let headers = HeaderMap::from_iter([(HOPS_FIELD, HeaderValue::from_str(forged).unwrap())]);
            assert_eq!(Hops::read(&headers), Hops::first(), "{forged}");
        }
        let stranger = HeaderMap::from_iter([(HOPS_FIELD, HeaderValue::from_static("99-0000000000000000"))]);
        assert_eq!(Hops::read(&stranger).count, 1);
    }
}
