//! Exports of the host, decoded by an OTLP receiver in Python, which shares no code with the host.
//!
//! The receiver runs in a virtual environment in the user's cache folder. Without Python or its packages, the tests
//! print a message and pass.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::{Value, json};
use testkit::{PATIENCE, Shop, TraceId, poll};

/// A running receiver.
struct Receiver {
    child: Child,
    ports: Value,
    facts: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    /// Starts a receiver, or returns why it cannot run.
    fn start() -> Result<Receiver, String> {
        let python = python()?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/receiver.py");
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let stdout = child.stdout.take().expect("standard output is piped");
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let ports = lines.next().ok_or("the receiver said nothing")?;
        let facts = Arc::new(Mutex::new(Vec::new()));
        let heard = facts.clone();
        std::thread::spawn(move || {
            for line in lines {
                let fact = serde_json::from_str(&line).expect("a line of JSON");
                heard.lock().expect("no panic").push(fact);
            }
        });
        Ok(Receiver { child, ports: serde_json::from_str(&ports).expect("the ports"), facts })
    }

    fn endpoint(&self, protocol: &str) -> String {
        format!("http://127.0.0.1:{}", self.ports[protocol])
    }

    fn facts(&self, signal: &str) -> Vec<Value> {
        let facts = self.facts.lock().expect("no panic");
        facts.iter().filter(|fact| fact["signal"] == signal).cloned().collect()
    }

    fn trace(&self, id: &TraceId) -> Vec<Value> {
        let mut spans = self.facts("span");
        spans.retain(|span| span["trace_id"] == id.as_str());
        spans
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The interpreter of the virtual environment, which the first call creates.
fn python() -> Result<PathBuf, String> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PYTHON.get_or_init(prepare).clone()
}

fn prepare() -> Result<PathBuf, String> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let folder = cache.ok_or("there is no home folder")?.join("spandrel/python");
    let python = folder.join("bin/python");
    if succeeds(Command::new(&python).args(["-c", "import grpc, opentelemetry.proto.trace.v1.trace_pb2"])).is_ok() {
        return Ok(python);
    }
    succeeds(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/requirements.txt");
    succeeds(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(requirements))?;
    Ok(python)
}

fn succeeds(command: &mut Command) -> Result<(), String> {
    let ended = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    match ended.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&ended.stderr))),
    }
}

async fn python_decodes_exports_over(protocol: &str, setting: &str) {
    let receiver = match tokio::task::spawn_blocking(Receiver::start).await.expect("no panic") {
        Ok(receiver) => receiver,
        Err(reason) => return eprintln!("skipped: no OTLP receiver in Python: {reason}"),
    };
    let shop = Shop::builder()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint(protocol))
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", setting)
        .env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        .start()
        .await;
    let request = shop.request("GET", "user-service", "/users/1/recommendations");
    let answer = request.header("x-client-id", "web").send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    shop.shut_down().await;
    let trace = &answer.trace;
    let spans = poll::until(PATIENCE, || Some(receiver.trace(trace)).filter(|spans| spans.len() >= 24)).await;
    let spans = spans.unwrap_or_else(|| panic!("{} spans: {:#?}", receiver.trace(trace).len(), receiver.trace(trace)));
    assert_eq!(spans.len(), 24);
    let ids: BTreeSet<_> = spans.iter().map(|span| span["span_id"].to_string()).collect();
    assert_eq!(ids.len(), 24, "span ids are unique");
    let roots = spans.iter().filter(|span| !ids.contains(&span["parent"].to_string())).count();
    assert_eq!(roots, 1);
    let services: BTreeSet<_> = spans.iter().filter_map(|span| span["service"].as_str()).collect();
    assert_eq!(services, BTreeSet::from(["inventory-service", "product-service", "user-service"]));
    let kinds = |kind| spans.iter().filter(|span| span["kind"] == kind).count();
    assert_eq!((kinds(1), kinds(2), kinds(3)), (15, 5, 4), "INTERNAL, SERVER, CLIENT");
    let score = spans.iter().find(|span| span["name"] == "calculate_user_score").expect("the span");
    assert_eq!(score["attributes"]["custom.operation_type"], "user_scoring");
    assert_eq!(score["attributes"]["feature_flag.personalization_enabled"], true);
    assert!(receiver.facts("span").iter().all(|span| span["protocol"] == protocol));
    let has_exemplar = |metric: &Value| {
        let mut exemplars = metric["exemplars"].as_array().into_iter().flatten();
        metric["name"] == "http.server.request.duration" && exemplars.any(|exemplar| exemplar == trace.as_str())
    };
    let duration = poll::until(PATIENCE, || receiver.facts("metric").into_iter().find(has_exemplar)).await;
    let duration = duration.unwrap_or_else(|| panic!("{:#?}", receiver.facts("metric")));
    assert_eq!((&duration["unit"], &duration["kind"]), (&"s".into(), &"histogram".into()));
    python_decodes_failures(&receiver, protocol, setting).await;
}

/// An exception is an event of its span and a log record. The span has the status `ERROR` with a message.
async fn python_decodes_failures(receiver: &Receiver, protocol: &str, setting: &str) {
    let oddities = Shop::oddities()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &receiver.endpoint(protocol))
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", setting)
        .start()
        .await;
    let answer = oddities.get("oddities", "/panic/the%20shelf%20fell").await;
    assert_eq!(answer.status, 500);
    oddities.shut_down().await;
    let of_trace = |fact: &Value| fact["trace_id"] == json!(answer.trace.as_str());
    let failed = |span: &Value| of_trace(span) && span["kind"] == 2;
    let server = poll::until(PATIENCE, || receiver.facts("span").into_iter().find(failed)).await.expect("a span");
    assert_eq!(server["status"], 2);
    let says_why = |text: &Value| text.as_str().is_some_and(|text| text.contains("the shelf fell"));
    assert!(says_why(&server["message"]), "{server:#}");
    assert!(says_why(&server["events"]["exception"]["exception.message"]), "{server:#}");
    let exception = |record: &Value| of_trace(record) && says_why(&record["attributes"]["exception.message"]);
    let record = poll::until(PATIENCE, || receiver.facts("log").into_iter().find(exception)).await.expect("a record");
    assert_eq!((&record["severity"], &record["span_id"]), (&json!(17), &server["span_id"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn python_decodes_otlp_over_grpc() {
    python_decodes_exports_over("grpc", "grpc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_decodes_otlp_over_http() {
    python_decodes_exports_over("http", "http/protobuf").await;
}
