//! Misbehaving candidates, and swaps during requests: the serving version is not affected.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use testkit::origin::{Manner, Origin};
use testkit::{Admin, Kind, ODDITIES_PORT, Outcome, PATIENCE, Shop, ShopBuilder, Span, artifacts, padded, variant};

const UNWATCHED: &str = "[swap]\nwatch = false";

/// A host with the misbehaving component, whose new versions are probed with `probe`. The initial version is not
/// probed.
async fn probed(probe: &str) -> Shop {
    let builder = Shop::oddities().keys("oddities", &format!("probe = \"{probe}\"")).with_console().head(UNWATCHED);
    builder.limits("oddities", "request_timeout = \"5s\"\nmemory = \"32MiB\"").start().await
}

/// Asserts that a swap is rejected with a reason that contains these words, in the response, the status, the trace of
/// the swap, its log record and the metric.
async fn assert_refused(shop: &Shop, service: &str, bytes: Vec<u8>, words: &[&str]) {
    let before = shop.admin().status(service).await;
    let answer = shop.admin().swap(service, bytes).await;
    words.iter().for_each(|word| answer.assert_problem(422, word));
    let status = shop.admin().status(service).await;
    assert_eq!(status["generation"], before["generation"]);
    assert_eq!(status["state"], "serving");
    let reason = status["last_error"].as_str().expect("a reason").to_owned();
    assert!(words.iter().all(|word| reason.contains(word)), "{reason}");
    let told = |record: &testkit::collector::LogRecord| record.attributes.get("reason") == Some(&json!(reason));
    let record = shop.collector().wait_for_log("the refusal", told).await;
    assert_eq!((record.severity.as_str(), &record.attributes["outcome"]), ("WARN", &json!("refused")));
    let same = |span: &Span| span.name == "swap" && span.trace_id == record.trace_id;
    let span = shop.collector().wait_for_span("the refused swap", same).await;
    assert!(span.is_error());
    span.assert_attribute("error.type", "swap_refused");
    span.assert_attribute("spandrel.service", service);
    wait_for_outcome(shop, service, "refused").await;
}

/// Waits until the metric counts a swap of a service with this outcome.
async fn wait_for_outcome(shop: &Shop, service: &str, outcome: &str) {
    let counted = |metric: &testkit::collector::Metric| {
        let mut points = metric.points.iter();
        metric.service == service
            && points.any(|point| point.attributes.get("outcome") == Some(&json!(outcome)) && point.value >= 1.0)
    };
    shop.collector().wait_for_metric("spandrel.component.swaps", counted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_traps_in_its_probe_is_rejected() {
    let shop = probed("/panic/the-shelf-fell").await;
    let words = ["GET /panic/the-shelf-fell", "trapped", "the-shelf-fell"];
    assert_refused(&shop, "oddities", variant("oddities", 1), &words).await;
    assert_eq!(shop.get("oddities", "/health").await.status, 200);
    let name = "probe /panic/the-shelf-fell";
    let probe = shop.collector().wait_for_span(name, |span| span.name == name).await;
    assert_probe_failed(&probe, "wasm_trap", "the-shelf-fell (");
    assert!(probe.event("exception").is_some(), "{probe}");
}

/// Asserts that the span of a probe is an error with this type and message.
#[track_caller]
fn assert_probe_failed(probe: &Span, kind: &str, message: &str) {
    assert!(matches!(&probe.outcome, Outcome::Error(said) if said.contains(message)), "{probe:#?}");
    probe.assert_attribute("error.type", kind);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_loops_in_its_probe_is_rejected_and_blocks_no_request() {
    let shop = probed("/spin").await;
    let admin = shop.admin();
    let swap = tokio::spawn(async move { admin.swap("oddities", variant("oddities", 1)).await });
    shop.admin().wait_until("oddities", |status| status["state"] == "swapping").await;
    let mut served = 0;
    while !swap.is_finished() {
        assert_eq!(shop.get("oddities", "/health").await.status, 200);
        served += 1;
    }
    assert!(served > 1, "only {served} requests were served meanwhile");
    let answer = swap.await.expect("no panic");
    answer.assert_problem(422, "GET /spin");
    answer.assert_problem(422, "request_timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_exceeds_its_memory_in_its_probe_is_rejected() {
    let shop = probed("/grow").await;
    assert_refused(&shop, "oddities", variant("oddities", 1), &["GET /grow", "trapped"]).await;
    assert_eq!(shop.get("oddities", "/health").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_a_failed_probe_is_reported() {
    // In place of product-service, user-service cannot reach product-service and reports that it is unhealthy.
    let shop = Shop::builder().with_console().head(UNWATCHED).start().await;
    let swap = async |shop: &Shop, service: &str, bytes| {
        shop.admin().send("PUT", &format!("/{service}/component?allow-dropped-routes=true"), bytes).await
    };
    let answer = swap(&shop, "product-service", variant("user-service", 0)).await;
    answer.assert_problem(422, "the probe GET /health of the new version answered 503");
    let probe = shop.collector().wait_for_span("the probe", |span| span.name == "probe /health").await;
    assert_probe_failed(&probe, "503", "answered 503");
    probe.assert_attribute("http.response.status_code", 503);
    let shop = Shop::oddities().with_console().head(UNWATCHED).keys("oddities", "probe = \"/count\"").start().await;
    let answer = swap(&shop, "oddities", variant("inventory-service", 0)).await;
    answer.assert_problem(422, "the probe GET /count of the new version has no route");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_whose_probe_fails_like_the_serving_version_is_accepted() {
    let shop = probed("/status/503").await;
    assert_eq!(shop.admin().swap("oddities", variant("oddities", 1)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_candidates_leave_no_instances() {
    let shop = probed("/panic/again").await;
    let before = shop.admin().metric("spandrel_host_instances").await;
    for version in 1..=5 {
        assert_eq!(shop.admin().swap("oddities", variant("oddities", version)).await.status, 422);
    }
    // Idle instances of the serving version may have been dropped meanwhile.
    wait_for_instances(&shop.admin(), |instances, _| instances <= before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_imports_missing_exports_and_dropped_routes_are_named() {
    let shop = Shop::builder().with_console().head(UNWATCHED).start().await;
    let wat = |text: &str| wat::parse_str(text).expect("good WebAssembly text");
    let alien = wat("(component
            (import \"acme:rockets/launch@1.0.0\" (instance (export \"launch\" (func))))
            (instance $handler)
            (export \"spandrel:service/handler@0.1.0\" (instance $handler)))");
    assert_refused(&shop, "inventory-service", alien, &["imports `acme:rockets/launch@1.0.0`"]).await;
    let no_handler = wat("(component)");
    assert_refused(&shop, "inventory-service", no_handler, &["does not export `spandrel:service/handler@0.1.0`"]).await;
    let standard = wat("(component
            (instance $handler)
            (export \"wasi:http/incoming-handler@0.2.0\" (instance $handler)))");
    assert_refused(
        &shop,
        "inventory-service",
        standard,
        &["`wasi:http/incoming-handler@0.2.", "does not have export `handle`"],
    )
    .await;
    let other = variant("oddities", 0);
    let words = ["GET /inventory/{product_id}", "POST /inventory/{product_id}/reserve", "--allow-dropped-routes"];
    assert_refused(&shop, "inventory-service", other, &words).await;
    let dropped = |span: &Span| span.attributes.contains_key("spandrel.swap.routes.dropped");
    let span = shop.collector().wait_for_span("a swap that drops routes", dropped).await;
    let added = span.attribute("spandrel.swap.routes.added").to_string();
    assert!(added.contains("GET /twice"), "{added}");
    let is_fault = |step: &Span| step.parent.as_ref() == Some(&span.span_id) && step.is_error();
    let step = shop.collector().wait_for_span("the step at fault", is_fault).await;
    assert_eq!(step.name, "verify");
}

#[tokio::test(flavor = "multi_thread")]
async fn promote_and_abort_without_a_canary_are_rejected_and_traced() {
    let shop = Shop::builder().with_console().head(UNWATCHED).start().await;
    for action in ["promote", "abort"] {
        shop.admin().act("product-service", action).await.assert_problem(409, "canary");
        let is_refused = |span: &Span| span.name == action && span.is_error();
        let span = shop.collector().wait_for_span(action, is_refused).await;
        assert_eq!(span.attribute("error.type"), "swap_refused");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_outcome_is_counted_and_is_a_log_record_of_its_trace() {
    let shop = Shop::builder().with_console().head(UNWATCHED).start().await;
    let (admin, service) = (shop.admin(), "product-service");
    assert_eq!(admin.swap(service, variant(service, 1)).await.status, 200);
    assert_eq!(admin.act(service, "rollback").await.status, 200);
    for (version, end) in [(2, "promote"), (3, "abort")] {
        let path = format!("/{service}/component?canary=10%25");
        assert_eq!(admin.send("PUT", &path, variant(service, version)).await.status, 200);
        assert_eq!(admin.act(service, end).await.status, 200);
    }
    for (name, outcome) in [
        ("swap", "swapped"),
        ("swap", "canary_started"),
        ("rollback", "rolled_back"),
        ("promote", "promoted"),
        ("abort", "aborted"),
    ] {
        wait_for_outcome(&shop, service, outcome).await;
        let body = json!(format!("{name}: {outcome}"));
        let record = shop.collector().wait_for_log(outcome, |record| record.body == body).await;
        assert_eq!(record.severity, "INFO");
        let is_root = |span: &testkit::Span| span.name == name && span.trace_id == record.trace_id;
        let span = shop.collector().wait_for_span(name, is_root).await;
        assert!(!span.is_error(), "{span}");
        assert!(span.attribute("spandrel.component.generation").is_number());
        assert_eq!(record.attributes["spandrel.service"], service);
        assert_eq!(record.attributes["spandrel.component.digest"], *span.attribute("spandrel.component.digest"));
    }
    // A swap that changes nothing is neither counted as a swap nor as a failure.
    let again = admin.swap(service, variant(service, 2)).await.json();
    assert_eq!(again["changed"], false);
    let swaps = shop.shut_down().await.spans().into_iter().filter(|span| span.name == "swap");
    assert!(swaps.map(|span| span.is_error()).all(|failed| !failed));
}

/// A component with this many additional bytes.
fn large(version: u8, bytes: usize) -> Vec<u8> {
    padded("inventory-service", &vec![version; bytes])
}

fn watched(component: &Path) -> ShopBuilder {
    ShopBuilder::empty().service("inventory-service", component, 8002).with_console()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_of_20_megabytes_is_swapped_in_over_the_network_and_from_the_file() {
    const SIZE: usize = 20 << 20;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("live.wasm");
    std::fs::write(&file, variant("inventory-service", 0)).expect("written");
    let shop = watched(&file).start().await;
    let put = shop.admin().swap("inventory-service", large(1, SIZE)).await;
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(put.json()["generation"], 2);
    std::fs::write(&file, large(2, SIZE)).expect("written");
    shop.admin().wait_for_generation("inventory-service", 3).await;
    assert_eq!(shop.get("inventory-service", "/inventory/1").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_over_the_size_limit_is_rejected() {
    let shop = watched(&artifacts::component("inventory-service")).start().await;
    let answer = shop.admin().swap("inventory-service", vec![0; (128 << 20) + 1]).await;
    answer.assert_problem(413, "larger than");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_file_is_rejected_with_a_reason_and_a_valid_one_afterwards_is_swapped_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("live.wasm");
    let whole = variant("inventory-service", 1);
    std::fs::write(&file, variant("inventory-service", 0)).expect("written");
    let shop = watched(&file).start().await;
    let bad: [(Vec<u8>, &str); 4] = [
        (b"#!/bin/sh".to_vec(), "not a WebAssembly file"),
        (whole[..whole.len() / 2].to_vec(), "not valid"),
        (wat::parse_str("(module)").expect("a module"), "core WebAssembly module"),
        (variant("oddities", 0), "GET /inventory/{product_id}"),
    ];
    for (bytes, words) in bad {
        std::fs::write(&file, bytes).expect("written");
        let refused = |status: &Value| status["last_error"].as_str().is_some_and(|reason| reason.contains(words));
        let status = shop.admin().wait_until("inventory-service", refused).await;
        assert_eq!(status["generation"], 1);
        assert_eq!(shop.get("inventory-service", "/inventory/1").await.status, 200, "after {words}");
    }
    std::fs::write(&file, whole).expect("written");
    shop.admin().wait_for_generation("inventory-service", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manual_swap_right_after_the_start_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, other) = (folder.path().join("live.wasm"), folder.path().join("other.wasm"));
    std::fs::write(&file, variant("inventory-service", 0)).expect("written");
    std::fs::write(&other, variant("oddities", 0)).expect("written");
    let shop = watched(&file).service("oddities", &other, ODDITIES_PORT).start().await;
    assert_eq!(shop.admin().swap("inventory-service", variant("inventory-service", 1)).await.status, 200);
    // When a change of another file has been detected, this file has been polled, too.
    std::fs::write(&other, variant("oddities", 1)).expect("written");
    shop.admin().wait_for_generation("oddities", 2).await;
    assert_eq!(shop.admin().status("inventory-service").await["generation"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn restoring_the_serving_file_cancels_a_swap_in_progress() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("live.wasm");
    std::fs::write(&file, variant("oddities", 0)).expect("written");
    let spinning = Shop::oddities().without("oddities").service("oddities", &file, ODDITIES_PORT);
    let shop = spinning.keys("oddities", "probe = \"/spin\"").limits("oddities", "request_timeout = \"60s\"");
    let shop = shop.with_console().start().await;
    replace(&file, &variant("oddities", 1));
    shop.admin().wait_until("oddities", |status| status["state"] == "swapping").await;
    replace(&file, &variant("oddities", 0));
    // Long before the probe would have timed out.
    let status = shop.admin().wait_until("oddities", |status| status["state"] == "serving").await;
    assert_eq!((&status["generation"], &status["last_error"]), (&json!(1), &Value::Null), "{status}");
}

/// Replaces a file atomically: the watcher never sees a part of it.
fn replace(file: &Path, content: &[u8]) {
    let next = file.with_extension("next");
    std::fs::write(&next, content).expect("written");
    std::fs::rename(next, file).expect("renamed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_version_cancels_one_that_is_being_probed() {
    let shop = Shop::oddities().keys("oddities", "probe = \"/spin\"").with_console().head(UNWATCHED);
    let shop = shop.limits("oddities", "request_timeout = \"60s\"").start().await;
    let admin = shop.admin();
    let older = tokio::spawn(async move { admin.swap("oddities", variant("oddities", 1)).await });
    shop.admin().wait_until("oddities", |status| status["state"] == "swapping").await;
    let admin = shop.admin();
    let newer = tokio::spawn(async move { admin.swap("oddities", variant("oddities", 2)).await });
    older.await.expect("no panic").assert_problem(409, "a newer swap");
    // A rollback needs no probe. Without an earlier version it fails immediately.
    shop.admin().act("oddities", "rollback").await.assert_problem(409, "no earlier generation");
    newer.await.expect("no panic").assert_problem(409, "a newer swap");
}

/// Two services with the misbehaving component, `front` and `back`, that may call each other and `origin`.
async fn front_and_back(origin: &Origin) -> Shop {
    let component = artifacts::component("oddities");
    let allow = format!("allow = [\"http://localhost:8006\", \"http://localhost:8007\", \"{}\"]", origin.url());
    let builder = ShopBuilder::empty().service("front", &component, 8006).service("back", &component, 8007);
    builder.outbound("front", &allow).outbound("back", &allow).with_console().head(UNWATCHED).start().await
}

fn hanging() -> Manner {
    Manner { delay: std::time::Duration::MAX, ..Manner::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_end_on_the_old_generation_and_new_ones_use_the_new_one() {
    let origin = Origin::start(hanging()).await;
    let shop = std::sync::Arc::new(front_and_back(&origin).await);
    let slow: Vec<_> = (0..8)
        .map(|_| {
            let (shop, path) = (shop.clone(), format!("/call?url={}/", origin.url()));
            tokio::spawn(async move { shop.get("back", &path).await })
        })
        .collect();
    origin.wait_until_asked(8).await;
    assert_eq!(shop.admin().swap("back", variant("oddities", 1)).await.status, 200);
    let during = shop.get("back", "/health").await;
    assert_eq!(shop.collector().generation_of("back", &during.trace).await, 2);
    let status = shop.admin().status("back").await;
    assert_eq!(status["in_flight"], 8, "{status}");
    assert_eq!(drains(&shop), 0, "the old generation drains until its requests have ended");
    origin.release();
    for request in slow {
        let answer = request.await.expect("no panic");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(shop.collector().generation_of("back", &answer.trace).await, 1);
    }
    shop.collector().wait_for_span("the drain", |span| span.name == "drain" && !span.is_error()).await;
    // The old generation has no instance any more.
    wait_for_instances(&shop.admin(), |instances, live| instances == live).await;
}

/// Waits until the numbers of instances, of the host and of the serving generations, satisfy a condition.
async fn wait_for_instances(admin: &Admin, fits: impl Fn(f64, f64) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let live = admin.metric("spandrel_instances_live").await;
        let instances = admin.metric("spandrel_host_instances").await;
        if fits(instances, live) {
            return;
        }
        assert!(Instant::now() < deadline, "{instances} instances exist, of which {live} serve");
    }
}

fn drains(shop: &Shop) -> usize {
    shop.collector().spans().iter().filter(|span| span.name == "drain").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_local_calls_of_a_request_use_the_same_generation() {
    let origin = Origin::start(hanging()).await;
    let shop = std::sync::Arc::new(front_and_back(&origin).await);
    let path =
        format!("/twice?first=http://localhost:8007/call?url={}/&then=http://localhost:8007/health", origin.url());
    let request = {
        let shop = shop.clone();
        tokio::spawn(async move { shop.get("front", &path).await })
    };
    origin.wait_until_asked(1).await;
    assert_eq!(shop.admin().swap("back", variant("oddities", 1)).await.status, 200);
    origin.release();
    let answer = request.await.expect("no panic");
    let outcomes: Vec<_> = answer.json().as_array().into_iter().flatten().map(|one| one["status"].clone()).collect();
    assert_eq!(outcomes, [200, 200], "{}", answer.text());
    let tree = shop.trace(&answer.trace, 6).await;
    let servers = tree.spans().iter().filter(|span| span.kind == Kind::Server && span.service == "back");
    let generations: Vec<_> = servers.map(|span| span.attribute("spandrel.component.generation").clone()).collect();
    assert_eq!(generations, [1, 1], "{}", tree.text(&["spandrel.component.generation"]));
    let later = shop.get("front", "/twice?first=http://localhost:8007/health&then=http://localhost:8007/health").await;
    assert_eq!(shop.collector().generation_of("back", &later.trace).await, 2);
}
