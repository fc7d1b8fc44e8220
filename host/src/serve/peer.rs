//! Who is at the other end of a connection, and what a request that came over it is to be refused for.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::http::forwarded::Forwarded;
use crate::http::head::HeadError;
use crate::trace::{Attribute, Attributes};

/// The other end of a connection. Made once for all of its requests.
pub struct Peer {
    /// Its address; one of IPv4 is written as such, whatever socket it came over.
    pub address: IpAddr,
    /// What spans say of it.
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
    /// From whom.
    pub peer: Arc<Peer>,
    /// Whether its head is one to serve.
    pub head: Result<(), HeadError>,
    /// What proxies that are trusted say of it.
    pub forwarded: Forwarded,
}
