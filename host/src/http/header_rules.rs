//! Hop-by-hop header fields, which apply to one connection only.

use std::collections::HashSet;

use http::header::{CONNECTION, HOST};
use http::{HeaderMap, HeaderName};

/// The most header fields that a guest may set on a message.
pub const FIELD_COUNT_LIMIT: usize = 1024;

/// The fields of RFC 9110, 7.6.1, and `Content-Length`, which the host computes itself.
const HOP_BY_HOP: [&str; 8] =
    ["connection", "proxy-connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length"];

/// Whether a field applies to one connection only.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(&name.as_str())
}

/// Removes the fields that `Connection` nominates: they apply to one connection only (RFC 9110, 7.6.1). `Host` stays,
/// even if `Connection` nominates it.
pub fn remove_nominated(headers: &mut HeaderMap) {
    if !headers.contains_key(CONNECTION) {
        return;
    }
    let options = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let options = options.flat_map(|options| options.split(','));
    let nominated: HashSet<HeaderName> = options.filter_map(|option| option.trim().parse().ok()).collect();
    for name in nominated.iter().filter(|name| **name != HOST && !is_hop_by_hop(name)) {
        headers.remove(name);
    }
}

/// Removes all hop-by-hop fields: those that `Connection` nominates, and those of [`is_hop_by_hop`].
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    remove_nominated(headers);
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remaining(connection: &[&'static str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for name in ["host", "x-one", "x-two", "content-length"] {
            headers.insert(name, "1".parse().unwrap());
        }
        headers.append("x-one", "2".parse().unwrap());
        connection.iter().for_each(|options| {
            headers.append(CONNECTION, options.parse().unwrap());
        });
        remove_nominated(&mut headers);
        let names = headers.keys().filter(|name| **name != CONNECTION).map(|name| name.as_str().to_owned());
        names.collect()
    }

    #[test]
    fn fields_that_connection_nominates_are_removed() {
        assert_eq!(remaining(&[]), ["host", "x-one", "x-two", "content-length"]);
        assert_eq!(remaining(&["keep-alive, X-One"]).len(), 3);
        assert_eq!(remaining(&["close", "x-one ,x-two"]), ["host", "content-length"]);
        assert_eq!(remaining(&["x-three, , \"x-one\"", "a b"]).len(), 4);
        assert_eq!(remaining(&["host, content-length"]).len(), 4, "the host needs these fields");
    }
}
