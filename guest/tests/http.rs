//! Tests of requests, responses and calls on the native test host.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use guest::metrics::{Counter, Histogram};
use guest::testing::Host;
use guest::{Cookie, Json, Method, Part, Problem, Request, Response, Router, client};
use serde::Deserialize;
use serde_json::{Value, json};

guest::serve!(routes);

fn routes() -> Router {
    Router::new()
        .get("/items/{id}", item)
        .put("/items/{id}", item)
        .get("/items/{id}/files/{*path}", file)
        .get("/items/new", |_: &Request| Response::new(204))
        .get("/search", search)
        .post("/form", form)
        .post("/upload", upload)
        .post("/json", json_body)
        .get("/cookies", cookies)
        .get("/calls", calls)
        .get("/at-once", concurrent_calls)
        .get("/measured/{weight}", measured)
}

fn item(request: &Request) -> Result<Json<u32>, Problem> {
    Ok(Json(request.param("id")?))
}

fn file(request: &Request) -> Result<Json<(u32, String)>, Problem> {
    guest::all((request.param("id"), request.param("path"))).map(Json)
}

fn search(request: &Request) -> Result<Json<(u8, bool, String)>, Problem> {
    let (limit, exact, text) = guest::all((request.query("limit"), request.query("exact"), request.query("text")))?;
    Ok(Json((limit, exact, text)))
}

#[derive(Deserialize)]
struct Order {
    product: String,
    quantity: u32,
}

fn form(request: &Request) -> Result<Json<Value>, Problem> {
    let Order { product, quantity } = request.form()?;
    Ok(Json(json!([product, quantity])))
}

fn json_body(request: &Request) -> Result<Json<Value>, Problem> {
    let Order { product, quantity } = request.json()?;
    if quantity == 0 {
        return Err(guest::Invalid::field("quantity", "must be at least 1").into());
    }
    Ok(Json(json!([product, quantity])))
}

fn upload(request: &Request) -> Result<Json<Vec<Value>>, Problem> {
    let seen = |part: &Part| json!([part.name, part.file_name, part.content_type, part.text()]);
    Ok(Json(request.multipart()?.iter().map(seen).collect()))
}

fn cookies(request: &Request) -> Response {
    let names: Vec<_> = request.cookies().map(|cookie| cookie.name().to_owned()).collect();
    let session = request.cookie("session").unwrap_or_default();
    Response::new(200)
        .with_cookie(Cookie::build(("session", session)).http_only(true).secure(true))
        .with_cookie(("theme", "dark"))
        .with_body(names.join(","))
}

fn outcome(answer: Result<Response, client::Error>) -> Value {
    answer.map_or_else(|error| json!(error.to_string()), |answer| json!(answer.status()))
}

fn calls(_: &Request) -> Json<Vec<Value>> {
    let get = || outcome(client::get("http://shop/orders"));
    Json(vec![get(), outcome(client::Request::post("http://shop/orders").send()), get(), get()])
}

fn concurrent_calls(_: &Request) -> Json<Vec<Value>> {
    let requests = [
        client::Request::get("http://shop/fast").timeout(Duration::from_millis(50)),
        client::Request::get("http://shop/slow"),
        client::Request::get("http://elsewhere:8080/x?y"),
    ];
    Json(client::send_all(&requests).into_iter().map(outcome).collect())
}

static PARCELS: Counter = Counter::new("shop.parcels").with_unit("{parcel}");
static WEIGHT: Histogram = Histogram::new("shop.parcel.weight").with_unit("kg").with_boundaries(&[1.0, 5.0]);

fn measured(request: &Request) -> Result<Response, Problem> {
    let weight: f64 = request.param("weight")?;
    let size = if weight > 5.0 { "large" } else { "small" };
    PARCELS.add(1, &[("size", size)]);
    WEIGHT.record(weight, &[]);
    Ok(Response::new(204))
}

fn host() -> Host {
    Host::new(service())
}

fn body(response: &Response) -> Value {
    response.json().unwrap()
}

#[test]
fn the_test_host_matches_paths_and_methods_as_the_real_one_does() {
    assert_eq!(body(&host().get("/items/7")), json!(7));
    assert_eq!(host().get("/items/new").status(), 204);
    assert_eq!(body(&host().get("/items/7/files/a/b%20c")), json!([7, "a/b c"]));
    assert_eq!(host().get("/items/7/files/").status(), 404);
    let wrong = host().send(Method::Delete, "/items/7", &[], b"");
    assert_eq!((wrong.status(), wrong.header("allow")), (405, Some("GET, HEAD, PUT")));
    let head = host().send(Method::Head, "/items/7", &[], b"");
    assert_eq!((head.status(), head.body()), (200, b"".as_slice()));
}

#[test]
fn a_problem_lists_everything_that_is_wrong_with_a_request() {
    let answer = host().get("/search?limit=1000&exact=perhaps");
    let limit = "number too large to fit in target type";
    let exact = "provided string was not `true` or `false`";
    let expected = json!({
        "status": 422,
        "title": "Unprocessable Content",
        "detail": format!("query parameter `limit`: {limit}; query parameter `exact`: {exact}; query parameter `text` is missing"),
        "errors": [
            { "in": "query", "name": "limit", "detail": limit },
            { "in": "query", "name": "exact", "detail": exact },
            { "in": "query", "name": "text", "detail": "is missing" },
        ],
    });
    assert_eq!((answer.status(), body(&answer)), (422, expected));
    assert_eq!(body(&host().get("/search?limit=9&exact=true&text=x")), json!([9, true, "x"]));
}

#[test]
fn forms_are_read_into_types() {
    let form = |content_type: &str, body: &str| {
        host().send(Method::Post, "/form", &[("content-type", content_type)], body.as_bytes())
    };
    let url_encoded = "application/x-www-form-urlencoded";
    assert_eq!(body(&form(url_encoded, "product=caf%C3%A9+au+lait&quantity=2")), json!(["café au lait", 2]));
    assert_eq!(form(&format!("{url_encoded}; charset=utf-8"), "product=x&quantity=2").status(), 200);
    let refused = form(url_encoded, "product=x&quantity=many");
    assert_eq!((refused.status(), &body(&refused)["errors"][0]["in"]), (422, &json!("body")));
    assert_eq!(form("text/plain", "product=x&quantity=2").status(), 415);
}

#[test]
fn a_field_of_the_body_is_named_in_the_problem() {
    let answer = host().send(Method::Post, "/json", &[], br#"{"product":"x","quantity":0}"#);
    let error = json!({ "in": "body", "name": "quantity", "detail": "must be at least 1" });
    assert_eq!(body(&answer)["detail"], "field `quantity`: must be at least 1");
    assert_eq!((answer.status(), &body(&answer)["errors"]), (422, &json!([error])));
    let malformed = body(&host().send(Method::Post, "/json", &[], b"{"));
    assert_eq!(malformed["detail"], "request body: EOF while parsing an object at line 1 column 1");
}

#[test]
fn a_multipart_body_is_split_into_its_parts() {
    let content_type = [("content-type", "multipart/form-data; boundary=XX")];
    let text = "--XX\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nSummer\r\n\
                --XX\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\n\
                line\r\nline\r\n--XX--\r\n";
    let answer = host().send(Method::Post, "/upload", &content_type, text.as_bytes());
    let expected = json!([["title", null, null, "Summer"], ["photo", "a.txt", "text/plain", "line\r\nline"]]);
    assert_eq!((answer.status(), body(&answer)), (200, expected));
    for cut in ["", "--XX", &text[..text.len() - 8], "nothing of the kind"] {
        assert_eq!(host().send(Method::Post, "/upload", &content_type, cut.as_bytes()).status(), 422, "{cut:?}");
    }
    let no_boundary = [("content-type", "multipart/form-data")];
    assert_eq!(host().send(Method::Post, "/upload", &no_boundary, text.as_bytes()).status(), 422);
    assert_eq!(host().send(Method::Post, "/upload", &[], text.as_bytes()).status(), 415);
}

#[test]
fn cookies_are_read_and_set() {
    let fields = [("cookie", "theme=light; session=\"s-42\"; =; broken"), ("cookie", "more=1")];
    let answer = host().send(Method::Get, "/cookies", &fields, b"");
    assert_eq!(String::from_utf8_lossy(answer.body()), "theme,session,more");
    let set: Vec<_> = answer.headers().filter(|(name, _)| *name == "set-cookie").map(|(_, value)| value).collect();
    assert_eq!(set, [b"session=s-42; HttpOnly; Secure".as_slice(), b"theme=dark"]);
}

#[test]
fn mock_responses_are_matched_by_method_and_returned_in_order() {
    let host = host()
        .with_responses("http://shop/orders", [Response::new(503), Response::new(200)])
        .with_responses((Method::Post, "http://shop/orders"), client::Error::TimedOut);
    assert_eq!(body(&host.get("/calls")), json!([503, "the request timed out", 200, 200]));
}

#[test]
fn a_mock_response_has_any_body_and_headers() {
    let picture = Response::new(200).with_header("content-type", "image/png").with_body(*b"\x89PNG");
    let host = host().with_responses("http://shop/picture", picture);
    drop(host.get("/calls"));
    let answer = client::get("http://shop/picture").unwrap();
    assert_eq!((answer.header("content-type"), answer.body()), (Some("image/png"), b"\x89PNG".as_slice()));
}

#[test]
fn concurrent_calls_have_their_own_timeouts_and_a_denied_one_names_its_origin() {
    let host = host().with_responses("http://shop/fast", Response::new(200));
    let answers = body(&host.get("/at-once"));
    let denied = |origin: &str| format!("the manifest does not allow calls to {origin}");
    assert_eq!(answers, json!([200, denied("http://shop"), denied("http://elsewhere:8080")]));
    let timeouts: Vec<_> = host.calls().iter().map(|call| call.timeout_ms).collect();
    assert_eq!(timeouts, [Some(50), None, None]);
}

#[test]
#[should_panic(expected = "route `/users/:id` has the segment `:id`: write `{id}`")]
fn a_service_that_the_real_host_would_refuse_fails_its_tests() {
    let routes = Router::new().get("/users/:id", item);
    Host::new(Box::leak(Box::new(guest::Service::new("foreign", routes))));
}

#[test]
fn a_service_records_its_own_metrics() {
    let host = host();
    for weight in ["0.5", "7", "2"] {
        host.get(&format!("/measured/{weight}"));
    }
    let counted = |size| host.counter("shop.parcels", &[("size", size)]);
    assert_eq!((counted("small"), counted("large")), (2, 1));
    assert_eq!(host.histogram("shop.parcel.weight", &[]), [0.5, 7.0, 2.0]);
}
