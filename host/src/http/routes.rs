//! From a method and a path to one of a service's routes. Pure: knows no service and does no I/O.
//!
//! A template is made of literal segments and `{name}` parameters. Where several templates match, the one
//! with the literal at the first position in which they differ wins, so `/products/recommend` beats
//! `/products/{id}` whatever order they were declared in.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method;
use percent_encoding::percent_decode_str;
use thiserror::Error;

/// One endpoint as a component declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The HTTP method that the endpoint answers.
    pub method: Method,
    /// The template, as in `/inventory/{product_id}`. It is the value of `http.route`.
    pub template: Arc<str>,
}

impl Route {
    /// The name of the server span: `{method} {route}`, as the HTTP semantic conventions ask.
    pub fn span_name(&self) -> String {
        format!("{} {}", self.method, self.template)
    }
}

/// Why a list of routes is no use.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RouteError {
    /// A template that does not start with a slash.
    #[error("route `{0}` does not start with `/`")]
    NotAbsolute(String),
    /// A segment with a brace in the wrong place, or a parameter without a name.
    #[error("route `{template}` has the segment `{segment}`: a parameter is a whole segment, as in `{{product_id}}`")]
    BadSegment {
        /// The whole template.
        template: String,
        /// The segment at fault.
        segment: String,
    },
    /// Two endpoints that would match the same requests.
    #[error("routes `{0}` and `{1}` match the same requests")]
    Ambiguous(String, String),
    /// No endpoint at all.
    #[error("the component offers no routes")]
    Empty,
}

/// The position of a route in the list that the component gave.
pub type RouteIndex = u32;

/// What a request's method and path lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// This route, with its parameters in the order in which they stand in the path, percent-decoded.
    Found {
        /// Which route.
        index: RouteIndex,
        /// The decoded parameters.
        params: Vec<String>,
    },
    /// Routes exist for this path, but for other methods: these.
    WrongMethod(BTreeSet<String>),
    /// Nothing here.
    NotFound,
}

/// The routes of one version of a service.
#[derive(Clone, Debug)]
pub struct RouteTable {
    routes: Vec<Route>,
    span_names: Vec<Arc<str>>,
    /// Indices into `routes`, most specific template first.
    order: Vec<(RouteIndex, Vec<Segment>)>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    /// Sorts first, so that a literal beats a parameter.
    Literal(String),
    Parameter(String),
}

impl RouteTable {
    /// Checks the templates and sorts them.
    pub fn new(routes: Vec<Route>) -> Result<RouteTable, RouteError> {
        if routes.is_empty() {
            return Err(RouteError::Empty);
        }
        let mut order = Vec::with_capacity(routes.len());
        for (index, route) in (0..).zip(&routes) {
            order.push((index, parse(&route.template)?));
        }
        order.sort_by_key(|(_, segments)| specificity(segments));
        let span_names = routes.iter().map(|route| route.span_name().into()).collect();
        let table = RouteTable { routes, span_names, order };
        table.refuse_ambiguity()?;
        Ok(table)
    }

    /// The routes in the order in which the component gave them.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// One route, by the index that a match holds.
    pub fn get(&self, index: RouteIndex) -> Option<&Route> {
        self.routes.get(index as usize)
    }

    /// The server span's name for a route, made once.
    pub fn span_name(&self, index: RouteIndex) -> Option<&Arc<str>> {
        self.span_names.get(index as usize)
    }

    /// The names of the parameters of a route, in path order.
    pub fn parameter_names(&self, index: RouteIndex) -> impl Iterator<Item = &str> {
        let segments = self.order.iter().find(|(at, _)| *at == index).map(|(_, segments)| segments.as_slice());
        segments.unwrap_or_default().iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }

    /// Finds the route for a request. `HEAD` falls back to the route for `GET`.
    pub fn find(&self, method: &Method, path: &str) -> Match {
        let mut allowed = BTreeSet::new();
        let mut get_instead = None;
        for (index, segments) in &self.order {
            if !matches(segments, path) {
                continue;
            }
            let Some(route) = self.get(*index) else { continue };
            if route.method == method {
                return found(*index, segments, path);
            }
            if route.method == Method::GET {
                get_instead.get_or_insert((*index, segments));
                allowed.insert(Method::HEAD.to_string());
            }
            allowed.insert(route.method.to_string());
        }
        match get_instead {
            Some((index, segments)) if method == Method::HEAD => found(index, segments, path),
            _ if allowed.is_empty() => Match::NotFound,
            _ => Match::WrongMethod(allowed),
        }
    }

    /// The routes of `self` that `newer` no longer has: what a swap would take away from callers.
    pub fn dropped_by(&self, newer: &RouteTable) -> Vec<String> {
        let shapes: BTreeSet<_> = newer.order.iter().map(|(index, segments)| newer.shape(*index, segments)).collect();
        self.order
            .iter()
            .filter(|(index, segments)| !shapes.contains(&self.shape(*index, segments)))
            .filter_map(|(index, _)| self.span_name(*index).map(|name| name.to_string()))
            .collect()
    }

    /// A route with its parameters' names left out: what tells two routes apart from outside.
    fn shape(&self, index: RouteIndex, segments: &[Segment]) -> (String, Vec<Option<String>>) {
        let method = self.get(index).map(|route| route.method.to_string()).unwrap_or_default();
        let segments = segments.iter().map(|segment| match segment {
            Segment::Literal(text) => Some(text.clone()),
            Segment::Parameter(_) => None,
        });
        (method, segments.collect())
    }

    fn refuse_ambiguity(&self) -> Result<(), RouteError> {
        let mut seen = std::collections::BTreeMap::new();
        for (index, segments) in &self.order {
            let Some(name) = self.span_name(*index) else { continue };
            if let Some(other) = seen.insert(self.shape(*index, segments), name) {
                return Err(RouteError::Ambiguous(other.to_string(), name.to_string()));
            }
        }
        Ok(())
    }
}

/// Literals sort before parameters, position by position; names of either do not matter.
fn specificity(segments: &[Segment]) -> Vec<bool> {
    segments.iter().map(|segment| matches!(segment, Segment::Parameter(_))).collect()
}

fn parse(template: &str) -> Result<Vec<Segment>, RouteError> {
    let Some(rest) = template.strip_prefix('/') else {
        return Err(RouteError::NotAbsolute(template.to_owned()));
    };
    rest.split('/').map(|segment| parse_segment(template, segment)).collect()
}

fn parse_segment(template: &str, segment: &str) -> Result<Segment, RouteError> {
    let bad = || RouteError::BadSegment { template: template.to_owned(), segment: segment.to_owned() };
    let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    match name {
        Some(name) if !name.is_empty() && !name.contains(['{', '}']) => Ok(Segment::Parameter(name.to_owned())),
        None if !segment.contains(['{', '}']) => Ok(Segment::Literal(segment.to_owned())),
        _ => Err(bad()),
    }
}

fn matches(segments: &[Segment], path: &str) -> bool {
    let mut parts = path.strip_prefix('/').unwrap_or(path).split('/');
    let all = segments.iter().all(|segment| match (segment, parts.next()) {
        (Segment::Literal(text), Some(part)) => text == part || decode(part) == *text,
        (Segment::Parameter(_), Some(part)) => !part.is_empty(),
        (_, None) => false,
    });
    all && parts.next().is_none()
}

fn found(index: RouteIndex, segments: &[Segment], path: &str) -> Match {
    let parts = path.strip_prefix('/').unwrap_or(path).split('/');
    let params = segments.iter().zip(parts).filter_map(|(segment, part)| match segment {
        Segment::Parameter(_) => Some(decode(part)),
        Segment::Literal(_) => None,
    });
    Match::Found { index, params: params.collect() }
}

/// Bytes that are no UTF-8 become replacement characters: the path is text to a component.
fn decode(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(routes: &[(&str, &str)]) -> RouteTable {
        let routes = routes
            .iter()
            .map(|(method, template)| Route { method: method.parse().unwrap(), template: (*template).into() });
        RouteTable::new(routes.collect()).unwrap()
    }

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
        check(&table, "GET /products/a%20b%2Fc", "0 a b/c");
        check(&table, "POST /products/7/reserve", "2 7");
        check(&table, "GET /", "3");
        check(&table, "GET /products/", "404");
        check(&table, "GET /products", "404");
        check(&table, "GET /products/7/", "404");
        check(&table, "HEAD /products/7", "0 7");
        check(&table, "DELETE /products/7", "405 GET, HEAD");
        check(&table, "GET /products/7/reserve", "405 POST");
    }

    #[test]
    fn a_bad_template_is_named() {
        let error = |template: &str| {
            RouteTable::new(vec![Route { method: Method::GET, template: template.into() }]).unwrap_err().to_string()
        };
        assert_eq!(error("users"), "route `users` does not start with `/`");
        assert!(error("/users/x{id}").contains("`x{id}`"));
        assert!(error("/users/{}").contains("`{}`"));
    }

    #[test]
    fn two_routes_for_the_same_requests_are_refused() {
        let routes =
            ["/users/{id}", "/users/{name}"].map(|template| Route { method: Method::GET, template: template.into() });
        assert!(matches!(RouteTable::new(routes.to_vec()), Err(RouteError::Ambiguous(..))));
    }

    #[test]
    fn dropped_routes_are_found_whatever_their_parameters_are_called() {
        let old = table(&[("GET", "/a/{id}"), ("GET", "/b"), ("POST", "/b")]);
        let new = table(&[("GET", "/a/{other}"), ("GET", "/b"), ("GET", "/c")]);
        assert_eq!(old.dropped_by(&new), ["POST /b"]);
    }
}
