//! Standard components have the same responses under this host and under `wasmtime serve` of the same release.
//!
//! If `wasmtime` is not installed, these tests print a message and pass.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use testkit::{Answer, Client, Reference, Shop, ShopBuilder, artifacts};

/// A request to send to both.
struct Probe {
    method: &'static str,
    path: &'static str,
    body: &'static str,
}

const fn get(path: &'static str) -> Probe {
    Probe { method: "GET", path, body: "" }
}

const fn post(path: &'static str, body: &'static str) -> Probe {
    Probe { method: "POST", path, body }
}

/// Requests to which the standard components must respond in the same way under both hosts.
const PROBES: [Probe; 26] = [
    get("/hello"),
    Probe { method: "HEAD", path: "/hello", body: "" },
    get("/health"),
    get("/status?code=201"),
    get("/status?code=204"),
    get("/status?code=304"),
    get("/status?code=418"),
    get("/no-body?code=200"),
    get("/no-body?code=302"),
    get("/no-body?code=304"),
    Probe { method: "HEAD", path: "/no-body?code=200", body: "" },
    Probe { method: "HEAD", path: "/status?code=200", body: "" },
    post("/echo", "a body that is sent back"),
    post("/pass", "a body that is sent back"),
    post("/pass", ""),
    post("/count", "abcdefgh"),
    get("/large?size=200000"),
    get("/drip?lines=3&pause=1"),
    get("/single-write?size=1000000"),
    get("/trailers"),
    post("/early", "a body"),
    post("/early-deaf", "a body"),
    get("/environment?name=GREETING"),
    get("/arguments"),
    get("/fetch"),
    get("/no-such-path"),
];

/// If the response comes from the host, only the status is compared: the body is problem details here and a web page
/// there.
const FAILURES: [Probe; 4] = [get("/trap"), get("/refuse"), get("/exit"), get("/no-response")];

async fn answer(address: SocketAddr, probe: &Probe) -> Answer {
    let request = Client::default().request(probe.method, address, probe.path).header("content-type", "text/plain");
    request.body(probe.body).send().await
}

/// The parts of a response to compare: not the time, or the trace id.
fn comparable(answer: &Answer) -> (u16, BTreeSet<(String, String)>, Vec<u8>) {
    let fields = answer.headers.iter().filter(|(name, _)| *name != "date" && *name != "traceresponse");
    let fields = fields.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    (answer.status.as_u16(), fields.collect(), answer.body.to_vec())
}

async fn assert_same_responses(shop: &Shop, service: &str, reference: &Reference, probes: &[Probe]) {
    for probe in probes {
        let (here, there) = (answer(shop.address(service), probe).await, answer(reference.address(), probe).await);
        assert_eq!(comparable(&here), comparable(&there), "{service}: {} {}", probe.method, probe.path);
    }
}

async fn compare(service: &str, component: &Path, probes: &[Probe]) -> Option<(Shop, Reference)> {
    let (file, greeting) = (component.to_owned(), ["--env", "GREETING=good morning"]);
    let serve = tokio::task::spawn_blocking(move || Reference::serve(&file, &greeting));
    let reference = serve.await.expect("the reference starts")?;
    let environment = "[service.env]\nGREETING = \"good morning\"";
    let shop = ShopBuilder::empty().service(service, component, 8025).keys(service, environment);
    let shop = shop.limits(service, "memory = \"256MiB\"").start().await;
    assert_same_responses(&shop, service, &reference, probes).await;
    Some((shop, reference))
}

#[tokio::test(flavor = "multi_thread")]
async fn components_of_0_2_and_0_3_have_the_responses_of_wasmtime_serve() {
    for service in ["standard-p2", "standard-p3"] {
        let component = artifacts::component(service);
        let Some((shop, reference)) = compare(service, &component, &PROBES).await else { return };
        for probe in FAILURES {
            let (here, there) =
                (answer(shop.address(service), &probe).await, answer(reference.address(), &probe).await);
            assert_eq!(here.status, there.status, "{service}: {}", probe.path);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_in_python_has_the_responses_of_wasmtime_serve() {
    let Some(component) = artifacts::polyglot("product_service") else { return };
    let probes = [
        get("/health"),
        get("/products"),
        Probe { method: "HEAD", path: "/products", body: "" },
        post("/products", "a body"),
        get("/no-such-path"),
    ];
    compare("product-service", &component, &probes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_in_javascript_has_the_responses_of_wasmtime_serve() {
    let Some(component) = artifacts::polyglot("pricing_service") else { return };
    let probes = [
        get("/health"),
        post("/prices", "{\"user_score\":130,\"products\":[{\"id\":1,\"price\":10}]}"),
        post("/prices", "{"),
        get("/no-such-path"),
    ];
    compare("pricing-service", &component, &probes).await;
}
