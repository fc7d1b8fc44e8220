//! Tests of the subscriber, with the in-memory host.

use serde_json::json;
use tracing::Span;

use crate::testing::{Host, SpanKind};
use crate::{Json, Problem, Request, Response, Router, Service};

fn service() -> &'static Service {
    static SERVICE: std::sync::OnceLock<Service> = std::sync::OnceLock::new();
    let routes = || {
        Router::new()
            .get("/nested", nested)
            .get("/explicit", explicit)
            .get("/fields", fields)
            .get("/failing", failing)
            .get("/recovering", recovering)
            .get("/logging", logging)
            .get("/leaking", leaking)
            .get("/flags", flags)
            .get("/numbers/{number}", number)
            .get("/err", err)
            .get("/err-of-problem", err_of_problem)
            .get("/directed", directed)
            .get("/renamed", renamed)
            .get("/typed", typed)
            .get("/ok", ok)
            .get("/given", given)
            .get("/bare", bare)
            .get("/calling", calling)
    };
    SERVICE.get_or_init(|| Service::new("sample", routes()))
}

#[tracing::instrument(skip_all)]
fn nested(_: &Request) -> Json<()> {
    inner();
    inner();
    Json(())
}

#[tracing::instrument]
fn inner() {}

fn explicit(_: &Request) -> Json<()> {
    let first = tracing::info_span!("first");
    let second = tracing::info_span!(parent: &first, "second");
    let _entered = second.enter();
    let _root = tracing::info_span!(parent: None, "root").entered();
    Json(())
}

#[tracing::instrument(skip_all, fields(fixed = "text", count = 3_u32, later = tracing::field::Empty, never = tracing::field::Empty))]
fn fields(_: &Request) -> Json<()> {
    let span = Span::current();
    span.record("later", true);
    tracing::record_all!(span, fixed = 2.5, count = ?vec![1, 2]);
    Json(())
}

#[tracing::instrument(skip_all)]
fn failing(_: &Request) -> Result<Json<()>, Problem> {
    inner();
    fails()?;
    Ok(Json(()))
}

#[tracing::instrument(skip_all)]
fn fails() -> Result<(), Problem> {
    inner();
    Err(Problem::internal("the shelf fell down"))
}

#[tracing::instrument(skip_all)]
fn recovering(_: &Request) -> Json<()> {
    if let Err(problem) = fails() {
        drop(problem);
        inner();
    }
    Json(())
}

#[tracing::instrument(skip_all)]
fn logging(_: &Request) -> Json<()> {
    tracing::warn!(product = 1, "running low");
    tracing::debug!("only in the span");
    Json(())
}

fn leaking(_: &Request) -> Json<()> {
    let span = tracing::info_span!("leaked");
    std::mem::forget(span.entered());
    Json(())
}

#[tracing::instrument(skip_all)]
fn flags(_: &Request) -> Json<Vec<bool>> {
    Json(vec![crate::flag("on"), crate::flag("off"), crate::flag("unknown")])
}

#[tracing::instrument(skip_all)]
fn number(request: &Request) -> Result<Json<i64>, Problem> {
    Ok(Json(request.param("number")?))
}

#[derive(Debug, thiserror::Error)]
#[error("the shelf is empty")]
struct Empty(#[source] std::fmt::Error);

#[tracing::instrument(skip_all, err)]
fn checks() -> Result<(), Empty> {
    Err(Empty(std::fmt::Error))
}

#[tracing::instrument(skip_all)]
fn err(_: &Request) -> Json<bool> {
    Json(checks().is_ok())
}

#[tracing::instrument(skip_all, err)]
fn err_of_problem(_: &Request) -> Result<Json<()>, Problem> {
    Err(Problem::internal(Empty(std::fmt::Error)))
}

#[tracing::instrument(skip_all, fields(otel.name = "GET cache", otel.kind = "Client", shelf = 3))]
fn directed(_: &Request) -> Json<()> {
    Json(())
}

#[tracing::instrument(skip_all, fields(otel.name, otel.status_code, otel.status_message))]
fn renamed(_: &Request) -> Json<()> {
    let span = Span::current();
    span.record("otel.name", "renamed afterwards");
    tracing::record_all!(span, otel.status_code = "ERROR", otel.status_message = "it was late");
    Json(())
}

#[tracing::instrument(skip_all, fields(error.type))]
fn typed(_: &Request) -> Result<Json<()>, Problem> {
    Span::current().record("error.type", "card_declined");
    Err(Problem::new(503, "the bank said no"))
}

#[tracing::instrument(skip_all, fields(otel.status_code = "ok"))]
fn ok(_: &Request) -> Result<Json<()>, Problem> {
    crate::fail_span("late", "too late");
    Err(Problem::new(503, "closed"))
}

#[tracing::instrument(skip_all)]
fn given(_: &Request) -> Json<()> {
    crate::fail_span("card_declined", "the bank said no");
    Json(())
}

fn bare(request: &Request) -> Result<Json<()>, Problem> {
    crate::fail_span("card_declined", "the bank said no");
    let _: Option<String> = request.optional_query("q")?;
    Err(Problem::internal(Empty(std::fmt::Error)))
}

#[tracing::instrument(skip_all)]
fn calling(_: &Request) -> Json<bool> {
    Json(crate::client::get("http://nowhere/").is_ok())
}

fn body(response: &Response) -> serde_json::Value {
    response.json().unwrap()
}

#[test]
fn the_parent_is_the_span_that_was_entered_last() {
    let host = Host::new(service());
    host.get("/nested");
    assert_eq!(host.tree(), ["SERVER > nested", "nested > inner", "nested > inner"]);
    assert!(host.spans().iter().all(|span| span.ended && span.error.is_none()));
}

#[test]
fn an_explicit_parent_wins_over_the_current_span() {
    let host = Host::new(service());
    host.get("/explicit");
    assert_eq!(host.tree(), ["SERVER > first", "first > second", "SERVER > root"]);
}

#[test]
fn fields_keep_their_types_and_may_be_recorded_later() {
    let host = Host::new(service());
    host.get("/fields");
    let attributes = serde_json::to_value(host.span("fields").unwrap().attributes).unwrap();
    assert_eq!(attributes, json!({ "fixed": 2.5, "count": "[1, 2]", "later": true }));
    // One call each for the start, `record`, `record_all!` and the end.
    assert_eq!(host.span_calls(), 4);
}

#[test]
fn a_problem_marks_the_spans_that_return_it_and_no_others() {
    let host = Host::new(service());
    assert_eq!(host.get("/failing").status(), 500);
    let marked: Vec<_> = host.spans().into_iter().map(|span| (span.name, span.error.is_some())).collect();
    let expected = [("failing", true), ("inner", false), ("fails", true), ("inner", false)];
    assert_eq!(marked, expected.map(|(name, marked)| (name.to_owned(), marked)));
    let error = host.span("fails").unwrap().error;
    assert_eq!(error, Some(("500".to_owned(), "the shelf fell down".to_owned())));
}

#[test]
fn a_handled_problem_does_not_mark_parent_spans() {
    let host = Host::new(service());
    assert_eq!(host.get("/recovering").status(), 200);
    assert!(host.span("fails").unwrap().error.is_some());
    assert!(host.span("recovering").unwrap().error.is_none());
    assert!(host.spans().iter().filter(|span| span.name == "inner").all(|span| span.error.is_none()));
}

#[test]
fn a_client_error_marks_no_span_and_names_the_invalid_parameter() {
    let host = Host::new(service());
    let answer = host.get("/numbers/many");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let expected = json!({
        "status": 422,
        "title": "Unprocessable Content",
        "detail": "path parameter `number`: invalid digit found in string",
        "errors": [{ "in": "path", "name": "number", "detail": "invalid digit found in string" }],
    });
    assert_eq!(body(&answer), expected);
    assert!(host.span("number").unwrap().error.is_none());
}

#[test]
fn events_become_span_events_and_from_info_up_log_records() {
    let host = Host::new(service());
    host.get("/logging");
    let events: Vec<_> = host.span("logging").unwrap().events.into_iter().map(|(name, _)| name).collect();
    assert_eq!(events, ["running low", "only in the span"]);
    let logs = host.logs();
    assert_eq!(logs.len(), 1);
    assert_eq!((logs[0].severity.as_str(), logs[0].span.as_deref()), ("warn", Some("logging")));
    assert_eq!(logs[0].attributes["product"], 1);
}

#[test]
fn a_request_that_is_not_recorded_costs_no_span_calls_but_still_logs() {
    let host = Host::new(service()).without_recording();
    host.get("/fields");
    host.get("/logging");
    assert_eq!(host.span_calls(), 0);
    assert_eq!(host.logs().len(), 1);
}

#[test]
fn a_span_that_one_request_leaves_open_is_ended_and_is_no_parent_in_the_next() {
    let host = Host::new(service());
    host.get("/leaking");
    assert!(host.span("leaked").unwrap().ended);
    host.get("/nested");
    assert_eq!(host.span("nested").unwrap().parent, None);
}

#[test]
fn a_flag_is_on_only_where_the_configuration_says_true_and_is_recorded() {
    let host = Host::new(service()).with_config("flag.on", "true").with_config("flag.off", "yes");
    assert_eq!(body(&host.get("/flags")), json!([true, false, false]));
    let attributes = serde_json::to_value(host.span("flags").unwrap().attributes).unwrap();
    let expected = json!({ "feature_flag.on": true, "feature_flag.off": false, "feature_flag.unknown": false });
    assert_eq!(attributes, expected);
}

#[test]
fn an_instrumented_err_fails_its_own_span_and_is_an_exception() {
    let host = Host::new(service());
    assert_eq!(body(&host.get("/err")), json!(false));
    let span = host.span("checks").unwrap();
    assert_eq!(span.error, Some(("_OTHER".to_owned(), "the shelf is empty".to_owned())));
    let exception = serde_json::to_value(&span.events).unwrap();
    assert_eq!(exception, json!([["exception", { "exception.message": "the shelf is empty" }]]));
    assert_eq!(host.span("err").unwrap().error, None);
    let logs = host.logs();
    assert_eq!((logs.len(), logs[0].severity.as_str(), logs[0].body.as_str()), (1, "error", "the shelf is empty"));
}

#[test]
fn an_internal_problem_keeps_its_cause_for_the_trace_and_tells_clients_the_title_only() {
    let host = Host::new(service());
    let answer = host.get("/err-of-problem");
    assert_eq!(body(&answer), json!({ "status": 500, "title": "Internal Server Error" }));
    let span = host.span("err_of_problem").unwrap();
    let exception = json!({
        "exception.type": "guest::spans::tests::Empty",
        "exception.message": "the shelf is empty",
        "exception.stacktrace": "the shelf is empty\nCaused by: an error occurred when formatting an argument",
    });
    assert_eq!(serde_json::to_value(&span.events).unwrap(), json!([["exception", exception]]));
    assert_eq!(span.error, Some(("500".to_owned(), "the shelf is empty".to_owned())));
    assert_eq!(host.logs().len(), 1);
}

#[test]
fn otel_fields_set_name_and_kind_and_are_no_attributes() {
    let host = Host::new(service());
    host.get("/directed");
    let span = host.span("GET cache").unwrap();
    assert_eq!((span.kind, span.error), (SpanKind::Client, None));
    assert_eq!(serde_json::to_value(span.attributes).unwrap(), json!({ "shelf": 3 }));
}

#[test]
fn otel_fields_that_are_recorded_later_rename_a_span_and_set_its_status() {
    let host = Host::new(service());
    host.get("/renamed");
    let span = host.span("renamed afterwards").unwrap();
    assert_eq!(span.error, Some(("_OTHER".to_owned(), "it was late".to_owned())));
    assert!(span.attributes.is_empty());
}

#[test]
fn a_recorded_error_type_takes_precedence_over_the_status_code() {
    let host = Host::new(service());
    assert_eq!(host.get("/typed").status(), 503);
    let span = host.span("typed").unwrap();
    assert_eq!(span.error, Some(("card_declined".to_owned(), "the bank said no".to_owned())));
}

#[test]
fn the_status_ok_is_final() {
    let host = Host::new(service());
    assert_eq!(host.get("/ok").status(), 503);
    let span = host.span("ok").unwrap();
    assert_eq!((span.ok, span.error), (true, None));
}

#[test]
fn fail_span_sets_error_type_and_description() {
    let host = Host::new(service());
    assert_eq!(host.get("/given").status(), 200);
    let failed = Some(("card_declined".to_owned(), "the bank said no".to_owned()));
    assert_eq!((host.span("given").unwrap().error, host.server_span().error), (failed, None));
}

#[test]
fn without_a_handler_span_failures_and_exceptions_are_on_the_server_span() {
    let host = Host::new(service());
    host.get("/bare");
    let server = host.server_span();
    assert_eq!(server.error, Some(("card_declined".to_owned(), "the bank said no".to_owned())));
    let (name, attributes) = &server.events[0];
    assert_eq!((name.as_str(), &attributes["exception.message"]), ("exception", &json!("the shelf is empty")));
    let quiet = Host::new(service()).without_recording();
    quiet.get("/bare");
    assert_eq!((quiet.server_span().error, quiet.server_span().events.len()), (None, 0));
}

#[test]
fn a_failed_call_does_not_mark_the_span_of_its_caller() {
    let host = Host::new(service());
    assert_eq!(body(&host.get("/calling")), json!(false));
    let span = host.span("calling").unwrap();
    assert_eq!((span.error, span.events.len()), (None, 0));
}
