//! Standard components: proposals outside WASI: configuration, two drafts of keyvalue, logging, and `wasi:otel`.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::{Shop, ShopBuilder, TraceId, artifacts};

const SERVICE: &str = "standard-proposals";

fn proposals() -> ShopBuilder {
    ShopBuilder::empty().service(SERVICE, &artifacts::component(SERVICE), 8024)
}

/// Requests each path in turn. Returns the statuses and values of the responses.
async fn ask(shop: &Shop, paths: &[&str]) -> Vec<(u16, Value)> {
    let mut answers = Vec::new();
    for path in paths {
        let answer = shop.get(SERVICE, path).await;
        answers.push((answer.status.as_u16(), answer.json()));
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_comes_from_the_manifest() {
    let shop = proposals().config(SERVICE, "greeting = \"hello\"").config(SERVICE, "limit = \"7\"").start().await;
    let answers = ask(&shop, &["/config?key=greeting", "/config?key=other", "/config-all"]).await;
    let all = json!({ "greeting": "hello", "limit": "7" });
    assert_eq!(answers, [(200, json!("hello")), (404, Value::Null), (200, all)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_drafts_of_keyvalue_read_and_write() {
    let shop = proposals().start().await;
    for draft in ["draft", "draft2"] {
        let path = |operation: &str| format!("/{draft}/{operation}&bucket=default");
        let (set, get) = (path("set?key=a&value=one"), path("get?key=a"));
        let (exists, delete) = (path("exists?key=a"), path("delete?key=a"));
        let paths = [&set, &get, &exists, &delete, &get, &exists];
        let answers = ask(&shop, &paths.map(String::as_str)).await;
        let values: Vec<_> = answers.into_iter().map(|(status, value)| (status == 200, value)).collect();
        let expected = [Value::Null, json!("one"), json!(true), Value::Null, Value::Null, json!(false)];
        assert_eq!(values, expected.map(|value| (true, value)), "{draft}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_drafts_share_buckets() {
    let shop = proposals().start().await;
    let answers = ask(&shop, &["/draft/set?key=a&value=one&bucket=default", "/draft2/get?key=a&bucket=default"]).await;
    assert_eq!(answers[1], (200, json!("one")));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_name_opens_a_bucket() {
    let shop = proposals().start().await;
    for draft in ["draft", "draft2"] {
        for name in ["", "default", "in_memory"] {
            let answers = ask(&shop, &[&format!("/{draft}/open?bucket={name}")]).await;
            assert_eq!(answers, [(200, json!("opened"))], "{draft} `{name}`");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn increments_and_batches_work_in_both_drafts() {
    let shop = proposals().start().await;
    for draft in ["draft", "draft2"] {
        let paths = [
            format!("/{draft}/increment?bucket=default&key={draft}&delta=5"),
            format!("/{draft}/increment?bucket=default&key={draft}&delta=2"),
            format!("/{draft}/set-many?bucket=default&keys=x,y&value=v"),
            format!("/{draft}/get-many?bucket=default&keys=x,none,y"),
            format!("/{draft}/delete-many?bucket=default&keys=x,none"),
            format!("/{draft}/get-many?bucket=default&keys=x"),
        ];
        let answers = ask(&shop, &paths.each_ref().map(String::as_str)).await;
        let expected =
            [json!(5), json!(7), Value::Null, json!([["x", "v"], null, ["y", "v"]]), Value::Null, json!([null])];
        assert_eq!(answers, expected.map(|value| (200, value)), "{draft}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_keys_are_listed_page_by_page() {
    let shop = proposals().start().await;
    let keys: Vec<_> = (0..300).map(|number| format!("key-{number:03}")).collect();
    for chunk in keys.chunks(100) {
        let path = format!("/draft2/set-many?bucket=default&value=v&keys={}", chunk.join(","));
        assert_eq!(shop.get(SERVICE, &path).await.status, 200);
    }
    for draft in ["draft", "draft2"] {
        let (mut listed, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = shop.get(SERVICE, &format!("/{draft}/keys?bucket=default{cursor}")).await.json();
            listed.extend(page["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()));
            cursor = match &page["cursor"] {
                Value::Null => break,
                Value::String(text) => format!("&cursor={}", text.replace('%', "%25").replace('&', "%26")),
                number => format!("&cursor={number}"),
            };
            assert!(listed.len() <= keys.len(), "{draft}: the pages do not end");
        }
        listed.sort();
        assert_eq!(listed, keys, "{draft}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compare_and_swap_detects_a_concurrent_write() {
    let shop = proposals().start().await;
    let swap = |kind: &str, value: &str| format!("/draft2/{kind}?bucket=default&key=c&value={value}");
    let paths = [swap("swap", "one"), swap("swap", "two"), swap("lost-swap", "three")];
    let answers = ask(&shop, &paths.each_ref().map(String::as_str)).await;
    assert_eq!(answers[0], (200, json!({ "before": null })));
    assert_eq!(answers[1], (200, json!({ "before": "one" })));
    assert_eq!(answers[2], (409, json!({ "before": "two", "now": "somebody else was here" })));
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_writes_log_records_of_the_trace() {
    let shop = proposals().start().await;
    for (level, severity) in [("trace", 1), ("debug", 5), ("info", 9), ("warn", 13), ("error", 17), ("critical", 21)] {
        let message = format!("at {level}");
        let path = format!("/log?level={level}&context=orders&message=at%20{level}");
        let trace = shop.get(SERVICE, &path).await.trace;
        let record = shop.collector().wait_for_log(&message, |record| record.body == message.as_str()).await;
        assert_eq!((record.severity_number, record.service.as_str()), (severity, SERVICE), "{level}");
        assert_eq!(record.trace_id, trace.to_string(), "{level}");
        assert!(record.attributes.values().any(|value| value == "orders"), "{level}: {:?}", record.attributes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_current_span_context_is_the_server_span() {
    let shop = proposals().start().await;
    let answer = shop.get(SERVICE, "/otel/context").await;
    let context = answer.json();
    let tree = shop.trace(&answer.trace, 1).await;
    let server = tree.line(&format!("{SERVICE} GET SERVER"));
    assert_eq!(context["trace_id"], answer.trace.to_string());
    assert_eq!(context["span_id"], server.span_id.as_str());
    assert_eq!(context["sampled"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn guest_spans_are_children_of_the_server_span_with_all_their_data() {
    let shop = proposals().start().await;
    let answer = shop.get(SERVICE, "/otel/spans").await;
    let tree = shop.trace(&answer.trace, 3).await;
    let expected =
        format!("{SERVICE} GET SERVER\n  {SERVICE} parent step INTERNAL\n    {SERVICE} child step CLIENT ERROR\n");
    tree.assert_text(&[], &expected);
    let child = tree.one("child step");
    assert_eq!(child.span_id, answer.json()["child"]["span_id"]);
    assert_eq!(child.resource["service.name"], SERVICE);
    child.assert_attribute("text", "a \"quoted\" word");
    child.assert_attribute("whole", -7);
    child.assert_attribute("fraction", 1.5);
    child.assert_attribute("truth", true);
    child.assert_attribute("list", json!(["a", "b"]));
    child.assert_attribute("bytes", "data:application/octet-stream;base64,AAEC");
    child.assert_attribute("bare", "no JSON");
    assert_eq!(child.event("half way").expect("its event").attributes["done"], 0.5);
    assert_eq!((child.dropped_attributes, child.dropped_events, child.dropped_links), (1, 2, 3));
    let server = tree.line(&format!("{SERVICE} GET SERVER"));
    let (trace, span, attributes) = &child.links[0];
    assert_eq!((trace, span, child.links.len()), (&server.trace_id, &server.span_id, 1));
    assert_eq!(attributes["why"], "the request");
    child.assert_attribute("otel.scope.name", "fixture");
    child.assert_attribute("otel.scope.version", "1.0.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_without_their_leading_zeros_are_padded() {
    let shop = proposals().start().await;
    // One trace id in sixteen starts with a zero.
    let trace = TraceId::from("00000000000000000123456789abcdef");
    shop.request("GET", SERVICE, "/otel/short-ids").in_trace(&trace).send().await;
    let tree = shop.trace(&trace, 2).await;
    let span = tree.one("short ids");
    assert_eq!(span.span_id, "00000000abcdef12");
    assert_eq!(tree.parent(span).expect("its parent").name, "GET");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_with_an_unusable_id_gets_a_new_one_and_links_with_unusable_ids_are_counted() {
    let shop = proposals().start().await;
    let trace = shop.get(SERVICE, "/otel/absurd").await.trace;
    let tree = shop.trace(&trace, 6).await;
    let server = tree.line(&format!("{SERVICE} GET SERVER"));
    let renewed: Vec<_> = tree.spans().iter().filter(|span| span.name == "absurd id").collect();
    assert_eq!(renewed.len(), 4);
    assert!(renewed.iter().all(|span| span.parent.as_ref() == Some(&server.span_id)));
    let ids: BTreeSet<_> = tree.spans().iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), 6, "{ids:?}");
    let linking = tree.one("");
    assert_eq!((linking.links.len(), linking.dropped_links), (1, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_spans_are_exported_after_a_trap() {
    let shop = proposals().start().await;
    let answer = shop.get(SERVICE, "/otel/trap").await;
    assert_eq!(answer.status, 500);
    let tree = shop.whole_trace(&answer.trace).await;
    let span = tree.one("before the trap");
    assert_eq!(tree.parent(span).expect("its parent").to_string(), format!("{SERVICE} GET SERVER"));
    assert!(tree.line(&format!("{SERVICE} GET SERVER")).is_error());
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_and_too_many_spans_are_bounded() {
    let shop = proposals().start().await;
    let mut traces = Vec::new();
    for path in ["/otel/absurd", "/otel/open", "/otel/foreign", "/otel/flood?spans=3000&attributes=300&length=100"] {
        let answer = shop.get(SERVICE, path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        traces.push((path, answer.trace));
    }
    let collector = shop.shut_down().await;
    for (path, trace) in traces {
        let server = collector.trace(&trace).line(&format!("{SERVICE} GET SERVER")).clone();
        assert!(!server.is_error(), "{path}");
    }
    for span in collector.spans() {
        let valid = |id: &str, length: usize| id.len() == length && id.bytes().any(|digit| digit != b'0');
        assert!(valid(&span.trace_id, 32) && valid(&span.span_id, 16), "{span}: {} {}", span.trace_id, span.span_id);
        assert!(span.attributes.len() <= 130, "{span} has {} attributes", span.attributes.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scope_does_not_count_toward_the_limit_of_attributes() {
    let shop = proposals().start().await;
    let trace = shop.get(SERVICE, "/otel/flood?spans=1&attributes=200").await.trace;
    let tree = shop.trace(&trace, 2).await;
    let span = tree.one("one of many");
    span.assert_attribute("otel.scope.version", "1.0.0");
    assert_eq!((span.attributes.len(), span.dropped_attributes), (130, 72));
}

#[tokio::test(flavor = "multi_thread")]
async fn log_records_of_a_guest_keep_severity_attributes_and_span() {
    let shop = proposals().start().await;
    let answer = shop.get(SERVICE, "/otel/logs?message=told").await;
    let server = shop.trace(&answer.trace, 1).await.line(&format!("{SERVICE} GET SERVER")).clone();
    let record = shop.collector().wait_for_log("told", |record| record.body == "told").await;
    assert_eq!((record.severity.as_str(), record.severity_number), ("WARN", 13));
    assert_eq!((record.trace_id.as_str(), &record.span_id), (answer.trace.to_string().as_str(), &server.span_id));
    assert_eq!(record.attributes["log.kind"], "proposal");
    assert_eq!(record.attributes["log.count"], 3);
    assert_eq!(record.attributes["event.name"], "fixture.told");
    assert_eq!(record.attributes["otel.scope.name"], "fixture");
    let bare = shop.collector().wait_for_log("the bare one", |record| record.body == "not JSON: told").await;
    assert_eq!(bare.service, SERVICE);
}

#[tokio::test(flavor = "multi_thread")]
async fn guest_metrics_are_exported_under_the_services_resource() {
    let shop = proposals().start().await;
    assert_eq!(shop.get(SERVICE, "/otel/metrics").await.text(), "\"exported\"");
    for (name, unit) in [
        ("fixture.orders", "{order}"),
        ("fixture.stock", "{item}"),
        ("fixture.temperature", "Cel"),
        ("fixture.duration", "s"),
        ("fixture.size", "By"),
    ] {
        let metric = shop.collector().wait_for_metric(name, |_| true).await;
        assert_eq!((metric.service.as_str(), metric.unit.as_str()), (SERVICE, unit), "{name}");
        // The collector does not decode exponential buckets.
        assert_eq!(metric.points.len(), usize::from(name != "fixture.size"), "{name}");
    }
    assert_eq!(shop.get(SERVICE, "/otel/float-counter").await.text(), "\"exported\"");
    let clicks = shop.collector().wait_for_metric("fixture.clicks", |_| true).await;
    assert_eq!(clicks.points[0].value, 5.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metric_with_a_name_of_the_host_is_rejected_and_the_rest_of_the_export_accepted() {
    let shop = proposals().start().await;
    let answer = shop.get(SERVICE, "/otel/reserved-name").await;
    assert!(answer.status == 500 && answer.text().contains("http.server.orders"), "{}", answer.text());
    shop.collector().wait_for_metric("fixture.accepted", |_| true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guest_metrics_are_on_the_prometheus_page() {
    let shop = proposals().with_console().start().await;
    assert_eq!(shop.get(SERVICE, "/otel/metrics").await.text(), "\"exported\"");
    for (name, value) in [
        ("fixture_orders_total", 3.0),
        ("fixture_stock", -2.0),
        ("fixture_temperature_celsius", 21.5),
        ("fixture_duration_seconds_count", 3.0),
        ("fixture_size_bytes_sum", 11.0),
    ] {
        assert_eq!(shop.admin().metric(name).await, value, "{name}");
    }
}
