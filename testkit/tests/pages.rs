//! The HTTP responses of the console's pages: security headers, forms, error pages and events.

use testkit::raw::Connection;
use testkit::{Answer, Client, Request, Shop, variant};

const INVENTORY: &str = "inventory-service";

async fn start() -> Shop {
    Shop::builder().with_console().start().await
}

fn request(shop: &Shop, method: &str, path: &str) -> Request {
    Client::default().request(method, shop.console(), path).untraced()
}

async fn get(shop: &Shop, path: &str) -> Answer {
    request(shop, "GET", path).send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_content_security_policy_forbids_inline_and_external_content() {
    let shop = start().await;
    let traced = shop.get("user-service", "/users/1/recommendations").await;
    let trace = format!("/traces/{}", traced.trace.as_str());
    for path in
        ["/", "/traces", trace.as_str(), "/traces/0123", &format!("/compare?a={0}&b={0}", traced.trace.as_str())]
    {
        let answer = get(&shop, path).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        let page = answer.text();
        assert!(!page.contains(" style=") && !page.contains("<style") && !page.contains(" onclick="), "{path}");
        for asset in page.split('"').filter(|part| part.starts_with("/assets/")) {
            assert_eq!(get(&shop, asset).await.status, 200, "{asset}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn not_found_and_invalid_requests_have_error_pages() {
    let shop = start().await;
    for (path, status, words) in [
        ("/traces/0123", 404, "Trace not found"),
        ("/traces/<script>", 404, "Trace not found"),
        ("/compare?a=0123", 404, "Trace not found"),
        ("/traces?min_duration=ten", 400, "is not a duration"),
        ("/traces?tags=500", 400, "is not a tag"),
        ("/assets/0/other.js", 404, "no such asset"),
    ] {
        let answer = get(&shop, &path.replace('<', "%3C").replace('>', "%3E")).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.text().contains(words) && !answer.text().contains("<script>"), "{path}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_are_accepted_only_from_the_console() {
    let shop = start().await;
    assert_eq!(shop.admin().swap(INVENTORY, variant(INVENTORY, 1)).await.status, 200);
    let rollback = || request(&shop, "POST", &format!("/services/{INVENTORY}/rollback"));
    assert_eq!(rollback().send().await.status, 403);
    assert_eq!(rollback().header("origin", "https://evil.example").send().await.status, 403);
    assert_eq!(rollback().header("origin", "null").send().await.status, 403);
    assert_eq!(shop.admin().status(INVENTORY).await["generation"], 2);

    let done = rollback().header("origin", &format!("http://{}", shop.console())).send().await;
    assert_eq!(done.status, 303);
    assert_eq!(done.header("location"), format!("/?opened={INVENTORY}#service-{INVENTORY}"));
    let status = shop.admin().status(INVENTORY).await;
    assert_eq!(status["generation"], 1);
    let outcomes: Vec<_> = status["swap_history"].as_array().into_iter().flatten().map(|one| &one["outcome"]).collect();
    assert_eq!(outcomes, ["rolled_back", "swapped"], "the latest comes first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_swap_is_listed_with_its_reason() {
    let shop = start().await;
    assert_eq!(shop.admin().swap(INVENTORY, b"no component".to_vec()).await.status, 422);
    let status = shop.admin().status(INVENTORY).await;
    let latest = &status["swap_history"][0];
    assert_eq!(latest["outcome"], "refused");
    assert_eq!(latest["reason"], status["last_error"]);
    assert!(latest["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_report_requests_and_do_not_delay_shutdown() {
    let shop = start().await;
    let mut events = Connection::open(shop.console()).await;
    events.send("GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let head = events.read_until("\r\n\r\n").await;
    assert!(head.contains("text/event-stream"), "{head}");
    assert_eq!(shop.get(INVENTORY, "/inventory/1").await.status, 200);
    events.read_until("event: changed\ndata: page\n\n").await;
    let stopped = tokio::time::timeout(std::time::Duration::from_secs(15), shop.shut_down()).await;
    assert!(stopped.is_ok(), "the host waits for pages that follow it");
}
