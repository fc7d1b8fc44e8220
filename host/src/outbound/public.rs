//! Which addresses are public. Calls that a wildcard allows are sent to public addresses only: neither to the host's
//! own network nor to the metadata service of a cloud.
//!
//! The networks are those of IANA's special-purpose address registries (RFC 6890), and one address that a cloud
//! provider uses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 networks that are not public, by address and prefix length.
const SPECIAL_PURPOSE_V4: [([u8; 4], u32); 16] = [
    ([0, 0, 0, 0], 8),        // this network
    ([10, 0, 0, 0], 8),       // private
    ([100, 64, 0, 0], 10),    // carrier-grade NAT
    ([127, 0, 0, 0], 8),      // loopback
    ([168, 63, 129, 16], 32), // Azure's platform, reachable from machines in Azure only
    ([169, 254, 0, 0], 16),   // link-local, including metadata services of clouds
    ([172, 16, 0, 0], 12),    // private
    ([192, 0, 0, 0], 24),     // IETF protocols
    ([192, 0, 2, 0], 24),     // documentation
    ([192, 88, 99, 0], 24),   // 6to4 relays
    ([192, 168, 0, 0], 16),   // private
    ([198, 18, 0, 0], 15),    // benchmarks
    ([198, 51, 100, 0], 24),  // documentation
    ([203, 0, 113, 0], 24),   // documentation
    ([224, 0, 0, 0], 4),      // multicast
    ([240, 0, 0, 0], 4),      // reserved, including broadcast
];

/// Whether an address is public.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let is_in = |(network, length): &([u8; 4], u32)| {
        let host_bits = 32 - length;
        address.to_bits() >> host_bits == Ipv4Addr::from(*network).to_bits() >> host_bits
    };
    !SPECIAL_PURPOSE_V4.iter().any(is_in)
}

/// Only 2000::/3 is allocated for global unicast. An address that embeds an IPv4 address is public if that
/// address is. An address with a prefix for local use, such as local NAT64 (64:ff9b:1::/48), is never public.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match (a, b) {
        // NAT64.
        (0x64, 0xff9b) => (c, d, e, f) == (0, 0, 0, 0) && embedded(g, h),
        // 6to4.
        (0x2002, high) => embedded(high, c),
        // IETF protocol assignments (such as Teredo), and documentation.
        (0x2001, ..0x200 | 0xdb8) | (0x3fff, ..0x1000) => false,
        // ISATAP (RFC 5214, 6.1), with any prefix: packets are sent to the IPv4 address in the last four bytes.
        _ if (e & !0x0300, f) == (0, 0x5efe) => a & 0xe000 == 0x2000 && embedded(g, h),
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_hosts_on_the_internet_are_public() {
        for text in [
            "8.8.8.8",
            "1.1.1.1",
            "100.63.0.1",
            "100.128.0.1",
            "168.63.129.17",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.0.1",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
            assert!(is_public(format!("::ffff:{text}").parse().unwrap()), "mapped {text}");
        }
        for text in [
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2606:4700::5efe:8.8.8.8",
            "2606:4700::200:5efe:8.8.8.8",
            "2606:4700::400:5efe:10.0.0.1",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn special_purpose_addresses_are_not_public() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.19.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
            for prefix in [
                "::ffff:",
                "::",
                "64:ff9b::",
                "64:ff9b:1::",
                "2606:4700::5efe:",
                "2606:4700::200:5efe:",
                "2001:0:808:808::",
            ] {
                assert!(!is_public(format!("{prefix}{text}").parse().unwrap()), "{prefix}{text}");
            }
            let [a, b, c, d] = text.parse::<Ipv4Addr>().unwrap().octets();
            let relayed = format!("2002:{:x}:{:x}::8.8.8.8", u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            assert!(!is_public(relayed.parse().unwrap()), "{relayed}");
        }
        for text in [
            "::",
            "::1",
            "::8.8.8.8",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "100::1",
            "64:ff9b:1::8.8.8.8",
            "64:ff9b:1:a00::1",
            "64:ff9b:ffff::8.8.8.8",
            "64:ff9b::1:8.8.8.8",
            "fe80::5efe:8.8.8.8",
            "fd00::5efe:8.8.8.8",
            "2001::1",
            "2001:0:808:808:0:ffff:f7f7:f7f7",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::1",
            "3fff::1",
            "4000::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }
}
