//! The origin of a request according to the browser: `Origin`, and fetch metadata (`Sec-Fetch-*`) of newer browsers.

use http::header::ORIGIN;
use http::uri::Authority;
use http::{HeaderMap, Method, Uri};

/// The sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestOrigin {
    /// Certainly a page of the console.
    SameOrigin,
    /// A program, or a browser whose user typed the address or followed a link.
    Unspecified,
    /// A page of another site.
    CrossSite,
}

/// The sender of the request according to its header fields.
pub(super) fn of(method: &Method, headers: &HeaderMap, host: Option<&str>) -> RequestOrigin {
    let field = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(origin) = field(ORIGIN.as_str()) {
        return if is_same(origin, host) { RequestOrigin::SameOrigin } else { RequestOrigin::CrossSite };
    }
    // A link on another site may lead here; other requests from there are not allowed.
    let follows_link = *method == Method::GET && field("sec-fetch-mode") == Some("navigate");
    match field("sec-fetch-site") {
        Some("same-origin") => RequestOrigin::SameOrigin,
        Some("none") | None => RequestOrigin::Unspecified,
        Some(_) if follows_link => RequestOrigin::Unspecified,
        Some(_) => RequestOrigin::CrossSite,
    }
}

/// Whether `Origin` is the console itself. The console speaks HTTP without TLS; a proxy that adds TLS must preserve
/// `Host`.
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
            // Only if a proxy serves on the default port: then `Host` has no port.
            "https" => host.port().is_none() && port(authority, "https") == 443,
            _ => false,
        }
}
