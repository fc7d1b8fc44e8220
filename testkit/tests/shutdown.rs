//! Shutdown of the host's binary: requests in flight are finished, recorded telemetry is exported.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testkit::origin::{Manner, Origin};
use testkit::process::free_address;
use testkit::{Admin, Client, Collector, PATIENCE, Spandrel, artifacts, laborious, poll, variant};

/// The time within which a shutdown that waits for nothing must end, on a busy machine too. A shutdown that waits for
/// requests would take longer, as would a test that waits for it with [`PATIENCE`].
const AT_ONCE: Duration = Duration::from_secs(15);
/// A `[shutdown] drain` that no test waits for.
const ENDLESS_DRAIN: &str = "[console]\nlisten = \"off\"\n[shutdown]\ndrain = \"1h\"";

/// A process with one service that may call one origin, and its collector.
struct Running {
    spandrel: Spandrel,
    address: SocketAddr,
    collector: Collector,
    origin: Origin,
    _folder: TempDir,
}

impl Running {
    async fn start(manner: Manner) -> Running {
        Running::start_with(manner, &[]).await
    }

    /// The same with further environment variables, which take precedence.
    async fn start_with(manner: Manner, more: &[(&str, &str)]) -> Running {
        Running::start_on(manner, more, "[console]\nlisten = \"off\"").await
    }

    /// The same with these tables at the head of the manifest.
    async fn start_on(manner: Manner, more: &[(&str, &str)], head: &str) -> Running {
        let (origin, collector, address) = (Origin::start(manner).await, Collector::start(), free_address());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let manifest = write_manifest_with(&folder, address, &origin.url(), head);
        let endpoint = collector.endpoint();
        // Only the flush at shutdown can export spans: the schedule is an hour.
        let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "3600000")];
        let mut spandrel = Spandrel::serve(&manifest, &[environment.as_slice(), more].concat());
        spandrel.wait_until_listening(address);
        Running { spandrel, address, collector, origin, _folder: folder }
    }

    /// Sends a request that depends on the origin, and waits until the origin has received it.
    async fn in_flight(&self) -> tokio::task::JoinHandle<Result<testkit::Answer, String>> {
        let path = format!("/call?url={}/", self.origin.url());
        let request = tokio::spawn(Client::default().request("GET", self.address, &path).try_send());
        self.origin.wait_until_asked(1).await;
        request
    }

    /// Sends one request, which records one span.
    async fn request(&self) {
        let answer = Client::default().request("GET", self.address, "/health").send().await;
        assert_eq!(answer.status, 200);
    }

    async fn wait_until_closed(&self) {
        let closed = poll::until(PATIENCE, || std::net::TcpStream::connect(self.address).is_err().then_some(())).await;
        assert!(closed.is_some(), "{} still accepts", self.address);
    }
}

fn write_manifest(folder: &TempDir, address: SocketAddr, origin: &str) -> PathBuf {
    write_manifest_with(folder, address, origin, "[console]\nlisten = \"off\"")
}

/// The same with these tables at its head.
fn write_manifest_with(folder: &TempDir, address: SocketAddr, origin: &str, head: &str) -> PathBuf {
    write_manifest_of(folder, &artifacts::component("oddities"), (address, origin), head)
}

/// The same with another component.
fn write_manifest_of(folder: &TempDir, component: &Path, (address, origin): (SocketAddr, &str), head: &str) -> PathBuf {
    let path = folder.path().join("services.toml");
    let text = format!(
        "{head}\n[state]\nbackend = \"memory\"\n\
         [[service]]\nname = \"oddities\"\nversion = \"1.0.0\"\ncomponent = \"{}\"\nlisten = \"{address}\"\n\
         [service.outbound]\nallow = [\"{origin}\"]\n[service.limits]\nrequest_timeout = \"60s\"\n",
        component.display()
    );
    std::fs::write(&path, text).expect("a file can be written");
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_requests_in_flight_exports_their_spans_and_exits_with_0() {
    for signal in ["TERM", "INT", "QUIT"] {
        let running = Running::start(Manner { delay: Duration::from_secs(2), ..Manner::default() }).await;
        let request = running.in_flight().await;
        running.spandrel.signal(signal);
        running.wait_until_closed().await;
        let answer = request.await.expect("no panic").expect("an answer");
        assert_eq!(answer.status, 200);
        let ended = running.spandrel.wait(PATIENCE);
        assert_eq!(ended.code, Some(0), "{signal}: {ended:#?}");
        let tree = running.collector.trace(&answer.trace);
        assert_eq!(tree.spans().len(), 3, "{signal}: {}", tree.text(&[]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_host_at_once() {
    let manner = Manner { delay: Duration::MAX, ..Manner::default() };
    let running = Running::start_on(manner, &[], ENDLESS_DRAIN).await;
    let request = running.in_flight().await;
    running.spandrel.signal("TERM");
    running.wait_until_closed().await;
    running.spandrel.signal("TERM");
    let ended = running.spandrel.wait(AT_ONCE);
    assert_ne!(ended.code, Some(0), "{ended:#?}");
    assert!(request.await.expect("no panic").is_err());
}

/// The functions of a component that takes about a minute to compile.
const FUNCTIONS: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_while_the_host_starts_ends_it_at_once() {
    let component = laborious("oddities", FUNCTIONS, 0);
    for signal in ["TERM", "INT", "QUIT"] {
        let (folder, address) = (tempfile::tempdir().expect("a temporary folder"), free_address());
        // Nothing has been compiled yet, so that the start takes a while.
        let file = folder.path().join("laborious.wasm");
        std::fs::write(&file, &component).expect("a file can be written");
        let off = "[console]\nlisten = \"off\"";
        let manifest = write_manifest_of(&folder, &file, (address, "http://localhost:1"), off);
        let cache = folder.path().join("cache");
        let environment = [("SPANDREL_CACHE_DIR", cache.to_str().expect("a path")), ("OTEL_SDK_DISABLED", "true")];
        let spandrel = Spandrel::serve(&manifest, &environment);
        let compiles = poll::until(PATIENCE, || cache.is_dir().then_some(())).await;
        assert!(compiles.is_some(), "{}", spandrel.log());
        spandrel.signal(signal);
        let ended = spandrel.wait(AT_ONCE);
        assert_eq!(ended.code, Some(0), "{signal}: {ended:#?}");
        assert!(ended.stdout.contains("before the start was complete"), "{signal}: {ended:#?}");
        assert!(std::net::TcpStream::connect(address).is_err(), "{signal}: something listens");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readyz_turns_503_before_the_host_stops_accepting() {
    let console = free_address();
    let head = format!("[console]\nlisten = \"{console}\"\n[shutdown]\ndelay = \"8s\"");
    let mut running = Running::start_on(Manner { delay: Duration::MAX, ..Manner::default() }, &[], &head).await;
    // The console is bound after the services.
    running.spandrel.wait_until_listening(console);
    let ready = async || Client::default().request("GET", console, "/readyz").untraced().send().await.status.as_u16();
    assert_eq!(ready().await, 200);
    let request = running.in_flight().await;
    running.spandrel.signal("TERM");
    running.spandrel.wait_for_line(&["stopping"]).await;
    assert_eq!(ready().await, 503);
    running.request().await;
    running.wait_until_closed().await;
    assert_eq!(ready().await, 503, "readyz is still served while requests in flight are finished");
    running.origin.release();
    assert_eq!(request.await.expect("no panic").expect("an answer").status, 200);
    assert_eq!(running.spandrel.wait(PATIENCE).code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_do_not_end_are_cancelled_after_the_drain() {
    let head = "[console]\nlisten = \"off\"\n[shutdown]\ndrain = \"1s\"";
    let running = Running::start_on(Manner { delay: Duration::MAX, ..Manner::default() }, &[], head).await;
    let request = running.in_flight().await;
    let began = Instant::now();
    running.spandrel.signal("TERM");
    let ended = running.spandrel.wait(AT_ONCE);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(ended.stdout.contains("were cancelled"), "{ended:#?}");
    assert!(request.await.expect("no panic").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_whose_drain_shutdown_cuts_short_is_exported_as_a_whole_trace() {
    for is_cut in [false, true] {
        let console = free_address();
        let limit = if is_cut { "2s" } else { "1h" };
        let head =
            format!("[console]\nlisten = \"{console}\"\n[shutdown]\ndrain = \"{limit}\"\n[swap]\ndrain = \"1h\"");
        let running = Running::start_on(Manner { delay: Duration::MAX, ..Manner::default() }, &[], &head).await;
        let request = running.in_flight().await;
        assert_eq!(Admin::at(console).swap("oddities", variant("oddities", 1)).await.status, 200);
        running.spandrel.signal("TERM");
        running.wait_until_closed().await;
        if !is_cut {
            running.origin.release();
        }
        let ended = running.spandrel.wait(PATIENCE);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert_eq!(request.await.expect("no panic").is_err(), is_cut);
        let spans = running.collector.spans();
        let drain =
            |parent: &str| spans.iter().any(|span| span.name == "drain" && span.parent.as_deref() == Some(parent));
        let root = spans.iter().find(|span| span.name == "swap" && span.parent.is_none());
        let root = root.unwrap_or_else(|| panic!("no root span, cut: {is_cut}: {spans:#?}"));
        assert!(drain(&root.span_id), "no drain, cut: {is_cut}: {spans:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_http2_client_that_does_not_respond_does_not_delay_shutdown() {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let running = Running::start_on(Manner::default(), &[], ENDLESS_DRAIN).await;
    let mut silent = testkit::raw::Connection::open(running.address).await;
    silent.send([&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &SETTINGS].concat()).await;
    // After the host's SETTINGS and its acknowledgement, the HTTP/2 connection is established and idle.
    silent.read_until("\0\0\0\x04\x01\0\0\0\0").await;
    running.spandrel.signal("TERM");
    let ended = running.spandrel.wait(AT_ONCE);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(!ended.stdout.contains("were cancelled"), "{ended:#?}");
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_delay_shutdown() {
    let running = Running::start_on(Manner::default(), &[], ENDLESS_DRAIN).await;
    let mut idle = testkit::raw::Connection::open(running.address).await;
    idle.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    idle.response().await;
    let silent = testkit::raw::Connection::open(running.address).await;
    running.spandrel.signal("TERM");
    let ended = running.spandrel.wait(AT_ONCE);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_collector_does_not_delay_shutdown() {
    let mut running = Running::start(Manner::default()).await;
    running.request().await;
    running.collector.stop();
    running.spandrel.signal("TERM");
    let ended = running.spandrel.wait(PATIENCE);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

/// A listener whose connections the system accepts, and that never responds.
fn silent_collector() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    (listener, format!("http://{address}"))
}

/// The latest value of a metric in the collector: of its series with this reason, or of its only series.
#[track_caller]
fn last_value(collector: &Collector, name: &str, reason: Option<&str>) -> f64 {
    let last = collector.metrics().into_iter().rev().find(|metric| metric.name == name);
    let last = last.unwrap_or_else(|| panic!("no metric `{name}` came"));
    let mut points = last.points.iter();
    let point = points.find(|point| point.attributes.get("reason").and_then(|value| value.as_str()) == reason);
    point.unwrap_or_else(|| panic!("no series of {reason:?} in {last:#?}")).value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_responds_does_not_delay_shutdown() {
    for protocol in ["grpc", "http/protobuf"] {
        let (_silent, endpoint) = silent_collector();
        let environment = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000"),
        ];
        let running = Running::start_with(Manner::default(), &environment).await;
        running.request().await;
        running.spandrel.signal("TERM");
        let ended = running.spandrel.wait(AT_ONCE);
        assert_eq!(ended.code, Some(0), "{protocol}: {ended:#?}");
        for what in ["spans", "metrics"] {
            assert!(ended.stdout.contains(&format!("did not take the last {what} in time")), "{ended:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_metrics_include_the_spans_exported_at_shutdown() {
    // Not including the spans of the host's start.
    let sampler = [("OTEL_TRACES_SAMPLER", "parentbased_always_off")];
    let running = Running::start_with(Manner::default(), &sampler).await;
    running.request().await;
    running.spandrel.signal("TERM");
    let ended = running.spandrel.wait(PATIENCE);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let of_requests = running.collector.spans().into_iter().filter(|span| span.service == "oddities");
    assert_eq!(of_requests.count(), 1);
    assert_eq!(last_value(&running.collector, "spandrel.trace.spans.exported", None), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_metrics_include_the_spans_lost_at_shutdown() {
    // Without and with the spans of the host's own start and stop.
    for (sampler, lost) in [("parentbased_always_off", 1.0..=1.0), ("parentbased_always_on", 2.0..=100.0)] {
        let (_silent, endpoint) = silent_collector();
        let environment = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint.as_str()), ("OTEL_TRACES_SAMPLER", sampler)];
        let running = Running::start_with(Manner::default(), &environment).await;
        running.request().await;
        running.spandrel.signal("TERM");
        let ended = running.spandrel.wait(PATIENCE);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        let value = last_value(&running.collector, "spandrel.trace.spans.dropped", Some("shutdown"));
        assert!(lost.contains(&value), "{sampler}: {value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_output_lists_services_and_urls_as_text_or_json() {
    let address = free_address();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let manifest = write_manifest(&folder, address, "http://localhost:1").display().to_string();
    for format in ["text", "json"] {
        let arguments = ["run", "--manifest", &manifest, "--log-format", format];
        let mut spandrel = Spandrel::start(&arguments, &[("OTEL_SDK_DISABLED", "true")]);
        spandrel.wait_until_listening(address);
        // The host listens before its start is complete.
        spandrel.wait_for_line(&["oddities"]).await;
        spandrel.signal("TERM");
        let ended = spandrel.wait(PATIENCE);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        for word in ["oddities", &address.port().to_string(), "1.0.0"] {
            assert!(ended.stdout.contains(word), "`{word}` is not in {ended:#?}");
        }
        if format == "json" {
            let lines: Vec<_> = ended.stdout.lines().filter(|line| !line.is_empty()).collect();
            let bad = lines.iter().find(|line| serde_json::from_str::<serde_json::Value>(line).is_err());
            assert_eq!(bad, None, "{ended:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_exporter_prints_a_finished_trace_as_a_tree() {
    let address = free_address();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let manifest = write_manifest(&folder, address, "http://localhost:1");
    let mut spandrel =
        Spandrel::serve(&manifest, &[("OTEL_TRACES_EXPORTER", "console"), ("OTEL_METRICS_EXPORTER", "none")]);
    spandrel.wait_until_listening(address);
    let answer = Client::default().request("GET", address, "/leak-and-panic").send().await;
    assert_eq!(answer.status, 500);
    spandrel.signal("TERM");
    let ended = spandrel.wait(PATIENCE);
    for word in ["GET /leak-and-panic", "outer_open", "inner_open", "ms", answer.trace.as_str()] {
        assert!(ended.stdout.contains(word), "`{word}` is not in {ended:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_on_the_terminal_need_no_collector_and_are_separate_from_a_json_log() {
    let (folder, address) = (tempfile::tempdir().expect("a temporary folder"), free_address());
    let manifest = write_manifest(&folder, address, "http://localhost:1").display().to_string();
    let environment =
        [("OTEL_TRACES_EXPORTER", "console"), ("OTEL_RESOURCE_ATTRIBUTES", "service.version=9,team=shop")];
    let mut spandrel = Spandrel::start(&["run", "--manifest", &manifest, "--log-format", "json"], &environment);
    spandrel.wait_until_listening(address);
    assert_eq!(Client::default().request("GET", address, "/health").send().await.status, 200);
    spandrel.wait_for_line(&["started"]).await;
    spandrel.signal("TERM");
    let ended = spandrel.wait(PATIENCE);
    let lines = ended.stdout.lines().map(serde_json::from_str::<serde_json::Value>).collect::<Result<Vec<_>, _>>();
    let lines = lines.unwrap_or_else(|error| panic!("{error}: {}", ended.stdout));
    let warnings: Vec<_> = lines.iter().filter(|line| line["level"] == "WARN").collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(ended.stdout.contains("ignored: service.version in OTEL_RESOURCE_ATTRIBUTES"), "{}", ended.stdout);
    assert!(ended.stderr.contains("GET /health"), "{}", ended.stderr);
}

/// A host whose printed traces are not read, after more traces than the pipe and the printer can hold.
async fn host_with_unread_output() -> (Spandrel, TempDir) {
    let (folder, address) = (tempfile::tempdir().expect("a temporary folder"), free_address());
    let manifest = write_manifest(&folder, address, "http://localhost:1");
    let mut spandrel = Spandrel::serve_unread(&manifest, &[("OTEL_TRACES_EXPORTER", "console")]);
    spandrel.wait_until_listening(address);
    let client = Client::default();
    for _ in 0..UNREAD {
        let answer = client.request("GET", address, "/health").send().await;
        assert_eq!(answer.status, 200);
    }
    (spandrel, folder)
}

/// Each trace takes some hundred bytes of the pipe, which holds 64 KiB. The printer queues 1,024 more.
const UNREAD: usize = 4000;

#[tokio::test(flavor = "multi_thread")]
async fn unread_output_does_not_delay_requests_and_the_log_reports_what_was_left_out() {
    let (mut spandrel, _folder) = host_with_unread_output().await;
    spandrel.read();
    spandrel.wait_for_line(&["traces are finished faster than they are printed"]).await;
    spandrel.signal("TERM");
    assert_eq!(spandrel.wait(PATIENCE).code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_output_does_not_delay_shutdown() {
    let (spandrel, _folder) = host_with_unread_output().await;
    spandrel.signal("TERM");
    let ended = spandrel.wait(PATIENCE);
    let printed = ended.stdout.matches("GET /health").count();
    assert!(ended.code == Some(0) && printed < UNREAD, "{printed} printed, {:?}", ended.code);
}
