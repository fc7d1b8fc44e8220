//! Swaps with the command line, and a host that is killed during a swap. With the host's binary.

use std::time::Duration;

use serde_json::Value;
use testkit::process::Ended;
use testkit::{Client, ShopBuilder, Site, Spandrel, artifacts, poll, variant};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const SERVICE: &str = "inventory-service";

/// The shop without file watching, with versions of its inventory component in the files `1.wasm` to `3.wasm`.
fn shop() -> (Site, ShopBuilder) {
    let (site, builder) = Site::shop();
    let builder = builder.head("[swap]\nwatch = false");
    site.write(&builder);
    for version in 1..=3 {
        site.replace(&format!("{version}.wasm"), &variant(SERVICE, version));
    }
    (site, builder)
}

/// Runs `spandrel swap` with version `file` of the inventory component and more arguments.
fn swap(site: &Site, file: &str, more: &[&str]) -> Ended {
    let path = site.path(file).display().to_string();
    site.run(&[&["swap", SERVICE, path.as_str()], more].concat())
}

#[track_caller]
fn assert_says(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    words.iter().for_each(|word| assert!(ended.stdout.contains(word), "`{word}` is not in {}", ended.stdout));
}

#[track_caller]
fn assert_fails(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert_eq!(ended.stdout, "");
    words.iter().for_each(|word| assert!(ended.stderr.contains(word), "`{word}` is not in {}", ended.stderr));
    assert_eq!(ended.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_swap_and_rollback_work_on_a_running_host() {
    let (site, _) = shop();
    let _host = site.serve();
    let table = site.run(&["status"]);
    assert_says(&table, &["SERVICE", "STATE", "user-service", "product-service", SERVICE, "serving", "sha256:"]);
    assert_eq!(table.stdout.lines().count(), 4, "{}", table.stdout);

    assert_says(&swap(&site, "1.wasm", &[]), &["inventory-service now serves generation 2", "compile", "probe", "ms"]);
    assert_says(&swap(&site, "1.wasm", &[]), &["already serves this component"]);
    let json = swap(&site, "2.wasm", &["--json"]);
    let said: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!((&said["generation"], &said["changed"]), (&3.into(), &true.into()));

    let status = site.run(&["status", "--json"]);
    let all: Value = serde_json::from_str(&status.stdout).expect("JSON");
    let inventory = all.as_array().into_iter().flatten().find(|one| one["name"] == SERVICE).expect("the service");
    assert_eq!(inventory["generation"], 3);
    assert_eq!(inventory["earlier_generations"], serde_json::json!([1, 2]));
    assert_eq!(inventory["digest"], said["digest"]);

    assert_says(&site.run(&["rollback", SERVICE]), &["now serves generation 2"]);
    assert_says(&site.run(&["rollback", SERVICE, "--json"]), &["\"generation\": 1"]);
    assert_fails(&site.run(&["rollback", SERVICE]), &["409", "no earlier generation"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_last_three_generations_are_kept() {
    let (site, _) = shop();
    let _host = site.serve();
    for version in 1..=5 {
        assert_eq!(site.admin().swap(SERVICE, variant(SERVICE, version)).await.status, 200);
    }
    assert_eq!(site.admin().status(SERVICE).await["earlier_generations"], serde_json::json!([3, 4, 5]));
    for generation in [5, 4, 3] {
        let words = format!("now serves generation {generation}");
        assert_says(&site.run(&["rollback", SERVICE]), &[&words]);
    }
    assert_fails(&site.run(&["rollback", SERVICE]), &["no earlier generation"]);
    // Generation numbers are not reused.
    assert_says(&swap(&site, "3.wasm", &[]), &["generation 7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_is_shown_beside_the_serving_version_and_can_be_promoted_or_aborted() {
    let (site, _) = shop();
    let host = site.serve();
    let client = Client::default();
    for _ in 0..30 {
        let request = client.request("GET", site.address(SERVICE), "/inventory/1");
        assert_eq!(request.send().await.status, 200);
    }
    assert_says(&swap(&site, "1.wasm", &["--canary", "10"]), &["serves 10% of its requests with generation 2"]);
    host.wait_for_line(&["swap: canary_started", "outcome=\"canary_started\""]).await;
    assert_fails(&swap(&site, "2.wasm", &[]), &["generation 2 runs as a canary"]);
    let mut served = std::collections::BTreeMap::new();
    for _ in 0..200 {
        // The same trace id is always routed to the same version.
        let trace = testkit::TraceId::fresh();
        let before = requests(&site).await;
        for _ in 0..2 {
            let request = client.request("GET", site.address(SERVICE), "/inventory/1").in_trace(&trace);
            assert_eq!(request.send().await.status, 200);
        }
        let after = requests(&site).await;
        let by = (after.0 - before.0, after.1 - before.1);
        assert!(by == (2, 0) || by == (0, 2), "one trace was served by both versions: {by:?}");
        *served.entry(by).or_insert(0) += 1;
    }
    let canary = served.get(&(0, 2)).copied().unwrap_or(0);
    assert!((5..=45).contains(&canary), "{canary} of 200 traces are no tenth");
    let table = site.run(&["status"]);
    assert_says(&table, &["RATE/S", "ERRORS", "P50 MS", "P99 MS", "canary 10.0%"]);
    let rows: Vec<_> = table.stdout.lines().filter(|line| line.starts_with("inventory-service  ")).collect();
    assert_eq!(rows.len(), 2, "{}", table.stdout);
    let status = site.admin().status(SERVICE).await;
    // The statistics of both versions start with the canary.
    assert_eq!(status["serving"]["requests"], 400 - 2 * canary, "{status}");
    for version in ["serving", "canary"] {
        for figure in ["rate", "error_rate", "p50_ms", "p99_ms"] {
            assert!(status[version][figure].is_number(), "{version} {figure}: {status}");
        }
    }
    assert_says(&site.run(&["abort", SERVICE]), &["now serves generation 1"]);
    assert_fails(&site.run(&["abort", SERVICE]), &["409", "no canary"]);
    assert_says(&swap(&site, "3.wasm", &["--canary", "0.5%"]), &["0.5%", "generation 3"]);
    assert_says(&site.run(&["promote", SERVICE]), &["now serves generation 3"]);
    assert_fails(&site.run(&["promote", SERVICE]), &["no canary"]);
    assert_says(&site.run(&["rollback", SERVICE]), &["now serves generation 1"]);
}

/// The numbers of requests of the serving version and of the canary since the canary began.
async fn requests(site: &Site) -> (u64, u64) {
    let status = site.admin().status(SERVICE).await;
    let count = |version: &str| status[version]["requests"].as_u64().expect("a count");
    (count("serving"), count("canary"))
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_commands_print_one_message_and_exit_with_2() {
    let (site, _) = shop();
    assert_fails(&site.run(&["status"]), &["no host answers at http://127.0.0.1:", "spandrel run"]);
    let _host = site.serve();
    std::fs::write(site.path("no.wasm"), "no component").expect("written");
    assert_fails(&swap(&site, "no.wasm", &[]), &["422", "not a WebAssembly file"]);
    assert_fails(&swap(&site, "missing.wasm", &[]), &["missing.wasm cannot be read"]);
    assert_fails(&swap(&site, "1.wasm", &["--canary", "lots"]), &["`lots` is not a valid share for a canary"]);
    assert_fails(&swap(&site, "1.wasm", &["--canary", "200%"]), &["200% would serve all requests", "less than 100%"]);
    let file = site.path("1.wasm").display().to_string();
    assert_fails(&site.run(&["swap", "nobody", &file]), &["404", "no service `nobody`"]);
    assert_fails(&site.run(&["rollback", "nobody"]), &["404", "no service `nobody`"]);
    assert_says(&site.run(&["status"]), &["inventory-service: this is not a WebAssembly file"]);
    let promoted = site.run(&["promote", SERVICE]);
    assert_fails(&promoted, &["no canary is running for this service", "--canary 10%"]);

    let oddities = artifacts::component("oddities").display().to_string();
    let dropping = ["swap", SERVICE, oddities.as_str()];
    assert_fails(&site.run(&dropping), &["drops GET /inventory/{product_id}", "--allow-dropped-routes"]);
    let allowed = [&dropping[..], &["--allow-dropped-routes"]].concat();
    assert_says(&site.run(&allowed), &["now serves generation 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_need_the_token_if_one_is_set() {
    let (site, _) = shop();
    let site = site.env("SPANDREL_ADMIN_TOKEN", TOKEN);
    let _host = site.serve();
    assert_says(&site.run(&["status"]), &[SERVICE]);
    assert_says(&swap(&site, "1.wasm", &[]), &["now serves generation 2"]);
    for wrong in ["", "fedcba9876543210fedcba9876543210"] {
        let console = format!("http://{}", site.console());
        let environment = if wrong.is_empty() { vec![] } else { vec![("SPANDREL_ADMIN_TOKEN", wrong)] };
        let ended = testkit::process::run(&["status", "--console", &console], &environment);
        assert_fails(&ended, &["401"]);
        assert!(!ended.stderr.contains(TOKEN));
    }
}

/// Starts a swap by replacing the file, and kills the host `later` after the swap has begun or, if `seen` is false,
/// after the file was replaced.
async fn kill_during_swap(host: Spandrel, site: &Site, version: u8, (seen, later): (bool, Duration)) {
    site.replace("inventory-service.wasm", &variant(SERVICE, version));
    if seen {
        site.admin().wait_until(SERVICE, |status| status["state"] == "swapping" || status["generation"] == 2).await;
    }
    poll::until(later, || None::<()>).await;
    host.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_killed_during_a_swap_restarts_with_its_state() {
    let (site, _) = Site::shop();
    // A separate cache folder, so that the swaps have to compile.
    let cache = site.path("cache").display().to_string();
    let site = site.env("SPANDREL_CACHE_DIR", &cache);
    let client = Client::default();
    let reserve = async |left: u64| {
        let path = "/inventory/2/reserve?quantity=1";
        let answer = client.request("POST", site.address(SERVICE), path).send().await;
        assert_eq!(answer.json()["remaining_available"], left, "{}", answer.text());
    };
    let mut left = 110;
    let mut generations = Vec::new();
    // From before the change is detected until after the new version serves.
    let after = |milliseconds| (false, Duration::from_millis(milliseconds));
    let into = |milliseconds| (true, Duration::from_millis(milliseconds));
    let moments = [after(0), into(0), into(50), into(100), into(200), into(400), after(300), after(1500)];
    for (round, moment) in moments.into_iter().enumerate() {
        let host = site.serve();
        left -= 1;
        reserve(left).await;
        let status = site.admin().status(SERVICE).await;
        assert_eq!((&status["generation"], &status["state"]), (&1.into(), &"serving".into()), "{status}");
        kill_during_swap(host, &site, round as u8 + 1, moment).await;
        generations.push(status["digest"].clone());
    }
    generations.dedup();
    assert_eq!(generations.len(), 8, "every start took the file as it was");
    let _host = site.serve();
    reserve(left - 1).await;
    let answer = client.request("GET", site.address("user-service"), "/users/1/recommendations").send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_can_be_stopped_during_a_swap() {
    let site = Site::new(&["oddities"]);
    let component = artifacts::component("oddities");
    let builder = ShopBuilder::empty().console_port(site.console().port());
    let builder = builder.service("oddities", &component, site.address("oddities").port());
    let builder = builder.keys("oddities", "probe = \"/spin\"").limits("oddities", "request_timeout = \"60s\"");
    site.write(&builder);
    let host = site.serve();
    let admin = site.admin();
    let swap = tokio::spawn(async move { admin.swap("oddities", variant("oddities", 1)).await });
    site.admin().wait_until("oddities", |status| status["state"] == "swapping").await;
    host.signal("TERM");
    swap.await.expect("no panic").assert_problem(409, "the host is stopping");
    let ended = tokio::task::spawn_blocking(move || host.wait(Duration::from_secs(50)));
    let ended = ended.await.expect("the host ends before the probe would have");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}
