//! The limits on instances over all services: idle instances of other services are evicted, and no request fails.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testkit::{
    Answer, Client, PATIENCE, STANDARD, Shop, ShopBuilder, artifacts, poll, variant, with_section, without_slot,
};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The concurrent requests of one burst: the most instances that a service keeps idle.
const CLIENTS: usize = 256;

/// Numbered services with the same component.
fn services(component: &str, numbers: std::ops::Range<usize>, keys: &str) -> ShopBuilder {
    numbers.fold(ShopBuilder::empty(), |shop, number| {
        let name = name(number);
        let shop = shop.service(&name, &artifacts::component(component), 9_000 + number as u16).keys(&name, keys);
        shop.limits(&name, REQUEST_TIMEOUT)
    })
}

/// A limit that is not reached, even if hundreds of instances are created on a busy machine meanwhile.
const REQUEST_TIMEOUT: &str = "request_timeout = \"120s\"";

fn name(number: usize) -> String {
    format!("service-{number}")
}

/// Sends `count` concurrent requests.
async fn at_once(shop: &Shop, service: &str, path: &str, count: usize) -> Vec<Answer> {
    (0..count).map(|_| shop.request("GET", service, path).send()).collect::<JoinSet<_>>().join_all().await
}

#[track_caller]
fn assert_served(answers: &[Answer], who: &str) {
    let failed: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(failed.is_empty(), "{who}: {} of {} failed: {}", failed.len(), answers.len(), failed[0].text());
}

/// Sends bursts to a service until it has [`CLIENTS`] idle instances. The time that the guest sleeps, in milliseconds, is
/// appended to `path`.
async fn have_a_burst(shop: Arc<Shop>, service: String, path: &'static str) {
    let deadline = Instant::now() + 3 * PATIENCE;
    let mut sleep = 500;
    while idle(&shop, &service).await < CLIENTS as f64 {
        assert!(Instant::now() < deadline, "{service} has {} idle instances", idle(&shop, &service).await);
        assert_served(&at_once(&shop, &service, &format!("{path}{sleep}"), CLIENTS).await, &service);
        sleep *= 2;
    }
}

/// Sends bursts to all these services, three at a time.
async fn have_bursts(shop: &Arc<Shop>, services: Range<usize>, path: &'static str) {
    let services: Vec<_> = services.map(name).collect();
    for some in services.chunks(3) {
        let bursts = some.iter().map(|service| have_a_burst(shop.clone(), service.clone(), path));
        bursts.collect::<JoinSet<_>>().join_all().await;
    }
}

/// Sends bursts to all these services until the host has at least `count` instances. Those that were idle for a minute
/// are dropped, which can happen during the bursts on a slow machine.
async fn fill(shop: &Arc<Shop>, services: Range<usize>, path: &'static str, count: f64) {
    let deadline = Instant::now() + 9 * PATIENCE;
    have_bursts(shop, services.clone(), path).await;
    while instances(shop).await < count {
        assert!(Instant::now() < deadline, "{} of {count} slots are taken", instances(shop).await);
        have_bursts(shop, services.clone(), path).await;
    }
}

/// The number of idle instances of a service according to the console.
async fn idle(shop: &Shop, service: &str) -> f64 {
    let label = format!("service_name=\"{service}\"");
    let page = Client::default().request("GET", shop.console(), "/metrics").untraced().send().await.text();
    let sample = page.lines().find(|line| line.starts_with("spandrel_instances_idle{") && line.contains(&label));
    sample.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
}

async fn instances(shop: &Shop) -> f64 {
    shop.admin().metric("spandrel_host_instances").await
}

/// Sends requests to these services, one at a time each, until `other` is done. All of them must succeed.
async fn while_serving<T>(
    shop: &Shop,
    services: Range<usize>,
    path: &'static str,
    other: impl Future<Output = T>,
) -> T {
    let running = watch::Sender::new(());
    let ask = |number| {
        let (service, address, runs) = (name(number), shop.address(&name(number)), running.subscribe());
        async move {
            let (client, mut answers) = (Client::default(), Vec::new());
            while answers.is_empty() || runs.has_changed().is_ok() {
                answers.push(client.request("GET", address, path).send().await);
            }
            (service, answers)
        }
    };
    let clients: JoinSet<_> = services.map(ask).collect();
    let done = other.await;
    drop(running);
    for (service, answers) in clients.join_all().await {
        assert_served(&answers, &service);
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_instances_of_twelve_services_do_not_starve_another_service() {
    const SLOTS: f64 = 3072.0;
    let shop = services("oddities", 0..13, "")
        .service("fresh", &artifacts::component("standard-p2"), 9_100)
        .limits("fresh", REQUEST_TIMEOUT)
        .with_console()
        .start()
        .await;
    let shop = Arc::new(shop);
    fill(&shop, 0..12, "/nap/", SLOTS - 2.0).await;

    // One service that reuses instances, and one that creates an instance for each request.
    let thirteenth = name(12);
    let bursts = async {
        let began = Instant::now();
        let (reused, fresh) = tokio::join!(
            at_once(&shop, &thirteenth, "/nap/3000", CLIENTS),
            at_once(&shop, "fresh", "/sleep?ms=3000", CLIENTS)
        );
        assert_served(&reused, &thirteenth);
        assert_served(&fresh, "fresh");
        assert!(began.elapsed() < PATIENCE, "they were served after {:?}", began.elapsed());
    };
    while_serving(&shop, 0..12, "/nap/0", bursts).await;
    assert!(idle(&shop, &thirteenth).await > CLIENTS as f64 / 2.0, "its instances are kept");
    assert!(instances(&shop).await <= SLOTS);

    // A swap needs a slot to verify the new version.
    have_bursts(&shop, 0..13, "/nap/").await;
    let swapped = while_serving(&shop, 1..12, "/nap/0", shop.admin().swap(&name(0), variant("oddities", 1))).await;
    assert_eq!(swapped.status, 200, "{}", swapped.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_instances_of_0_3_components_do_not_starve_another_service() {
    const SLOTS: f64 = 1024.0;
    let shop = Arc::new(services("standard-p3", 0..5, "").with_console().start().await);
    fill(&shop, 0..4, "/sleep?ms=", SLOTS - 2.0).await;
    let fifth = name(4);
    let burst = at_once(&shop, &fifth, "/sleep?ms=1000", CLIENTS);
    assert_served(&while_serving(&shop, 0..4, "/hello", burst).await, &fifth);
    assert!(idle(&shop, &fifth).await > 0.0);
    let swapped = shop.admin().swap(&fifth, variant("standard-p3", 1)).await;
    assert_eq!(swapped.status, 200, "{}", swapped.text());
}

/// The limit on instances that are allocated on demand.
const ON_DEMAND: usize = 256;

/// A 0.2 and a 0.3 service whose components do not fit into a slot, and the folder of their files.
fn without_slots() -> (ShopBuilder, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut shop = ShopBuilder::empty().with_console();
    for (package, port) in STANDARD {
        let file = folder.path().join(package);
        std::fs::write(&file, without_slot(package)).expect("written");
        shop = shop.service(package, &file, port).keys(package, "isolation = \"instance\"");
        shop = shop.limits(package, REQUEST_TIMEOUT);
    }
    (shop, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_instances_on_demand_are_evicted_for_another_service() {
    const BURST: usize = 200;
    let (shop, _files) = without_slots();
    let shop = shop.start().await;
    let [(one, _), (other, _)] = STANDARD;
    for (service, served_before) in [(one, other), (other, one), (one, other)] {
        let mut sleep = 500;
        while idle(&shop, service).await < BURST as f64 {
            let path = format!("/sleep?ms={sleep}");
            assert_served(&at_once(&shop, service, &path, BURST).await, service);
            sleep *= 2;
        }
        assert!(instances(&shop).await <= ON_DEMAND as f64, "{} instances", instances(&shop).await);
        let left = idle(&shop, served_before).await;
        assert!(left <= (ON_DEMAND - BURST) as f64, "{left} of the other's instances are left");
        assert_eq!(shop.get(served_before, "/hello").await.status, 200);
    }
    let swapped = shop.admin().swap(one, with_section(without_slot(one), b"another")).await;
    assert_eq!(swapped.status, 200, "{}", swapped.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_limit_on_instances_on_demand_are_rejected() {
    let (shop, _files) = without_slots();
    let shop = shop.start().await;
    for (service, other) in [("standard-p2", "standard-p3"), ("standard-p3", "standard-p2")] {
        let (mut sleep, mut refused) = (1_000, Vec::new());
        while refused.is_empty() {
            let path = format!("/sleep?ms={sleep}");
            let answers = at_once(&shop, service, &path, ON_DEMAND + 50).await;
            refused = answers.into_iter().filter(|answer| answer.status != 200).collect();
            sleep *= 2;
        }
        assert!(refused.len() <= 50 + 1, "{} requests were refused", refused.len());
        for answer in &refused {
            answer.assert_problem(503, "No instance of the service could be created");
            assert_ne!(answer.header("retry-after"), "");
        }
        let tree = shop.trace(&refused[0].trace, 1).await;
        tree.line(&format!("{service} GET SERVER")).assert_attribute("error.type", "no_instance");
        assert!(instances(&shop).await <= ON_DEMAND as f64);
        assert_served(&at_once(&shop, other, "/sleep?ms=100", 50).await, other);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_instances_of_all_kinds_are_dropped_after_a_while() {
    let (shop, _files) = without_slots();
    let mut shop = shop.service("lean", &artifacts::component("oddities"), 9_200);
    for (number, (package, _)) in STANDARD.iter().enumerate() {
        let name = name(number);
        shop = shop.service(&name, &artifacts::component(package), 9_201 + number as u16);
        shop = shop.keys(&name, "isolation = \"instance\"").limits(&name, REQUEST_TIMEOUT);
    }
    let shop = shop.start().await;
    let slots = [name(0), name(1)];
    let standard = slots.iter().map(String::as_str).chain(STANDARD.map(|(package, _)| package));
    let services = standard.map(|service| (service, "/sleep?ms=1000")).chain([("lean", "/nap/1000")]);
    for (service, path) in services.clone() {
        assert_served(&at_once(&shop, service, path, 20).await, service);
        assert!(idle(&shop, service).await > 1.0, "{service}");
    }
    // They are idle for a minute, and looked for every few seconds.
    let deadline = Instant::now() + 6 * PATIENCE;
    while instances(&shop).await > 0.0 {
        assert!(Instant::now() < deadline, "{} instances are left", instances(&shop).await);
        poll::until(Duration::from_millis(500), || None::<()>).await;
    }
    for (service, path) in services {
        assert_eq!(shop.get(service, path).await.status, 200, "{service} still serves");
    }
}
