//! The shop built as components of `wasi:http`: the same responses as the lean build, in this host and under
//! `wasmtime serve`, and the same trace if the host provides `wasi:otel`.
//!
//! If `wasmtime` is not installed, the tests that need it print a message and pass.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::origin::{Manner, Origin};
use testkit::{Answer, Client, Reference, Shop, ShopBuilder, artifacts};

/// The routes of each service, for the names of its spans.
const ROUTES: [(&str, &str); 3] = [
    ("product-service", r#""GET /health", "GET /products", "GET /products/recommend""#),
    (
        "user-service",
        r#""GET /health", "GET /users", "GET /users/{user_id}", "GET /users/{user_id}/recommendations",
           "GET /users/{user_id}/shopping-analysis", "GET /products/recommend""#,
    ),
    ("inventory-service", r#""GET /health", "GET /inventory/{product_id}", "POST /inventory/{product_id}/reserve""#),
];

/// Requests to which every build of a service must respond in the same way, under every host.
const PROBES: [(&str, &[&str]); 3] = [
    (
        "inventory-service",
        &[
            "GET /health",
            "HEAD /health",
            "POST /health",
            "GET /inventory/1",
            "GET /inventory/2?unused=1",
            "GET /inventory/99",
            "GET /inventory/%31",
            "GET /inventory/none",
            "GET /inventory",
            "POST /inventory/1/reserve",
            "POST /inventory/x/reserve?quantity=0",
            "POST /inventory/1/reserve?quantity=1000",
            "POST /inventory/99/reserve?quantity=1",
            "DELETE /inventory/1",
            "OPTIONS /inventory/1",
            "PURGE /inventory/1",
        ],
    ),
    (
        "product-service",
        &[
            "GET /products",
            "GET /products/recommend",
            "HEAD /products",
            "GET /products/recommend?category=books&user_id=1",
            "GET /products/recommend?category=b%20c",
            "GET /no-such-path",
        ],
    ),
    (
        "user-service",
        &[
            "GET /health",
            "GET /users/1",
            "GET /users/1/recommendations",
            "GET /users/2/shopping-analysis",
            "GET /users/x/recommendations",
            "GET /users/99",
        ],
    ),
];

/// The shop, built for hosts that provide the proposals.
fn with_proposals() -> ShopBuilder {
    ROUTES.iter().fold(Shop::builder(), |shop, (service, routes)| {
        let shop = shop.component(service, &artifacts::portable("proposals", service));
        shop.keys(service, &format!("routes = [{routes}]"))
    })
}

async fn ask(address: SocketAddr, probe: &str) -> Answer {
    let (method, path) = probe.split_once(' ').expect("method and path");
    Client::default().request(method, address, path).header("x-session-id", "s-7").send().await
}

/// The parts of a response to compare: not times, connection fields, or the trace id.
fn comparable(answer: &Answer) -> (u16, BTreeSet<(String, String)>, Value) {
    let body = serde_json::from_slice(&answer.body).map_or_else(|_| json!(answer.text()), without_variable_parts);
    // The length of the body depends on these parts.
    let is_problem = answer.header("content-type") == "application/problem+json";
    let is_constant = !is_problem && !body.to_string().contains("operation_duration_ms");
    let counts = |name: &str| match name {
        "date" | "traceresponse" | "connection" => false,
        "content-length" => is_constant,
        _ => true,
    };
    let fields = answer.headers.iter().filter(|(name, _)| counts(name.as_str()));
    let fields = fields.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    (answer.status.as_u16(), fields.collect(), body)
}

/// A body without the parts that differ between runs, and without the trace id.
fn without_variable_parts(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            fields.remove("trace_id");
            for (key, field) in fields {
                let is_time = ["operation_duration_ms", "timestamp"].contains(&key.as_str());
                *field = if is_time { Value::Null } else { without_variable_parts(field.take()) };
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_variable_parts(item.take())),
        _ => {}
    }
    value
}

async fn assert_same_responses(service: &str, lean: SocketAddr, portable: SocketAddr) {
    let probes = PROBES.iter().find(|(name, _)| *name == service).map(|(_, probes)| *probes);
    for probe in probes.expect("there are probes for the service") {
        let (expected, answer) = (ask(lean, probe).await, ask(portable, probe).await);
        assert_eq!(comparable(&answer), comparable(&expected), "{service}: {probe}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn portable_services_have_the_responses_of_lean_ones() {
    let (lean, portable) = (Shop::start().await, with_proposals().start().await);
    for (service, _) in PROBES {
        assert_same_responses(service, lean.address(service), portable.address(service)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_without_proposals_has_the_responses_of_a_lean_one() {
    let service = "inventory-service";
    let portable = ShopBuilder::empty().service(service, &artifacts::portable("plain", service), 8002).start().await;
    assert_same_responses(service, Shop::start().await.address(service), portable.address(service)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn portable_services_under_wasmtime_serve_have_the_responses_of_lean_ones() {
    let lean = Shop::start().await;
    let Some(inventory) = reference("inventory-service", &[]).await else { return };
    let url = |name: &str, at: &Reference| format!("{name}=http://{}", at.address());
    let inventory_url = url("inventory_url", &inventory);
    let flags = ["recommendation_engine", "inventory_enrichment", "personalization_enabled"];
    let flags = flags.map(|flag| format!("flag.{flag}=true"));
    let settings: Vec<&str> = flags.iter().chain([&inventory_url]).map(String::as_str).collect();
    let Some(products) = reference("product-service", &settings).await else { return };
    let settings = [inventory_url.as_str(), &url("product_url", &products)];
    let Some(users) = reference("user-service", &settings).await else { return };
    for (service, portable) in
        [("inventory-service", &inventory), ("product-service", &products), ("user-service", &users)]
    {
        assert_same_responses(service, lean.address(service), portable.address()).await;
    }
    let large = |address| async move {
        let request = Client::default().request("POST", address, "/inventory/1/reserve?quantity=1");
        request.body(vec![b'x'; (1 << 20) + 1]).send().await
    };
    let (expected, answer) = (large(lean.address("inventory-service")).await, large(inventory.address()).await);
    assert_eq!(comparable(&answer), comparable(&expected));
    // Its draft of wasi:keyvalue has no compare-and-swap, so the update fails instead of risking a lost write.
    let refused = ask(inventory.address(), "POST /inventory/1/reserve?quantity=1").await;
    assert_eq!((refused.status.as_u16(), refused.json()["title"].as_str()), (500, Some("Internal Server Error")));
}

/// A service of the plain build under `wasmtime serve`, with these environment variables.
async fn reference(service: &str, environment: &[&str]) -> Option<Reference> {
    let component: PathBuf = artifacts::portable("plain", service);
    let mut options = vec!["-S".to_owned(), "keyvalue".to_owned()];
    options.extend(environment.iter().flat_map(|variable| ["--env".to_owned(), (*variable).to_owned()]));
    let serve = move || Reference::serve(&component, &options.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(serve).await.expect("the reference starts")
}

/// The compared attributes: those that guests set, and the route.
const SHOWN: [&str; 9] = [
    "http.route",
    "error.type",
    "custom.operation_type",
    "enrichment.successful_calls",
    "feature_flag.inventory_enrichment",
    "recommendation.user_score",
    "inventory.found",
    "inventory.quantity",
    "warehouse.location",
];

/// The trace of a request as text.
async fn traced(builder: ShopBuilder, service: &str, path: &str) -> String {
    let shop = builder.start().await;
    let answer = shop.get(service, path).await;
    shop.whole_trace(&answer.trace).await.text(&SHOWN)
}

#[tokio::test(flavor = "multi_thread")]
async fn portable_services_have_the_span_tree_of_lean_ones() {
    let path = "/users/1/shopping-analysis";
    let (lean, portable) =
        (traced(Shop::builder(), "user-service", path), traced(with_proposals(), "user-service", path));
    let (lean, portable) = (lean.await, portable.await);
    assert_eq!(portable, lean);
    let expected = "inventory-service GET /inventory/{product_id} SERVER http.route=/inventory/{product_id}\n";
    assert!(portable.contains(expected), "{portable}");
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_a_failed_request_are_errors_in_a_portable_service() {
    let nowhere = format!("http://{}", testkit::process::free_address());
    let broken = |shop: ShopBuilder| shop.without("product-service").env("PRODUCT_SERVICE_URL", &nowhere);
    let path = "/users/1/recommendations";
    let lean = traced(broken(Shop::builder()), "user-service", path).await;
    assert_eq!(traced(broken(with_proposals()), "user-service", path).await, lean);
    assert!(lean.contains("get_user_recommendations INTERNAL ERROR"), "{lean}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portable_service_calls_other_services_concurrently() {
    // No call has a response before all have started.
    let origin = Origin::start(Manner { delay: Duration::MAX, ..Manner::default() }).await;
    let shop = with_proposals().without("inventory-service").env("INVENTORY_SERVICE_URL", &origin.url()).start().await;
    let asked = tokio::spawn(shop.request("GET", "product-service", "/products/recommend").send());
    origin.wait_until_asked(3).await;
    origin.release();
    let answer = asked.await.expect("no panic");
    let tree = shop.whole_trace(&answer.trace).await;
    let calls = tree.named("GET");
    let (last_start, first_end) = (calls.iter().map(|call| call.start).max(), calls.iter().map(|call| call.end).min());
    assert_eq!(calls.len(), 3);
    assert!(last_start <= first_end, "one call waited for another");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portable_service_can_call_only_allowed_origins() {
    let shop = with_proposals().outbound("product-service", "allow = []").start().await;
    let answer = shop.get("product-service", "/products/recommend?category=books").await;
    let book = json!({"id": 3, "name": "Programming Book", "category": "books", "price": 49.99});
    assert_eq!(answer.json()["products"], json!([book]));
    let fits = |record: &testkit::collector::LogRecord| record.attributes.contains_key("error");
    let record = shop.collector().wait_for_log("the refusal", fits).await;
    assert_eq!(record.trace_id, answer.trace.to_string());
    assert_eq!(record.attributes["error"], "the manifest does not allow calls to http://localhost:8002");
    let tree = shop.whole_trace(&answer.trace).await;
    assert!(tree.line("product-service GET CLIENT").is_error());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portable_service_stores_values_and_exports_metrics() {
    let shop = with_proposals().start().await;
    let reserve = || async { shop.post("inventory-service", "/inventory/1/reserve?quantity=2").await };
    for remaining in [43, 41] {
        let expected = json!({"success": true, "reserved_quantity": 2, "remaining_available": remaining});
        reserve().await.assert_json(200, &expected);
    }
    shop.collector()
        .wait_for_metric("inventory.pieces.reserved", |metric| metric.points.iter().any(|point| point.value == 4.0))
        .await;
}
