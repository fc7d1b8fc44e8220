//! Swaps: how they are started, rollbacks, canaries, the guard, and rejected versions.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{Answer, Client, Shop, artifacts, poll, variant};

/// The inventory component with an additional custom section: the same behaviour with another digest.
fn inventory(version: u8) -> Vec<u8> {
    variant("inventory-service", version)
}

async fn shop() -> Shop {
    Shop::builder().with_console().head("[swap]\nwatch = false").start().await
}

async fn swap(shop: &Shop, service: &str, bytes: Vec<u8>) -> Answer {
    shop.admin().swap(service, bytes).await
}

async fn status(shop: &Shop, service: &str) -> Value {
    shop.admin().status(service).await
}

/// The generation that served a request, from its trace.
async fn generation_of(shop: &Shop, answer: &Answer) -> i64 {
    shop.collector().generation_of("inventory-service", &answer.trace).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_serves_the_next_request_and_is_named_in_its_trace() {
    let shop = shop().await;
    let before = shop.get("inventory-service", "/inventory/1").await;
    assert_eq!(generation_of(&shop, &before).await, 1);
    let answer = swap(&shop, "inventory-service", inventory(1)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let said = answer.json();
    assert_eq!(said["generation"], 2);
    assert!(said["digest"].as_str().expect("a digest").starts_with("sha256:"));
    for step in ["compile", "verify", "probe", "publish"] {
        assert!(said["timings_ms"][step].is_number(), "{said}");
    }
    let after = shop.get("inventory-service", "/inventory/1").await;
    assert_eq!(after.json(), before.json());
    assert_eq!(generation_of(&shop, &after).await, 2);
    let swapped = shop.collector().wait_for_span("the swap", |span| span.name == "swap").await;
    assert_eq!(swapped.service, "spandrel");
    for step in ["compile", "verify", "probe", "publish", "drain"] {
        shop.collector().wait_for_span(step, |span| span.name == step && span.trace_id == swapped.trace_id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_a_service_continue_across_swaps() {
    let shop = shop().await;
    for version in 1..=3 {
        assert_eq!(shop.get("inventory-service", "/inventory/1").await.status, 200);
        assert_eq!(swap(&shop, "inventory-service", inventory(version)).await.status, 200);
        // A rejected swap changes nothing either.
        assert_eq!(swap(&shop, "inventory-service", vec![version]).await.status, 422);
    }
    let counted = |metric: &testkit::collector::Metric| {
        metric.service == "inventory-service" && metric.points.iter().any(|point| point.count == 3)
    };
    shop.collector().wait_for_metric("http.server.request.duration", counted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_versions_are_rejected_and_the_old_one_keeps_serving() {
    let shop = shop().await;
    let whole = inventory(1);
    let other = std::fs::read(artifacts::component("oddities")).expect("the fixture");
    let bad: [(&str, Vec<u8>, &str); 5] = [
        ("truncated", whole[..whole.len() / 2].to_vec(), "not valid"),
        ("text", b"hello".to_vec(), "not a WebAssembly file"),
        ("empty", Vec::new(), "not a WebAssembly file"),
        ("a core module", wat::parse_str("(module)").expect("a module"), "core WebAssembly module"),
        ("other routes", other, "drops"),
    ];
    for (what, bytes, words) in bad {
        swap(&shop, "inventory-service", bytes).await.assert_problem(422, words);
        assert_eq!(shop.get("inventory-service", "/inventory/1").await.status, 200, "after {what}");
        let status = status(&shop, "inventory-service").await;
        assert_eq!(status["generation"], 1, "after {what}");
        assert!(status["last_error"].as_str().expect("a reason").contains(words), "{status}");
    }
    swap(&shop, "nobody", inventory(1)).await.assert_problem(404, "nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_routes_are_accepted_if_allowed_explicitly() {
    let shop = shop().await;
    let bytes = std::fs::read(artifacts::component("oddities")).expect("the fixture");
    let path = "/inventory-service/component?allow-dropped-routes=true";
    let answer = shop.admin().send("PUT", path, bytes).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(shop.get("inventory-service", "/inventory/1").await.status, 404);
    let back = shop.admin().act("inventory-service", "rollback").await;
    assert_eq!(back.json()["generation"], 1);
    assert_eq!(shop.get("inventory-service", "/inventory/1").await.status, 200);
    let again = shop.admin().act("inventory-service", "rollback").await;
    again.assert_problem(409, "no earlier generation");
}

#[tokio::test(flavor = "multi_thread")]
async fn reservations_survive_a_swap() {
    let shop = shop().await;
    let path = "/inventory/1/reserve?quantity=10";
    assert_eq!(shop.post("inventory-service", path).await.json()["remaining_available"], 35);
    assert_eq!(swap(&shop, "inventory-service", inventory(1)).await.status, 200);
    assert_eq!(shop.post("inventory-service", path).await.json()["remaining_available"], 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_of_two_concurrent_swaps_wins() {
    let shop = shop().await;
    let admin = shop.admin();
    let older = tokio::spawn(async move { admin.swap("inventory-service", inventory(1)).await });
    let has_begun = |status: &Value| status["state"] == "swapping" || status["generation"] == 2;
    shop.admin().wait_until("inventory-service", has_begun).await;
    let newer = swap(&shop, "inventory-service", inventory(2)).await;
    assert_eq!(newer.status, 200, "{}", newer.text());
    let older = older.await.expect("no panic");
    if older.status != 200 {
        older.assert_problem(409, "a newer swap");
    }
    let status = status(&shop, "inventory-service").await;
    assert_eq!(status["digest"], newer.json()["digest"], "{status}");
    assert_eq!(shop.get("inventory-service", "/inventory/1").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_serves_its_share_until_it_is_promoted_or_aborted() {
    let shop = shop().await;
    let path = "/inventory-service/component?canary=50%25";
    assert_eq!(shop.admin().send("PUT", path, inventory(1)).await.status, 200);
    swap(&shop, "inventory-service", inventory(2)).await.assert_problem(409, "canary");
    for _ in 0..60 {
        shop.get("inventory-service", "/inventory/1").await;
    }
    let trial = status(&shop, "inventory-service").await;
    let share = trial["canary"]["requests"].as_u64().expect("a count");
    assert!((10..=50).contains(&share), "{trial}");
    assert_eq!(trial["state"], "canary");
    let aborted = shop.admin().act("inventory-service", "abort").await.json();
    assert_eq!(aborted["generation"], 1);
    assert_eq!(shop.admin().send("PUT", path, inventory(3)).await.status, 200);
    let promoted = shop.admin().act("inventory-service", "promote").await.json();
    assert_eq!(promoted["generation"], 3);
    let answer = shop.get("inventory-service", "/inventory/1").await;
    assert_eq!(generation_of(&shop, &answer).await, 3);
    shop.admin().act("inventory-service", "promote").await.assert_problem(409, "no canary");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_version_is_rolled_back_automatically() {
    let shop = Shop::oddities().with_console().head("[swap]\nwatch = false\nguard = \"1h\"").start().await;
    for _ in 0..50 {
        shop.get("oddities", "/print/x").await;
    }
    assert_eq!(swap(&shop, "oddities", variant("oddities", 1)).await.status, 200);
    for _ in 0..200 {
        shop.get("oddities", "/panic/x").await;
        if status(&shop, "oddities").await["generation"] == 1 {
            break;
        }
    }
    let rolled_back = shop.admin().wait_for_generation("oddities", 1).await;
    let reason = rolled_back["last_error"].to_string();
    assert!(reason.contains("generation 2 was rolled back"), "{reason}");
}

/// The misbehaving component after a swap, guarded against a previous version that has served without errors. Returns
/// the longest duration of its requests, too.
async fn guarded(limits: &str) -> (Shop, Duration) {
    let shop = Shop::oddities().with_console().head("[swap]\nwatch = false\nguard = \"1h\"").limits("oddities", limits);
    let (shop, mut longest) = (shop.start().await, Duration::ZERO);
    for _ in 0..50 {
        let began = Instant::now();
        assert_eq!(shop.get("oddities", "/print/x").await.status, 200);
        longest = longest.max(began.elapsed());
    }
    assert_eq!(swap(&shop, "oddities", variant("oddities", 1)).await.status, 200);
    (shop, longest)
}

/// Asserts that the new version still serves, and is rolled back when it becomes worse: the guard is active.
async fn assert_serves_and_is_guarded(shop: &Shop) {
    assert_eq!(status(shop, "oddities").await["generation"], 2);
    for _ in 0..400 {
        shop.get("oddities", "/panic/x").await;
    }
    shop.admin().wait_for_generation("oddities", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejections_by_the_host_do_not_roll_a_version_back() {
    let (shop, _) = guarded("").await;
    for _ in 0..100 {
        let far = shop.request("GET", "oddities", "/print/x").header("spandrel-hops", "99");
        assert_eq!(far.send().await.status, 200, "what a stranger says of hops is not believed");
        assert_eq!(shop.get("oddities", "/nowhere").await.status, 404);
    }
    let figures = status(&shop, "oddities").await["serving"].clone();
    assert_eq!(
        (&figures["requests"], &figures["refused"], &figures["error_rate"]),
        (&100.into(), &100.into(), &0.0.into())
    );
    assert_serves_and_is_guarded(&shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_and_call_loops_do_not_roll_a_version_back() {
    let origin =
        testkit::origin::Origin::start(testkit::origin::Manner { delay: Duration::MAX, ..Default::default() }).await;
    let home = format!("http://localhost:{}", testkit::ODDITIES_PORT);
    let shop = Shop::oddities().with_console().head("[swap]\nwatch = false\nguard = \"1h\"");
    let shop = shop.outbound("oddities", &format!("allow = [\"{home}\", \"{}\"]", origin.url()));
    let shop = std::sync::Arc::new(shop.limits("oddities", "concurrency = 1").start().await);
    for _ in 0..50 {
        assert_eq!(shop.get("oddities", "/print/x").await.status, 200);
    }
    assert_eq!(swap(&shop, "oddities", variant("oddities", 1)).await.status, 200);
    let (holder, path) = (shop.clone(), format!("/call?url={}/", origin.url()));
    let held = tokio::spawn(async move { holder.get("oddities", &path).await });
    origin.wait_until_asked(1).await;
    for _ in 0..100 {
        assert_eq!(shop.get("oddities", "/print/x").await.status, 503);
    }
    origin.release();
    assert_eq!(held.await.expect("no panic").status, 200);
    assert_serves_and_is_guarded(&shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_hangs_until_its_clients_disconnect_is_rolled_back() {
    let (shop, longest) = guarded("request_timeout = \"10m\"").await;
    let mut impatient = tokio::task::JoinSet::new();
    for _ in 0..30 {
        impatient.spawn(shop.request("GET", "oddities", "/nap/500000").patience(Duration::from_secs(600)).try_send());
    }
    shop.admin().wait_until("oddities", |status| status["in_flight"] == 30).await;
    // The guard counts only requests that took much longer than those of the previous version.
    let hang = Duration::from_secs(1).max(longest * 5);
    assert!(tokio::time::timeout(hang, impatient.join_next()).await.is_err(), "one was answered");
    impatient.shutdown().await;
    let status = shop.admin().wait_for_generation("oddities", 1).await;
    let reason = status["last_error"].as_str().expect("a reason");
    assert!(reason.contains("clients cancelled"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn percentiles_are_within_ten_percent() {
    let shop = Shop::oddities().with_console().start().await;
    let mut took = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(shop.get("oddities", "/nap/90").await.status, 200);
        took.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    took.sort_by(f64::total_cmp);
    let figures = status(&shop, "oddities").await["serving"].clone();
    let median = figures["p50_ms"].as_f64().expect("a median");
    // Each request took the guest 90 ms at least, and less than its client saw.
    assert!((81.0..1.1 * took[10]).contains(&median), "{figures} {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_clears_the_last_error() {
    let shop = shop().await;
    swap(&shop, "inventory-service", b"no component".to_vec()).await.assert_problem(422, "not a WebAssembly file");
    assert!(status(&shop, "inventory-service").await["last_error"].is_string());
    let path = "/inventory-service/component?canary=50%25";
    assert_eq!(shop.admin().send("PUT", path, inventory(1)).await.status, 200);
    shop.admin().act("inventory-service", "promote").await;
    assert_eq!(status(&shop, "inventory-service").await["last_error"], Value::Null);
}

/// A shop whose inventory component is a separate file.
async fn watched(component: &Path) -> Shop {
    let shop = testkit::ShopBuilder::empty().service("inventory-service", component, 8002);
    shop.with_console().head("[swap]\nwatch = true").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_a_changed_link_and_a_slow_writer_each_cause_one_swap() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("v1.wasm"), inventory(1)).expect("written");
    std::fs::write(at("v2.wasm"), inventory(2)).expect("written");
    std::os::unix::fs::symlink(at("v1.wasm"), at("live.wasm")).expect("linked");
    let shop = watched(&at("live.wasm")).await;

    std::os::unix::fs::symlink(at("v2.wasm"), at("next")).expect("linked");
    std::fs::rename(at("next"), at("live.wasm")).expect("moved");
    shop.admin().wait_for_generation("inventory-service", 2).await;

    std::fs::write(at("new"), inventory(3)).expect("written");
    std::fs::rename(at("new"), at("live.wasm")).expect("moved");
    shop.admin().wait_for_generation("inventory-service", 3).await;

    let bytes = inventory(4);
    let (first, rest) = bytes.split_at(bytes.len() / 3);
    std::fs::write(at("live.wasm"), first).expect("written");
    // Long enough for several polls of a file that has stopped growing.
    let seen = poll::until(Duration::from_millis(900), || None::<()>).await;
    assert!(seen.is_none());
    std::io::Write::write_all(
        &mut std::fs::OpenOptions::new().append(true).open(at("live.wasm")).expect("opened"),
        rest,
    )
    .expect("written");
    shop.admin().wait_for_generation("inventory-service", 4).await;
    shop.admin().wait_until("inventory-service", |status| status["swaps"] == 3).await;
    assert_eq!(status(&shop, "inventory-service").await["last_error"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_with_the_same_length_and_time_is_detected() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("live.wasm");
    std::fs::write(&file, inventory(1)).expect("written");
    let shop = watched(&file).await;
    // Another change first, after which the watcher knows the current file.
    std::fs::write(&file, inventory(2)).expect("written");
    shop.admin().wait_for_generation("inventory-service", 2).await;
    let modified = std::fs::metadata(&file).and_then(|file| file.modified()).expect("a time");
    // Like `cp -p`: the file is overwritten in place, then its time is set.
    std::fs::write(&file, inventory(3)).expect("written");
    let times = std::fs::FileTimes::new().set_modified(modified);
    std::fs::File::options().write(true).open(&file).and_then(|file| file.set_times(times)).expect("a time is set");
    shop.admin().wait_for_generation("inventory-service", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_from_web_pages_to_the_admin_api_are_rejected() {
    let shop = shop().await;
    let ask = |name: &'static str, value: &'static str| {
        let request = Client::default().request("GET", shop.console(), "/admin/v1/services");
        async move { request.header(name, value).send().await.status.as_u16() }
    };
    assert_eq!(ask("origin", "https://evil.example").await, 403);
    assert_eq!(ask("host", "evil.example").await, 403);
    assert_eq!(ask("x-harmless", "1").await, 200);
}
