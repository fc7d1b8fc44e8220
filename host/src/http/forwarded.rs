//! The forwarded fields, by which proxies describe the client: `Forwarded` (RFC 7239) and `X-Forwarded-*`.
//!
//! Any client can send these fields. They are therefore evaluated from right to left, starting with the element that
//! the nearest proxy added, as long as the proxy that added an element is trusted. The first untrusted address is the
//! client's. Malformed fields are ignored.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

use super::authority::Authority;

/// The most elements that are evaluated.
const ELEMENT_LIMIT: usize = 32;

/// How the client sent the request to the first trusted proxy, as far as the proxies describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The scheme that the client used: `http` or `https`.
    pub scheme: Option<&'static str>,
    /// The host that the client used.
    pub host: Option<Authority>,
}

/// One element of the forwarded fields: the request that a proxy received.
#[derive(Clone, Default)]
struct Element {
    client: Option<IpAddr>,
    scheme: Option<&'static str>,
    host: Option<Authority>,
}

impl Forwarded {
    /// Evaluates the forwarded fields of a request that `peer` sent.
    pub fn read(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> Forwarded {
        let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address.to_canonical()));
        if trusted.is_empty() || !is_trusted(peer) {
            return Forwarded::default();
        }
        let elements = forwarded(headers).or_else(|| x_forwarded(headers)).unwrap_or_default();
        let mut result = Forwarded::default();
        for element in elements.into_iter().rev() {
            result.scheme = element.scheme.or(result.scheme);
            result.host = element.host.or(result.host);
            // Without an address it is unknown whether the element before was added by a trusted proxy.
            let Some(client) = element.client else { break };
            result.client = Some(client);
            if !is_trusted(client) {
                break;
            }
        }
        result
    }
}

/// The elements of `Forwarded`, the client's first. `None` if the field is missing or malformed.
fn forwarded(headers: &HeaderMap) -> Option<Vec<Element>> {
    let members = list_members(headers, "forwarded", true)?;
    members.iter().map(|member| element(member)).collect()
}

/// Parses one `forwarded-element`: pairs of a name and a token or a quoted string.
fn element(member: &str) -> Option<Element> {
    let mut element = Element::default();
    for pair in split(member, ';') {
        let (name, value) = pair.trim().split_once('=')?;
        let value = unquoted(value.trim())?;
        match name.trim().to_ascii_lowercase().as_str() {
            // An obfuscated identifier is valid, but is no address.
            "for" => element.client = if is_obfuscated(&value) { None } else { Some(address(&value)?) },
            "proto" => element.scheme = Some(scheme(&value)?),
            "host" => element.host = Some(Authority::parse(&value).ok().filter(Authority::has_host)?),
            _ => {}
        }
    }
    Some(element)
}

/// The elements of `X-Forwarded-For`, with the values of `X-Forwarded-Proto` and `X-Forwarded-Host`. If these fields
/// have one value for each element, each element gets its own value. Otherwise all elements get the last value.
fn x_forwarded(headers: &HeaderMap) -> Option<Vec<Element>> {
    let clients = list_members(headers, "x-forwarded-for", false);
    let clients = match clients {
        Some(clients) => clients.iter().map(|client| address(client).map(Some)).collect::<Option<Vec<_>>>()?,
        // Some proxies send the scheme without an address.
        None => vec![None],
    };
    let schemes =
        list_members(headers, "x-forwarded-proto", false).and_then(|all| all.iter().map(|one| scheme(one)).collect());
    let host = |text: &String| Authority::parse(text).ok().filter(Authority::has_host);
    let hosts = list_members(headers, "x-forwarded-host", false).and_then(|all| all.iter().map(host).collect());
    let (schemes, hosts): (Vec<_>, Vec<_>) = (schemes.unwrap_or_default(), hosts.unwrap_or_default());
    let count = clients.len();
    let elements = clients.into_iter().enumerate().map(|(index, client)| Element {
        client,
        scheme: value_at(&schemes, index, count),
        host: value_at(&hosts, index, count),
    });
    Some(elements.collect())
}

fn value_at<T: Clone>(values: &[T], index: usize, count: usize) -> Option<T> {
    if values.len() == count { values.get(index).cloned() } else { values.last().cloned() }
}

/// The last members of a list field, which may have several field lines. `None` if the list is empty or no text.
fn list_members(headers: &HeaderMap, name: &str, quoted: bool) -> Option<Vec<String>> {
    let mut all = Vec::new();
    for line in headers.get_all(name) {
        let line = line.to_str().ok()?;
        let members: Vec<&str> = if quoted { split(line, ',') } else { line.split(',').collect() };
        all.extend(members.into_iter().map(str::trim).filter(|member| !member.is_empty()).map(str::to_owned));
    }
    let surplus = all.len().saturating_sub(ELEMENT_LIMIT);
    all.drain(..surplus);
    (!all.is_empty()).then_some(all)
}

/// Splits at separators outside quoted strings.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            letter if letter == separator && !quoted => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

/// A token, or the content of a quoted string.
fn unquoted(value: &str) -> Option<String> {
    let Some(inner) = value.strip_prefix('"') else {
        return (!value.is_empty() && !value.contains(['"', ' '])).then(|| value.to_owned());
    };
    let inner = inner.strip_suffix('"')?;
    let (mut text, mut escaped) = (String::new(), false);
    for letter in inner.chars() {
        match letter {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return None,
            letter => {
                text.push(letter);
                escaped = false;
            }
        }
    }
    (!escaped).then_some(text)
}

/// `unknown` or an obfuscated identifier (RFC 7239, 6.2 and 6.3).
fn is_obfuscated(node: &str) -> bool {
    node.eq_ignore_ascii_case("unknown") || node.starts_with('_')
}

/// An IP address, with or without a port. An IPv6 address may have brackets.
fn address(node: &str) -> Option<IpAddr> {
    let bracketed = || node.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let address = node.parse::<IpAddr>().ok().or_else(bracketed);
    let address = address.or_else(|| node.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address| address.to_canonical())
}

fn scheme(text: &str) -> Option<&'static str> {
    ["http", "https"].into_iter().find(|scheme| text.trim().eq_ignore_ascii_case(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client, scheme and host of a request, with 10.0.0.0/8 and fd00::/8 as trusted proxies.
    fn read(peer: &str, fields: &[(&'static str, &str)]) -> (String, &'static str, String) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let read = Forwarded::read(&headers, peer.parse().unwrap(), &trusted);
        let client = read.client.map(|client| client.to_string()).unwrap_or_default();
        let host = read.host.map(|host| host.as_str().to_owned()).unwrap_or_default();
        (client, read.scheme.unwrap_or_default(), host)
    }

    fn check(peer: &str, fields: &[(&'static str, &str)], expected: (&str, &str, &str)) {
        let (client, scheme, host) = read(peer, fields);
        assert_eq!((client.as_str(), scheme, host.as_str()), expected, "{peer} {fields:?}");
    }

    const NOTHING: (&str, &str, &str) = ("", "", "");

    #[test]
    fn fields_from_an_untrusted_peer_are_ignored() {
        let fields = [("forwarded", "for=1.2.3.4;proto=https;host=a"), ("x-forwarded-for", "1.2.3.4")];
        check("192.0.2.1", &fields, NOTHING);
        check("10.0.0.1", &fields, ("1.2.3.4", "https", "a"));
        check("::ffff:10.0.0.1", &fields, ("1.2.3.4", "https", "a"));
        check("fd00::1", &fields, ("1.2.3.4", "https", "a"));
    }

    #[test]
    fn the_client_is_the_rightmost_untrusted_address() {
        for (listed, client) in [
            ("1.1.1.1", "1.1.1.1"),
            ("6.6.6.6, 1.1.1.1", "1.1.1.1"),
            ("6.6.6.6, 1.1.1.1, 10.1.1.1", "1.1.1.1"),
            ("10.2.2.2, 10.1.1.1", "10.2.2.2"),
            ("6.6.6.6,1.1.1.1:4711 , 10.1.1.1", "1.1.1.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:80, fd00::2", "2001:db8::1"),
            ("::ffff:1.1.1.1", "1.1.1.1"),
        ] {
            check("10.0.0.1", &[("x-forwarded-for", listed)], (client, "", ""));
        }
        check("10.0.0.1", &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.1.1.1")], ("1.1.1.1", "", ""));
    }

    #[test]
    fn forwarded_takes_precedence_over_x_forwarded_for() {
        for (field, expected) in [
            ("for=\"[2001:db8::1]:4711\"", ("2001:db8::1", "", "")),
            ("For=1.1.1.1; Proto=HTTPS ;by=10.0.0.1", ("1.1.1.1", "https", "")),
            ("for=1.1.1.1;proto=https;host=\"a.example:8443\"", ("1.1.1.1", "https", "a.example:8443")),
            ("for=6.6.6.6;proto=http, for=1.1.1.1;proto=https, for=10.1.1.1;proto=http", ("1.1.1.1", "https", "")),
            ("for=\"1.1.1.1\";secret=\"a,b;c\\\"d\"", ("1.1.1.1", "", "")),
            ("for=6.6.6.6, for=unknown", NOTHING),
            ("for=6.6.6.6, for=_hidden;proto=https", ("", "https", "")),
        ] {
            check("10.0.0.1", &[("forwarded", field), ("x-forwarded-for", "9.9.9.9")], expected);
        }
    }

    #[test]
    fn malformed_fields_are_ignored() {
        for field in [
            "for",
            "for=",
            "for=nobody",
            "for=\"1.1.1.1",
            "for=1.1.1.1;proto=ftp",
            "for=1.1.1.1;host=\"a b\"",
            ",,",
            "for=999.1.1.1",
        ] {
            check("10.0.0.1", &[("forwarded", field)], NOTHING);
        }
        for listed in ["nobody", "1.1.1.1, nobody", "1.1.1", "1.1.1.1:x", "unknown", "<script>"] {
            check("10.0.0.1", &[("x-forwarded-for", listed)], NOTHING);
        }
        check("10.0.0.1", &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "gopher")], ("1.1.1.1", "", ""));
        check("10.0.0.1", &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-host", "me@a")], ("1.1.1.1", "", ""));
    }

    #[test]
    fn x_forwarded_fields_have_one_value_for_each_element_or_one_for_all() {
        let of = |proto| [("x-forwarded-for", "6.6.6.6, 1.1.1.1, 10.1.1.1"), ("x-forwarded-proto", proto)];
        check("10.0.0.1", &of("http, https, http"), ("1.1.1.1", "https", ""));
        check("10.0.0.1", &of("https"), ("1.1.1.1", "https", ""));
        check("10.0.0.1", &of("http, https"), ("1.1.1.1", "https", ""));
        check("10.0.0.1", &[("x-forwarded-proto", "https"), ("x-forwarded-host", "a:1")], ("", "https", "a:1"));
    }

    #[test]
    fn only_the_last_elements_of_a_long_list_are_evaluated() {
        let long = format!("{}1.1.1.1", "10.1.1.1, ".repeat(10_000));
        check("10.0.0.1", &[("x-forwarded-for", &long)], ("1.1.1.1", "", ""));
        let all_trusted = vec!["10.1.1.1"; 10_000].join(",");
        check("10.0.0.1", &[("x-forwarded-for", &all_trusted)], ("10.1.1.1", "", ""));
    }
}
