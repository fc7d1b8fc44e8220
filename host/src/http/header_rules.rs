//! Which header fields belong to a connection and not to a message.

use std::collections::HashSet;

use http::header::{CONNECTION, HOST};
use http::{HeaderMap, HeaderName};

/// The most fields that a guest may give a message.
pub const FIELDS: usize = 1024;

/// Fields of RFC 9110, 7.6.1, and the length, which the host knows better than a guest.
const HOP_BY_HOP: [&str; 8] =
    ["connection", "proxy-connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length"];

/// Whether a field belongs to a connection.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(&name.as_str())
}

/// Removes the fields that `Connection` names: they are for the next hop alone (RFC 9110, 7.6.1). `Host` is for the
/// host to know, whatever a client says.
pub fn remove_nominated(headers: &mut HeaderMap) {
    if !headers.contains_key(CONNECTION) {
        return;
    }
    let options = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let options = options.flat_map(|options| options.split(','));
    let named: HashSet<HeaderName> = options.filter_map(|option| option.trim().parse().ok()).collect();
    for name in named.iter().filter(|name| **name != HOST && !is_hop_by_hop(name)) {
        headers.remove(name);
    }
}

/// Removes what belongs to a connection: the fields that `Connection` names, and those of [`is_hop_by_hop`].
pub fn remove_all(headers: &mut HeaderMap) {
    remove_nominated(headers);
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(connection: &[&'static str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for name in ["host", "x-one", "x-two", "content-length"] {
            headers.insert(name, "1".parse().unwrap());
        }
        headers.append("x-one", "2".parse().unwrap());
        connection.iter().for_each(|options| {
            headers.append(CONNECTION, options.parse().unwrap());
        });
        remove_nominated(&mut headers);
        let left = headers.keys().filter(|name| **name != CONNECTION).map(|name| name.as_str().to_owned());
        left.collect()
    }

    #[test]
    fn fields_that_the_connection_names_go_no_further() {
        assert_eq!(left(&[]), ["host", "x-one", "x-two", "content-length"]);
        assert_eq!(left(&["keep-alive, X-One"]).len(), 3);
        assert_eq!(left(&["close", "x-one ,x-two"]), ["host", "content-length"]);
        assert_eq!(left(&["x-three, , \"x-one\"", "a b"]).len(), 4);
        assert_eq!(left(&["host, content-length"]).len(), 4, "what the host goes by stays");
    }
}
