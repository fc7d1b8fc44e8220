//! Telemetry of services that use the guest library.

use std::time::Duration;

use serde_json::json;
use testkit::origin::{Manner, Origin};
use testkit::{Client, Outcome, Shop};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_can_set_error_type_and_message_of_the_server_span() {
    let shop = Shop::oddities().start().await;
    let fine = shop.get("oddities", "/fail?failure=own").await;
    let failed = shop.get("oddities", "/fail?failure=own-5xx").await;
    assert_eq!((fine.status.as_u16(), failed.status.as_u16()), (200, 503));
    let mut spans = shop.shut_down().await.spans();
    spans.retain(|span| span.service == "oddities");
    assert_eq!(spans.len(), 2);
    for server in spans {
        server.assert_attribute("error.type", "card_declined");
        assert_eq!(server.outcome, Outcome::Error("the bank said no".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instrumented_err_is_an_exception_event_on_its_span_only() {
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", "/fail?failure=err").await;
    assert_eq!(answer.status, 200);
    let tree = shop.whole_trace(&answer.trace).await;
    tree.assert_text(&[], "\noddities GET /fail SERVER\n  oddities number INTERNAL ERROR\n");
    let span = tree.one("number");
    let message = "invalid digit found in string";
    assert_eq!(span.outcome, Outcome::Error(message.to_owned()));
    assert_eq!(span.event("exception").unwrap().attributes["exception.message"], message);
    span.assert_attribute("error.type", "_OTHER");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cause_of_an_internal_problem_is_in_the_trace_and_not_in_the_response() {
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", "/fail?failure=internal").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["title"]), (500, &json!("Internal Server Error")));
    assert!(!answer.text().contains("digit"), "{}", answer.text());
    let tree = shop.whole_trace(&answer.trace).await;
    let server = tree.line("oddities GET /fail SERVER");
    let exception = server.event("exception").unwrap();
    assert_eq!(exception.attributes["exception.message"], "invalid digit found in string");
    assert_eq!(exception.attributes["exception.type"], "core::num::error::ParseIntError");
    server.assert_attribute("error.type", "500");
}

#[tokio::test(flavor = "multi_thread")]
async fn span_fields_set_the_status() {
    let shop = Shop::oddities().start().await;
    let of = |failure: &str| format!("/fail?failure={failure}");
    let typed = shop.get("oddities", &of("type")).await;
    let judged = shop.get("oddities", &of("status")).await;
    let fine = shop.get("oddities", &of("ok")).await;
    let spans = shop.shut_down().await.spans();
    let one = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    assert_eq!([typed.status, judged.status, fine.status].map(|status| status.as_u16()), [200; 3]);
    one("typed").assert_attribute("error.type", "card_declined");
    assert_eq!(one("typed").outcome, Outcome::Error(String::new()));
    assert_eq!(one("judged").outcome, Outcome::Error("late".to_owned()));
    assert_eq!(one("fine").outcome, Outcome::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn span_fields_set_name_and_kind() {
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", "/produce").await;
    let tree = shop.whole_trace(&answer.trace).await;
    tree.assert_text(&[], "\noddities GET /produce SERVER\n  oddities send order PRODUCER\n");
    let span = tree.one("send order");
    assert_eq!((span.outcome.clone(), span.attributes.len()), (Outcome::Ok, 0), "{:?}", span.attributes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_call_is_an_error_on_the_client_span_and_not_on_the_callers_span() {
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", "/call?url=http://elsewhere.example:8080/x").await;
    assert_eq!(answer.json()["message"], "the manifest does not allow calls to http://elsewhere.example:8080");
    let tree = shop.whole_trace(&answer.trace).await;
    tree.assert_text(
        &[],
        "
oddities GET /call SERVER
  oddities call INTERNAL
    oddities GET CLIENT ERROR
",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_calls_have_separate_timeouts() {
    let origin = Origin::start(Manner { delay: Duration::from_secs(3), ..Manner::default() }).await;
    let allow = format!("allow = [\"{}\"]", origin.url());
    let shop = Shop::oddities().outbound("oddities", &allow).start().await;
    let answer = shop.get("oddities", &format!("/race?within=20&url={}/slow", origin.url())).await;
    assert_eq!(answer.json(), json!([200, "the request timed out"]), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_a_service_are_exported_and_on_the_metrics_page() {
    let shop = Shop::oddities().with_console().start().await;
    for path in ["/measure/small/0.5", "/measure/large/7", "/measure/small/1.5"] {
        assert_eq!(shop.get("oddities", path).await.status, 200);
    }
    let page = Client::default().request("GET", shop.console(), "/metrics").send().await.text();
    for line in [
        r#"oddities_parcels_total{otel_scope_name="oddities",service_name="oddities",size="small"} 2"#,
        r#"oddities_parcels_total{otel_scope_name="oddities",service_name="oddities",size="large"} 1"#,
        r#"oddities_parcel_weight_kg_bucket{otel_scope_name="oddities",service_name="oddities",le="5"} 2"#,
        r#"oddities_parcel_weight_kg_sum{otel_scope_name="oddities",service_name="oddities"} 9"#,
    ] {
        assert!(page.lines().any(|known| known == line), "{line} is not in\n{page}");
    }
    let collector = shop.shut_down().await;
    let refused = "the metric `http.server.request.duration` is not recorded";
    let logs = collector.logs();
    assert!(logs.iter().any(|log| log.body.as_str().is_some_and(|body| body.starts_with(refused))), "{logs:?}");
    let metrics = collector.metrics();
    let parcels = metrics.iter().rev().find(|metric| metric.name == "oddities.parcels").unwrap();
    assert_eq!((parcels.service.as_str(), parcels.unit.as_str()), ("oddities", "{parcel}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_route_matches_the_rest_of_the_path_and_names_the_span() {
    let shop = Shop::oddities().start().await;
    let answer = shop.get("oddities", "/rest/a/b%20c//d").await;
    answer.assert_json(200, &json!("a/b c//d"));
    assert_eq!(shop.get("oddities", "/rest/").await.status, 404);
    assert_eq!(shop.post("oddities", "/rest/a").await.status, 405);
    let tree = shop.whole_trace(&answer.trace).await;
    tree.line("oddities GET /rest/{*rest} SERVER").assert_attribute("http.route", "/rest/{*rest}");
}
