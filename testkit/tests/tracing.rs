//! The traces of requests: spans, parents, services and attributes.

use serde_json::{Value, json};
use testkit::{Kind, PATIENCE, SERVICES, Shop, ShopBuilder, Span, SpanTree, TraceId};

const ADDRESS: &[&str] = &["server.address", "server.port"];

const RECOMMENDATIONS: &str = "
user-service GET /users/{user_id}/recommendations SERVER server.address=localhost server.port=8001
  user-service get_user_recommendations INTERNAL
    user-service GET CLIENT server.address=localhost server.port=8000
      product-service GET /products/recommend SERVER server.address=localhost server.port=8000
        product-service recommend_products INTERNAL
          product-service calculate_user_score INTERNAL
          product-service filter_products_by_category INTERNAL
          product-service apply_pricing_logic INTERNAL
          product-service enrich_with_inventory INTERNAL
            product-service GET CLIENT server.address=localhost server.port=8002
              inventory-service GET /inventory/{product_id} SERVER server.address=localhost server.port=8002
                inventory-service get_inventory INTERNAL
                  inventory-service check_warehouse_capacity INTERNAL
                  inventory-service calculate_shipping_time INTERNAL
            product-service GET CLIENT server.address=localhost server.port=8002
              inventory-service GET /inventory/{product_id} SERVER server.address=localhost server.port=8002
                inventory-service get_inventory INTERNAL
                  inventory-service check_warehouse_capacity INTERNAL
                  inventory-service calculate_shipping_time INTERNAL
            product-service GET CLIENT server.address=localhost server.port=8002
              inventory-service GET /inventory/{product_id} SERVER server.address=localhost server.port=8002
                inventory-service get_inventory INTERNAL
                  inventory-service check_warehouse_capacity INTERNAL
                  inventory-service calculate_shipping_time INTERNAL
";

/// Requests recommendations with the shop's header fields, and returns the whole trace.
async fn recommendations() -> SpanTree {
    let shop = Shop::start().await;
    let request = shop.request("GET", "user-service", "/users/1/recommendations");
    let request = request.header("host", "localhost:8001").header("user-agent", "testkit/1");
    let answer = request.header("x-client-id", "web").header("x-session-id", "s-1").send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    shop.whole_trace(&answer.trace).await
}

#[tokio::test(flavor = "multi_thread")]
async fn recommendations_are_one_trace_of_24_spans_in_three_services() {
    let tree = recommendations().await;
    tree.assert_text(ADDRESS, RECOMMENDATIONS);
    assert_eq!(tree.spans().len(), 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_span_of_a_trace_has_the_attributes_of_its_request() {
    for span in recommendations().await.spans() {
        span.assert_attribute("business.client_id", "web");
        span.assert_attribute("business.session_id", "s-1");
        span.assert_attribute("session.id", "s-1");
        span.assert_attribute("business.user_id", "1");
        span.assert_attribute("user.id", "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_follow_the_semantic_conventions_for_http() {
    let tree = recommendations().await;
    for span in tree.spans() {
        match span.kind {
            Kind::Server => {
                span.assert_has(&["url.path", "url.scheme", "http.route", "server.address", "server.port"]);
                span.assert_attribute("http.request.method", "GET");
                span.assert_attribute("http.response.status_code", 200);
            }
            Kind::Client => {
                span.assert_has(&["server.address", "server.port", "url.full"]);
                span.assert_attribute("http.request.method", "GET");
                span.assert_attribute("http.response.status_code", 200);
            }
            _ => assert_eq!(span.attribute("http.request.method"), &Value::Null, "{span}"),
        }
        assert!(!span.is_error(), "{span}");
        assert!(span.start > 0 && span.start <= span.end, "{span}: {} {}", span.start, span.end);
    }
    let root = tree.line("user-service GET /users/{user_id}/recommendations SERVER");
    root.assert_attribute("http.route", "/users/{user_id}/recommendations");
    root.assert_attribute("url.path", "/users/1/recommendations");
    root.assert_attribute("url.scheme", "http");
    root.assert_attribute("user_agent.original", "testkit/1");
    root.assert_attribute("network.protocol.version", "1.1");
    root.assert_attribute("client.address", "127.0.0.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_times_of_children_are_within_those_of_their_parents() {
    let tree = recommendations().await;
    for span in tree.spans() {
        let Some(parent) = tree.parent(span) else { continue };
        assert!(parent.start <= span.start && span.end <= parent.end, "{span} is not within {parent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn independent_calls_are_concurrent() {
    // On a busy machine the first call may end before the guest has made the last one. Consecutive calls never overlap.
    for _ in 0..5 {
        let tree = recommendations().await;
        let calls = tree.children(tree.one("enrich_with_inventory"));
        assert_eq!(calls.len(), 3);
        let last_start = calls.iter().map(|call| call.start).max();
        let first_end = calls.iter().map(|call| call.end).min();
        if last_start < first_end {
            return;
        }
    }
    panic!("one call had always ended before another began");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_has_one_resource_with_its_identity() {
    let tree = recommendations().await;
    let mut instances = std::collections::BTreeMap::new();
    for span in tree.spans() {
        let resource = &span.resource;
        assert_eq!(resource["service.name"], json!(span.service));
        assert_eq!(resource["service.version"], "1.0.0");
        assert!(resource.contains_key("deployment.environment.name"), "{resource:#?}");
        let instance = resource["service.instance.id"].clone();
        let known = instances.entry(span.service.clone()).or_insert_with(|| instance.clone());
        assert_eq!(*known, instance, "two instance ids of {}", span.service);
        if span.kind == Kind::Server {
            let digest = span.attribute("spandrel.component.digest").as_str().unwrap_or_default().to_owned();
            assert!(digest.len() >= 64, "{span} has the digest `{digest}`");
            span.assert_attribute("spandrel.component.generation", 1);
        }
    }
    assert_eq!(instances.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_carry_the_attributes_of_their_domain() {
    let tree = recommendations().await;
    let operations = [
        ("get_user_recommendations", "user_recommendations"),
        ("recommend_products", "product_recommendation"),
        ("calculate_user_score", "user_scoring"),
        ("enrich_with_inventory", "data_enrichment"),
        ("get_inventory", "inventory_lookup"),
    ];
    for (name, operation) in operations {
        for span in tree.named(name) {
            span.assert_attribute("custom.operation_type", operation);
            span.assert_has(&["performance.execution_time_ms", "system.memory_usage_mb"]);
        }
    }
    let recommend = tree.one("recommend_products");
    recommend.assert_attribute("feature_flag.recommendation_engine", true);
    recommend.assert_attribute("feature_flag.inventory_enrichment", true);
    tree.one("calculate_user_score").assert_attribute("feature_flag.personalization_enabled", true);
    let filter = tree.one("filter_products_by_category");
    filter.assert_attribute("products.count_before", 3);
    filter.assert_attribute("products.count_after", 3);
    let enrich = tree.one("enrich_with_inventory");
    enrich.assert_attribute("enrichment.successful_calls", 3);
    enrich.assert_attribute("enrichment.failed_calls", 0);
    let mut products: Vec<_> = tree.named("get_inventory").iter().map(|span| span.attribute("product.id")).collect();
    products.sort_by_key(|id| id.as_i64());
    assert_eq!(products, [1, 2, 3].map(Value::from).iter().collect::<Vec<_>>());
    for span in tree.named("get_inventory") {
        span.assert_attribute("inventory.found", true);
        span.assert_has(&["inventory.quantity", "inventory.reserved"]);
    }
    for span in tree.named("check_warehouse_capacity") {
        span.assert_has(&["warehouse.location", "warehouse.capacity_percent"]);
    }
    for span in tree.named("calculate_shipping_time") {
        span.assert_has(&["shipping.estimated_days"]);
    }
    let has_score = |span: &Span| span.attributes.contains_key("recommendation.user_score");
    assert!(tree.spans().iter().any(has_score), "no span has recommendation.user_score");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shopping_analysis_is_one_trace() {
    let shop = Shop::start().await;
    let answer = shop.get("user-service", "/users/1/shopping-analysis").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let products = answer.json()["inventory_status"].as_array().map(Vec::len).unwrap_or_default();
    assert!(products > 0);
    let tree = shop.whole_trace(&answer.trace).await;
    let root = tree.line("user-service GET /users/{user_id}/shopping-analysis SERVER");
    assert_eq!(tree.roots().iter().map(|span| &span.name).collect::<Vec<_>>(), [&root.name]);
    let analysis = tree.one("get_shopping_analysis");
    assert_eq!(tree.parent(analysis).map(|span| &span.span_id), Some(&root.span_id));
    analysis.assert_attribute("custom.operation_type", "shopping_analysis");
    for name in ["check_user_preferences", "validate_inventory_availability", "calculate_shopping_score"] {
        let parent = tree.parent(tree.one(name)).map(|span| span.name.as_str());
        assert_eq!(parent, Some("get_shopping_analysis"), "the parent of {name}");
    }
    tree.one("check_user_preferences").assert_has(&["preferences.categories"]);
    tree.one("calculate_shopping_score").assert_has(&["shopping.score"]);
    assert_eq!(tree.named("recommend_products").len(), 1, "{}", tree.text(&[]));
    assert_eq!(tree.named("get_inventory").len(), products, "{}", tree.text(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_is_one_trace() {
    let shop = Shop::start().await;
    let answer = shop.post("inventory-service", "/inventory/1/reserve?quantity=2").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let tree = shop.whole_trace(&answer.trace).await;
    let root = tree.line("inventory-service POST /inventory/{product_id}/reserve SERVER");
    root.assert_attribute("http.request.method", "POST");
    root.assert_attribute("url.query", "quantity=2");
    let reserve = tree.one("reserve_inventory");
    assert_eq!(tree.parent(reserve).map(|span| &span.span_id), Some(&root.span_id));
    reserve.assert_attribute("product.id", 1);
    reserve.assert_attribute("reservation.quantity", 2);
    reserve.assert_attribute("reservation.success", true);
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_interleaved_requests_never_mix_spans_or_metadata() {
    let builder = Shop::builder().env("OTEL_BSP_MAX_QUEUE_SIZE", "65536");
    let patient = |shop: ShopBuilder, (name, _): &(&str, u16)| shop.limits(name, "request_timeout = \"60s\"");
    let shop = std::sync::Arc::new(SERVICES.iter().fold(builder, patient).start().await);
    let mut running = tokio::task::JoinSet::new();
    for number in 0..300 {
        let shop = shop.clone();
        running.spawn(async move {
            let user = 1 + number % 2;
            let path = format!("/users/{user}/recommendations");
            let request = shop.request("GET", "user-service", &path);
            let request = request.header("x-client-id", &format!("client-{number}")).patience(4 * PATIENCE);
            let answer = request.header("x-session-id", &format!("session-{number}")).send().await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.json()["user"]["id"], user);
            (number, user, answer.trace)
        });
    }
    let answers = running.join_all().await;
    let shop = std::sync::Arc::into_inner(shop).expect("the shop has no other owner");
    let collector = shop.shut_down().await;
    let show: &[&str] = &[];
    let expected = RECOMMENDATIONS.replace(" server.address=localhost", "");
    let expected =
        [8000, 8001, 8002].iter().fold(expected, |text, port| text.replace(&format!(" server.port={port}"), ""));
    for (number, user, trace) in answers {
        let tree = collector.trace(&trace);
        tree.assert_text(show, &expected);
        for span in tree.spans() {
            span.assert_attribute("business.client_id", format!("client-{number}"));
            span.assert_attribute("business.session_id", format!("session-{number}"));
            span.assert_attribute("business.user_id", user.to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_can_use_the_wit_interface_directly_and_malformed_attributes_are_contained() {
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", "/contract").await;
    let tree = shop.whole_trace(&answer.trace).await;
    tree.assert_text(
        &[],
        "
oddities GET /contract SERVER
  oddities outer INTERNAL
    oddities inner INTERNAL ERROR
    oddities written INTERNAL
",
    );
    let given = [
        ("text", json!("words")),
        ("int", json!(-7)),
        ("double", json!(0.5)),
        ("boolean", json!(true)),
        ("texts", json!(["one", "", "three"])),
    ];
    for (key, value) in given {
        tree.one("outer").assert_attribute(key, value.clone());
        tree.spans()[0].assert_attribute(key, value.clone());
        let happened = tree.one("inner").event("happened").unwrap();
        assert_eq!(happened.attributes[key], value);
    }
    let written = tree.one("written");
    written.assert_attribute("a", true);
    written.assert_attribute("z", 5);
    written.assert_attribute("d", "e");
    assert_eq!((written.attributes.len(), written.dropped_attributes), (3, 3));
    tree.one("inner").assert_attribute("error.type", "odd");
    assert_eq!(tree.one("inner").outcome, testkit::Outcome::Error("it said so".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_attribute_limit_applies_to_both_encodings() {
    let shop = Shop::oddities().env("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2").start().await;
    let answer = shop.get("oddities", "/contract").await;
    let tree = shop.whole_trace(&answer.trace).await;
    for (name, kept, dropped) in [("outer", ["text", "int"], 3), ("written", ["a", "z"], 4)] {
        let span = tree.one(name);
        assert!(kept.iter().all(|key| span.attributes.contains_key(*key)), "{name}: {:#?}", span.attributes);
        assert_eq!((span.attributes.len(), span.dropped_attributes), (2, dropped), "{name}");
    }
    let server = &tree.spans()[0];
    server.assert_attribute("http.route", "/contract");
    server.assert_attribute("http.response.status_code", 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_trace_is_continued_with_its_tracestate_and_baggage() {
    let origin = testkit::origin::Origin::start(Default::default()).await;
    let lines = format!("allow = [\"{}\"]\nbaggage = true", origin.url());
    let shop = Shop::oddities().outbound("oddities", &lines).start().await;
    let path = format!("/call?url={}/asked", origin.url());
    let request = shop.request("GET", "oddities", &path).header("tracestate", "vendor=abc,other=1");
    let answer = request.header("baggage", "tenant=blue,business.session_id=s%209").send().await;
    assert_eq!(answer.json()["status"], 200, "{}", answer.text());
    let asked = origin.asked();
    let header = |name: &str| asked[0].headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let tree = shop.whole_trace(&answer.trace).await;
    let server = tree.line("oddities GET /call SERVER");
    assert_eq!(server.parent.as_deref(), Some("00f067aa0ba902b7"));
    assert_eq!(server.trace_state, "vendor=abc,other=1");
    server.assert_attribute("session.id", "s 9");
    let client = tree.line("oddities GET CLIENT");
    assert_eq!(header("traceparent"), format!("00-{}-{}-01", answer.trace, client.span_id));
    assert_eq!(header("tracestate"), "vendor=abc,other=1");
    assert!(header("baggage").contains("tenant=blue"), "{}", header("baggage"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_traceparent_starts_a_new_trace() {
    let shop = Shop::oddities().start().await;
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let malformed = [
        format!("00-{id}-00f067aa0ba902b7"),
        format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()),
        format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
        format!("00-{id}-0000000000000000-01"),
        format!("ff-{id}-00f067aa0ba902b7-01"),
        format!("00-{id}-00f067aa0ba902b7-01-extra"),
        format!("00-{id}-00f067aa0ba902b7-0x"),
        format!("00_{id}_00f067aa0ba902b7_01"),
        "x".repeat(5000),
        String::new(),
    ];
    for (number, traceparent) in malformed.iter().enumerate() {
        let request = shop.request("GET", "oddities", "/health").untraced();
        let client = format!("malformed-{number}");
        let answer = request.header("traceparent", traceparent).header("x-client-id", &client).send().await;
        assert_eq!(answer.status, 200, "{traceparent}");
        let is_it = |span: &Span| span.attribute("business.client_id") == &json!(client);
        let span = shop.collector().wait_for_span(&client, is_it).await;
        assert_eq!(span.parent, None, "{traceparent}");
        assert_ne!(span.trace_id, id, "{traceparent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traceparent_of_a_later_version_is_continued() {
    let shop = Shop::oddities().start().await;
    let trace = TraceId::fresh();
    let later = format!("cc-{trace}-00f067aa0ba902b7-01-what-the-future-will-bring");
    let answer = shop.request("GET", "oddities", "/health").untraced().header("traceparent", &later).send().await;
    assert_eq!(answer.status, 200);
    let tree = shop.trace(&trace, 1).await;
    assert_eq!(tree.one("GET /health").parent.as_deref(), Some("00f067aa0ba902b7"));
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_that_the_caller_did_not_sample_are_not_recorded() {
    let shop = Shop::start().await;
    let trace = TraceId::fresh();
    let unsampled = format!("00-{trace}-00f067aa0ba902b7-00");
    let request = shop.request("GET", "user-service", "/users/1/recommendations").untraced();
    let answer = request.header("traceparent", &unsampled).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(shop.whole_trace(&trace).await.spans().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_4xx_is_an_error_on_the_client_span_only() {
    let shop = Shop::oddities().start().await;
    let url = format!("http://localhost:{}/status/404", testkit::ODDITIES_PORT);
    let answer = shop.get("oddities", &format!("/call?url={url}")).await;
    assert_eq!(answer.json()["status"], 404, "{}", answer.text());
    let tree = shop.whole_trace(&answer.trace).await;
    let client = tree.line("oddities GET CLIENT");
    assert!(client.is_error());
    client.assert_attribute("error.type", "404");
    client.assert_attribute("http.response.status_code", 404);
    let server = tree.line("oddities GET /status/{status} SERVER");
    assert!(!server.is_error());
    server.assert_attribute("error.type", Value::Null);
    server.assert_attribute("http.response.status_code", 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_5xx_is_an_error_on_both_spans() {
    let shop = Shop::oddities().start().await;
    let url = format!("http://localhost:{}/status/503", testkit::ODDITIES_PORT);
    let answer = shop.get("oddities", &format!("/call?url={url}")).await;
    let tree = shop.whole_trace(&answer.trace).await;
    for line in ["oddities GET CLIENT", "oddities GET /status/{status} SERVER"] {
        assert!(tree.line(line).is_error(), "{line}");
        tree.line(line).assert_attribute("error.type", "503");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_without_a_route_is_not_in_the_span_name() {
    let shop = Shop::start().await;
    let answer = shop.get("product-service", "/no/such/thing/12345").await;
    assert_eq!(answer.status, 404);
    let tree = shop.whole_trace(&answer.trace).await;
    let span = tree.one("GET");
    span.assert_attribute("http.route", Value::Null);
    span.assert_attribute("url.path", "/no/such/thing/12345");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_method_becomes_other() {
    let shop = Shop::start().await;
    let answer = shop.request("BREW", "product-service", "/products").send().await;
    assert_eq!(answer.status, 405);
    let tree = shop.whole_trace(&answer.trace).await;
    let [span] = tree.spans() else { panic!("{}", tree.text(&[])) };
    assert!(span.name.starts_with("HTTP"), "{}", span.name);
    span.assert_attribute("http.request.method", "_OTHER");
    span.assert_attribute("http.request.method_original", "BREW");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_call_has_the_spans_of_a_network_call() {
    let local = recommendations().await;
    let inventory = Shop::builder().without("user-service").without("product-service").start().await;
    let url = format!("http://{}", inventory.address("inventory-service"));
    let rest = Shop::builder().without("inventory-service").env("INVENTORY_SERVICE_URL", &url).start().await;
    let answer = rest.get("user-service", "/users/1/recommendations").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut spans = rest.whole_trace(&answer.trace).await.spans().to_vec();
    spans.extend_from_slice(inventory.whole_trace(&answer.trace).await.spans());
    let remote = SpanTree::new(spans);
    remote.assert_text(&[], &local.text(&[]));
    // A local call has no network attributes. Everything else is the same.
    let network = ["network.", "client.", "user_agent."];
    let keys = |tree: &SpanTree| {
        let server = tree.named("GET /inventory/{product_id}")[0];
        let keys = server.attributes.keys().filter(|key| !network.iter().any(|prefix| key.starts_with(prefix)));
        keys.filter(|key| !key.starts_with("business.") && *key != "session.id").cloned().collect::<Vec<_>>()
    };
    assert_eq!(keys(&local), keys(&remote));
}
