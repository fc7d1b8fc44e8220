//! Concurrent requests in one 0.3 instance: each has its own spans, logs, limits and errors.

use std::time::{Duration, Instant};

use testkit::raw::Connection;
use testkit::{Answer, Client, PATIENCE, STANDARD, Shop, ShopBuilder, Site, Span, TraceId, artifacts};

const SERVICE: &str = "standard-concurrent";
const PORT: u16 = 8024;

fn builder(concurrency: u32) -> ShopBuilder {
    let allowed = STANDARD.map(|(_, port)| format!("\"http://localhost:{port}\"")).join(", ");
    Shop::standard()
        .service(SERVICE, &artifacts::component(SERVICE), PORT)
        .keys(SERVICE, &format!("concurrency_per_instance = {concurrency}"))
        .outbound(SERVICE, &format!("allow = [{allowed}]"))
}

/// Sends all requests concurrently while an instance is running: requests that arrive before there is one may each get a
/// separate one.
async fn all(shop: &Shop, paths: &[String]) -> Vec<Answer> {
    assert_eq!(shop.get(SERVICE, "/linger?ms=1000").await.text(), "lingers");
    let send = |path: &String| tokio::spawn(shop.request("GET", SERVICE, path).send());
    let running: Vec<_> = paths.iter().map(send).collect();
    let mut answers = Vec::new();
    for answer in running {
        answers.push(answer.await.expect("no panic"));
    }
    answers
}

/// The same, repeated until one instance has served all requests concurrently. On a slow machine, the running instance
/// may have ended before they arrive.
async fn together(shop: &Shop, paths: &[String], are_together: impl Fn(&[Answer]) -> bool) -> Vec<Answer> {
    for _ in 0..8 {
        let answers = all(shop, paths).await;
        if are_together(&answers) {
            return answers;
        }
    }
    panic!("{paths:?} were never in one instance");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_with_calls_keep_their_own_spans_and_logs() {
    let shop = builder(4).start().await;
    let work = |name: &str| format!("/work?name={name}&company=4&url=http://localhost:8022/sleep%3Fms=30");
    let names = ["one", "two", "three", "four"];
    let are_four = |answers: &[Answer]| answers.iter().all(|answer| answer.text() == "4");
    let answers = together(&shop, &names.map(work), are_four).await;
    for (name, answer) in names.iter().zip(&answers) {
        assert_eq!(answer.status, 200);
        let tree = shop.trace(&answer.trace, 5).await;
        tree.assert_text(
            &[],
            &format!(
                "{SERVICE} GET SERVER\n  {SERVICE} step {name} before INTERNAL\n  {SERVICE} step {name} after INTERNAL\n  \
                 {SERVICE} GET CLIENT\n    standard-p2 GET SERVER\n"
            ),
        );
    }
    let collector = shop.shut_down().await;
    for (name, answer) in names.iter().zip(&answers) {
        let logs = collector.logs().into_iter().filter(|log| log.trace_id == answer.trace.to_string());
        let mut said: Vec<_> = logs.filter_map(|log| log.body.as_str().map(str::to_owned)).collect();
        said.sort();
        let expected =
            ["logged", "printed", "streamed"].map(|how| ["after", "before"].map(|when| format!("{how} {name} {when}")));
        assert_eq!(said, expected.concat());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_of_requests_that_end_while_their_instance_is_busy() {
    let shop = builder(2).start().await;
    let hold = tokio::spawn(shop.request("GET", SERVICE, "/hold?ms=3000").send());
    let mut answers = Vec::new();
    for number in 0..10 {
        answers.push(shop.get(SERVICE, &format!("/work?name={number}")).await);
    }
    assert_eq!(hold.await.expect("no panic").status, 200);
    for answer in &answers {
        let tree = shop.trace(&answer.trace, 3).await;
        let server = tree.line(&format!("{SERVICE} GET SERVER"));
        assert!(server.attributes.contains_key("spandrel.guest.cpu_time"), "{:?}", server.attributes);
    }
    let collector = shop.shut_down().await;
    for (number, answer) in answers.iter().enumerate() {
        let lines = collector.logs().into_iter().filter(|log| log.trace_id == answer.trace.to_string()).count();
        assert_eq!(lines, 6, "request {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_over_the_limit_is_answered_with_a_problem() {
    let shop = builder(4).limits(SERVICE, "response_body = \"4B\"").start().await;
    let answer = shop.get(SERVICE, "/hello").await;
    answer.assert_problem(500, "exceeds its limit");
    let tree = shop.trace(&answer.trace, 1).await;
    tree.line(&format!("{SERVICE} GET SERVER")).assert_attribute("error.type", "response_too_large");
    assert_eq!(shop.get(SERVICE, "/work?name=one&company=1").await.status, 200, "the instance serves on");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_serves_at_most_concurrency_per_instance_requests() {
    let shop = builder(2).start().await;
    // A request that is alone in its instance waits for others for a while, then continues.
    let paths = vec!["/work?company=2&url=http://localhost:8022/hello".to_owned(); 5];
    let are_two = |answers: &[Answer]| answers.iter().any(|answer| answer.text() == "2");
    let answers = together(&shop, &paths, are_two).await;
    let most: Vec<_> = answers.iter().map(Answer::text).collect();
    assert!(most.iter().all(|most| most == "1" || most == "2") && most.contains(&"2".to_owned()), "{most:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_ends_all_requests_of_the_instance_each_with_its_own_error() {
    let shop = builder(3).start().await;
    let paths = ["/hold?company=3&ms=60000", "/trap?company=3", "/hold?company=3&ms=60000"].map(str::to_owned);
    let all_fail = |answers: &[Answer]| answers.iter().all(|answer| answer.status == 500);
    for answer in together(&shop, &paths, all_fail).await {
        assert_eq!(answer.status, 500, "{}", answer.text());
        let tree = shop.trace(&answer.trace, 1).await;
        let server = tree.line(&format!("{SERVICE} GET SERVER"));
        server.assert_attribute("error.type", "wasm_trap");
        let exception = server.event("exception").expect("an exception");
        let message = exception.attributes["exception.message"].as_str().unwrap_or_default();
        assert!(message.starts_with("a trap in company ("), "{message}");
    }
    assert_eq!(shop.get(SERVICE, "/work").await.status, 200, "the service serves on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_is_the_failure_of_a_response_that_its_client_does_not_read_whether_it_stays_or_leaves() {
    let shop = builder(2).limits(SERVICE, "idle_timeout = \"3s\"\nresponse_body = \"1GiB\"").start().await;
    for leaves in [false, true] {
        let server = unread_response_of_a_trapped_guest(&shop, leaves).await;
        server.assert_attribute("error.type", "wasm_trap");
        assert!(server.is_error());
    }
}

/// The server span of a request whose client reads nothing, while another request in the instance traps. If the client
/// `leaves`, it closes the connection afterwards.
async fn unread_response_of_a_trapped_guest(shop: &Shop, leaves: bool) -> Span {
    for _ in 0..8 {
        assert_eq!(shop.get(SERVICE, "/linger?ms=1000").await.text(), "lingers");
        let trace = TraceId::fresh();
        let mut unread = Connection::open(shop.address(SERVICE)).await;
        let head = format!("host: localhost\r\ntraceparent: {}\r\n\r\n", trace.traceparent());
        unread.send(format!("GET /pour?company=2 HTTP/1.1\r\n{head}")).await;
        shop.get(SERVICE, "/trap?company=2&ms=500").await;
        let unread = (!leaves).then_some(unread);
        let tree = shop.trace(&trace, 1).await;
        drop(unread);
        let server = tree.line(&format!("{SERVICE} GET SERVER"));
        // Otherwise the two requests were in different instances.
        if server.event("exception").is_some() {
            return server.clone();
        }
    }
    panic!("the requests were never in one instance");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_times_out_does_not_affect_the_others() {
    let shop = builder(3).limits(SERVICE, "request_timeout = \"3s\"").start().await;
    let hold = |ms: u32| format!("/hold?company=3&ms={ms}");
    let paths = [hold(300), hold(60_000), hold(300)];
    let others_are_served = |answers: &[Answer]| answers[0].status == 200 && answers[2].status == 200;
    let answers = together(&shop, &paths, others_are_served).await;
    assert_eq!(answers[1].status, 504);
    let tree = shop.trace(&answers[1].trace, 1).await;
    tree.line(&format!("{SERVICE} GET SERVER")).assert_attribute("error.type", "timeout");
    assert_eq!(shop.get(SERVICE, "/work").await.text(), "1", "a fresh instance serves on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_in_an_endless_loop_blocks_its_instance_only_until_the_timeout() {
    let shop = builder(8).limits(SERVICE, "request_timeout = \"4s\"").start().await;
    let (spun, other) = tokio::join!(shop.get(SERVICE, "/spin"), shop.get("standard-p3", "/hello"));
    assert_eq!((spun.status.as_u16(), other.status.as_u16()), (504, 200));
    assert_eq!(shop.get(SERVICE, "/work").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_in_an_endless_loop_after_its_response_takes_no_requests_for_long() {
    let service = "standard-p3";
    let shop = Shop::standard().keys(service, "concurrency_per_instance = 8");
    let shop = shop.limits(service, "request_timeout = \"2s\"").start().await;
    let spinning = shop.get(service, "/spin-after-response").await;
    assert_eq!(spinning.status, 200);
    // Those that arrive at first wait in the instance. All others have instances that serve.
    let began = Instant::now();
    let mut late = Vec::new();
    while began.elapsed() < Duration::from_secs(6) {
        let joined_late = began.elapsed() > Duration::from_millis(300);
        let quick = tokio::time::timeout(Duration::from_millis(200), shop.request("GET", service, "/hello").try_send());
        late.extend(quick.await.is_ok().then_some(()).filter(|()| joined_late));
    }
    assert!(late.len() > 10, "{} responses", late.len());
    assert_eq!(shop.get(service, "/hello").await.status, 200);
    let is_stopped = |log: &testkit::collector::LogRecord| {
        log.trace_id == spinning.trace.to_string()
            && log.body.as_str().is_some_and(|body| body.contains("after its response"))
    };
    shop.collector().wait_for_log("the end of the guest", is_stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_disconnects_does_not_affect_the_others() {
    let shop = builder(3).start().await;
    let gone = shop.request("GET", SERVICE, "/hold?company=3&ms=60000");
    let gone = tokio::spawn(tokio::time::timeout(Duration::from_millis(700), gone.try_send()));
    let answers = all(&shop, &vec!["/hold?company=3&ms=1500".to_owned(); 2]).await;
    assert!(gone.await.expect("no panic").is_err(), "the client did not wait");
    assert!(answers.iter().all(|answer| answer.status == 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_after_a_response_goes_on_when_the_client_of_another_request_disconnects() {
    let shop = builder(2).start().await;
    let lingering = shop.get(SERVICE, "/linger?ms=500").await;
    let gone = shop.request("GET", SERVICE, "/hold?ms=60000").try_send();
    assert!(tokio::time::timeout(Duration::from_millis(200), gone).await.is_err(), "the request is held");
    let of_request = |log: &testkit::collector::LogRecord| {
        log.trace_id == lingering.trace.to_string() && log.body == "streamed late"
    };
    shop.collector().wait_for_log("the line after the response", of_request).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_served_concurrent_requests_is_reused() {
    let shop = builder(4).start().await;
    all(&shop, &vec!["/work?company=2".to_owned(); 2]).await;
    // An instance returns to the pool shortly after its last response.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let again = shop.get(SERVICE, "/work").await;
        let tree = shop.trace(&again.trace, 3).await;
        if *tree.line(&format!("{SERVICE} GET SERVER")).attribute("spandrel.instance.reused") == true {
            return;
        }
        assert!(Instant::now() < deadline, "no instance is used again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answered_requests_share_no_cpu_time_of_later_ones() {
    let shop = builder(4).start().await;
    let hold = tokio::spawn(shop.request("GET", SERVICE, "/hold?company=1&ms=3000").send());
    // They are the guest's until its instance has nothing left to do, or for a second.
    for _ in 0..20 {
        shop.get(SERVICE, "/work").await;
    }
    let busy = shop.get(SERVICE, "/busy?ms=400").await;
    let tree = shop.trace(&busy.trace, 1).await;
    let cost = tree.line(&format!("{SERVICE} GET SERVER")).attribute("spandrel.guest.cpu_time").as_f64();
    assert!(cost.is_some_and(|seconds| seconds >= 0.15), "half of it: {cost:?}");
    assert_eq!(hold.await.expect("no panic").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_during_instantiation_is_logged_with_the_first_request() {
    for concurrency in [1, 4] {
        let shop = builder(concurrency).keys(SERVICE, "[service.env]\nAT_START = \"print\"").start().await;
        let first = shop.get(SERVICE, "/work?name=first").await;
        shop.trace(&first.trace, 3).await;
        let second = shop.get(SERVICE, "/work?name=second").await;
        let collector = shop.shut_down().await;
        let said = |answer: &Answer| {
            let logs = collector.logs().into_iter().filter(|log| log.trace_id == answer.trace.to_string());
            logs.filter_map(|log| Some((log.body.as_str()?.to_owned(), log.severity.clone()))).collect::<Vec<_>>()
        };
        for line in [("printed at the start", "INFO"), ("failed at the start", "WARN")] {
            let line = (line.0.to_owned(), line.1.to_owned());
            assert!(said(&first).contains(&line), "{concurrency}: {:?}", said(&first));
            assert!(!said(&second).contains(&line), "{concurrency}: {:?}", said(&second));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_through_a_stream_that_outlives_its_request_is_in_the_hosts_log() {
    for concurrency in [1, 4] {
        let site = Site::new(&[SERVICE]);
        let component = artifacts::component(SERVICE);
        let builder = ShopBuilder::empty().console_port(site.console().port());
        let builder = builder.service(SERVICE, &component, site.address(SERVICE).port());
        site.write(&builder.keys(SERVICE, &format!("concurrency_per_instance = {concurrency}")));
        let host = site.serve();
        let get = |path: &str| Client::default().request("GET", site.address(SERVICE), path).untraced();
        for other in [None, Some("/work")] {
            let seen = host.log().len();
            assert_eq!(get("/linger?ms=2000").send().await.status, 200);
            if let Some(other) = other {
                assert_eq!(get(other).send().await.status, 200);
            }
            let line = host.wait_for_line_after(seen, &["streamed late", SERVICE]).await;
            // A line of a request has its trace id instead. It is its own as long as no other request is in the instance.
            assert_eq!(line.contains("service="), concurrency > 1 && other.is_some(), "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_of_a_component_that_fails_to_start_is_in_the_hosts_log() {
    let site = Site::new(&[SERVICE]);
    let builder = ShopBuilder::empty().service(SERVICE, &artifacts::component(SERVICE), site.address(SERVICE).port());
    site.write(&builder.keys(SERVICE, "[service.env]\nAT_START = \"fail\""));
    // The component may have to be compiled.
    let ended = site.begin().wait(6 * PATIENCE);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    for line in ["printed at the start", "failed at the start", "no start"] {
        let is_line = |found: &&str| found.contains(line) && found.contains(&format!("service=\"{SERVICE}\""));
        assert_eq!(ended.stdout.lines().filter(is_line).count(), 1, "{line}: {ended:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrency_per_instance_is_rejected_for_other_components() {
    let two = "concurrency_per_instance = 2";
    let lean = Shop::oddities().keys("oddities", two).try_start().await.err().expect("refused");
    assert!(lean.contains("`concurrency_per_instance` is above 1, but a lean component serves one"), "{lean}");
    let p2 = Shop::standard().keys("standard-p2", two).try_start().await.err().expect("refused");
    assert!(p2.contains("a component of `wasi:http` 0.2 serves one request at a time"), "{p2}");
    let alone = builder(2).keys(SERVICE, "isolation = \"request\"").try_start().await.err().expect("refused");
    assert!(alone.contains("`isolation = \"request\"`"), "{alone}");
    assert!(Shop::standard().keys("standard-p2", "concurrency_per_instance = 1").try_start().await.is_ok());
}
