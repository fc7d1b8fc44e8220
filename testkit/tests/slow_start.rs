//! Starts with a component that takes long to compile: the other services serve meanwhile.

use testkit::{Answer, Client, PATIENCE, ShopBuilder, Site, Spandrel, artifacts, laborious, poll, variant};
use tokio::task::JoinHandle;

/// The functions of a component, for each core, whose compilation takes longer than the others wait for it.
const FUNCTIONS_PER_CORE: usize = 3_000;
/// A large service, one that may call it, and two that call no other.
const SERVICES: [&str; 4] = ["large", "oddities", "caller", "standard-p2"];

/// Starts the host with an empty cache and the manifest of [`SERVICES`], which `adapt` can change. Returns while the
/// large component is being compiled and two services serve.
async fn serving_in_part(adapt: impl FnOnce(ShopBuilder) -> ShopBuilder) -> (Site, ShopBuilder, Spandrel) {
    let (site, manifest) = site();
    let manifest = adapt(manifest);
    site.write(&manifest);
    let mut host = site.begin();
    host.wait_until_listening(site.console());
    assert_eq!(get(&site, "oddities", "/health").await.expect("an answer").status, 200, "{}", host.log());
    assert_eq!(get(&site, "standard-p2", "/hello").await.expect("an answer").status, 200, "{}", host.log());
    (site, manifest, host)
}

/// A site with an empty cache, and the manifest of [`SERVICES`].
fn site() -> (Site, ShopBuilder) {
    let site = Site::new(&SERVICES);
    let cache = site.path("cache").display().to_string();
    let site = site.env("SPANDREL_CACHE_DIR", &cache);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let large = laborious("oddities", cores * FUNCTIONS_PER_CORE, 3);
    std::fs::write(site.path("large.wasm"), large).expect("a file can be written");
    let components =
        [site.path("large.wasm")].into_iter().chain(["oddities", "oddities", "standard-p2"].map(artifacts::component));
    let empty = ShopBuilder::empty().console_port(site.console().port());
    let manifest = SERVICES
        .iter()
        .zip(components)
        .fold(empty, |manifest, (name, component)| manifest.service(name, &component, site.address(name).port()));
    let allow = format!("allow = [\"http://localhost:{}\"]", site.address("large").port());
    (site, manifest.outbound("caller", &allow))
}

async fn get(site: &Site, service: &str, path: &str) -> Result<Answer, String> {
    Client::default().request("GET", site.address(service), path).untraced().try_send().await
}

async fn ready(site: &Site) -> (u16, String) {
    let answer = Client::default().request("GET", site.console(), "/readyz").untraced().send().await;
    (answer.status.as_u16(), answer.text())
}

/// The states of the services.
async fn states(site: &Site) -> Vec<String> {
    let mut states = Vec::new();
    for service in SERVICES {
        let status = site.admin().status(service).await;
        states.push(status["state"].as_str().expect("a state").to_owned());
    }
    states
}

fn assert_nothing_listens(site: &Site, services: &[&str]) {
    for service in services {
        assert!(std::net::TcpStream::connect(site.address(service)).is_err(), "{service} listens");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_serves_once_it_and_those_that_it_may_call_are_compiled() {
    let (site, manifest, host) = serving_in_part(|manifest| manifest).await;
    assert_nothing_listens(&site, &["large", "caller"]);
    let (status, body) = ready(&site).await;
    assert!(status == 503 && body.contains("starting"), "{body}");
    assert_eq!(states(&site).await, ["compiling", "serving", "waiting", "serving"]);
    assert!(!host.log().contains("Try:"), "{}", host.log());
    // There is nothing to swap yet of a service that does not serve; a swap of one that serves is kept. That one comes
    // second: its compilation shares the threads with that of the large component, and may end after it.
    site.admin().swap("large", variant("oddities", 1)).await.assert_problem(503, "has not started yet");
    assert_eq!(site.admin().swap("oddities", variant("oddities", 1)).await.status, 200);

    host.wait_for_line(&["Try:"]).await;
    let path = format!("/call?url=http://localhost:{}/health", site.address("large").port());
    let called = get(&site, "caller", &path).await.expect("an answer");
    assert_eq!(called.status, 200, "{}", called.text());
    assert_eq!(ready(&site).await.0, 200);
    assert_eq!(states(&site).await, ["serving"; 4]);
    let handled = host.log().len();
    site.write(&manifest.without("standard-p2"));
    host.wait_for_line_after(handled, &["manifest applied"]).await;
    assert_eq!(site.admin().status("oddities").await["generation"], 2, "{}", host.log());
    host.signal("TERM");
    assert_eq!(host.wait(PATIENCE).code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_files_meanwhile_are_handled_after_the_start() {
    let (site, manifest, host) = serving_in_part(|manifest| manifest).await;
    site.write(&manifest.without("standard-p2"));
    host.wait_for_line(&["manifest applied"]).await;
    // The listener of the removed service closes on its own after that.
    let removed = site.address("standard-p2");
    let closed = poll::until(PATIENCE, || std::net::TcpStream::connect(removed).err()).await;
    closed.expect("standard-p2 listens no longer");
    for service in ["large", "oddities", "caller"] {
        assert_eq!(get(&site, service, "/health").await.expect("an answer").status, 200, "{service}");
    }
}

/// A request that takes this long, of which the host has received the head.
async fn in_flight(site: &Site, milliseconds: u32) -> JoinHandle<Result<Answer, String>> {
    let path = format!("/nap/{milliseconds}");
    let request = Client::default().request("GET", site.address("oddities"), &path).untraced();
    let request = tokio::spawn(request.try_send());
    site.admin().wait_until("oddities", |status| status["in_flight"] == 1).await;
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_fails_late_ends_the_start_after_the_requests_in_flight() {
    // Its instances need more memory, which is noticed only after the compilation.
    let (site, _, host) = serving_in_part(|manifest| manifest.limits("large", "memory = \"64KiB\"")).await;
    let request = in_flight(&site, 8000).await;
    host.wait_for_line(&["the start has failed", "`large`", "memory"]).await;
    // This is the first signal to stop.
    host.signal("TERM");
    let ended = host.wait(9 * PATIENCE);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.stderr.contains("`large`") && ended.stderr.contains("memory"), "{ended:#?}");
    assert_eq!(request.await.expect("no panic").expect("an answer").status, 200);
    assert_nothing_listens(&site, &SERVICES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_while_some_services_serve_drains_them() {
    let (site, _, host) = serving_in_part(|manifest| manifest).await;
    let request = in_flight(&site, 1000).await;
    host.signal("TERM");
    let ended = host.wait(PATIENCE);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(request.await.expect("no panic").expect("an answer").status, 200);
    assert!(ended.stdout.contains("before the start was complete"), "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_while_some_services_serve_ends_the_host_at_once() {
    let (site, _, host) = serving_in_part(|manifest| manifest).await;
    let request = in_flight(&site, 8000).await;
    host.signal("INT");
    host.wait_for_line(&["stopping"]).await;
    host.signal("INT");
    assert_eq!(host.wait(PATIENCE).code, Some(130));
    assert!(request.await.expect("no panic").is_err());
}
