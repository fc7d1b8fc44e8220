//! The same spans in Jaeger and in the console: the same requests must have the same responses.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testkit::{Site, jaeger, poll, process};

/// Jaeger opens its ports one after the other.
const START: Duration = Duration::from_secs(120);

/// A Jaeger that stores traces in memory.
struct Jaeger {
    process: Child,
    query: SocketAddr,
    otlp: SocketAddr,
    _folder: tempfile::TempDir,
}

/// Compares all responses. `programs` lists the paths of the programs.
pub async fn compare(programs: &str) {
    let real = Jaeger::start(programs);
    let (site, otlp) = (Site::new(&[]), process::free_address());
    let manifest = format!("[console]\nlisten = \"{}\"\notlp = \"{otlp}\"\n", site.console());
    site.replace("services.toml", manifest.as_bytes());
    let mut host = site.serve();
    host.wait_until_listening(otlp);
    jaeger::send_spans(real.otlp).await;
    jaeger::send_spans(otlp).await;
    for path in jaeger::REQUESTS.lines() {
        let [expected, answer] = [jaeger::ask(real.query, path).await, jaeger::ask(site.console(), path).await];
        assert_eq!(answer, expected, "{path}");
    }
}

impl Jaeger {
    fn start(programs: &str) -> Jaeger {
        let found = programs.lines().find_map(|line| line.strip_prefix("jaeger "));
        let program = found.unwrap_or_else(|| panic!("no Jaeger in {programs}")).trim();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [query, query_grpc, otlp] = [(); 3].map(|()| process::free_address());
        let config = folder.path().join("jaeger.yaml");
        std::fs::write(&config, configuration(query, query_grpc, otlp)).expect("a file can be written");
        let mut command = Command::new(program);
        command.arg("--config").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("Jaeger can be run");
        let mut jaeger = Jaeger { process, query, otlp, _folder: folder };
        let ready = poll::until_blocking(START, || {
            assert!(matches!(jaeger.process.try_wait(), Ok(None)), "Jaeger ended");
            let open = [query, otlp].iter().all(|address| std::net::TcpStream::connect(address).is_ok());
            open.then_some(())
        });
        assert!(ready.is_some(), "Jaeger does not come up");
        jaeger
    }
}

impl Drop for Jaeger {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn configuration(query: SocketAddr, query_grpc: SocketAddr, otlp: SocketAddr) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{http: {{endpoint: \"{otlp}\"}}}}}}}}\n\
         exporters: {{jaeger_storage_exporter: {{trace_storage: memory}}}}\n\
         extensions:\n\
         \x20 jaeger_storage: {{backends: {{memory: {{memory: {{max_traces: 1000}}}}}}}}\n\
         \x20 jaeger_query:\n\
         \x20   enable_tracing: false\n\
         \x20   storage: {{traces: memory}}\n\
         \x20   http: {{endpoint: \"{query}\"}}\n\
         \x20   grpc: {{endpoint: \"{query_grpc}\"}}\n\
         service:\n\
         \x20 extensions: [jaeger_storage, jaeger_query]\n\
         \x20 telemetry: {{metrics: {{level: none}}}}\n\
         \x20 pipelines: {{traces: {{receivers: [otlp], exporters: [jaeger_storage_exporter]}}}}\n"
    )
}
