//! Limits of standard components: bodies, calls, concurrent requests and reuse of instances.

use std::time::{Duration, Instant};

use bytes::Bytes;
use testkit::origin::{Manner, Origin};
use testkit::{Answer, PATIENCE, STANDARD, Shop, ShopBuilder};

const BOTH: [&str; 2] = ["standard-p2", "standard-p3"];

fn limited(limit: &str) -> ShopBuilder {
    BOTH.iter().fold(Shop::standard(), |shop, service| shop.limits(service, limit))
}

fn url(service: &str, path: &str) -> String {
    let (_, port) = STANDARD.into_iter().find(|(name, _)| *name == service).expect("a standard component");
    format!("http://localhost:{port}{path}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_over_the_limit_never_looks_whole() {
    let shop = limited("response_body = \"64KiB\"").start().await;
    for service in BOTH {
        let fits = shop.get(service, "/large?size=65536").await;
        assert_eq!((fits.status.as_u16(), fits.body.len()), (200, 65_536), "{service}");
        for size in [65_537, 5_000_000] {
            let trace = testkit::TraceId::fresh();
            let request = shop.request("GET", service, &format!("/large?size={size}")).in_trace(&trace);
            let is_refused = |answer: Answer| answer.status.is_server_error();
            let seen = request.try_send().await;
            let is_answered = seen.is_ok();
            assert!(seen.map_or(true, is_refused), "{service}: a body of {size} bytes");
            let tree = shop.trace(&trace, 1).await;
            let server = tree.line(&format!("{service} GET SERVER"));
            assert!(server.is_error(), "{service}: {size}");
            // A body that exceeds the limit before its head is sent is answered with a problem.
            server.assert_attribute("error.type", if is_answered { "response_too_large" } else { "body_too_large" });
        }
        // The guest writes without a pause, so that its head waits for the body unless the machine is busy.
        let mut answered = false;
        for _ in 0..20 {
            answered |= shop.request("GET", service, "/large?size=65537").try_send().await.is_ok();
        }
        assert!(answered, "{service}: a client can be told why");
        assert_eq!(shop.get(service, "/hello").await.status, 200, "{service} serves on");
    }
}

/// Bodies that the guest has written before its head is sent, with and without `Content-Length`.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_response_over_the_limit_is_answered_with_a_problem() {
    let shop = limited("response_body = \"4B\"").start().await;
    for service in BOTH {
        assert_eq!(shop.get(service, "/large?size=4").await.text().len(), 4, "{service}");
        for path in ["/hello", "/large?size=5"] {
            let trace = testkit::TraceId::fresh();
            let answer = shop.request("GET", service, path).in_trace(&trace).send().await;
            answer.assert_problem(500, "exceeds its limit");
            let tree = shop.trace(&trace, 1).await;
            tree.line(&format!("{service} GET SERVER")).assert_attribute("error.type", "response_too_large");
        }
        // The limit does not apply to the problem details of the host.
        shop.get(service, "/trap").await.assert_problem(500, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_to_a_call_over_the_limit_is_cut_off() {
    let large = Origin::start(Manner { body: Bytes::from(vec![b'x'; 5_000_000]), ..Manner::default() }).await;
    for service in BOTH {
        let other = BOTH.into_iter().find(|other| *other != service).expect("two of them");
        let neighbour = url(other, "/large%3Fsize=5000000");
        let allow = format!("allow = [\"{}\", \"{}\"]", large.url(), url(other, ""));
        let shop = Shop::standard().outbound(service, &allow);
        let shop = shop.limits(service, "response_body = \"64KiB\"").start().await;
        for asked in [format!("{}/", large.url()), neighbour] {
            let trace = testkit::TraceId::fresh();
            let request = shop.request("GET", service, &format!("/fetch?url={asked}")).in_trace(&trace);
            let seen = request.try_send().await;
            assert!(seen.map_or(true, |answer| answer.body.len() <= 65_536), "{service}: all of {asked} came");
            assert_eq!(shop.get(service, "/hello").await.status, 200, "{service} serves on");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_set_by_the_guest_ends_local_calls_and_calls_over_the_network() {
    let slow = Origin::start(Manner { delay: Duration::MAX, ..Manner::default() }).await;
    for service in BOTH {
        let other = BOTH.into_iter().find(|other| *other != service).expect("two of them");
        let allow = format!("allow = [\"{}\", \"{}\"]", slow.url(), url(other, ""));
        let shop = limited("request_timeout = \"60s\"").outbound(service, &allow).start().await;
        for asked in [format!("{}/", slow.url()), url(other, "/sleep%3Fms=60000")] {
            // Without the timeout, the request takes a minute, for which its client does not wait.
            let answer = shop.get(service, &format!("/fetch?timeout=200&url={asked}")).await;
            assert_eq!(answer.status, 502, "{service} {asked}: {}", answer.text());
            assert!(answer.text().contains("Timeout"), "{service} {asked}: {}", answer.text());
            let client = shop.collector().wait_for_span("the call", |span| {
                span.trace_id == answer.trace.to_string() && span.kind == testkit::Kind::Client
            });
            client.await.assert_attribute("error.type", "timeout");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_response_ends_with_the_request() {
    let slow = Origin::start(Manner { delay: Duration::MAX, ..Manner::default() }).await;
    let shop = limited("request_timeout = \"3s\"");
    let allow = format!("allow = [\"{}\"]", slow.url());
    let shop = BOTH.iter().fold(shop, |shop, service| shop.outbound(service, &allow)).start().await;
    for service in BOTH {
        let answer = shop.get(service, &format!("/fetch?url={}/", slow.url())).await;
        assert_eq!(answer.status, 504, "{service}: {}", answer.text());
        let tree = shop.trace(&answer.trace, 2).await;
        assert!(tree.line(&format!("{service} GET CLIENT")).is_error(), "{service}");
        tree.line(&format!("{service} GET SERVER")).assert_attribute("error.type", "timeout");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_concurrency_limit_are_rejected() {
    for service in BOTH {
        let slow = Origin::start(Manner { delay: Duration::MAX, ..Manner::default() }).await;
        let shop = limited("concurrency = 2\nrequest_timeout = \"60s\"");
        let shop = shop.outbound(service, &format!("allow = [\"{}\"]", slow.url())).start().await;
        let path = format!("/fetch?url={}/", slow.url());
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..6 {
            running.spawn(shop.request("GET", service, &path).send());
        }
        // Two requests do not end before the origin has answered.
        for _ in 0..4 {
            let rejected = running.join_next().await.expect("six requests").expect("no panic");
            assert_eq!(rejected.status, 503, "{service}");
            assert_ne!(rejected.header("retry-after"), "", "{service}");
        }
        slow.release();
        let served = running.join_all().await;
        assert!(served.len() == 2 && served.iter().all(|answer| answer.status == 200), "{service}: {served:#?}");
        // A guest ends shortly after its response, and counts until then.
        let deadline = Instant::now() + PATIENCE;
        while shop.get(service, "/hello").await.status != 200 {
            assert!(Instant::now() < deadline, "{service}: both requests have ended");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reused_instances_are_created_before_the_first_request() {
    for (isolation, expected) in [("request", [0.0, 0.0]), ("instance", [1.0, 1.0])] {
        let keys = format!("isolation = \"{isolation}\"");
        let shop = BOTH.iter().fold(Shop::standard(), |shop, service| shop.keys(service, &keys));
        let shop = shop.with_console().start().await;
        let page = testkit::Client::default().request("GET", shop.console(), "/metrics").untraced().send().await.text();
        let idle = BOTH.map(|service| {
            let label = format!("service_name=\"{service}\"");
            let fits = |line: &&str| line.starts_with("spandrel_instances_idle{") && line.contains(&label);
            let sample = page.lines().find(fits).and_then(|line| line.rsplit(' ').next());
            sample.and_then(|value| value.parse::<f64>().ok()).expect("a number")
        });
        assert_eq!(idle, expected, "isolation by {isolation}");
        for service in BOTH {
            let answer = shop.get(service, "/hello").await;
            let tree = shop.trace(&answer.trace, 1).await;
            let server = tree.line(&format!("{service} GET SERVER"));
            server.assert_attribute("spandrel.instance.reused", false);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_serves_as_many_requests_as_the_manifest_says() {
    for per_instance in [1, 3] {
        let keys = format!("isolation = \"instance\"\nrequests_per_instance = {per_instance}");
        let shop = BOTH.iter().fold(Shop::standard(), |shop, service| shop.keys(service, &keys)).start().await;
        for service in BOTH {
            let (mut most, mut asked) = (0, 0);
            let deadline = Instant::now() + PATIENCE;
            // An instance is returned shortly after its response, so the next request may not find it.
            while most < per_instance || asked < 20 {
                let served: u32 = shop.get(service, "/instance").await.text().parse().expect("a number");
                assert!(served <= per_instance, "{service}: {served} requests in one of {per_instance}");
                (most, asked) = (most.max(served), asked + 1);
                assert!(Instant::now() < deadline, "{service}: {most} requests at most");
            }
        }
    }
}
