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

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, connect::capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::timeout::error::Elapsed;

use super::call_error::{CallError, ConnectionFailure};
use super::connection::Reuse;
use super::connector::{Addresses, CONNECT_TIMEOUT, Connector, NoPublicAddress, UnknownName, connector, tls};
use super::public::is_public;
use crate::config::Origin;
use crate::http::head::FIELDS_LIMIT;
use crate::http::{Body, header_rules};
use crate::trace;

/// The clients for network calls.
#[derive(Clone)]
pub struct Network {
    /// Connects to any address.
    unrestricted: Client,
    /// Connects to public addresses only.
    public: Client,
}

/// A client with pooled connections.
type Client = legacy::Client<Connector, Body>;

/// The most idle connections per origin that a client keeps.
const IDLE_CONNECTIONS: usize = 64;

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
    pub fn new() -> Result<Network, rustls::Error> {
        let tls = tls()?;
        let to = |addresses| client(connector(addresses, &tls, CONNECT_TIMEOUT));
        Ok(Network { unrestricted: to(Addresses::All), public: to(Addresses::Public) })
    }

    /// Sends a request to `origin` and waits for the head of the response. Path and query are sent as they are written.
    pub(super) async fn send(
        &self,
        request: OutgoingRequest,
        origin: &Origin,
        permission: Permission,
    ) -> Result<Response<Body>, CallError> {
        let client = match permission {
            Permission::Exact => &self.unrestricted,
            Permission::Wildcard => {
                check_host(origin)?;
                &self.public
            }
        };
        let sent = send_again_if_closed(client, request.into_http()).await;
        let mut response = sent.map_err(|error| network_error(&error, origin))?.map(Body::from_transport);
        response.extensions_mut().clear();
        header_rules::remove_nominated(response.headers_mut());
        Ok(response)
    }
}

impl OutgoingRequest {
    fn into_http(self) -> Request<Body> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        request
    }
}

/// Sends a request. If it fails because the server has closed the connection that it was sent on after an earlier
/// request, it is sent again, provided that it is idempotent and has no body.
async fn send_again_if_closed(
    client: &Client,
    mut request: Request<Body>,
) -> Result<Response<Incoming>, legacy::Error> {
    let may_repeat = request.method().is_idempotent() && has_no_body(&request);
    let copy = |request: &Request<Body>| {
        let mut copy = Request::new(Body::empty());
        request.method().clone_into(copy.method_mut());
        request.uri().clone_into(copy.uri_mut());
        request.headers().clone_into(copy.headers_mut());
        copy
    };
    // Each repetition takes a connection out of the pool, or establishes one.
    for _ in 0..IDLE_CONNECTIONS {
        let next = may_repeat.then(|| copy(&request));
        let connection = capture_connection(&mut request);
        match (client.request(request).await, next) {
            (Err(error), Some(next)) if is_closed(&error) && Reuse::is_reused(&connection) => request = next,
            (Err(error), _) => return Err(error),
            (Ok(response), _) => {
                Reuse::mark(response.extensions());
                return Ok(response);
            }
        }
    }
    client.request(request).await
}

/// Whether the client sends no body over HTTP/1.1. It leaves out one of unknown size if the method gives it no meaning:
/// guests of 0.3 cannot say that they write none.
fn has_no_body(request: &Request<Body>) -> bool {
    let is_declared = [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|name| request.headers().contains_key(name));
    let is_left_out = matches!(*request.method(), Method::GET | Method::HEAD) && !is_declared;
    request.body().is_end_stream() || (is_left_out && request.body().size_hint().exact().is_none())
}

/// Whether the server closed the connection before it responded.
fn is_closed(error: &legacy::Error) -> bool {
    const KINDS: [io::ErrorKind; 3] =
        [io::ErrorKind::ConnectionReset, io::ErrorKind::ConnectionAborted, io::ErrorKind::BrokenPipe];
    let is_incomplete = find::<hyper::Error>(error).is_some_and(hyper::Error::is_incomplete_message);
    !error.is_connect()
        && (is_incomplete || find::<io::Error>(error).is_some_and(|error| KINDS.contains(&error.kind())))
}

/// Checks a host that is an address: it is not resolved, so the connector does not check it. Other notations of
/// addresses, such as `127.1`, are resolved as names are.
fn check_host(origin: &Origin) -> Result<(), CallError> {
    match origin.address().parse() {
        Ok(address) if !is_public(address) => Err(CallError::NotPublic(origin.clone(), address)),
        _ => Ok(()),
    }
}

fn client(connector: Connector) -> Client {
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .http2_max_header_list_size(FIELDS_LIMIT as u32)
        .build(connector)
}

/// Converts an error of the client. Its message says only that sending failed; its source chain has the cause.
fn network_error(error: &legacy::Error, origin: &Origin) -> CallError {
    if let Some(NoPublicAddress(address)) = find(error) {
        return CallError::NotPublic(origin.clone(), *address);
    }
    if find::<Elapsed>(error).is_some() {
        return CallError::ConnectTimedOut(CONNECT_TIMEOUT);
    }
    let failure = if error.is_connect() { connection_failure(error) } else { ConnectionFailure::Protocol };
    CallError::Unreachable { failure, reason: trace::root_cause(error) }
}

/// The first error of type `E` in the source chain of `error`.
fn find<'e, E: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e E> {
    error.downcast_ref().or_else(|| find(error.source()?))
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

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
    async fn path_and_query_are_sent_as_they_are_written() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let network = Network::new().unwrap();
        for (written, sent) in [
            ("/a/../b/./c//d", "/a/../b/./c//d"),
            ("/%2e%2e/%7e%41?x=%7e", "/%2e%2e/%7e%41?x=%7e"),
            (r"/a\b|^{c}?d=\'{e}|", r"/a\b|^{c}?d=\'{e}|"),
            (r#"/"a"?`b"#, r#"/"a"?`b"#),
            ("/gr\u{fc}n?\u{fc}", "/gr\u{fc}n?\u{fc}"),
            ("/a?", "/a?"),
            ("/?a?b/../c", "/?a?b/../c"),
            ("?a", "/?a"),
            ("", "/"),
            ("/a#fragment", "/a"),
        ] {
            let uri: Uri = format!("{origin}{written}").parse().unwrap();
            let origin = Origin::of(&uri).unwrap();
            let request = OutgoingRequest { method: Method::GET, uri, headers: HeaderMap::new(), body: Body::empty() };
            let (mut line, sending) = (String::new(), network.send(request, &origin, Permission::Exact));
            let receive = async { BufReader::new(listener.accept().await.unwrap().0).read_line(&mut line).await };
            assert!(tokio::join!(sending, receive).0.is_err(), "the server closes the connection");
            assert_eq!(line, format!("GET {sent} HTTP/1.1\r\n"), "{written}");
        }
    }

    /// Responds to a request with 204 and keeps the connection.
    async fn respond(stream: &mut BufReader<TcpStream>) {
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).await.unwrap();
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    }

    #[tokio::test]
    async fn an_idempotent_request_is_sent_again_if_its_connection_was_closed_after_an_earlier_one() {
        for (method, is_repeated) in [(Method::GET, true), (Method::DELETE, true), (Method::POST, false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
            let origin = Origin::of(&uri).unwrap();
            let network = Network::new().unwrap();
            let send = |method: Method| {
                let (headers, body) = (HeaderMap::new(), Body::empty());
                let request = OutgoingRequest { method, uri: uri.clone(), headers, body };
                network.send(request, &origin, Permission::Exact)
            };
            let server = async {
                let mut first = BufReader::new(listener.accept().await.unwrap().0);
                respond(&mut first).await;
                // It closes the connection when it receives the second request.
                first.fill_buf().await.unwrap();
                drop(first);
                respond(&mut BufReader::new(listener.accept().await.unwrap().0)).await;
                drop(listener.accept().await.unwrap());
            };
            let client = async {
                assert_eq!(send(Method::GET).await.unwrap().status(), 204);
                assert_eq!(send(method.clone()).await.is_ok(), is_repeated, "{method}");
                if !is_repeated {
                    assert_eq!(send(Method::GET).await.unwrap().status(), 204);
                }
                assert!(send(Method::GET).await.is_err(), "a request on a new connection is not repeated");
            };
            let ended = tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(server, client) }).await;
            assert!(ended.is_ok(), "{method}: nobody accepts another connection");
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
    async fn a_connection_that_is_not_established_in_time_is_told_from_other_failures() {
        let (address, _full) = silent_port();
        let tls_only = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = client(connector(Addresses::All, &tls().unwrap(), Duration::from_millis(100)));
        for url in [format!("http://{address}/"), format!("https://{}/", tls_only.local_addr().unwrap())] {
            let uri: Uri = url.parse().unwrap();
            let origin = Origin::of(&uri).unwrap();
            let request = OutgoingRequest { method: Method::GET, uri, headers: HeaderMap::new(), body: Body::empty() };
            let error = client.request(request.into_http()).await.unwrap_err();
            assert_eq!(network_error(&error, &origin), CallError::ConnectTimedOut(CONNECT_TIMEOUT), "{url}");
        }
    }

    #[tokio::test]
    async fn a_certificate_that_is_not_trusted_is_told_from_other_failures() {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let network = Network::new().unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_no_client_auth();
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
