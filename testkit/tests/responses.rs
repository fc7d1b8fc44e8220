//! Response settings of the manifest: CORS and compression.

use std::io::Read;

use flate2::read::GzDecoder;
use testkit::raw::Connection;
use testkit::{Answer, Client, Shop, ShopBuilder};

const PAGE: &str = "https://shop.example";

fn with_cors(more: &str) -> ShopBuilder {
    let cors = format!("[service.cors]\norigins = [\"{PAGE}\", \"http://localhost:5173\"]\n{more}");
    Shop::oddities().keys("oddities", &cors)
}

fn lists(answer: &Answer, field: &str, member: &str) -> bool {
    let lines = answer.headers.get_all(field).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|found| found.trim().eq_ignore_ascii_case(member))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_is_answered_before_the_guest_and_traced() {
    let more = "methods = [\"GET\", \"PUT\"]\nheaders = [\"content-type\"]\nmax_age = \"10m\"\ncredentials = true";
    let shop = with_cors(more).start().await;
    for client in [Client::default(), Client::h2c()] {
        let request = client.request("OPTIONS", shop.address("oddities"), "/items/1").header("origin", PAGE);
        let answer = request.header("access-control-request-method", "PUT").send().await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0), "{}", answer.text());
        assert_eq!(answer.header("access-control-allow-origin"), PAGE);
        assert_eq!(answer.header("access-control-allow-credentials"), "true");
        assert_eq!(answer.header("access-control-allow-methods"), "GET, PUT");
        assert_eq!(answer.header("access-control-allow-headers"), "content-type");
        assert_eq!(answer.header("access-control-max-age"), "600");
        assert!(lists(&answer, "vary", "origin"), "{:?}", answer.headers);
        let tree = shop.trace(&answer.trace, 1).await;
        let server = tree.line("oddities OPTIONS SERVER");
        server.assert_attribute("http.response.status_code", 204);
        assert!(!server.attributes.contains_key("spandrel.guest.cpu_time"), "no guest had it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_can_read_only_allowed_responses() {
    let shop = with_cors("expose = [\"traceresponse\", \"x-total\"]").start().await;
    for (path, status) in [("/health", 200), ("/nothing", 404), ("/trap", 500)] {
        let answer = shop.request("GET", "oddities", path).header("origin", PAGE).send().await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("access-control-allow-origin"), PAGE, "{path}");
        assert_eq!(answer.header("access-control-expose-headers"), "traceresponse, x-total", "{path}");
        assert!(!answer.headers.contains_key("access-control-allow-credentials"));
        assert!(lists(&answer, "vary", "origin"), "{:?}", answer.headers);
    }
    for origin in ["https://shop.example.evil", "http://shop.example", "https://shop.example:8443", "null", ""] {
        let answer = shop.request("GET", "oddities", "/health").header("origin", origin).send().await;
        assert_eq!(answer.status, 200, "the browser keeps it from the page");
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{origin}: {:?}", answer.headers);
        assert!(lists(&answer, "vary", "origin"), "{:?}", answer.headers);
        let asked = shop.request("OPTIONS", "oddities", "/health").header("origin", origin);
        let answer = asked.header("access-control-request-method", "GET").send().await;
        answer.assert_problem(403, "does not allow this origin");
        assert!(!answer.headers.contains_key("access-control-allow-methods"), "{origin}: {:?}", answer.headers);
    }
    let from_no_page = shop.get("oddities", "/health").await;
    assert!(!from_no_page.headers.contains_key("access-control-allow-origin"));
    assert!(lists(&from_no_page, "vary", "origin"), "a cache must not give it to a page");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_pages_can_read_responses_if_any_origin_is_allowed() {
    let cors = "[service.cors]\norigins = [\"*\"]\nheaders = [\"*\"]";
    let shop = Shop::oddities().keys("oddities", cors).start().await;
    let answer = shop.request("GET", "oddities", "/health").header("origin", "null").send().await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert!(!answer.headers.contains_key("vary"), "it is the same for all: {:?}", answer.headers);
    let asked = shop.request("OPTIONS", "oddities", "/health").header("origin", PAGE);
    let answer = asked.header("access-control-request-method", "PUT").send().await;
    assert_eq!(answer.header("access-control-allow-methods"), "GET, HEAD, POST");
    assert_eq!(answer.header("access-control-allow-headers"), "*");
}

#[tokio::test(flavor = "multi_thread")]
async fn options_requests_that_are_not_preflights_reach_the_service() {
    let shop = with_cors("").start().await;
    let answer = shop.request("OPTIONS", "oddities", "/health").send().await;
    assert_eq!(answer.status, 405);
    let answer = shop.request("OPTIONS", "oddities", "/health").header("origin", PAGE).send().await;
    assert_eq!(answer.status, 405, "without `Access-Control-Request-Method` it is not a preflight");
    let without = Shop::oddities().start().await;
    let asked = without.request("OPTIONS", "oddities", "/health").header("origin", PAGE);
    let answer = asked.header("access-control-request-method", "GET").send().await;
    assert_eq!(answer.status, 405, "without `[service.cors]` the host does not answer preflights");
}

fn decompressed(answer: &Answer) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(&*answer.body).read_to_end(&mut plain).expect("gzip");
    plain
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_sent_in_the_coding_that_the_client_prefers() {
    let shop = Shop::oddities().keys("oddities", "compression = true").start().await;
    for size in [2_000, 60_000, 300_000] {
        let body = "x".repeat(size);
        let plain = shop.request("POST", "oddities", "/echo/a/b").body(body.clone()).send().await;
        assert!(!plain.headers.contains_key("content-encoding"), "the request accepts no coding");
        assert!(lists(&plain, "vary", "accept-encoding"), "{:?}", plain.headers);
        for (accepted, coding) in [("gzip", "gzip"), ("br;q=0.5, gzip;q=0.1", "br"), ("gzip, br, zstd", "zstd")] {
            let request = shop.request("POST", "oddities", "/echo/a/b").body(body.clone());
            let answer = request.header("accept-encoding", accepted).send().await;
            assert_eq!(answer.header("content-encoding"), coding, "{accepted}");
            assert!(lists(&answer, "vary", "accept-encoding"), "{:?}", answer.headers);
            assert!(answer.body.len() < plain.body.len() / 4, "{} of {}", answer.body.len(), plain.body.len());
            let tree = shop.trace(&answer.trace, 1).await;
            tree.roots()[0].assert_attribute("http.response.body.size", answer.body.len());
            if coding == "gzip" {
                let sent: serde_json::Value = serde_json::from_slice(&decompressed(&answer)).expect("JSON");
                assert!(sent["body"] == body, "{size} bytes come out as they went in");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_and_empty_bodies_are_not_compressed_unless_accepted() {
    let shop = Shop::oddities().keys("oddities", "compression = [\"gzip\"]").start().await;
    let asked = |method: &str, path: &str| {
        shop.request(method, "oddities", path).header("accept-encoding", "gzip, br, zstd").send()
    };
    for (method, path) in [("GET", "/health"), ("HEAD", "/health"), ("GET", "/huge/100000"), ("GET", "/status/204")] {
        let answer = asked(method, path).await;
        assert!(!answer.headers.contains_key("content-encoding"), "{method} {path}: {:?}", answer.headers);
    }
    let request = shop.request("POST", "oddities", "/echo/a/b").body("x".repeat(5_000));
    let answer = request.header("accept-encoding", "br").send().await;
    assert!(!answer.headers.contains_key("content-encoding"), "the manifest offers gzip alone");
    let off = Shop::oddities().start().await;
    let request = off.request("POST", "oddities", "/echo/a/b").body("x".repeat(5_000));
    let answer = request.header("accept-encoding", "gzip").send().await;
    assert!(!answer.headers.contains_key("content-encoding") && !answer.headers.contains_key("vary"));
}

/// The fields of a response that tell how its content is coded.
fn coded(answer: &Answer) -> Vec<(&'static str, Option<&str>)> {
    let value = |name| answer.headers.get(name).and_then(|value| value.to_str().ok());
    ["content-encoding", "content-length", "vary", "etag"].map(|name| (name, value(name))).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn head_has_the_fields_of_get_or_leaves_them_out() {
    let shop = Shop::standard().keys("standard-p2", "compression = [\"gzip\"]").start().await;
    for (accepted, size, announced) in [
        ("gzip", 5_000, "yes"),
        ("gzip", 5_000, "no"),
        ("gzip", 100, "yes"),
        ("gzip", 100, "no"),
        ("gzip", 0, "yes"),
        ("gzip", 0, "no"),
        ("identity", 5_000, "yes"),
        ("identity", 5_000, "no"),
        ("identity", 100, "yes"),
    ] {
        let path = format!("/sized?size={size}&announced={announced}");
        let ask = |method: &str| shop.request(method, "standard-p2", &path).header("accept-encoding", accepted).send();
        let (get, head) = (ask("GET").await, ask("HEAD").await);
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        for (of_get, of_head) in coded(&get).into_iter().zip(coded(&head)) {
            let is_allowed = match of_head {
                // A weak validator is true of both forms of the content.
                ("etag", tag) => tag.map(|tag| tag.trim_start_matches("W/")) == Some("\"1\""),
                (_, value) => value.is_none() || of_head == of_get,
            };
            assert!(is_allowed, "{accepted} {path}: {of_get:?} {of_head:?}");
        }
        if announced == "yes" {
            // Only the length of compressed content is unknown without the content.
            let is_compressed = get.headers.contains_key("content-encoding");
            let is_known = |name: &str| name != "content-length" || !is_compressed;
            let of_get = coded(&get).into_iter().map(|(name, value)| (name, value.filter(|_| is_known(name))));
            assert_eq!(coded(&head), of_get.collect::<Vec<_>>(), "{accepted} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_without_content_have_none_and_no_length_of_it() {
    let shop = Shop::standard().keys("standard-p2", "compression = [\"gzip\"]").start().await;
    for (code, length) in [(204, None), (205, Some("0")), (304, None)] {
        for announced in ["yes", "no"] {
            for method in ["GET", "HEAD"] {
                let path = format!("/sized?size=2000&announced={announced}&code={code}");
                let request = shop.request(method, "standard-p2", &path).header("accept-encoding", "gzip");
                let answer = request.send().await;
                assert_eq!((answer.status.as_u16(), answer.body.len()), (code, 0), "{method} {path}");
                let has = coded(&answer);
                assert_eq!(has[0].1, None, "{method} {path}");
                assert!(has[1].1.is_none() || has[1].1 == length && method == "GET", "{method} {path}: {has:?}");
            }
        }
    }
    let mut connection = Connection::open(shop.address("standard-p2")).await;
    let reset = "GET /sized?size=20&code=205 HTTP/1.1\r\nhost: x\r\n\r\n";
    connection.send(format!("{reset}GET /hello HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    let (head, body) = connection.response().await;
    assert!(head.starts_with("http/1.1 205") && head.contains("content-length: 0") && body.is_empty(), "{head}{body}");
    assert!(connection.response().await.0.starts_with("http/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streaming_body_is_compressed_and_sent_without_delay() {
    let shop = Shop::standard().keys("standard-p2", "compression = [\"gzip\"]").start().await;
    let mut connection = Connection::open(shop.address("standard-p2")).await;
    // The whole body would take an hour.
    let target = "/drip?lines=36000&pause=50";
    connection.send(format!("GET {target} HTTP/1.1\r\nhost: x\r\naccept-encoding: gzip\r\n\r\n")).await;
    let head = connection.read_until("\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.contains("content-encoding: gzip") && !head.contains("content-length"), "{head}");
    for _ in 0..6 {
        connection.read_until("\r\n").await;
    }
    let whole = shop.request("GET", "standard-p2", "/drip?lines=3&pause=1").header("accept-encoding", "gzip");
    let answer = whole.send().await;
    assert!(String::from_utf8_lossy(&decompressed(&answer)).ends_with("line 2\n"), "{:?}", decompressed(&answer));
}
