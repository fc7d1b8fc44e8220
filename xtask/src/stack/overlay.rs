//! Overrides addresses in the repository's configuration files, and builds the command lines that read them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::address::{Addresses, LOOPBACK};
use super::programs::Programs;
use super::supervisor::Member;
use crate::workspace;

/// The programs of the stack, in the order in which they start.
pub(super) fn members(programs: &Programs, addresses: &Addresses, folder: &Path) -> Result<Vec<Member>> {
    let mut members = vec![
        Member {
            name: "opensearch",
            command: opensearch(programs, addresses, folder),
            ready: (addresses.opensearch, "/_cluster/health?wait_for_status=yellow&timeout=1s"),
        },
        Member {
            name: "jaeger",
            command: two_files(&programs.jaeger, "jaeger-config.yaml", &folder.join("jaeger.yaml"), jaeger(addresses))?,
            ready: (addresses.jaeger_health, "/status"),
        },
        Member {
            name: "collector",
            command: two_files(
                &programs.collector,
                "otel-collector-config.yaml",
                &folder.join("collector.yaml"),
                collector(addresses),
            )?,
            ready: (addresses.collector_health, "/"),
        },
    ];
    if let Some(bin) = &programs.prometheus {
        members.push(Member {
            name: "prometheus",
            command: prometheus(bin, addresses, folder)?,
            ready: (addresses.prometheus, "/-/ready"),
        });
    }
    Ok(members)
}

fn opensearch(programs: &Programs, addresses: &Addresses, folder: &Path) -> Command {
    let mut command = Command::new(&programs.java);
    command.args(["-Xms256m", "-Xmx512m", "--enable-native-access=ALL-UNNAMED"]);
    command.args(["-cp", &programs.opensearch, "spandrel.OpenSearchNode"]).arg(folder.join("opensearch"));
    let settings = [
        "cluster.name=spandrel".to_owned(),
        "discovery.type=single-node".to_owned(),
        // The disk watermark is disabled: a node that makes its indices read-only when the disk is full would hide the
        // cause.
        "cluster.routing.allocation.disk.threshold_enabled=false".to_owned(),
        format!("network.host={LOOPBACK}"),
        format!("http.port={}", addresses.opensearch),
        format!("transport.port={}", addresses.opensearch_transport),
    ];
    command.args(settings).current_dir(folder);
    command
}

/// The command line of a Collector-based program, which merges the given files; later ones override earlier ones.
fn two_files(program: &Path, ours: &str, overlay: &Path, text: String) -> Result<Command> {
    fs::write(overlay, text).with_context(|| format!("cannot write {}", overlay.display()))?;
    let mut command = Command::new(program);
    command.arg("--config").arg(workspace::root().join(ours)).arg("--config").arg(overlay);
    Ok(command)
}

fn jaeger(a: &Addresses) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"{LOOPBACK}:{}\"}}}}}}}}\n\
         extensions:\n\
         \x20 healthcheckv2: {{http: {{endpoint: \"{LOOPBACK}:{}\"}}}}\n\
         \x20 jaeger_storage: {{backends: {{opensearch: {{opensearch: {{server_urls: [\"http://{LOOPBACK}:{}\"]}}}}}}}}\n\
         \x20 jaeger_query: {{http: {{endpoint: \"{LOOPBACK}:{}\"}}, grpc: {{endpoint: \"{LOOPBACK}:{}\"}}}}\n{}",
        a.jaeger_otlp,
        a.jaeger_health,
        a.opensearch,
        a.jaeger,
        a.jaeger_grpc,
        own_metrics(a.jaeger_metrics)
    )
}

fn collector(a: &Addresses) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"{LOOPBACK}:{}\"}}, http: {{endpoint: \"{LOOPBACK}:{}\"}}}}}}}}\n\
         exporters:\n\
         \x20 otlp_grpc/jaeger: {{endpoint: \"{LOOPBACK}:{}\"}}\n\
         \x20 prometheus: {{endpoint: \"{LOOPBACK}:{}\"}}\n\
         extensions: {{health_check: {{endpoint: \"{LOOPBACK}:{}\"}}}}\n{}",
        a.otlp_grpc,
        a.otlp_http,
        a.jaeger_otlp,
        a.collector_metrics,
        a.collector_health,
        own_metrics(a.collector_own_metrics)
    )
}

/// The settings for the own metrics of the Collector and Jaeger.
fn own_metrics(port: u16) -> String {
    format!(
        "service: {{telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: {LOOPBACK}, port: {port}}}}}}}}}]}}}}}}\n"
    )
}

fn prometheus(bin: &Path, addresses: &Addresses, folder: &Path) -> Result<Command> {
    let mut command = Command::new(bin.join("prometheus"));
    command
        .arg(format!("--config.file={}", prometheus_config(addresses, folder)?.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()))
        .arg(format!("--web.listen-address={LOOPBACK}:{}", addresses.prometheus))
        .arg("--enable-feature=exemplar-storage");
    Ok(command)
}

/// Prometheus reads a single file: a copy of the configuration in which the host names of compose are replaced.
fn prometheus_config(addresses: &Addresses, folder: &Path) -> Result<PathBuf> {
    let ours = workspace::root().join("deploy/prometheus");
    let source = ours.join("prometheus.yml");
    let text = fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
    let rules = ours.join("alerts.yml").display().to_string();
    let replaced = [
        ("otel-collector:8889", format!("{LOOPBACK}:{}", addresses.collector_metrics)),
        ("otel-collector:8888", format!("{LOOPBACK}:{}", addresses.collector_own_metrics)),
        ("jaeger:8887", format!("{LOOPBACK}:{}", addresses.jaeger_metrics)),
        ("localhost:9090", format!("{LOOPBACK}:{}", addresses.prometheus)),
        ("[alerts.yml]", format!("[\"{rules}\"]")),
    ]
    .iter()
    .fold(text, |text, (original, replacement)| text.replace(original, replacement));
    let path = folder.join("prometheus.yml");
    fs::write(&path, replaced).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
