//! Propagation of trace context, baggage and request attributes to services and other origins.

use std::path::Path;

use http::HeaderMap;
use testkit::Shop;
use testkit::artifacts;
use testkit::origin::{Manner, Origin};

#[tokio::test(flavor = "multi_thread")]
async fn the_test_shop_has_the_request_attributes_of_the_demo() {
    let demos = ["services.toml", "examples/polyglot/services.toml"];
    let environment = spandrel::config::Environment::default();
    let read = |text: &str| spandrel::config::Config::parse(text, Path::new("services.toml"), &environment);
    let own = read(&Shop::builder().manifest()).unwrap().attributes;
    assert_eq!(own.len(), 3);
    for demo in demos {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(demo)).unwrap();
        assert_eq!(read(&text).unwrap().attributes, own, "{demo}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rules_requests_add_no_baggage_or_attributes() {
    let origin = Origin::start(Manner::default()).await;
    let allow = format!("allow = [\"{}\"]", origin.url());
    let shop = Shop::oddities().attributes("").outbound("oddities", &allow).start().await;
    let request = shop.request("GET", "oddities", &format!("/call?user_id=7&url={}/", origin.url()));
    let answer = request.header("x-client-id", "web").header("x-session-id", "s-1").send().await;
    assert_eq!(answer.json()["status"], 200, "{}", answer.text());
    assert!(!origin.asked()[0].headers.contains_key("baggage"));
    for span in shop.trace(&answer.trace, 2).await.spans() {
        let business = span.attributes.keys().find(|key| key.starts_with("business.") || key.ends_with(".id"));
        assert_eq!(business, None, "{}", span.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_rule_sets_attributes_on_every_span_and_baggage_if_configured() {
    let rules = "[[telemetry.attributes]]\nfrom = \"header:x-tenant\"\nas = [\"app.tenant\"]\nbaggage = true\n\
                 [[telemetry.attributes]]\nfrom = \"path:user_id\"\nas = [\"app.user\"]\n";
    let shop = Shop::builder().attributes(rules).start().await;
    let request = shop.request("GET", "user-service", "/users/1/recommendations").header("x-tenant", "blue");
    let answer = request.header("x-client-id", "web").send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let tree = shop.whole_trace(&answer.trace).await;
    assert_eq!(tree.spans().len(), 24);
    for span in tree.spans() {
        span.assert_attribute("app.tenant", "blue");
        let user = span.attributes.get("app.user").map(|user| user == "1");
        assert_eq!(user, (span.service == "user-service").then_some(true), "{} of {}", span.name, span.service);
        assert!(!span.attributes.contains_key("business.client_id"));
    }
}

/// The header fields that a lean and a standard guest each send to an origin. `URL` in the lines of
/// `[service.outbound]` stands for the URL of the origin.
async fn sent(lines: &str) -> Vec<HeaderMap> {
    let origin = Origin::start(Manner::default()).await;
    let outbound = lines.replace("URL", &origin.url());
    let guests = [("oddities", "call"), ("standard-p2", "fetch"), ("standard-p3", "fetch")];
    let shop = Shop::standard();
    let shop = shop.service("oddities", &artifacts::component("oddities"), 8085);
    let shop = guests.iter().fold(shop, |shop, (guest, _)| shop.outbound(guest, &outbound)).start().await;
    for (guest, path) in guests {
        let request = shop.request("GET", guest, &format!("/{path}?url={}/", origin.url()));
        let answer = request.header("x-client-id", "web").header("baggage", "tenant=blue").send().await;
        assert_eq!(answer.status, 200, "{guest}: {}", answer.text());
    }
    origin.asked().into_iter().map(|asked| asked.headers).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_determines_what_other_origins_are_sent() {
    for (lines, context, baggage) in [
        ("allow = [\"URL\"]", true, false),
        ("allow = [\"URL\"]\nbaggage = true\ntrace_context = false", false, true),
        ("allow = [\"URL\", \"http://a\"]\nbaggage = [\"URL\"]\ntrace_context = [\"http://a\"]", false, true),
    ] {
        let sent = sent(lines).await;
        assert_eq!(sent.len(), 3, "{lines}");
        for headers in sent {
            assert_eq!(headers.contains_key("traceparent"), context, "{lines}: {headers:?}");
            let members = headers.get("baggage").map(|members| members.to_str().unwrap());
            assert_eq!(members.is_some(), baggage, "{lines}: {headers:?}");
            assert!(members.is_none_or(|members| members.contains("tenant=blue") && members.contains("business.client_id=web")));
        }
    }
}
