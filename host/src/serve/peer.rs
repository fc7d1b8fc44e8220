//! The peer of a connection, and the details of a request from the network.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::http::forwarded::Forwarded;
use crate::http::head::HeadError;
use crate::http::host::{Host, HostCache};
use crate::trace::{Attribute, Attributes};

/// The peer of a connection. It is created once for all requests of the connection.
pub struct Peer {
    /// The IP address. IPv4-mapped IPv6 addresses are converted to IPv4.
    pub address: IpAddr,
    /// The span attributes of the peer.
    pub attributes: Attributes,
    /// The host that the peer's last request named.
    pub host: HostCache,
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
        Arc::new(Peer { address, attributes: attributes.into_iter().collect(), host: HostCache::default() })
    }
}

/// Details of a request from the network.
pub struct NetworkDetails {
    /// The peer.
    pub peer: Arc<Peer>,
    /// The host that the client sent, if any, or why the request head is rejected.
    pub head: Result<Option<Arc<Host>>, HeadError>,
    /// The forwarded fields of trusted proxies.
    pub forwarded: Forwarded,
}
