//! A changed manifest while the host runs: what is added starts, what is gone drains, what is wrong changes nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use testkit::origin::{Manner, Origin};
use testkit::{Client, Collector, PATIENCE, ShopBuilder, Site, Spandrel, artifacts, poll, variant};

/// A manifest with these services of the component that misbehaves.
fn manifest(site: &Site, services: &[&str]) -> ShopBuilder {
    let component = artifacts::component("oddities");
    let empty = ShopBuilder::empty().console_port(site.console().port());
    services.iter().fold(empty, |builder, name| builder.service(name, &component, site.address(name).port()))
}

/// A host that runs with these services of a site that has addresses for `one`, `two` and `three`.
fn start(services: &[&str]) -> (Site, ShopBuilder, Spandrel) {
    let site = Site::new(&["one", "two", "three"]);
    let builder = manifest(&site, services);
    site.write(&builder);
    let host = site.serve();
    (site, builder, host)
}

async fn get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    // A client of its own: nothing is kept open.
    let answer = Client::default().request("GET", address, path).try_send().await?;
    Ok((answer.status.as_u16(), answer.text()))
}

async fn assert_healthy(address: SocketAddr) {
    assert_eq!(get(address, "/health").await.expect("an answer").0, 200);
}

fn is_closed(address: SocketAddr) -> bool {
    std::net::TcpStream::connect(address).is_err()
}

async fn wait_until_closed(address: SocketAddr) {
    let closed = poll::until(PATIENCE, || is_closed(address).then_some(())).await;
    assert!(closed.is_some(), "{address} still accepts");
}

/// Requests without a pause, until it is stopped; then it says how many were answered. None may fail.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    fn on(address: SocketAddr) -> Load {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted) = (stop.clone(), served.clone());
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                assert_healthy(address).await;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Load { stop, served, task }
    }

    async fn wait_until_served(&self, count: usize) {
        let before = self.served.load(Ordering::Relaxed);
        let enough =
            || (self.served.load(Ordering::Relaxed) >= before + count || self.task.is_finished()).then_some(());
        poll::until(PATIENCE, enough).await.expect("requests are answered");
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("no request failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_added_starts_and_one_that_is_taken_out_stops() {
    let (site, _, host) = start(&["one"]);
    site.write(&manifest(&site, &["one", "two"]));
    host.wait_for_line(&["manifest applied"]).await;
    assert_healthy(site.address("two")).await;
    assert_eq!(site.admin().status("two").await["generation"], 1);

    site.write(&manifest(&site, &["two", "three"]));
    wait_until_closed(site.address("one")).await;
    host.wait_for_line(&["service removed", "one"]).await;
    assert_healthy(site.address("two")).await;
    assert_healthy(site.address("three")).await;
    assert!(site.admin().status("one").await.is_null());
    let page = Client::default().request("GET", site.console(), "/metrics").send().await.text();
    assert!(!page.contains("service_name=\"one\"") && page.contains("service_name=\"two\""), "{page}");

    // One that comes back starts over.
    site.write(&manifest(&site, &["one", "two"]));
    site.admin().wait_until("one", |status| status["state"] == "serving").await;
    assert_healthy(site.address("one")).await;
    assert_eq!(site.admin().status("one").await["generation"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_changes_while_the_host_starts_is_not_missed() {
    let site = Site::new(&["one", "two"]);
    // Compiling for the first time takes long enough to change the manifest after it was read.
    let cache = site.path("cache").display().to_string();
    let site = site.env("SPANDREL_CACHE_DIR", &cache);
    site.write(&manifest(&site, &["one"]));
    let mut host = site.begin();
    let reads = || site.path("cache").is_dir().then_some(());
    poll::until(PATIENCE, reads).await.expect("the manifest was read and its components are being compiled");
    site.write(&manifest(&site, &["one", "two"]));
    host.wait_until_listening(site.address("two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_component_of_a_service_that_was_added_is_watched() {
    let (site, builder, host) = start(&["one"]);
    let file = site.path("two.wasm");
    std::fs::write(&file, variant("oddities", 0)).expect("written");
    site.write(&builder.service("two", &file, site.address("two").port()));
    host.wait_for_line(&["manifest applied"]).await;
    site.replace("two.wasm", &variant("oddities", 1));
    site.admin().wait_for_generation("two", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_taken_out_finishes_what_it_began() {
    let origin = Origin::start(Manner { delay: std::time::Duration::MAX, ..Manner::default() }).await;
    let site = Site::new(&["one", "two"]);
    site.write(&manifest(&site, &["one", "two"]).outbound("one", &format!("allow = [\"{}\"]", origin.url())));
    let host = site.serve();
    let (address, path) = (site.address("one"), format!("/call?url={}/", origin.url()));
    let request = tokio::spawn(async move { get(address, &path).await });
    origin.wait_until_asked(1).await;
    site.write(&manifest(&site, &["two"]));
    wait_until_closed(address).await;
    assert!(!request.is_finished(), "the request in flight was cut off");
    origin.release();
    let (status, body) = request.await.expect("no panic").expect("an answer");
    assert_eq!(status, 200, "{body}");
    host.wait_for_line(&["service removed", "one"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_service_is_reconfigured_without_losing_a_request() {
    let (site, builder, host) = start(&["one"]);
    let load = Load::on(site.address("one"));
    load.wait_until_served(5).await;
    for (generation, timeout) in [(2, 5), (3, 6), (4, 7)] {
        let line = format!("request_timeout = \"{timeout}s\"");
        site.write(&manifest(&site, &["one"]).limits("one", &line));
        site.admin().wait_for_generation("one", generation).await;
        load.wait_until_served(5).await;
    }
    load.stop().await;
    // Nothing but a comment: no new generation.
    site.write(&builder.limits("one", "# seven seconds\nrequest_timeout = \"7s\""));
    let applied = poll::until(PATIENCE, || (host.log().matches("manifest applied").count() == 4).then_some(())).await;
    assert!(applied.is_some(), "{}", host.log());
    assert_eq!(site.admin().status("one").await["generation"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_port_moves_a_service_without_losing_a_request() {
    let (site, _, host) = start(&["one"]);
    let load = Load::on(site.address("one"));
    load.wait_until_served(5).await;
    // The new port answers before the old one is closed, and clients that go there from then on lose nothing.
    let occupied = std::net::TcpListener::bind(site.address("two")).expect("the port is free");
    site.write(&manifest(&site, &["one"]).port("one", site.address("two").port()));
    let line = host.wait_for_line(&["not applied", "cannot listen"]).await;
    assert!(line.contains(&site.address("two").to_string()), "{line}");
    load.wait_until_served(5).await;
    load.stop().await;
    drop(occupied);
    site.write(&manifest(&site, &["one"]).port("one", site.address("two").port()).limits("one", "concurrency = 9"));
    host.wait_for_line(&["service moved"]).await;
    assert_healthy(site.address("two")).await;
    wait_until_closed(site.address("one")).await;
    assert_eq!(site.admin().status("one").await["listen"], site.address("two").to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_manifest_changes_nothing_and_says_why() {
    let (site, builder, host) = start(&["one", "two"]);
    let before = site.admin().send("GET", "", Vec::new()).await.json();
    let bad = site.path("bad.wasm");
    std::fs::write(&bad, "no component").expect("written");
    let missing = site.path("missing.wasm");
    let three = site.address("three").port();
    let text = builder.manifest();
    let taken = std::net::TcpListener::bind(site.address("three")).expect("the port is free");
    // Each would also take `two` out, which must not happen.
    let only = || manifest(&site, &["one"]);
    let cases = [
        (text.replace("listen = \"127.0.0.1", "lissten = \"127.0.0.1"), "did you mean `listen`"),
        (text.replace("[[service]]", "[[service]"), "services.toml"),
        (only().service("three", &bad, three).manifest(), "no WebAssembly file"),
        (only().service("three", &missing, three).manifest(), "missing.wasm"),
        (only().service("three", &artifacts::component("oddities"), three).manifest(), "three cannot listen"),
        (only().port("one", three).manifest(), "one cannot listen"),
        (String::new(), "is empty"),
    ];
    for (text, words) in cases {
        let seen = host.log().len();
        site.replace("services.toml", text.as_bytes());
        let said = poll::until(PATIENCE, || {
            let log = host.log();
            log.get(seen..)?.lines().find(|line| line.contains("not applied")).map(str::to_owned)
        });
        let line = said.await.unwrap_or_else(|| panic!("nothing was said of {words}: {}", host.log()));
        assert!(line.contains(words), "`{words}` is not in {line}");
        let now = site.admin().send("GET", "", Vec::new()).await.json();
        let names = |status: &serde_json::Value| -> Vec<_> {
            let services = status.as_array().into_iter().flatten();
            services.map(|service| json!([service["name"], service["generation"], service["listen"]])).collect()
        };
        assert_eq!(names(&now), names(&before), "after {words}");
        assert_healthy(site.address("one")).await;
        assert_healthy(site.address("two")).await;
    }
    drop(taken);
    let page = Client::default().request("GET", site.console(), "/metrics").send().await.text();
    assert!(!page.contains("service_name=\"three\""), "{page}");
    // And the next good one is applied as if nothing had been.
    site.write(&manifest(&site, &["two", "three"]));
    wait_until_closed(site.address("one")).await;
    assert_healthy(site.address("three")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_was_refused_is_tried_again_with_the_next_manifest() {
    let site = Site::new(&["one"]);
    let file = site.path("one.wasm");
    std::fs::write(&file, variant("inventory-service", 0)).expect("written");
    let builder = || {
        let empty = ShopBuilder::empty().console_port(site.console().port());
        empty.service("one", &file, site.address("one").port())
    };
    site.write(&builder());
    let host = site.serve();
    site.write(&builder().keys("one", "probe = \"/items\"").keys("one", "isolation = \"request\""));
    host.wait_for_line(&["swap refused", "GET /items"]).await;
    assert_healthy(site.address("one")).await;
    let seen = host.log().len();
    site.write(&builder().keys("one", "probe = \"/items/1\""));
    let again = || host.log().get(seen..)?.contains("GET /items/1").then_some(());
    poll::until(PATIENCE, again).await.expect("the new probe is tried");
    site.write(&builder().keys("one", "probe = \"/inventory/2\""));
    site.admin().wait_until("one", |status| status["last_error"].is_null() && status["swaps"] == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_component_is_tried_with_the_configuration_that_waits_for_it() {
    let site = Site::new(&["one"]);
    let file = site.path("one.wasm");
    std::fs::write(&file, variant("oddities", 0)).expect("written");
    let empty = || ShopBuilder::empty().console_port(site.console().port());
    let builder = || empty().service("one", &file, site.address("one").port());
    site.write(&builder());
    let host = site.serve();
    // The manifest first, whose probe fails by what the component says; then the component that says another thing.
    site.write(&builder().keys("one", "probe = \"/status/500\"").limits("one", "concurrency = 7"));
    site.admin().wait_for_generation("one", 2).await;
    site.write(&builder().keys("one", "probe = \"/panic/x\"").limits("one", "concurrency = 8"));
    host.wait_for_line(&["swap refused", "GET /panic/x"]).await;
    let seen = host.log().len();
    site.replace("one.wasm", &variant("oddities", 1));
    // With the old configuration it would have been accepted.
    let again = || host.log().get(seen..)?.contains("GET /panic/x").then_some(());
    poll::until(PATIENCE, again).await.expect("the component is tried with the manifest's configuration");
    assert_eq!(site.admin().status("one").await["generation"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_number_shows_in_traces_and_metrics() {
    let collector = Collector::start();
    let site = Site::new(&["one"]).env("OTEL_SDK_DISABLED", "false");
    let site = site.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint()).env("OTEL_BSP_SCHEDULE_DELAY", "20");
    let site = site.env("OTEL_METRIC_EXPORT_INTERVAL", "100");
    site.write(&manifest(&site, &["one"]));
    let _host = site.serve();
    assert_healthy(site.address("one")).await;
    let text = manifest(&site, &["one"]).manifest().replace("version = \"1.0.0\"", "version = \"2.0.0\"");
    site.replace("services.toml", text.as_bytes());
    site.admin().wait_for_generation("one", 2).await;
    assert_healthy(site.address("one")).await;
    let new = |span: &testkit::Span| span.service == "one" && span.resource["service.version"] == "2.0.0";
    collector.wait_for_span("of the new version", new).await;
    let page = Client::default().request("GET", site.console(), "/metrics").send().await.text();
    assert!(page.lines().any(|line| line.starts_with("http_requests_total{") && line.contains("one")), "{page}");
    let admin = site.admin();
    admin.act("one", "rollback").await;
    assert_eq!(admin.status("one").await["version"], "1.0.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_meets_twice_is_of_one_version_and_says_so() {
    let (collector, origin) = (Collector::start(), Origin::start(held()).await);
    let site = Site::new(&["one"]).env("OTEL_SDK_DISABLED", "false");
    let site = site.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint()).env("OTEL_BSP_SCHEDULE_DELAY", "20");
    let own = format!("http://{}", site.address("one"));
    let allowed = format!("allow = [\"{own}\", \"{}\"]", origin.url());
    let builder = manifest(&site, &["one"]).outbound("one", &allowed);
    site.write(&builder);
    let _host = site.serve();
    let path = format!("/twice?first={}/&then={own}/count", origin.url());
    let asked = tokio::spawn(Client::default().request("GET", site.address("one"), &path).try_send());
    origin.wait_until_asked(1).await;
    let status = site.admin().status("one").await;
    assert_eq!((&status["in_flight"], &status["serving"]["in_flight"]), (&json!(1), &json!(1)), "{status}");
    let text = builder.manifest().replace("version = \"1.0.0\"", "version = \"2.0.0\"");
    site.replace("services.toml", text.as_bytes());
    site.admin().wait_for_generation("one", 2).await;
    origin.release();
    let answer = asked.await.expect("a task that ends").expect("an answer");
    let of_call = |span: &testkit::Span| span.trace_id == answer.trace.as_str() && span.name == "GET /count";
    let span = collector.wait_for_span("of the second call", of_call).await;
    assert_eq!(span.attribute("spandrel.component.generation"), &json!(1));
    assert_eq!(span.resource["service.version"], "1.0.0");
}

/// An origin that answers when it is told to.
fn held() -> Manner {
    Manner { delay: Duration::MAX, ..Manner::default() }
}
