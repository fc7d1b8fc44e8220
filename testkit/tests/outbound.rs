//! Outgoing requests of services: allowed origins, propagated context, and results.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use testkit::origin::{Manner, Origin};
use testkit::raw::Connection;
use testkit::{Client, ODDITIES_PORT, Shop, ShopBuilder, Site, artifacts};

fn allowing(origins: &[&str]) -> ShopBuilder {
    let origins: Vec<_> = origins.iter().map(|origin| format!("\"{origin}\"")).collect();
    Shop::oddities().outbound("oddities", &format!("allow = [{}]", origins.join(", ")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_to_an_origin_that_is_not_allowed_is_denied_without_a_connection() {
    let origin = Origin::start(Manner::default()).await;
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", &format!("/call?url={}/", origin.url())).await;
    assert_eq!(answer.json()["outcome"], "denied", "{}", answer.text());
    assert!(origin.asked().is_empty());
    let tree = shop.whole_trace(&answer.trace).await;
    let client = tree.line("oddities GET CLIENT");
    assert!(client.is_error());
    client.assert_attribute("error.type", "denied");
    client.assert_attribute("server.port", origin.port());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_origin_must_match_in_scheme_host_and_port() {
    let origin = Origin::start(Manner::default()).await;
    let other = Origin::start(Manner::default()).await;
    let shop = allowing(&[&origin.url()]).start().await;
    let host = origin.url().replace("http://", "");
    let tricks = [
        format!("{}/", other.url()),
        format!("https://{host}/"),
        format!("http://{host}@127.0.0.1:{}/", other.port()),
        format!("http://127.0.0.1.example.org:{}/", origin.port()),
        format!("http://localhost:{}/", origin.port()),
        "http://127.0.0.1/".to_owned(),
    ];
    for url in tricks {
        let answer = shop.get("oddities", &format!("/call?url={}", url.replace('@', "%40"))).await;
        assert_eq!(answer.json()["outcome"], "denied", "{url}: {}", answer.text());
    }
    assert!(origin.asked().is_empty() && other.asked().is_empty());
    let answer = shop.get("oddities", &format!("/call?url={}/", origin.url().to_uppercase())).await;
    assert_eq!(answer.json()["status"], 200, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_returned_to_the_guest_and_not_followed() {
    let other = Origin::start(Manner::default()).await;
    let manner = Manner { status: 302, location: Some(format!("{}/", other.url())), ..Manner::default() };
    let origin = Origin::start(manner).await;
    let shop = allowing(&[&origin.url()]).start().await;
    let answer = shop.get("oddities", &format!("/call?url={}/", origin.url())).await;
    assert_eq!(answer.json()["status"], 302, "{}", answer.text());
    assert!(other.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn request_and_response_of_a_call_are_passed_on() {
    let origin = Origin::start(Manner { status: 201, body: Bytes::from_static(b"done"), ..Manner::default() }).await;
    let shop = allowing(&[&origin.url()]).start().await;
    let path = format!("/call?url={}/things%3Fa%3D1", origin.url());
    let answer = shop.request("POST", "oddities", &path).header("x-pass", "on").body("stuff").send().await;
    assert_eq!(answer.json()["status"], 201, "{}", answer.text());
    assert_eq!(answer.json()["body"], "done");
    let asked = &origin.asked()[0];
    assert_eq!((asked.method.as_str(), asked.path.as_str(), &asked.body[..]), ("POST", "/things?a=1", &b"stuff"[..]));
    assert_eq!(asked.headers["x-pass"], "on");
    assert!(asked.headers.contains_key("traceparent"));
    assert_eq!(asked.headers["host"], origin.url().replace("http://", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_failed_call_has_its_own_error() {
    let slow = Origin::start(Manner { delay: Duration::MAX, ..Manner::default() }).await;
    let large = Origin::start(Manner { body: Bytes::from(vec![b'x'; 5000]), ..Manner::default() }).await;
    let nowhere = format!("http://{}", testkit::process::free_address());
    let shop = allowing(&[&slow.url(), &large.url(), &nowhere]).limits("oddities", "response_body = \"4KiB\"");
    let shop = shop.start().await;
    let cases = [
        (format!("{}/&within=100", slow.url()), "timed-out", "timeout"),
        (format!("{}/", large.url()), "too-large", "response_too_large"),
        (format!("{nowhere}/"), "unreachable", "unreachable"),
        ("nonsense".to_owned(), "invalid-url", "invalid_url"),
        ("ftp://localhost/".to_owned(), "invalid-url", "invalid_url"),
    ];
    for (url, outcome, error_type) in cases {
        let answer = shop.get("oddities", &format!("/call?url={url}")).await;
        assert_eq!(answer.json()["outcome"], outcome, "{url}: {}", answer.text());
        let tree = shop.trace(&answer.trace, 3).await;
        let client = tree.line("oddities GET CLIENT");
        assert!(client.is_error(), "{url}");
        client.assert_attribute("error.type", error_type);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_set_by_the_guest_applies_to_local_calls() {
    let shop = Shop::oddities().limits("oddities", "request_timeout = \"60s\"").start().await;
    let url = format!("http://localhost:{ODDITIES_PORT}/nap/60000");
    let began = Instant::now();
    let answer = shop.get("oddities", &format!("/call?url={url}&within=100")).await;
    assert_eq!(answer.json()["outcome"], "timed-out", "{}", answer.text());
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_in_urls_are_redacted_on_spans() {
    let origin = Origin::start(Manner::default()).await;
    let shop = allowing(&[&origin.url()]).start().await;
    let url = origin.url().replace("http://", "http://me:secret%40");
    let named = shop.get("oddities", &format!("/call?url={url}/")).await.trace;
    let signed = format!("/call?url={}/%3Fa=1%26sig=s3cret&X-Goog-Signature=s3cret", origin.url());
    let signed = shop.get("oddities", &signed).await.trace;
    let collector = shop.shut_down().await;
    let tree = collector.trace(&named);
    let full = tree.line("oddities GET CLIENT").attribute("url.full").as_str().unwrap_or_default();
    assert!(full.contains("REDACTED@") && !full.contains("secret"), "{full}");
    let tree = collector.trace(&signed);
    tree.line("oddities GET CLIENT").assert_attribute("url.full", format!("{}/?a=1&sig=REDACTED", origin.url()));
    let query = tree.spans().iter().find_map(|span| span.attributes.get("url.query")?.as_str()).expect("a query");
    assert!(query.ends_with("&X-Goog-Signature=REDACTED"), "{query}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_calls_are_in_the_client_duration_metric() {
    let silent = Origin::start(Manner { delay: Duration::MAX, ..Manner::default() }).await;
    let shop = allowing(&[&silent.url()]).limits("oddities", "request_timeout = \"6s\"").start().await;
    let path = format!("/call?url={}/", silent.url());
    assert_eq!(shop.get("oddities", &path).await.status, 504);
    let mut leaving = Connection::open(shop.address("oddities")).await;
    leaving.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
    silent.wait_until_asked(2).await;
    drop(leaving);
    let are_counted = |metric: &testkit::collector::Metric| {
        let counts = |kind: &str| {
            let mut points = metric.points.iter();
            points.any(|point| point.attributes.get("error.type") == Some(&json!(kind)) && point.count == 1)
        };
        counts("timeout") && counts("cancelled")
    };
    shop.collector().wait_for_metric("http.client.request.duration", are_counted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hops_are_counted_over_the_network_and_hop_fields_of_others_are_ignored() {
    let origin = Origin::start(Manner::default()).await;
    let shop = allowing(&[&origin.url()]).start().await;
    for forged in ["99", "1000-0000000000000000", "nonsense"] {
        let request = shop.request("GET", "oddities", &format!("/call?url={}/", origin.url()));
        let answer = request.header("spandrel-hops", forged).send().await;
        assert_eq!(answer.json()["status"], 200, "{forged}: {}", answer.text());
    }
    let told = |index: usize| origin.asked()[index].headers["spandrel-hops"].to_str().expect("text").to_owned();
    let (hops, own) = told(0).split_once('-').map(|(hops, own)| (hops.to_owned(), own.to_owned())).expect("two parts");
    assert_eq!(hops, "1", "a stranger's hops do not count");
    assert_eq!(told(1), format!("{}, 1000-0000000000000000", told(0)), "another host may recognize its own");
    assert_eq!(told(2), told(0));
    // A hop field that the host itself has signed is accepted.
    let request = shop.request("GET", "oddities", &format!("/call?url={}/", origin.url()));
    assert_eq!(request.header("spandrel-hops", &told(0)).send().await.status, 200);
    assert_eq!(told(3), format!("2-{own}"));
    let request = shop.request("GET", "oddities", "/health").header("spandrel-hops", &format!("16-{own}"));
    assert_eq!(request.send().await.status, 508);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_trace_context_no_hops_are_sent_and_guests_never_see_them() {
    let origin = Origin::start(Manner::default()).await;
    let lines = format!("allow = [\"{}\"]\ntrace_context = false", origin.url());
    let shop = Shop::oddities().outbound("oddities", &lines).start().await;
    let call = shop.request("GET", "oddities", &format!("/call?url={}/", origin.url()));
    assert_eq!(call.header("spandrel-hops", "1-0000000000000000").send().await.json()["status"], 200);
    assert!(!origin.asked()[0].headers.contains_key("spandrel-hops"));
    let echo = shop.request("GET", "oddities", "/echo/a/b").header("spandrel-hops", "1-0000000000000000");
    assert_eq!(echo.send().await.json()["headers"]["spandrel-hops"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_loop_over_two_hosts_ends() {
    let [one, other] = [Site::new(&["oddities"]), Site::new(&["oddities"])];
    let url = |site: &Site| format!("http://{}", site.address("oddities"));
    let serve = |site: &Site, callee: &Site| {
        let builder = ShopBuilder::empty().console_port(site.console().port());
        let component = artifacts::component("oddities");
        let builder = builder.service("oddities", &component, site.address("oddities").port());
        let builder = builder.config("oddities", &format!("self_url = \"{}\"", url(callee)));
        site.write(&builder.outbound("oddities", &format!("allow = [\"{}\"]", url(callee))));
        site.serve()
    };
    let hosts = [serve(&one, &other), serve(&other, &one)];
    let answer = Client::default().request("GET", one.address("oddities"), "/circle").send().await;
    assert_eq!(answer.status, 508, "{}", answer.text());
    drop(hosts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_service_that_is_not_allowed_is_denied() {
    let component = testkit::artifacts::component("oddities");
    let shop = Shop::oddities().service("other", &component, 8007).start().await;
    let answer = shop.get("oddities", "/call?url=http://localhost:8007/health").await;
    assert_eq!(answer.json()["outcome"], "denied", "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_call_returns_the_hosts_problem_details() {
    let shop = Shop::oddities().start().await;
    for (path, status) in [("/nothing", 404), ("/trap", 500), ("/items/1", 405)] {
        let answer = shop.get("oddities", &format!("/call?url=http://localhost:{ODDITIES_PORT}{path}")).await;
        assert_eq!(answer.json()["status"], status, "{path}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_baggage_is_sent_to_origins_in_no_baggage() {
    let origin = Origin::start(Manner::default()).await;
    let lines = format!("allow = [\"{0}\"]\nno_baggage = [\"{0}\"]", origin.url());
    let shop = Shop::oddities().outbound("oddities", &lines).start().await;
    let request = shop.request("GET", "oddities", &format!("/call?url={}/", origin.url()));
    let answer = request.header("x-client-id", "web").header("baggage", "tenant=blue").send().await;
    assert_eq!(answer.json()["status"], 200, "{}", answer.text());
    let asked = origin.asked();
    assert!(asked[0].headers.contains_key("traceparent"));
    assert!(!asked[0].headers.contains_key("baggage"), "{:?}", asked[0].headers["baggage"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_allows_neither_private_addresses_nor_services_of_this_host() {
    let origin = Origin::start(Manner::default()).await;
    let guests = [("oddities", "call"), ("standard-p2", "fetch"), ("standard-p3", "fetch")];
    let shop = Shop::standard().service("oddities", &artifacts::component("oddities"), ODDITIES_PORT);
    let shop = guests.iter().fold(shop, |shop, (guest, _)| shop.outbound(guest, "allow = [\"*\"]")).start().await;
    let (by_name, neighbour) =
        (format!("http://localhost:{}", origin.port()), format!("http://localhost:{ODDITIES_PORT}"));
    let short = format!("http://127.1:{}", origin.port());
    for (guest, path) in guests {
        for url in [&origin.url(), &by_name, &short, &neighbour] {
            let answer = shop.get(guest, &format!("/{path}?url={url}/")).await;
            assert!(answer.text().to_lowercase().contains("denied"), "{guest} {url}: {}", answer.text());
            let tree = shop.trace(&answer.trace, 2).await;
            tree.line(&format!("{guest} GET CLIENT")).assert_attribute("error.type", "denied");
        }
    }
    assert!(origin.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_in_urls_are_redacted_on_all_spans() {
    let origin = Origin::start(Manner::default()).await;
    let guests = [("oddities", "call"), ("standard-p2", "fetch"), ("standard-p3", "fetch")];
    let shop = Shop::standard().service("oddities", &artifacts::component("oddities"), ODDITIES_PORT);
    let allow = format!("allow = [\"{}\"]", origin.url());
    let shop = shop.head("[telemetry]\nredact = [\"ssn\"]");
    let shop = guests.iter().fold(shop, |shop, (guest, _)| shop.outbound(guest, &allow)).start().await;
    for (guest, path) in guests {
        let url = format!("{}/?api_key=s3cret%26page=2%26SSN=s3cret", origin.url());
        let answer = shop.get(guest, &format!("/{path}?pass%77ord=s3cret&url={url}&token=s3cret")).await;
        assert_eq!(answer.status, 200, "{guest}: {}", answer.text());
        let tree = shop.trace(&answer.trace, 2).await;
        let full = format!("{}/?api_key=REDACTED&page=2&SSN=REDACTED", origin.url());
        tree.line(&format!("{guest} GET CLIENT")).assert_attribute("url.full", full);
        let query = tree.roots()[0].attribute("url.query").as_str().unwrap_or_default();
        assert_eq!(query, "pass%77ord=REDACTED&url=REDACTED&token=REDACTED");
    }
    assert!(origin.asked().iter().all(|asked| asked.path.contains("api_key=s3cret")), "only spans are redacted");
}
