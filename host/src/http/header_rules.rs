//! Which header fields belong to a connection and not to a message.

use http::HeaderName;

/// Fields of RFC 9110, 7.6.1, and the length, which the host knows better than a guest.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "proxy-connection"
            | "keep-alive"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "content-length"
    )
}
