//! Free ports for processes that bind them later, such as hosts in tests.
//!
//! A port is outside the range from which the system takes the ports of outgoing connections and of listeners on port 0,
//! so that nothing takes it before it is bound. It stays reserved for this process by a lock on a file, so that no other
//! test process that runs at the same time gets it.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The first port to choose from.
const FIRST: u16 = 10_000;
/// The end of the ports to choose from, unless outgoing connections use lower ones.
const END: u16 = 32_000;

/// The locks of the ports of this process, and the last port that was tried.
static RESERVED: Mutex<(Vec<File>, Option<u16>)> = Mutex::new((Vec::new(), None));

/// The loopback address with a port that this process can bind at any time.
pub fn free_address() -> SocketAddr {
    reserved().unwrap_or_else(any)
}

/// The next port that nobody uses or has reserved.
fn reserved() -> Option<SocketAddr> {
    let folder = std::env::temp_dir().join("spandrel-test-ports");
    std::fs::create_dir_all(&folder).ok()?;
    let ports = ports(&std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default())?;
    let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in ports.clone() {
        // Processes start at different ports, so that they rarely try the same.
        let after = reserved.1.map_or_else(|| start(&ports), |last| last + 1);
        let port = if ports.contains(&after) { after } else { ports.start };
        reserved.1 = Some(port);
        if let Some(lock) = lock(&folder, port) {
            reserved.0.push(lock);
            return Some(address(port));
        }
    }
    None
}

/// The ports to choose from, below the given range of local ports. `None` if that leaves too few.
fn ports(local_range: &str) -> Option<Range<u16>> {
    let lowest = local_range.split_whitespace().next().and_then(|port| port.parse().ok()).unwrap_or(END);
    Some(FIRST..END.min(lowest)).filter(|ports| ports.len() > 1_000)
}

fn start(ports: &Range<u16>) -> u16 {
    let count = ports.len() as u32;
    ports.start + (std::process::id().wrapping_mul(211) % count) as u16
}

/// Reserves a port, if nobody else has and it is free.
fn lock(folder: &Path, port: u16) -> Option<File> {
    let file = OpenOptions::new().create(true).append(true).open(folder.join(port.to_string())).ok()?;
    file.try_lock().ok()?;
    TcpListener::bind(address(port)).ok().map(|_| file)
}

/// A port that was free a moment ago.
fn any() -> SocketAddr {
    let listener = TcpListener::bind(address(0)).expect("a free port");
    listener.local_addr().expect("a bound listener has an address")
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once_and_can_be_bound() {
        let (one, other) = (free_address(), free_address());
        assert_ne!(one, other);
        assert!(TcpListener::bind(one).is_ok() && TcpListener::bind(other).is_ok());
    }

    #[test]
    fn a_reserved_port_is_not_given_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = any().port();
        let first = lock(folder.path(), port);
        assert!(first.is_some());
        assert!(lock(folder.path(), port).is_none());
        drop(first);
        assert!(lock(folder.path(), port).is_some());
    }

    #[test]
    fn ports_of_outgoing_connections_are_not_given() {
        assert_eq!(ports("32768\t60999\n"), Some(FIRST..END));
        assert_eq!(ports("20000 60999"), Some(FIRST..20_000));
        assert_eq!(ports("1024 65535"), None);
        assert_eq!(ports(""), Some(FIRST..END));
    }
}
