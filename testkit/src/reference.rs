//! `wasmtime serve` as a process, the reference for standard components.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::artifacts;
use crate::process::Owned;

/// What `wasmtime serve` prints when it listens.
const GREETING: &str = "Serving HTTP on http://";

/// A running `wasmtime serve`.
pub struct Reference {
    address: SocketAddr,
    _child: Owned,
}

impl Reference {
    /// Serves a component on a free port. Prints a message and returns `None` if the program is missing.
    ///
    /// Blocks until the component is compiled.
    pub fn serve(component: &Path, options: &[&str]) -> Option<Reference> {
        let Some(program) = artifacts::reference() else {
            println!("SKIPPED: there is no wasmtime to compare with; `cargo xtask test polyglot` fetches it");
            return None;
        };
        let mut child = Command::new(program)
            .args([
                "serve",
                "-S",
                "cli,p3",
                "-W",
                "component-model-async",
                "--addr",
                "127.0.0.1:0",
                "--no-logging-prefix",
            ])
            .args(options)
            .arg(component)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("wasmtime can be run");
        let mut said = BufReader::new(child.stderr.take().expect("standard error is piped"));
        let child = Owned(child);
        let address = address(&mut said);
        // A full pipe would block the process.
        std::thread::spawn(move || said.read_to_end(&mut Vec::new()));
        Some(Reference { address, _child: child })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn address(said: &mut impl BufRead) -> SocketAddr {
    let mut before = String::new();
    for line in said.lines().map_while(Result::ok) {
        if let Some(address) = line.strip_prefix(GREETING) {
            return address.trim_end_matches('/').parse().expect("an address");
        }
        before.push_str(&line);
    }
    panic!("wasmtime ended: {before}");
}
