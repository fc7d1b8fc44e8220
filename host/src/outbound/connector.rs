//! Connections of network calls: name lookup, TCP and TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use thiserror::Error;
use tokio::net::TcpStream;
use tower::timeout::Timeout;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceExt as _};

use super::connection::Tracked;
use super::lookup::Lookups;
use super::public::is_public;

/// How long the establishment of a connection may take, TLS included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be silent before TCP probes the peer, and the time between two probes.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// After this many probes without a reply, the connection is closed.
const KEEPALIVE_PROBES: u32 = 3;
/// How long the peer may leave sent data unacknowledged. A peer that has vanished would otherwise block all calls over
/// its HTTP/2 connection for minutes.
#[cfg(target_os = "linux")]
const ACKNOWLEDGEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Establishes the connections of a client.
pub(super) type Connector = BoxCloneSyncService<Uri, Tracked<MaybeHttpsStream<TokioIo<TcpStream>>>, BoxError>;

/// The addresses that a client may connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addresses {
    /// Any address.
    All,
    /// Public addresses only.
    Public,
}

/// Connections to `addresses`, within `timeout` each. A URL whose host is an address needs no lookup, so that
/// [`Addresses::Public`] does not apply to it.
pub(super) fn connector(addresses: Addresses, tls: &ClientConfig, timeout: Duration) -> Connector {
    let mut tcp = HttpConnector::new_with_resolver(Resolver { lookups: Lookups::of_system(), addresses });
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(ACKNOWLEDGEMENT_TIMEOUT));
    let https = HttpsConnectorBuilder::new().with_tls_config(tls.clone());
    let https = https.https_or_http().enable_all_versions().wrap_connector(tcp);
    BoxCloneSyncService::new(Timeout::new(https, timeout).map_response(Tracked::from))
}

/// TLS that trusts the certificates that this machine trusts.
///
/// # Errors
/// If these certificates cannot be read.
pub(super) fn tls() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.try_with_platform_verifier()?.with_no_client_auth())
}

/// Resolves names to the addresses that the client may connect to.
#[derive(Clone)]
struct Resolver {
    lookups: Arc<Lookups>,
    addresses: Addresses,
}

/// A name without a public address. One of its addresses.
#[derive(Debug, Error)]
#[error("the name resolves to {0}, which is not a public address")]
pub(super) struct NoPublicAddress(pub IpAddr);

/// A name that does not resolve.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct UnknownName(Arc<io::Error>);

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Resolver { lookups, addresses } = self.clone();
        Box::pin(async move {
            let found = lookups.addresses(name.as_str()).await.map_err(UnknownName)?;
            let allowed = match addresses {
                Addresses::All => found,
                Addresses::Public => only_public(found)?,
            };
            Ok(allowed.into_iter())
        })
    }
}

/// The public addresses of a name. Fails if all its addresses are not public.
fn only_public(found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, NoPublicAddress> {
    let other = found.iter().map(SocketAddr::ip).find(|address| !is_public(*address));
    let public: Vec<_> = found.into_iter().filter(|address| is_public(address.ip())).collect();
    match other.filter(|_| public.is_empty()) {
        Some(other) => Err(NoPublicAddress(other)),
        None => Ok(public),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_of_a_name_are_used() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let public = only_public(addresses(&["10.0.0.1:0", "8.8.8.8:0", "[::1]:0", "[2606:4700::1]:0"])).unwrap();
        assert_eq!(public, addresses(&["8.8.8.8:0", "[2606:4700::1]:0"]));
        let error = only_public(addresses(&["169.254.169.254:0", "127.0.0.1:0"])).err().unwrap();
        assert!(error.to_string().contains("169.254.169.254"), "{error}");
        assert_eq!(only_public(Vec::new()).unwrap(), []);
    }
}
