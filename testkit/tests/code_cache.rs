//! Compilation: the cache of compiled code across starts, and requests while a large component compiles.

use std::time::{Duration, Instant};

use testkit::{Admin, Client, PATIENCE, ShopBuilder, Site, Spandrel, artifacts, laborious, variant, without_slot};

/// The number of functions of a component whose compilation takes some seconds.
const FUNCTIONS: usize = 400;
/// The longest time that a request may take while the same cores compile, and other tests run.
const LONGEST: Duration = Duration::from_secs(15);

/// A site with an empty cache of its own.
fn site(services: &[&str]) -> Site {
    let site = Site::new(services);
    let cache = site.path("cache").display().to_string();
    site.env("SPANDREL_CACHE_DIR", &cache)
}

/// The manifest of these services. The component of each is the file with its name in the site's folder.
fn manifest(site: &Site, services: &[&str]) -> ShopBuilder {
    services.iter().fold(ShopBuilder::empty().console_port(site.console().port()), |shop, name| {
        shop.service(name, &site.path(&format!("{name}.wasm")), site.address(name).port())
    })
}

fn put(site: &Site, service: &str, component: &[u8]) {
    site.replace(&format!("{service}.wasm"), component);
}

/// The host's hits and misses in the cache.
async fn lookups(site: &Site) -> (u64, u64) {
    let page = Client::default().request("GET", site.console(), "/metrics").untraced().send().await.text();
    let count = |outcome: &str| {
        let label = format!("outcome=\"{outcome}\"");
        let fits = |line: &&str| line.starts_with("spandrel_code_cache_lookups_total{") && line.contains(&label);
        let line = page.lines().find(fits).unwrap_or_else(|| panic!("no lookups with {label} in {page}"));
        line.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a number")
    };
    (count("hit"), count("miss"))
}

async fn assert_answers(site: &Site, service: &str, path: &str) {
    let answer = Client::default().request("GET", site.address(service), path).untraced().send().await;
    assert_eq!(answer.status, 200, "{service}: {}", answer.text());
}

fn stop(host: Spandrel) {
    host.signal("TERM");
    let ended = host.wait(PATIENCE);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_start_takes_all_kinds_of_component_from_the_cache() {
    const SERVICES: [&str; 4] = ["oddities", "standard-p2", "standard-p3", "without-slot"];
    const PATHS: [&str; 4] = ["/nap/0", "/hello", "/hello", "/hello"];
    let site = site(&SERVICES);
    for package in &SERVICES[..3] {
        put(&site, package, &variant(package, 0));
    }
    put(&site, "without-slot", &without_slot("standard-p2"));
    site.write(&manifest(&site, &SERVICES));

    // A component that does not fit into a slot is looked up again by the engine that allocates on demand.
    for expected in [(1, 4), (5, 0)] {
        let host = site.serve();
        for (service, path) in SERVICES.iter().zip(PATHS) {
            assert_answers(&site, service, path).await;
        }
        assert_eq!(lookups(&site).await, expected, "{}", host.log());
        stop(host);
    }

    // A component that was replaced between two starts is compiled, and only that.
    put(&site, "oddities", &variant("oddities", 1));
    let host = site.serve();
    assert_answers(&site, "oddities", "/nap/0").await;
    assert_eq!(lookups(&site).await, (4, 1), "{}", host.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn services_with_the_same_component_share_the_compiled_code() {
    for package in ["oddities", "standard-p2", "standard-p3"] {
        let names: Vec<_> = (0..20).map(|number| format!("service-{number}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let site = site(&names);
        names.iter().for_each(|name| put(&site, name, &variant(package, 0)));
        site.write(&manifest(&site, &names));
        let host = site.serve();
        assert_eq!(lookups(&site).await, (0, 1), "{package}: {}", host.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_cache_entry_is_not_used() {
    let site = site(&["oddities"]);
    put(&site, "oddities", &variant("oddities", 0));
    site.write(&manifest(&site, &["oddities"]));
    stop(site.serve());
    let mut damaged = 0;
    let mut folders = vec![site.path("cache")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_none() {
                std::fs::write(&path, b"no compiled code").expect("written");
                damaged += 1;
            }
        }
    }
    assert_eq!(damaged, 1, "one component was compiled");
    let host = site.serve();
    assert_answers(&site, "oddities", "/nap/0").await;
    assert_eq!(lookups(&site).await, (0, 1), "{}", host.log());
}

/// Sends requests to the services until `is_over`, and returns how often. Every request must succeed within [`LONGEST`].
async fn serve_until(site: &Site, services: &[(&str, &str)], is_over: impl Fn() -> bool) -> usize {
    let (mut rounds, deadline) = (0, Instant::now() + 9 * PATIENCE);
    while !is_over() {
        assert!(Instant::now() < deadline, "it still compiles");
        for (service, path) in services {
            let began = Instant::now();
            assert_answers(site, service, path).await;
            assert!(began.elapsed() < LONGEST, "{service} took {:?}", began.elapsed());
        }
        rounds += 1;
    }
    rounds
}

/// Waits until the host compiles a component of this service.
async fn wait_until_compiling(admin: &Admin, service: &str) {
    admin.wait_until(service, |status| status["state"] == "compiling" || status["state"] == "swapping").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_services_serve_while_a_large_version_of_one_compiles() {
    const SERVICES: [&str; 3] = ["oddities", "standard-p2", "standard-p3"];
    for changed in ["standard-p2", "standard-p3"] {
        let site = site(&SERVICES);
        SERVICES.iter().for_each(|package| put(&site, package, &variant(package, 0)));
        site.write(&manifest(&site, &SERVICES));
        let _host = site.serve();
        let admin = site.admin();
        let swap = tokio::spawn(async move { admin.swap(changed, laborious(changed, FUNCTIONS, 1)).await });
        wait_until_compiling(&site.admin(), changed).await;
        let asked = [("oddities", "/nap/0"), ("standard-p2", "/hello"), ("standard-p3", "/hello")];
        let rounds = serve_until(&site, &asked, || swap.is_finished()).await;
        assert!(rounds > 10, "{rounds} rounds while {changed} compiled");
        let swapped = swap.await.expect("no panic");
        assert_eq!(swapped.status, 200, "{}", swapped.text());
        assert_eq!(site.admin().status(changed).await["generation"], 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn others_serve_while_a_large_service_that_was_added_compiles() {
    let site = site(&["oddities", "standard-p2"]);
    put(&site, "oddities", &variant("oddities", 0));
    put(&site, "standard-p2", &laborious("standard-p2", FUNCTIONS, 2));
    site.write(&manifest(&site, &["oddities"]));
    let host = site.serve();
    site.write(&manifest(&site, &["oddities", "standard-p2"]));
    wait_until_compiling(&site.admin(), "standard-p2").await;
    let is_there = || host.log().contains("manifest applied");
    let rounds = serve_until(&site, &[("oddities", "/nap/0")], is_there).await;
    assert!(rounds > 10, "{rounds} rounds");
    assert_answers(&site, "standard-p2", "/hello").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_serve_while_a_component_in_python_compiles() {
    let Some(python) = artifacts::polyglot("product_service") else { return };
    let site = site(&["oddities", "product-service"]);
    put(&site, "oddities", &variant("oddities", 0));
    std::fs::copy(python, site.path("product-service.wasm")).expect("copied");
    let builder = manifest(&site, &["oddities", "product-service"]).limits("product-service", "memory = \"256MiB\"");
    site.write(&manifest(&site, &["oddities"]));
    let host = site.serve();
    site.write(&builder);
    wait_until_compiling(&site.admin(), "product-service").await;
    let serves = || host.log().contains("manifest applied");
    let rounds = serve_until(&site, &[("oddities", "/nap/0")], serves).await;
    assert!(rounds > 10, "{rounds} rounds");
    assert_answers(&site, "product-service", "/products").await;
    host.wait_for_line(&["the component is compiled", "product-service"]).await;
}
