//! Where a browser says that a request comes from: `Origin`, and the fetch metadata that newer ones send.

use http::header::ORIGIN;
use http::uri::Authority;
use http::{HeaderMap, Method, Uri};

/// Who made a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// One of the console's own pages, for certain.
    OwnPage,
    /// A program, or a browser that was told the address or followed a link to it.
    Unsaid,
    /// Another site's page.
    OtherSite,
}

/// Who made the request, as far as its fields tell.
pub(super) fn of(method: &Method, headers: &HeaderMap, host: Option<&str>) -> Caller {
    let field = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(origin) = field(ORIGIN.as_str()) {
        return if is_same(origin, host) { Caller::OwnPage } else { Caller::OtherSite };
    }
    // A link on another site may lead here; nothing else there may.
    let follows_link = *method == Method::GET && field("sec-fetch-mode") == Some("navigate");
    match field("sec-fetch-site") {
        Some("same-origin") => Caller::OwnPage,
        Some("none") | None => Caller::Unsaid,
        Some(_) if follows_link => Caller::Unsaid,
        Some(_) => Caller::OtherSite,
    }
}

/// The console speaks HTTP without TLS. Behind a proxy that adds it, `Host` is the proxy's to keep.
fn is_same(origin: &str, host: Option<&str>) -> bool {
    let Ok(origin) = origin.parse::<Uri>() else { return false };
    let (Some(scheme), Some(authority), Some(host)) = (origin.scheme_str(), origin.authority(), host) else {
        return false;
    };
    let Ok(host) = host.parse::<Authority>() else { return false };
    let port =
        |authority: &Authority, scheme: &str| authority.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    authority.host().eq_ignore_ascii_case(host.host())
        && match scheme {
            "http" => port(authority, "http") == port(&host, "http"),
            // Only where a proxy serves on the usual port: `Host` then has none.
            "https" => host.port().is_none() && port(authority, "https") == 443,
            _ => false,
        }
}
