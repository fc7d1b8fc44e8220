//! The peer of a connection, and how a request came over it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::http::forwarded::Forwarded;
use crate::http::head::HeadError;
use crate::trace::{Attribute, Attributes};

/// The peer of a connection. Created once for all its requests.
pub struct Peer {
    /// Its address. IPv4-mapped IPv6 addresses are converted to IPv4.
    pub address: IpAddr,
    /// Its attributes on spans.
    pub attributes: Attributes,
}

impl Peer {
    /// The peer with this address.
    pub fn new(peer: SocketAddr) -> Arc<Peer> {
        let address = peer.ip().to_canonical();
        let text = address.to_string();
        let attributes = [
            Attribute::new("client.address", &text),
            Attribute::new("network.peer.address", &text),
            Attribute::new("network.peer.port", i64::from(peer.port())),
        ];
        Arc::new(Peer { address, attributes: attributes.into_iter().collect() })
    }
}

/// How a request came over the network.
pub struct Received {
    /// The peer.
    pub peer: Arc<Peer>,
    /// Whether its head is valid.
    pub head: Result<(), HeadError>,
    /// The forwarded fields of trusted proxies.
    pub forwarded: Forwarded,
}
