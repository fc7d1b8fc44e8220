//! Standard components: streaming bodies in both directions, trailers, and incomplete bodies.

use testkit::raw::Connection;
use testkit::{Client, PATIENCE, Shop, ShopBuilder};

const BOTH: [&str; 2] = ["standard-p2", "standard-p3"];
/// Chunked coding's last chunk.
const LAST: &str = "0\r\n\r\n";

fn with_large_limits() -> ShopBuilder {
    let limit = "request_body = \"64MiB\"\nresponse_body = \"64MiB\"";
    BOTH.iter().fold(Shop::standard(), |shop, service| shop.limits(service, limit))
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_are_received_and_sent_completely() {
    let shop = with_large_limits().start().await;
    for service in BOTH {
        let large = shop.get(service, "/large?size=5000000").await;
        assert_eq!(large.body.len(), 5_000_000, "{service}");
        let counted = shop.request("POST", service, "/count").body(large.body.clone()).send().await.json();
        assert_eq!(counted, serde_json::json!({ "length": 5_000_000, "intact": true }), "{service}");
        let echoed = shop.request("POST", service, "/echo").body(large.body.clone()).send().await;
        assert_eq!(echoed.body, large.body, "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_answered_while_it_is_still_being_sent() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        let mut connection = Connection::open(shop.address(service)).await;
        connection.send("POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await;
        connection.send("5\r\nfirst\r\n").await;
        connection.read_until("first").await;
        connection.send("6\r\nsecond\r\n").await;
        connection.read_until("second").await;
        connection.send(LAST).await;
        connection.read_until(LAST).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_is_sent_as_soon_as_it_is_written() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        let mut connection = Connection::open(shop.address(service)).await;
        // The whole body would take an hour.
        connection.send("GET /drip?lines=36000&pause=100 HTTP/1.1\r\nhost: x\r\n\r\n").await;
        connection.read_until("line 2\n").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_a_response_need_not_be_announced_over_http_2() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        let answer = Client::h2c().request("GET", shop.address(service), "/trailers").send().await;
        assert_eq!(answer.text(), "before the trailers\n", "{service}");
        assert_eq!(answer.trailers["x-checksum"], "abc123", "{service}");
        assert_eq!(answer.trailers["x-rows"], "2", "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_with_trailers_is_complete_whether_or_not_the_client_receives_them() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        for (client, te) in [(Client::h2c(), ""), (Client::default(), ""), (Client::default(), "trailers")] {
            let request = client.request("GET", shop.address(service), "/trailers").header("te", te);
            let answer = request.send().await;
            assert_eq!(answer.text(), "before the trailers\n", "{service}");
            let tree = shop.trace(&answer.trace, 1).await;
            let server = tree.line(&format!("{service} GET SERVER"));
            assert!(!server.is_error(), "{service} {te}");
            assert_eq!(server.attributes.get("error.type"), None, "{service} {te}");
            server.assert_attribute("http.response.body.size", "before the trailers\n".len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_a_response_need_not_be_announced_over_http_1() {
    let shared = "isolation = \"instance\"\nconcurrency_per_instance = 4";
    let shop = Shop::standard().keys("standard-p3", shared).start().await;
    for service in BOTH {
        // A pause sends the head and the body before the trailers exist.
        for (path, te) in [("/trailers", "trailers"), ("/trailers?ms=200", "gzip;q=0.5, Trailers")] {
            let mut connection = Connection::open(shop.address(service)).await;
            let next = "GET /hello HTTP/1.1\r\nhost: x\r\n\r\n";
            connection.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\nte: {te}\r\n\r\n{next}")).await;
            let response = connection.read_until("2\r\n\r\n").await;
            let (_, trailers) = response.split_once("\r\n0\r\n").unwrap_or_else(|| panic!("{response}"));
            assert_eq!(trailers, "x-checksum: abc123\r\nx-rows: 2\r\n\r\n", "{service}");
            let (_, body) = connection.response().await;
            assert_eq!(body, "hello\n", "{service}: the connection serves the next request");
        }
        let mut connection = Connection::open(shop.address(service)).await;
        let head = "GET /trailers?ms=200 HTTP/1.1\r\nhost: x\r\nte: trailers\r\nconnection: close\r\n\r\n";
        connection.send(head).await;
        let response = connection.rest().await;
        assert!(response.ends_with("\r\n0\r\nx-checksum: abc123\r\nx-rows: 2\r\n\r\n"), "{service}: {response}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_are_not_sent_to_clients_that_do_not_accept_them() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        for (version, te) in [("1.1", ""), ("1.1", "te: gzip\r\n"), ("1.0", "te: trailers\r\n")] {
            let mut connection = Connection::open(shop.address(service)).await;
            let head = format!("GET /trailers HTTP/{version}\r\nhost: x\r\n{te}connection: close\r\n\r\n");
            connection.send(head).await;
            let response = connection.rest().await;
            assert!(response.contains("before the trailers\n"), "{service}: {response}");
            assert!(!response.contains("x-checksum"), "{service} HTTP/{version} {te}: {response}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_a_request_reach_the_guest() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        let mut connection = Connection::open(shop.address(service)).await;
        let head = "POST /request-trailers HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
        connection.send(format!("{head}3\r\nabc\r\n0\r\nx-checksum: abc123\r\n\r\n")).await;
        let (_, body) = connection.response().await;
        assert_eq!(body, "[[\"x-checksum\",\"abc123\"]]", "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_may_start_before_the_request_body_ends() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        let mut connection = Connection::open(shop.address(service)).await;
        connection.send("POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf ").await;
        connection.read_until("early\n").await;
        connection.send("whole").await;
        connection.read_until(LAST).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_need_not_read_the_request_body() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        let mut connection = Connection::open(shop.address(service)).await;
        connection.send("POST /early-deaf HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nonly this").await;
        let (head, body) = connection.response().await;
        assert!(head.starts_with("http/1.1 413"), "{service}: {head}");
        assert_eq!(body, "too much\n", "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_fails_is_sent_up_to_its_failure_and_recorded_as_one() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        for (path, sent, error_type) in [
            ("/unfinished", "the first half", "invalid_response"),
            ("/short", "ten bytes.", "invalid_response"),
            ("/trap-after-head", "before the trap\n", "wasm_trap"),
            // By then the transport waits for the rest of the body.
            ("/trap-after-head?ms=300", "before the trap\n", "wasm_trap"),
        ] {
            for client in [Client::default(), Client::h2c()] {
                let answer = client.request("GET", shop.address(service), path).send_incomplete().await;
                assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, sent), "{service} {path}");
                let tree = shop.trace(&answer.trace, 1).await;
                let server = tree.line(&format!("{service} GET SERVER"));
                assert!(server.is_error(), "{service} {path}");
                server.assert_attribute("error.type", error_type);
            }
        }
        assert_eq!(shop.get(service, "/hello").await.text(), "hello\n", "{service} serves on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_do_not_complete_a_body_that_is_shorter_than_its_content_length() {
    let shop = Shop::standard().start().await;
    for client in [Client::default(), Client::h2c()] {
        let address = shop.address("standard-p3");
        let answer = client.request("GET", address, "/short-with-trailers").send_incomplete().await;
        assert_eq!(answer.text(), "ten bytes.");
        let tree = shop.trace(&answer.trace, 1).await;
        tree.line("standard-p3 GET SERVER").assert_attribute("error.type", "invalid_response");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_the_guest_leaves_unfinished_ends_soon() {
    let settings = ["isolation = \"request\"", "isolation = \"instance\"", "concurrency_per_instance = 4"];
    for (service, settings) in [("standard-p2", &settings[..2]), ("standard-p3", &settings[..])] {
        for setting in settings {
            let shop = Shop::standard().keys(service, setting).start().await;
            for _ in 0..2 {
                // A body that ends because of `idle_timeout` fails.
                let answer = shop.get(service, "/forgotten").await;
                assert_eq!(answer.text(), "the first half", "{service} {setting}");
                assert_eq!(shop.get(service, "/hello").await.text(), "hello\n", "{service} {setting}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_finishes_its_bodies_is_reused_for_large_ones() {
    let shop = with_large_limits().keys("standard-p2", "isolation = \"instance\"").start().await;
    for service in BOTH {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let large = shop.get(service, "/large?size=5000000").await;
            assert_eq!(large.body.len(), 5_000_000, "{service}");
            let tree = shop.trace(&large.trace, 1).await;
            if *tree.line(&format!("{service} GET SERVER")).attribute("spandrel.instance.reused") == true {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{service}: no instance is reused");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_exceeds_its_content_length_is_cut_off_and_an_error() {
    let shop = Shop::standard().start().await;
    for client in [Client::default(), Client::h2c()] {
        // What a guest of 0.2 writes in one call is accepted. A guest of 0.3 gets an error before anything is sent.
        let p2 = client.request("GET", shop.address("standard-p2"), "/long").send().await;
        let p3 = client.request("GET", shop.address("standard-p3"), "/long").send_incomplete().await;
        for (service, answer, sent) in [("standard-p2", p2, "ten b"), ("standard-p3", p3, "")] {
            assert_eq!((answer.header("content-length"), answer.text().as_str()), ("5", sent), "{service}");
            let tree = shop.trace(&answer.trace, 1).await;
            tree.line(&format!("{service} GET SERVER")).assert_attribute("error.type", "invalid_response");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_of_a_body_that_fails_closes() {
    let shop = Shop::standard().start().await;
    for service in BOTH {
        for path in ["/unfinished", "/short", "/trap-after-head"] {
            let mut connection = Connection::open(shop.address(service)).await;
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
            connection.send(request.repeat(2)).await;
            let response = connection.rest().await;
            assert!(response.starts_with("HTTP/1.1 200 ") && !response.ends_with(LAST), "{service} {path}: {response}");
            assert_eq!(response.matches("HTTP/1.1").count(), 1, "{service} {path}: {response}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_disconnects_during_a_body_frees_its_request() {
    let limit = "concurrency = 1";
    let shop = BOTH.iter().fold(Shop::standard(), |shop, service| shop.limits(service, limit)).start().await;
    for service in BOTH {
        let mut connection = Connection::open(shop.address(service)).await;
        connection.send("GET /drip?lines=36000&pause=100 HTTP/1.1\r\nhost: x\r\n\r\n").await;
        connection.read_until("line 1\n").await;
        drop(connection);
        // The only permit is free again as soon as the host has detected the disconnect.
        let deadline = std::time::Instant::now() + PATIENCE;
        while shop.get(service, "/hello").await.status != 200 {
            assert!(std::time::Instant::now() < deadline, "{service} still serves a client that is gone");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_rejected_while_it_is_received() {
    let shop =
        BOTH.iter().fold(Shop::standard(), |shop, name| shop.limits(name, "request_body = \"1KiB\"")).start().await;
    for service in BOTH {
        let answer = shop.request("POST", service, "/count").body(vec![b'a'; 4096]).send().await;
        assert_eq!(answer.status, 413, "{service}: {}", answer.text());
        assert_eq!(shop.request("POST", service, "/count").body("abc").send().await.status, 200, "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_fails_because_the_request_body_did_is_not_at_fault() {
    let shop = BOTH.iter().fold(Shop::standard(), |shop, name| shop.limits(name, "request_body = \"1KiB\""));
    let shop = shop.with_console().start().await;
    for service in BOTH {
        let too_large = format!("1000\r\n{}\r\n", "a".repeat(4096));
        for (chunk, status) in [(too_large.as_str(), 413), ("no size\r\n", 400)] {
            let mut connection = Connection::open(shop.address(service)).await;
            connection
                .send(format!("POST /count HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"))
                .await;
            let (head, body) = connection.response().await;
            assert!(head.starts_with(&format!("http/1.1 {status}")), "{service}: {head}{body}");
        }
        let mut connection = Connection::open(shop.address(service)).await;
        connection.send("POST /count HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nabc").await;
        drop(connection);
        let status = shop.admin().wait_until(service, |status| status["serving"]["abandoned"] == 1).await;
        assert_eq!(status["serving"]["error_rate"], 0.0, "{service}: {status}");
    }
}
