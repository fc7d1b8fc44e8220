//! Tests of route matching and of conflicts.

use super::*;

fn table(routes: &[(&str, &str)]) -> RouteTable {
    let routes = routes.iter().map(|(method, template)| route(&format!("{method} {template}")));
    RouteTable::new(routes.collect()).unwrap()
}

/// A route as a manifest declares it.
fn route(declared: &str) -> Route {
    let (method, template) = declared.split_once(' ').map_or((None, declared), |(method, path)| (Some(method), path));
    Route { method: method.map(|method| method.parse().unwrap()), template: template.into() }
}

fn declared(routes: &[&str]) -> Result<RouteTable, RouteError> {
    RouteTable::declared(routes.iter().map(|declared| route(declared)).collect())
}

#[track_caller]
fn check(table: &RouteTable, request: &str, expected: &str) {
    let (method, path) = request.split_once(' ').unwrap();
    let actual = match table.find(&method.parse().unwrap(), path) {
        Match::Found { index, params } => format!("{index} {}", params.join(",")),
        Match::WrongMethod(allowed) => format!("405 {}", allowed.into_iter().collect::<Vec<_>>().join(", ")),
        Match::NotFound => "404".to_owned(),
    };
    assert_eq!(actual.trim(), expected, "{request}");
}

#[test]
fn a_request_finds_its_route_and_parameters() {
    let table = table(&[
        ("GET", "/products/{id}"),
        ("GET", "/products/recommend"),
        ("POST", "/products/{id}/reserve"),
        ("GET", "/"),
    ]);
    check(&table, "GET /products/7", "0 7");
    check(&table, "GET /products/recommend", "1");
    check(&table, "GET /products/recommended", "0 recommended");
    check(&table, "GET /products/rec", "0 rec");
    check(&table, "GET /products/a%20b%2Fc", "0 a b/c");
    check(&table, "GET /products/%ff", "0 \u{fffd}");
    check(&table, "POST /products/7/reserve", "2 7");
    check(&table, "POST /products//reserve", "404");
    check(&table, "GET /", "3");
    check(&table, "GET //", "404");
    check(&table, "GET /products/", "404");
    check(&table, "GET /products", "404");
    check(&table, "GET /products/7/", "404");
    check(&table, "HEAD /products/7", "0 7");
    check(&table, "DELETE /products/7", "405 GET, HEAD");
    check(&table, "GET /products/7/reserve", "405 POST");
    check(&table, "GET *", "404");
}

#[test]
fn literals_are_compared_percent_decoded() {
    let table = table(&[("GET", "/café/{x}"), ("GET", "/a b"), ("GET", "/100%25")]);
    check(&table, "GET /caf%C3%A9/1", "0 1");
    check(&table, "GET /c%61f%c3%a9/1", "0 1");
    check(&table, "GET /a%20b", "1");
    check(&table, "GET /100%25", "2");
    check(&table, "GET /caf%C3%A9%2F1", "404");
}

#[test]
fn braces_in_a_path_are_text() {
    let table = table(&[("GET", "/a/{x}"), ("GET", "/a/b")]);
    check(&table, "GET /a/{x}", "0 {x}");
    check(&table, "GET /a/%7Bx%7D", "0 {x}");
}

#[test]
fn a_wildcard_takes_the_rest_of_the_path() {
    let table = table(&[("GET", "/files/{*path}"), ("GET", "/files/index"), ("GET", "/users/{id}/files/{*path}")]);
    check(&table, "GET /files/a", "0 a");
    check(&table, "GET /files/a/b%20c/d%2Fe", "0 a/b c/d/e");
    check(&table, "GET /files/index", "1");
    check(&table, "GET /files/index/2", "0 index/2");
    check(&table, "GET /files//x/", "0 /x/");
    check(&table, "GET /files/", "404");
    check(&table, "GET /files", "404");
    check(&table, "GET /users/7/files/x/y", "2 7,x/y");
    check(&table, "POST /files/a", "405 GET, HEAD");
}

#[test]
fn a_literal_takes_precedence_and_matching_backtracks() {
    let table = table(&[
        ("GET", "/{a}/list"),
        ("GET", "/{a}/{b}"),
        ("GET", "/x/{b}"),
        ("GET", "/x/{b}/c"),
        ("GET", "/files/{*all}"),
        ("GET", "/files/x/{b}/c"),
    ]);
    check(&table, "GET /y/list", "0 y");
    check(&table, "GET /y/z", "1 y,z");
    check(&table, "GET /x/list", "2 list");
    check(&table, "GET /x/list/c", "3 list");
    check(&table, "GET /x/list/d", "404");
    check(&table, "GET /files/x/list/c", "5 list");
    check(&table, "GET /files/x/list/d", "4 x/list/d");
    check(&table, "GET /files/x//c", "4 x//c");
}

#[test]
fn a_method_matches_a_less_specific_route_if_the_more_specific_one_has_another_method() {
    let table = table(&[("POST", "/products/recommend"), ("GET", "/products/{id}"), ("HEAD", "/products/{id}")]);
    check(&table, "GET /products/recommend", "1 recommend");
    check(&table, "HEAD /products/recommend", "2 recommend");
    check(&table, "POST /products/7", "405 GET, HEAD");
    check(&table, "PUT /products/recommend", "405 GET, HEAD, POST");
}

#[test]
fn two_routes_for_the_same_requests_are_rejected() {
    let routes = ["/a", "/users/{id}", "/users/{name}"]
        .map(|template| Route { method: Some(Method::GET), template: template.into() });
    let error = RouteTable::new(routes.to_vec()).unwrap_err();
    assert_eq!(error.to_string(), "routes `GET /users/{id}` and `GET /users/{name}` match the same requests");
    let routes = ["/files/{id}/size", "/files/{*path}"]
        .map(|template| Route { method: Some(Method::GET), template: template.into() });
    let error = RouteTable::new(routes.to_vec()).unwrap_err();
    assert!(matches!(error, RouteError::WildcardBesideParameter(..)), "{error}");
    assert_eq!(RouteTable::new(Vec::new()).unwrap_err(), RouteError::Empty);
}

#[test]
fn dropped_routes_are_found_regardless_of_parameter_names() {
    let old = table(&[("GET", "/a/{id}"), ("GET", "/b"), ("POST", "/b"), ("GET", "/f/{*path}")]);
    let new = table(&[("GET", "/a/{other}"), ("GET", "/b"), ("GET", "/c"), ("GET", "/f/{path}")]);
    assert_eq!(old.dropped_by(&new), ["POST /b", "GET /f/{*path}"]);
}

#[test]
fn the_rest_wildcard_of_declared_routes_may_be_empty() {
    let table = declared(&["GET /**", "GET /links/{code}", "GET /links", "GET /files/**"]).unwrap();
    let found = |path: &str| match table.find(&Method::GET, path) {
        Match::Found { index, .. } => Some(index),
        _ => None,
    };
    let paths = ["/", "/a/b", "/links/7", "/links", "/files", "/files/", "/files/a/b"];
    assert_eq!(paths.map(found), [0, 0, 1, 2, 3, 3, 3].map(Some));
}

#[test]
fn a_table_without_routes_drops_no_routes() {
    let empty = RouteTable::declared(Vec::new()).unwrap();
    assert_eq!(empty.find(&Method::GET, "/"), Match::NotFound);
    let table = RouteTable::new(vec![route("GET /")]).unwrap();
    assert!(table.dropped_by(&empty).is_empty());
}

#[test]
fn a_route_without_a_method_matches_every_method() {
    let table = declared(&["/any/**", "/all", "GET /links/{code}"]).unwrap();
    for method in ["GET", "HEAD", "POST", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "BREW"] {
        check(&table, &format!("{method} /any/x"), "0 x");
        check(&table, &format!("{method} /any"), "0");
        check(&table, &format!("{method} /all"), "1");
    }
    check(&table, "PROPFIND /links/7", "405 GET, HEAD");
    check(&table, "PROPFIND /other", "404");
}

#[test]
fn a_route_with_a_method_takes_precedence_over_one_for_the_same_paths_without() {
    let table = declared(&["/x/{any}", "POST /x/{id}", "GET /**", "/**", "HEAD /h/{*rest}"]).unwrap();
    check(&table, "POST /x/7", "1 7");
    check(&table, "GET /x/7", "0 7");
    check(&table, "GET /y", "2 y");
    check(&table, "GET /", "2");
    check(&table, "QUERY /", "3");
    check(&table, "HEAD /y", "2 y");
    check(&table, "HEAD /h/y", "4 y");
    check(&table, "HEAD /x/7", "0 7");
}

#[test]
fn routes_without_a_method_conflict_as_those_with_one_do() {
    let error = |routes: &[&str]| declared(routes).unwrap_err().to_string();
    assert_eq!(error(&["/**", "/{*rest}"]), "routes `/**` and `/{*rest}` match the same requests");
    assert_eq!(error(&["/a/{x}", "/a/{y}"]), "routes `/a/{x}` and `/a/{y}` match the same requests");
    assert!(error(&["GET /a/{x}", "/a/**"]).contains("`GET /a/{x}` and `/a/**` have a parameter and a wildcard"));
}

#[test]
fn a_route_without_a_method_replaces_those_with_one() {
    let (named, any) = (declared(&["GET /x/{id}", "FETCH /y"]).unwrap(), declared(&["/x/{other}", "/y"]).unwrap());
    assert!(named.dropped_by(&any).is_empty());
    assert_eq!(any.dropped_by(&named), ["/x/{other}", "/y"]);
}

#[test]
fn examples_are_the_paths_that_serve_get() {
    let table = declared(&["/x/{id}", "GET /x/{code}", "POST /y", "/z", "/**"]).unwrap();
    assert_eq!(table.examples(), ["/x/1", "/z"]);
}
