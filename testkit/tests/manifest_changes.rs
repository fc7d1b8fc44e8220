//! Changes of the manifest of a running host: added services start, removed ones drain, invalid manifests change nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::origin::{Manner, Origin};
use testkit::{Client, Collector, PATIENCE, ShopBuilder, Site, Spandrel, artifacts, poll, variant};

/// A manifest with these services, all with the misbehaving component.
fn manifest(site: &Site, services: &[&str]) -> ShopBuilder {
    let component = artifacts::component("oddities");
    let empty = ShopBuilder::empty().console_port(site.console().port());
    services.iter().fold(empty, |builder, name| builder.service(name, &component, site.address(name).port()))
}

/// A running host with these services. The site has addresses for `one`, `two` and `three`.
fn start(services: &[&str]) -> (Site, ShopBuilder, Spandrel) {
    let site = Site::new(&["one", "two", "three"]);
    let builder = manifest(&site, services);
    site.write(&builder);
    let host = site.serve();
    (site, builder, host)
}

/// Gives these services, and the shutdown of the host, time for calls whose responses a test holds back.
fn patient(builder: ShopBuilder, services: &[&str]) -> ShopBuilder {
    let builder = builder.head("[shutdown]\ndrain = \"300s\"");
    services.iter().fold(builder, |builder, name| builder.limits(name, "request_timeout = \"300s\""))
}

async fn get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    // A separate client, so that no connection is kept open.
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

/// Sends requests without a pause until it is stopped. None may fail.
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
async fn an_added_service_starts_and_a_removed_one_stops() {
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

    // A service that is added again starts with generation 1.
    site.write(&manifest(&site, &["one", "two"]));
    site.admin().wait_until("one", |status| status["state"] == "serving").await;
    assert_healthy(site.address("one")).await;
    assert_eq!(site.admin().status("one").await["generation"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_manifest_during_the_start_is_applied() {
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
async fn a_removed_service_finishes_its_requests() {
    let origin = Origin::start(Manner { delay: std::time::Duration::MAX, ..Manner::default() }).await;
    let site = Site::new(&["one", "two"]);
    let allow = format!("allow = [\"{}\"]", origin.url());
    site.write(&patient(manifest(&site, &["one", "two"]), &["one"]).outbound("one", &allow));
    let host = site.serve();
    let (address, path) = (site.address("one"), format!("/call?url={}/", origin.url()));
    let request = tokio::spawn(async move { get(address, &path).await });
    origin.wait_until_asked(1).await;
    site.write(&patient(manifest(&site, &["two"]), &[]));
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
    for (generation, timeout) in [(2, 50), (3, 60), (4, 70)] {
        let line = format!("request_timeout = \"{timeout}s\"");
        site.write(&manifest(&site, &["one"]).limits("one", &line));
        site.admin().wait_for_generation("one", generation).await;
        load.wait_until_served(5).await;
    }
    load.stop().await;
    // A changed comment causes no new generation.
    site.write(&builder.limits("one", "# seventy seconds\nrequest_timeout = \"70s\""));
    let applied = poll::until(PATIENCE, || (host.log().matches("manifest applied").count() == 4).then_some(())).await;
    assert!(applied.is_some(), "{}", host.log());
    assert_eq!(site.admin().status("one").await["generation"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_port_moves_a_service_without_losing_a_request() {
    let (site, _, host) = start(&["one"]);
    let load = Load::on(site.address("one"));
    load.wait_until_served(5).await;
    // The new port is open before the old one is closed, so that clients that switch to it lose no request.
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
async fn an_invalid_manifest_changes_nothing_and_the_reason_is_logged() {
    let (site, builder, host) = start(&["one", "two"]);
    let before = site.admin().send("GET", "", Vec::new()).await.json();
    let bad = site.path("bad.wasm");
    std::fs::write(&bad, "no component").expect("written");
    let missing = site.path("missing.wasm");
    let three = site.address("three").port();
    let text = builder.manifest();
    let taken = std::net::TcpListener::bind(site.address("three")).expect("the port is free");
    // Each of these manifests also removes `two`, which must not happen.
    let only = || manifest(&site, &["one"]);
    let cases = [
        (text.replace("listen = \"127.0.0.1", "lissten = \"127.0.0.1"), "did you mean `listen`"),
        (text.replace("[[service]]", "[[service]"), "services.toml"),
        (only().service("three", &bad, three).manifest(), "not a WebAssembly file"),
        (only().service("three", &missing, three).manifest(), "missing.wasm"),
        (only().service("three", &artifacts::component("oddities"), three).manifest(), "three cannot listen"),
        (only().port("one", three).manifest(), "one cannot listen"),
        (String::new(), "is empty"),
    ];
    for (text, words) in cases {
        let seen = host.log().len();
        site.replace("services.toml", text.as_bytes());
        host.wait_for_line_after(seen, &["not applied", words]).await;
        let now = site.admin().send("GET", "", Vec::new()).await.json();
        let names = |status: &serde_json::Value| -> Vec<_> {
            let services = status.as_array().into_iter().flatten();
            let serving = services.filter(|service| service["state"] != "waiting");
            serving.map(|service| json!([service["name"], service["generation"], service["listen"]])).collect()
        };
        assert_eq!(names(&now), names(&before), "after {words}");
        assert_healthy(site.address("one")).await;
        assert_healthy(site.address("two")).await;
    }
    drop(taken);
    let page = Client::default().request("GET", site.console(), "/metrics").send().await.text();
    assert!(!page.contains("service_name=\"three\""), "{page}");
    // The next valid manifest is applied.
    site.write(&manifest(&site, &["two", "three"]));
    wait_until_closed(site.address("one")).await;
    assert_healthy(site.address("three")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_configuration_is_retried_with_the_next_manifest() {
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
async fn a_rejected_configuration_is_retried_with_the_next_component() {
    let site = Site::new(&["one"]);
    let file = site.path("one.wasm");
    std::fs::write(&file, variant("oddities", 0)).expect("written");
    let empty = || ShopBuilder::empty().console_port(site.console().port());
    let builder = || empty().service("one", &file, site.address("one").port());
    site.write(&builder());
    let host = site.serve();
    // First the manifest, whose probe fails with the old component, then a component that passes the probe.
    site.write(&builder().keys("one", "probe = \"/status/500\"").limits("one", "concurrency = 7"));
    site.admin().wait_for_generation("one", 2).await;
    site.write(&builder().keys("one", "probe = \"/panic/x\"").limits("one", "concurrency = 8"));
    host.wait_for_line(&["swap refused", "GET /panic/x"]).await;
    let seen = host.log().len();
    site.replace("one.wasm", &variant("oddities", 1));
    // The old configuration would have accepted it.
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
async fn a_request_sees_one_version_of_each_service() {
    let (collector, origin) = (Collector::start(), Origin::start(held_response()).await);
    let site = Site::new(&["one"]).env("OTEL_SDK_DISABLED", "false");
    let site = site.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint()).env("OTEL_BSP_SCHEDULE_DELAY", "20");
    let own = format!("http://{}", site.address("one"));
    let allowed = format!("allow = [\"{own}\", \"{}\"]", origin.url());
    let builder = patient(manifest(&site, &["one"]), &["one"]).outbound("one", &allowed);
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

/// A service `one` with a separate component file, which may call `origin` if the manifest allows it.
struct Calling {
    site: Site,
    origin: Origin,
    file: &'static str,
}

impl Calling {
    async fn new(file: &'static str) -> Calling {
        let site = Site::new(&["one"]);
        site.replace(file, &variant("oddities", 0));
        Calling { site, origin: Origin::start(Manner::default()).await, file }
    }

    fn manifest(&self, allowed: bool) -> ShopBuilder {
        let empty = ShopBuilder::empty().console_port(self.site.console().port());
        let builder = empty.service("one", &self.site.path(self.file), self.site.address("one").port());
        let builder = builder.limits("one", "request_timeout = \"30s\"");
        if allowed { builder.outbound("one", &format!("allow = [\"{}\"]", self.origin.url())) } else { builder }
    }

    /// The outcome of a call to the origin.
    async fn outcome(&self) -> String {
        let path = format!("/call?url={}/", self.origin.url());
        let (status, body) = get(self.site.address("one"), &path).await.expect("an answer");
        assert_eq!(status, 200, "{body}");
        let outcome: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        outcome["outcome"].as_str().expect("an outcome").to_owned()
    }

    fn swap_file(&self, version: u8) {
        self.site.replace(self.file, &variant("oddities", version));
    }

    /// Replaces the component, and the manifest by one that allows no call. Returns the time between both.
    fn change_both(&self, component_first: bool) -> Duration {
        let mut files = [(self.file, variant("oddities", 1)), (MANIFEST, self.manifest(false).manifest().into_bytes())];
        if !component_first {
            files.reverse();
        }
        for (name, content) in &files {
            std::fs::write(self.site.path(&format!("{name}.next")), content).expect("a file can be written");
        }
        let began = Instant::now();
        for (name, _) in files {
            let next = self.site.path(&format!("{name}.next"));
            std::fs::rename(next, self.site.path(name)).expect("a file can be renamed");
        }
        began.elapsed()
    }
}

/// The name of the manifest in the folder of a site.
const MANIFEST: &str = "services.toml";
/// Files that are replaced within this time have changed together: the host polls them less often.
const TOGETHER: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn a_new_component_after_a_rollback_uses_the_configuration_of_the_manifest() {
    let calling = Calling::new("one.wasm").await;
    calling.site.write(&calling.manifest(false));
    let _host = calling.site.serve();
    calling.site.write(&calling.manifest(true));
    calling.site.admin().wait_for_generation("one", 2).await;
    assert_eq!(calling.outcome().await, "answer");
    assert_eq!(calling.site.admin().act("one", "rollback").await.status, 200);
    assert_eq!(calling.outcome().await, "denied", "the earlier generation has its earlier configuration");
    calling.swap_file(1);
    calling.site.admin().wait_for_generation("one", 3).await;
    assert_eq!(calling.outcome().await, "answer");
    // So does a component that is sent to the admin API.
    assert_eq!(calling.site.admin().act("one", "rollback").await.status, 200);
    assert_eq!(calling.outcome().await, "denied");
    assert_eq!(calling.site.admin().swap("one", variant("oddities", 2)).await.status, 200);
    assert_eq!(calling.outcome().await, "answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_and_a_component_that_change_together_are_applied_together() {
    // File names that sort before and after the manifest, in both orders of writing.
    for (file, component_first) in [("a.wasm", true), ("a.wasm", false), ("z.wasm", true), ("z.wasm", false)] {
        let (calling, host) = loop {
            let calling = Calling::new(file).await;
            calling.site.write(&calling.manifest(true));
            let host = calling.site.serve();
            assert_eq!(calling.outcome().await, "answer");
            if calling.change_both(component_first) < TOGETHER {
                break (calling, host);
            }
        };
        host.wait_for_line(&["manifest applied"]).await;
        assert_eq!(calling.outcome().await, "denied", "{file}, component first: {component_first}");
        // After another change of the manifest, all earlier changes have been handled.
        calling.site.write(&calling.manifest(false).limits("one", "concurrency = 7"));
        let status = calling.site.admin().wait_until("one", |status| status["swaps"].as_u64() >= Some(2)).await;
        assert_eq!(status["generation"], 3, "the new component never ran under the old configuration: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_sent_after_a_change_of_the_manifest_uses_the_new_manifest() {
    let calling = Calling::new("one.wasm").await;
    calling.site.write(&calling.manifest(true));
    let _host = calling.site.serve();
    for (round, allowed) in [(1, false), (2, true), (3, false)] {
        calling.site.write(&calling.manifest(allowed));
        let swapped = calling.site.admin().swap("one", variant("oddities", round)).await;
        assert_eq!(swapped.status, 200, "{}", swapped.text());
        assert_eq!(calling.outcome().await, if allowed { "answer" } else { "denied" }, "round {round}");
        assert_eq!(calling.site.admin().status("one").await["digest"], swapped.json()["digest"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_sent_during_a_reload_uses_the_new_manifest() {
    let calling = Calling::new("one.wasm").await;
    calling.site.write(&calling.manifest(true));
    let host = calling.site.serve();
    calling.site.write(&calling.manifest(false).keys("one", "probe = \"/nap/12000\""));
    calling.site.admin().wait_until("one", |status| status["state"] == "swapping").await;
    // An invalid component also cancels the swap of the reload. The log must not report the manifest as applied.
    calling.site.admin().swap("one", b"no component".to_vec()).await.assert_problem(422, "not a WebAssembly file");
    let line = host.wait_for_line(&["applied in part", "one"]).await;
    assert!(!host.log().contains("manifest applied"), "{line}");
    assert_eq!(calling.outcome().await, "answer");
    // A valid component uses the configuration of the manifest.
    let swapped = calling.site.admin().swap("one", variant("oddities", 1)).await;
    assert_eq!(swapped.status, 200, "{}", swapped.text());
    assert_eq!(calling.outcome().await, "denied");
}

/// Whether the service at `address` may call an origin.
async fn may_call(address: SocketAddr, origin: &Origin) -> bool {
    let (status, body) = get(address, &format!("/call?url={}/", origin.url())).await.expect("an answer");
    assert_eq!(status, 200, "{body}");
    body.contains("\"answer\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_can_exchange_ports_without_losing_a_request() {
    let origin = Origin::start(Manner::default()).await;
    let site = Site::new(&["one", "two"]);
    let allow = format!("allow = [\"{}\"]", origin.url());
    let builder = || manifest(&site, &["one", "two"]).outbound("one", &allow);
    site.write(&builder());
    let host = site.serve();
    let (first, second) = (site.address("one"), site.address("two"));
    assert!(may_call(first, &origin).await && !may_call(second, &origin).await);
    let loads = [Load::on(first), Load::on(second)];
    let mut kept = testkit::raw::Connection::open(first).await;
    let path = format!("/call?url={}/", origin.url());
    let mut ask = async || {
        kept.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        kept.response().await.1
    };
    assert!(ask().await.contains("answer"));
    site.write(&builder().port("one", second.port()).port("two", first.port()));
    host.wait_for_line(&["service moved", "one"]).await;
    host.wait_for_line(&["service moved", "two"]).await;
    assert!(may_call(second, &origin).await && !may_call(first, &origin).await);
    assert!(ask().await.contains("denied"), "a connection that was open goes on with the other service");
    for load in loads {
        load.wait_until_served(5).await;
        load.stop().await;
    }
    assert_eq!(site.admin().status("one").await["listen"], second.to_string());
    assert_eq!(site.admin().status("one").await["generation"], 1, "where a service listens is no part of a version");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_service_keeps_its_port_and_loses_no_request() {
    let origin = Origin::start(held_response()).await;
    let site = Site::new(&["one", "two", "three"]);
    let allow = format!("allow = [\"{}\"]", origin.url());
    site.write(&patient(manifest(&site, &["one", "two"]), &["one"]).outbound("one", &allow));
    let host = site.serve();
    let (address, path) = (site.address("one"), format!("/call?url={}/", origin.url()));
    let load = Load::on(address);
    let slow = tokio::spawn(async move { get(address, &path).await });
    origin.wait_until_asked(1).await;
    // `two` is removed, `three` is added on its own port, and `one` is renamed to `four`.
    let renamed =
        patient(manifest(&site, &["three"]), &[]).service("four", &artifacts::component("oddities"), address.port());
    site.write(&renamed);
    host.wait_for_line(&["manifest applied"]).await;
    assert_eq!(site.admin().status("four").await["state"], "serving");
    // A request of the load may still be in flight, too.
    let old = site.admin().wait_until("one", |old| old["in_flight"] == 1).await;
    assert_eq!(old["state"], "draining", "{old}");
    load.wait_until_served(5).await;
    load.stop().await;
    origin.release();
    assert_eq!(slow.await.expect("no panic").expect("an answer").0, 200);
    host.wait_for_line(&["service removed", "one"]).await;
    assert!(site.admin().status("one").await.is_null());
    wait_until_closed(site.address("two")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_waits_for_requests_of_removed_and_moved_services() {
    let origin = Origin::start(held_response()).await;
    let site = Site::new(&["one", "two", "three"]);
    let allow = format!("allow = [\"{}\"]", origin.url());
    let both = patient(manifest(&site, &["one", "two"]), &["one", "two"]);
    site.write(&both.outbound("one", &allow).outbound("two", &allow));
    let host = site.serve();
    let path = format!("/call?url={}/", origin.url());
    let requests = ["one", "two"].map(|name| {
        let (address, path) = (site.address(name), path.clone());
        tokio::spawn(async move { get(address, &path).await })
    });
    origin.wait_until_asked(2).await;
    site.write(&patient(manifest(&site, &["two"]), &["two"]).port("two", site.address("three").port()));
    host.wait_for_line(&["service moved", "two"]).await;
    wait_until_closed(site.address("one")).await;
    wait_until_closed(site.address("two")).await;
    host.signal("TERM");
    wait_until_closed(site.address("three")).await;
    assert!(requests.iter().all(|request| !request.is_finished()), "a request in flight was cut off");
    origin.release();
    for request in requests {
        assert_eq!(request.await.expect("no panic").expect("an answer").0, 200);
    }
    let ended = tokio::task::spawn_blocking(move || host.wait(PATIENCE)).await.expect("an end");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_component_is_missing_waits_for_it() {
    let (site, _, host) = start(&["one"]);
    let file = site.path("two.wasm");
    let with_two = || manifest(&site, &["one"]).service("two", &file, site.address("two").port());
    site.write(&with_two().limits("one", "concurrency = 9"));
    host.wait_for_line(&["not applied", "two.wasm"]).await;
    let status = site.admin().status("two").await;
    assert_eq!((&status["state"], &status["generation"]), (&json!("waiting"), &json!(0)), "{status}");
    assert!(status["last_error"].as_str().expect("a reason").contains("two.wasm"), "{status}");
    assert_eq!(site.admin().status("one").await["generation"], 1, "the rest of the manifest waits, too");
    // A file that is not a component is rejected, and the service still waits.
    site.replace("two.wasm", b"no component");
    host.wait_for_line(&["not applied", "not a WebAssembly file"]).await;
    site.replace("two.wasm", &variant("oddities", 0));
    host.wait_for_line(&["manifest applied"]).await;
    assert_healthy(site.address("two")).await;
    assert_eq!(site.admin().status("two").await["state"], "serving");
    assert_eq!(site.admin().status("one").await["generation"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_the_manifest_when_files_are_not_watched() {
    let origin = Origin::start(held_response()).await;
    let site = Site::new(&["one", "two"]);
    let unwatched = |services: &[&str]| patient(manifest(&site, services), &["one"]).head("[swap]\nwatch = false");
    let allow = format!("allow = [\"{}\"]", origin.url());
    site.write(&unwatched(&["one"]).outbound("one", &allow));
    let host = site.serve();
    let (address, path) = (site.address("one"), format!("/call?url={}/", origin.url()));
    let slow = tokio::spawn(async move { get(address, &path).await });
    origin.wait_until_asked(1).await;
    site.write(&unwatched(&["one", "two"]).outbound("one", &allow));
    assert!(is_closed(site.address("two")));
    host.signal("HUP");
    host.wait_for_line(&["manifest applied"]).await;
    assert_healthy(site.address("two")).await;
    // An invalid manifest changes nothing.
    site.replace("services.toml", b"[[service]");
    host.signal("HUP");
    host.wait_for_line(&["not applied"]).await;
    assert_healthy(site.address("two")).await;
    origin.release();
    assert_eq!(slow.await.expect("no panic").expect("an answer").0, 200, "the request in flight was lost");
}

/// An origin that responds when the test releases it.
fn held_response() -> Manner {
    Manner { delay: Duration::MAX, ..Manner::default() }
}
