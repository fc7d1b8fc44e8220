//! What proxies say of the client behind them: `Forwarded` (RFC 7239) and the older `X-Forwarded-*`.
//!
//! Anybody can send these fields, so they are read from the right, where the nearest proxy wrote, for as long as whoever
//! wrote is trusted. The first address that is not is the client's. Fields that are malformed say nothing.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

use super::authority::Authority;

/// Steps that are looked at.
const STEPS: usize = 32;

/// How a request came to the first proxy that is trusted, as far as proxies say so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The scheme that the client used: `http` or `https`.
    pub scheme: Option<&'static str>,
    /// Whom the client asked.
    pub host: Option<Authority>,
}

/// One step of the way, as the proxy at its end describes it.
#[derive(Clone, Default)]
struct Step {
    client: Option<IpAddr>,
    scheme: Option<&'static str>,
    host: Option<Authority>,
}

impl Forwarded {
    /// What to believe of a request that `peer` sent.
    pub fn read(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> Forwarded {
        let trusts = |address: IpAddr| trusted.iter().any(|net| net.contains(&address.to_canonical()));
        if trusted.is_empty() || !trusts(peer) {
            return Forwarded::default();
        }
        let steps = standard(headers).or_else(|| older(headers)).unwrap_or_default();
        let mut believed = Forwarded::default();
        for step in steps.into_iter().rev() {
            believed.scheme = step.scheme.or(believed.scheme);
            believed.host = step.host.or(believed.host);
            // Where a proxy does not tell, nobody knows who is behind it.
            let Some(client) = step.client else { break };
            believed.client = Some(client);
            if !trusts(client) {
                break;
            }
        }
        believed
    }
}

/// The steps of `Forwarded`, the client's first; none where the field is missing or malformed.
fn standard(headers: &HeaderMap) -> Option<Vec<Step>> {
    let elements = elements(headers, "forwarded", true)?;
    elements.iter().map(|element| step(element)).collect()
}

/// One `forwarded-element`: pairs of a name and a token or a quoted string.
fn step(element: &str) -> Option<Step> {
    let mut step = Step::default();
    for pair in split(element, ';') {
        let (name, value) = pair.trim().split_once('=')?;
        let value = unquoted(value.trim())?;
        match name.trim().to_ascii_lowercase().as_str() {
            // A name that stands for an address that nobody is to know is no malformed one.
            "for" => step.client = if is_hidden(&value) { None } else { Some(address(&value)?) },
            "proto" => step.scheme = Some(scheme(&value)?),
            "host" => step.host = Some(Authority::parse(&value).ok().filter(Authority::has_host)?),
            _ => {}
        }
    }
    Some(step)
}

/// The steps of `X-Forwarded-For`, each with what `X-Forwarded-Proto` and `X-Forwarded-Host` say of it: they have one value
/// for each step, or else the nearest proxy's counts.
fn older(headers: &HeaderMap) -> Option<Vec<Step>> {
    let clients = elements(headers, "x-forwarded-for", false);
    let clients = match clients {
        Some(clients) => clients.iter().map(|client| address(client).map(Some)).collect::<Option<Vec<_>>>()?,
        // Some proxies tell the scheme and no address.
        None => vec![None],
    };
    let schemes =
        elements(headers, "x-forwarded-proto", false).and_then(|all| all.iter().map(|one| scheme(one)).collect());
    let host = |text: &String| Authority::parse(text).ok().filter(Authority::has_host);
    let hosts = elements(headers, "x-forwarded-host", false).and_then(|all| all.iter().map(host).collect());
    let (schemes, hosts): (Vec<_>, Vec<_>) = (schemes.unwrap_or_default(), hosts.unwrap_or_default());
    let count = clients.len();
    let steps = clients.into_iter().enumerate().map(|(index, client)| Step {
        client,
        scheme: of_step(&schemes, index, count),
        host: of_step(&hosts, index, count),
    });
    Some(steps.collect())
}

fn of_step<T: Clone>(values: &[T], index: usize, count: usize) -> Option<T> {
    if values.len() == count { values.get(index).cloned() } else { values.last().cloned() }
}

/// The members of a list that may have several lines; the last ones of a long one. None where it is empty or no text.
fn elements(headers: &HeaderMap, name: &str, quoted: bool) -> Option<Vec<String>> {
    let mut all = Vec::new();
    for line in headers.get_all(name) {
        let line = line.to_str().ok()?;
        let members: Vec<&str> = if quoted { split(line, ',') } else { line.split(',').collect() };
        all.extend(members.into_iter().map(str::trim).filter(|member| !member.is_empty()).map(str::to_owned));
    }
    let surplus = all.len().saturating_sub(STEPS);
    all.drain(..surplus);
    (!all.is_empty()).then_some(all)
}

/// Splits at a separator that does not stand in a quoted string.
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

/// A token, or what a quoted string holds.
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
fn is_hidden(node: &str) -> bool {
    node.eq_ignore_ascii_case("unknown") || node.starts_with('_')
}

/// An address, with or without a port; one of IPv6 with brackets or without.
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

    /// Client, scheme and host that are believed where 10.0.0.0/8 and fd00::/8 are trusted.
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
    fn strangers_are_not_believed() {
        let fields = [("forwarded", "for=1.2.3.4;proto=https;host=a"), ("x-forwarded-for", "1.2.3.4")];
        check("192.0.2.1", &fields, NOTHING);
        check("10.0.0.1", &fields, ("1.2.3.4", "https", "a"));
        check("::ffff:10.0.0.1", &fields, ("1.2.3.4", "https", "a"));
        check("fd00::1", &fields, ("1.2.3.4", "https", "a"));
    }

    #[test]
    fn the_client_is_the_rightmost_that_is_not_trusted() {
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
    fn both_forms_are_read_and_the_standard_one_goes_first() {
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
    fn what_is_malformed_says_nothing() {
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
    fn the_older_fields_say_one_thing_for_each_step_or_one_for_all() {
        let of = |proto| [("x-forwarded-for", "6.6.6.6, 1.1.1.1, 10.1.1.1"), ("x-forwarded-proto", proto)];
        check("10.0.0.1", &of("http, https, http"), ("1.1.1.1", "https", ""));
        check("10.0.0.1", &of("https"), ("1.1.1.1", "https", ""));
        check("10.0.0.1", &of("http, https"), ("1.1.1.1", "https", ""));
        check("10.0.0.1", &[("x-forwarded-proto", "https"), ("x-forwarded-host", "a:1")], ("", "https", "a:1"));
    }

    #[test]
    fn a_list_without_end_is_read_from_its_end() {
        let long = format!("{}1.1.1.1", "10.1.1.1, ".repeat(10_000));
        check("10.0.0.1", &[("x-forwarded-for", &long)], ("1.1.1.1", "", ""));
        let all_trusted = vec!["10.1.1.1"; 10_000].join(",");
        check("10.0.0.1", &[("x-forwarded-for", &all_trusted)], ("10.1.1.1", "", ""));
    }
}
