//! The terminal output of `spandrel run`, with the host's binary.

use std::net::SocketAddr;

use serde_json::Value;
use testkit::artifacts::component;
use testkit::{Answer, Client, PATIENCE, Shop, Site, Spandrel};

/// A host with one service in a separate process.
struct Running {
    spandrel: Spandrel,
    address: SocketAddr,
    site: Site,
}

/// Serves the misbehaving component, with these arguments after `run` and this environment.
fn serve(arguments: &[&str], environment: &[(&str, &str)]) -> Running {
    serve_of("oddities", Shop::oddities(), arguments, environment)
}

/// Serves one service of a shop.
fn serve_of(service: &str, shop: testkit::ShopBuilder, arguments: &[&str], environment: &[(&str, &str)]) -> Running {
    let site = Site::new(&[service]);
    let address = site.address(service);
    let own = format!("allow = [\"http://localhost:{}\"]", address.port());
    site.write(&shop.port(service, address.port()).outbound(service, &own).console_port(site.console().port()));
    let manifest = site.manifest().display().to_string();
    let arguments = [&["run", "--manifest", &manifest], arguments].concat();
    let cache = testkit::artifacts::cache().display().to_string();
    let environment = [environment, &[("SPANDREL_CACHE_DIR", &cache)]].concat();
    let mut spandrel = Spandrel::start(&arguments, &environment);
    spandrel.wait_until_listening(address);
    Running { spandrel, address, site }
}

impl Running {
    async fn get(&self, path: &str) -> Answer {
        Client::default().request("GET", self.address, path).send().await
    }

    /// Stops the host and returns its whole standard output.
    fn stop(self) -> String {
        self.spandrel.signal("TERM");
        let ended = self.spandrel.wait(PATIENCE);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        ended.stdout
    }
}

/// The only line that ends with this text. Panics unless there is exactly one.
#[track_caller]
fn line<'a>(text: &'a str, end: &str) -> &'a str {
    let lines: Vec<_> = text.lines().filter(|line| line.ends_with(end)).collect();
    assert_eq!(lines.len(), 1, "lines that end with `{end}` in\n{text}");
    lines[0]
}

const NO_COLLECTOR: [(&str, &str); 2] = [("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")];

#[tokio::test(flavor = "multi_thread")]
async fn output_and_log_records_of_a_service_are_on_the_terminal_with_service_trace_and_level() {
    let running = serve(&[], &NO_COLLECTOR);
    let (printed, logged) = (running.get("/print/hello").await, running.get("/log/hello").await);
    let text = running.stop();
    for (answer, level, end) in [
        (&printed, " INFO", "out hello"),
        (&printed, " WARN", "err hello"),
        (&printed, " INFO", "no newline hello"),
        (&logged, " INFO", "informed hello shelf=7"),
        (&logged, " WARN", "warned hello fragile=true"),
        (&logged, "ERROR", "failed hello"),
    ] {
        let line = line(&text, &format!(": {end}"));
        assert!(line.contains(&format!("Z {level} oddities {}: ", answer.trace.as_str())), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_of_a_standard_service_is_on_the_terminal() {
    let running = serve_of("standard-p2", Shop::standard().without("standard-p3"), &[], &NO_COLLECTOR);
    let answer = running.get("/print?text=hello").await;
    assert_eq!(answer.status, 200);
    let text = running.stop();
    let out = line(&text, ": out: hello");
    assert!(out.contains(&format!(" INFO standard-p2 {}", answer.trace.as_str())), "{out}");
    assert!(line(&text, ": error: hello").contains(" WARN standard-p2 "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_of_a_service_cannot_control_the_terminal() {
    let running = serve(&[], &NO_COLLECTOR);
    assert_eq!(running.get("/print/%1b%5d0;title%07%0dend").await.status, 200);
    let text = running.stop();
    line(&text, ": out ␛]0;title␇␍end");
    assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_of_services_can_be_turned_off() {
    for (arguments, environment, shown) in [
        (&["--quiet"][..], ("OTEL_LOGS_EXPORTER", "console"), false),
        (&[], ("OTEL_LOGS_EXPORTER", "none"), false),
        (&[], ("OTEL_LOGS_EXPORTER", "console"), true),
        (&[], ("OTEL_SDK_DISABLED", "true"), true),
    ] {
        let running = serve(arguments, &[&NO_COLLECTOR[..], &[environment]].concat());
        assert_eq!(running.get("/print/hello").await.status, 200);
        let text = running.stop();
        assert_eq!(text.contains("out hello"), shown, "{arguments:?} {environment:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_services_are_json_if_the_log_is() {
    let running = serve(&["--log-format", "json"], &NO_COLLECTOR);
    let answer = running.get("/log/hello").await;
    let text = running.stop();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let line = lines.iter().find(|line| line["message"] == "warned hello").expect("the line");
    assert_eq!((&line["level"], &line["service"]), (&Value::from("WARN"), &Value::from("oddities")));
    assert_eq!(
        (line["trace_id"].as_str(), &line["attributes"]["fragile"]),
        (Some(answer.trace.as_str()), &true.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_prints_endlessly_is_not_blocked_by_the_terminal() {
    let site = Site::new(&["oddities"]);
    site.write(&Shop::oddities().port("oddities", site.address("oddities").port()));
    let mut spandrel = Spandrel::serve_unread(&site.manifest(), &[("OTEL_SDK_DISABLED", "true")]);
    spandrel.wait_until_listening(site.address("oddities"));
    for _ in 0..30 {
        let answer = Client::default().request("GET", site.address("oddities"), "/flood/300").send().await;
        assert_eq!(answer.status, 200);
    }
    spandrel.read();
    spandrel.wait_for_line(&["lines were dropped"]).await;
    spandrel.signal("TERM");
    let ended = spandrel.wait(PATIENCE);
    assert_eq!(ended.code, Some(0));
    let printed = ended.stdout.matches(": line ").count();
    assert!((1..9000).contains(&printed), "{printed} lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_one_line_names_where_traces_are_and_there_is_no_warning() {
    // With a collector at the default address the host logs nothing.
    if std::net::TcpStream::connect("localhost:4317").is_ok() {
        return;
    }
    let environment = [("OTEL_BSP_SCHEDULE_DELAY", "10"), ("OTEL_METRIC_EXPORT_INTERVAL", "100")];
    let running = serve(&[], &environment);
    running.get("/log/hello").await;
    let console = format!("traces are at http://localhost:{}", running.site.console().port());
    let told = ["INFO no collector listens at http://localhost:4317", &console];
    running.spandrel.wait_for_line(&told).await;
    let text = running.stop();
    let about: Vec<_> = text.lines().filter(|line| line.contains("collector")).collect();
    assert_eq!(about.len(), 1, "{text}");
    assert!(!text.lines().any(|line| line.contains(" WARN ") && !line.contains(" oddities ")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_collector_that_is_unavailable_causes_one_warning() {
    let nobody = format!("http://localhost:{}", testkit::process::free_address().port());
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", nobody.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "10"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "50"),
    ];
    let mut running = serve(&["--quiet"], &environment);
    running.get("/log/hello").await;
    running.spandrel.wait_for_line(&["WARN", &format!("the collector at {nobody} does not accept ")]).await;
    running.get("/log/again").await;
    assert!(running.spandrel.status().is_none());
    let text = running.stop();
    let began =
        text.lines().filter(|line| line.contains(&format!("the collector at {nobody} does not accept "))).count();
    assert_eq!(began, 1, "{text}");
    assert!(!text.contains("manifest applied"), "nothing has changed: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_show_statuses_urls_and_errors() {
    let running = serve(&[], &[("OTEL_TRACES_EXPORTER", "console")]);
    let own = format!("http://localhost:{}", running.address.port());
    for path in ["/health", "/nope", &format!("/call?url={own}/nope?a=b"), "/panic/boom", "/status/503"] {
        running.get(path).await;
    }
    let text = running.stop();
    let detail = |start: &str| {
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with(&format!("  oddities  {start}  "))).collect();
        let [line] = lines.as_slice() else { panic!("{start}: {lines:#?}\n{text}") };
        let detail = [" ms  ", " us  ", " s  "].iter().find_map(|unit| Some(line.split_once(unit)?.1));
        detail.unwrap_or_default().to_owned()
    };
    assert_eq!(detail("GET /health"), "200");
    assert_eq!(detail("GET"), "404  /nope");
    assert_eq!(detail("    GET"), format!("404  {own}/nope?a=b  ERROR"));
    assert_eq!(detail("      GET"), "404  /nope");
    assert_eq!(detail("GET /status/{status}"), "503  ERROR");
    let panic = detail("GET /panic/{message}");
    assert!(panic.starts_with("500  ERROR wasm_trap: boom (") && panic.ends_with("failures.rs:19:5)"), "{panic}");
    assert!(!text.contains("user_agent.original"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_attributes_are_shown_on_request() {
    let running = serve(&["--attributes"], &[("OTEL_TRACES_EXPORTER", "console")]);
    let answer = running.get("/nope").await;
    let [plain, whole] = [&["trace", answer.trace.as_str()][..], &["trace", answer.trace.as_str(), "--attributes"]]
        .map(|arguments| running.site.run(arguments).stdout);
    let printed = running.stop();
    for text in [&plain, &whole, &printed] {
        assert!(text.contains("404  /nope"), "{text}");
    }
    for text in [&whole, &printed] {
        for attribute in ["http.response.status_code=404", "url.path=/nope", "http.request.method=GET"] {
            assert!(text.lines().any(|line| line.trim() == attribute), "{attribute} is not in {text}");
        }
    }
    assert!(!plain.contains("http.request.method=GET"), "{plain}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_routes_are_not_known_has_an_example_request_too() {
    let running = serve_of(
        "standard-p2",
        testkit::ShopBuilder::empty().service("standard-p2", &component("standard-p2"), 8000),
        &[],
        &NO_COLLECTOR,
    );
    let port = running.address.port();
    let output = running.stop();
    assert!(output.contains(&format!("Try:\n  curl http://localhost:{port}/\n")), "{output}");
}
