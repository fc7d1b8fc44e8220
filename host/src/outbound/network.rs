//! Network calls over pooled connections. The clients follow no redirects and use no proxies, because only the manifest
//! decides where a guest's request is sent.
//!
//! Origins that only a wildcard allows have a separate client, which connects to public addresses only. It connects to
//! the addresses that it has checked, so a name cannot resolve differently for the check and for the connection.
//!
//! Each client has its own name lookups: lookups of names that a wildcard allows do not delay lookups of names that the
//! manifest lists.

use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

use super::call_error::{CallError, ConnectionFailure};
use super::lookup::Lookups;
use super::public::is_public;
use crate::config::Origin;
use crate::http::authority::without_brackets;
use crate::http::head::FIELDS_LIMIT;
use crate::http::{Body, BodyError, header_rules};
use crate::trace;

/// The clients for network calls.
#[derive(Clone)]
pub struct Network {
    /// Connects to any address.
    unrestricted: reqwest::Client,
    /// Connects to public addresses only.
    public: reqwest::Client,
}

/// How long the establishment of a connection may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The kind of pattern by which the manifest allows calls to an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permission {
    /// The origin itself.
    Exact,
    /// A wildcard.
    Wildcard,
}

/// An outgoing request.
pub(super) struct OutgoingRequest {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Body,
}

impl Network {
    /// Creates the clients, without connections.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new() -> Result<Network, reqwest::Error> {
        let unrestricted = builder().dns_resolver(AllAddresses(Lookups::of_system())).build()?;
        let public = builder().dns_resolver(PublicAddresses(Lookups::of_system())).build()?;
        Ok(Network { unrestricted, public })
    }

    /// Sends a request to `origin` and waits for the head of the response.
    pub(super) async fn send(
        &self,
        request: OutgoingRequest,
        origin: &Origin,
        permission: Permission,
    ) -> Result<Response<Body>, CallError> {
        let OutgoingRequest { method, uri, headers, body } = request;
        let url = Url::parse(&uri.to_string()).map_err(|error| CallError::InvalidUrl(error.to_string()))?;
        let client = match permission {
            Permission::Exact => &self.unrestricted,
            Permission::Wildcard => {
                check_host(&url, origin)?;
                &self.public
            }
        };
        let builder = client.request(method, url).headers(headers).body(network_body(body));
        let sent = builder.send().await.map_err(|error| network_error(error, origin))?;
        let (parts, body) = Response::<reqwest::Body>::from(sent).into_parts();
        let mut response = Response::new(Body::from_transport(body));
        *response.status_mut() = parts.status;
        *response.version_mut() = parts.version;
        *response.headers_mut() = parts.headers;
        header_rules::remove_nominated(response.headers_mut());
        Ok(response)
    }
}

/// Checks the URL's host as the client parses it. An IP address in the URL is not resolved, so it is checked here. The
/// client also parses `127.1` and `0x7f000001` as addresses. A name must equal the name in the origin.
fn check_host(url: &Url, origin: &Origin) -> Result<(), CallError> {
    let host = without_brackets(url.host_str().unwrap_or_default());
    match host.parse() {
        Ok(address) if is_public(address) => Ok(()),
        Ok(address) => Err(CallError::NotPublic(origin.clone(), address)),
        Err(_) if host == origin.host => Ok(()),
        Err(_) => Err(CallError::Denied(origin.clone())),
    }
}

/// A client without restrictions on addresses, for one call at a time.
///
/// # Errors
/// If TLS cannot be set up.
pub fn client() -> Result<reqwest::Client, reqwest::Error> {
    builder().build()
}

fn builder() -> reqwest::ClientBuilder {
    // The provider is process-wide. The call fails if one is already installed, which is sufficient.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(64)
        .http2_max_header_list_size(FIELDS_LIMIT as u32)
}

/// Resolves names to all of their addresses.
struct AllAddresses(Arc<Lookups>);

/// Resolves names to their public addresses.
struct PublicAddresses(Arc<Lookups>);

/// A name without a public address. One of its addresses.
#[derive(Debug, Error)]
#[error("the name resolves to {0}, which is not a public address")]
struct NoPublicAddress(IpAddr);

/// A name that does not resolve.
#[derive(Debug, Error)]
#[error("{0}")]
struct UnknownName(Arc<io::Error>);

impl Resolve for AllAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        let lookups = self.0.clone();
        Box::pin(async move {
            let found = lookups.addresses(name.as_str()).await.map_err(UnknownName)?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl Resolve for PublicAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        let lookups = self.0.clone();
        Box::pin(async move {
            let found = lookups.addresses(name.as_str()).await.map_err(UnknownName)?;
            Ok(only_public(found)?)
        })
    }
}

/// The public addresses of a name. Fails if all its addresses are not public.
fn only_public(found: Vec<SocketAddr>) -> Result<Addrs, NoPublicAddress> {
    let other = found.iter().map(SocketAddr::ip).find(|address| !is_public(*address));
    let public: Vec<_> = found.into_iter().filter(|address| is_public(address.ip())).collect();
    match other.filter(|_| public.is_empty()) {
        Some(other) => Err(NoPublicAddress(other)),
        None => Ok(Box::new(public.into_iter())),
    }
}

/// Converts an error of reqwest. Its message says only that sending failed; its source chain has the cause.
fn network_error(error: reqwest::Error, origin: &Origin) -> CallError {
    if let Some(NoPublicAddress(address)) = not_public(&error) {
        return CallError::NotPublic(origin.clone(), *address);
    }
    if error.is_timeout() {
        return if error.is_connect() { CallError::ConnectTimedOut(CONNECT_TIMEOUT) } else { CallError::TimedOut };
    }
    let failure = if error.is_connect() { connection_failure(&error) } else { ConnectionFailure::Protocol };
    CallError::Unreachable { failure, reason: trace::root_cause(&error) }
}

fn not_public<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e NoPublicAddress> {
    error.downcast_ref().or_else(|| not_public(error.source()?))
}

/// What failed, by the type of an error in the source chain of `error`.
fn connection_failure(error: &(dyn StdError + 'static)) -> ConnectionFailure {
    match error.downcast_ref() {
        Some(rustls::Error::InvalidCertificate(_)) => return ConnectionFailure::Certificate,
        Some(_) => return ConnectionFailure::Tls,
        None if error.is::<UnknownName>() => return ConnectionFailure::Name,
        None => {}
    }
    let io = error.downcast_ref::<io::Error>();
    if io.is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof) {
        // The server has accepted the connection, and closed it during the handshake.
        return ConnectionFailure::Tls;
    }
    // The source of an `io::Error` is not the error that it contains, but the source of that error.
    match io.and_then(io::Error::get_ref) {
        Some(contained) => connection_failure(contained),
        None => error.source().map_or(ConnectionFailure::NotConnected, connection_failure),
    }
}

fn network_body(body: Body) -> reqwest::Body {
    match body {
        Body::Whole(bytes) => bytes.into(),
        stream => reqwest::Body::wrap(SyncBody(Mutex::new(stream))),
    }
}

/// Makes a body `Sync`, as the network client requires. The lock is never contended.
struct SyncBody(Mutex<Body>);

impl HttpBody for SyncBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner);
        Pin::new(body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn only_public_addresses_of_a_name_are_used() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let public = only_public(addresses(&["10.0.0.1:0", "8.8.8.8:0", "[::1]:0", "[2606:4700::1]:0"])).unwrap();
        assert_eq!(public.collect::<Vec<_>>(), addresses(&["8.8.8.8:0", "[2606:4700::1]:0"]));
        let error = only_public(addresses(&["169.254.169.254:0", "127.0.0.1:0"])).err().unwrap();
        assert!(error.to_string().contains("169.254.169.254"), "{error}");
        assert_eq!(only_public(Vec::new()).unwrap().count(), 0);
    }

    /// Sends a request to a server on this machine, addressed by `host`.
    async fn send_to(host: &str, permission: Permission) -> Result<(), CallError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let uri: Uri = format!("http://{host}:{port}/").parse().unwrap();
        let origin = Origin::of(&uri).unwrap();
        let request = OutgoingRequest { method: Method::GET, uri, headers: HeaderMap::new(), body: Body::empty() };
        let network = Network::new().unwrap();
        tokio::select! {
            response = network.send(request, &origin, permission) => response.map(drop),
            _ = listener.accept() => Ok(()),
        }
    }

    #[tokio::test]
    async fn a_wildcard_does_not_allow_calls_to_an_address_that_is_not_public() {
        for host in ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"] {
            let error = send_to(host, Permission::Wildcard).await.unwrap_err();
            assert!(matches!(error, CallError::NotPublic(..)), "{host}: {error:?}");
        }
    }

    /// A port whose queue of connections is full: it does not answer any others. Also returns what keeps it so.
    fn silent_port() -> (SocketAddr, impl Sized) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200));
        let waiting: Vec<_> = std::iter::repeat_with(connect).map_while(Result::ok).take(100).collect();
        (address, (listener, waiting))
    }

    #[tokio::test]
    async fn a_connection_that_is_not_established_in_time_is_told_from_a_late_response() {
        let (address, _full) = silent_port();
        let uri = format!("http://{address}/");
        let client = builder().connect_timeout(Duration::from_millis(100)).build().unwrap();
        let error = client.get(&uri).send().await.unwrap_err();
        let origin = Origin::of(&uri.parse().unwrap()).unwrap();
        assert_eq!(network_error(error, &origin), CallError::ConnectTimedOut(CONNECT_TIMEOUT));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        let late = client.get(&uri).timeout(Duration::from_millis(300)).send().await.unwrap_err();
        assert_eq!(network_error(late, &origin), CallError::TimedOut);
    }

    #[tokio::test]
    async fn a_certificate_that_is_not_trusted_is_told_from_other_failures() {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        // Also installs the provider of the cryptography.
        let network = Network::new().unwrap();
        let tls = rustls::ServerConfig::builder().with_no_client_auth();
        let tls = tls.with_single_cert(vec![cert.der().clone()], key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri: Uri = format!("https://localhost:{}/", listener.local_addr().unwrap().port()).parse().unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            tokio_rustls::TlsAcceptor::from(Arc::new(tls)).accept(stream).await.map(drop)
        });
        let origin = Origin::of(&uri).unwrap();
        let request = OutgoingRequest { method: Method::GET, uri, headers: HeaderMap::new(), body: Body::empty() };
        let error = network.send(request, &origin, Permission::Exact).await.map(drop).unwrap_err();
        let CallError::Unreachable { failure, reason } = error else { panic!("{error:?}") };
        assert_eq!(failure, ConnectionFailure::Certificate, "{reason}");
    }

    #[tokio::test]
    async fn an_origin_that_the_manifest_names_may_have_any_address() {
        for host in ["localhost", "127.0.0.1"] {
            assert_eq!(send_to(host, Permission::Exact).await, Ok(()), "{host}");
        }
    }
}
