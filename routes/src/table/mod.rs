//! The table of a service's routes.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method;

use crate::template::{RouteError, Segment, decode, parse};

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
#[derive(Clone)]
pub struct RouteTable {
    entries: Vec<Entry>,
    routes: Vec<Route>,
    /// A matcher for each method: a path that one method does not have may be another's less specific one.
    matchers: Vec<(Method, matchit::Router<RouteIndex>)>,
}

#[derive(Clone)]
struct Entry {
    span_name: Arc<str>,
    segments: Vec<Segment>,
}

/// What two routes have in common.
enum Overlap {
    /// All paths.
    Whole,
    /// The paths that a parameter of the one and a wildcard of the other, at the same place, both take.
    Wildcard,
}

impl RouteTable {
    /// Checks the templates and arranges them for matching.
    ///
    /// # Errors
    /// Where a template is malformed, or two of them match the same requests.
    pub fn new(routes: Vec<Route>) -> Result<RouteTable, RouteError> {
        if routes.is_empty() {
            return Err(RouteError::Empty);
        }
        RouteTable::declared(routes)
    }

    /// The same for routes that only name what is served: there may be none, and `**` at the end of a template takes the
    /// rest of a path, if only nothing.
    ///
    /// # Errors
    /// Where a template is malformed, or two of them match the same requests.
    pub fn declared(routes: Vec<Route>) -> Result<RouteTable, RouteError> {
        let entry = |route: &Route| {
            let segments = match before_rest(&route.template) {
                Some(before) => parse(&format!("{before}{{*rest}}"))?,
                None => parse(&route.template)?,
            };
            Ok(Entry { span_name: route.span_name().into(), segments })
        };
        let entries = routes.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        let mut table = RouteTable { entries, routes, matchers: Vec::new() };
        for index in 0..table.routes.len() {
            table.insert(index)?;
        }
        table.insert_empty_rests();
        Ok(table)
    }

    /// Where nothing is left of a path, the route that takes the rest has it, unless another one has.
    fn insert_empty_rests(&mut self) {
        for (index, route) in (0..).zip(&self.routes) {
            let Some(before) = before_rest(&route.template) else { continue };
            let Some((_, matcher)) = self.matchers.iter_mut().find(|(method, _)| *method == route.method) else {
                continue;
            };
            let Ok(segments) = parse(before.trim_end_matches('/')).or_else(|_| parse("/")) else { continue };
            let shortest = pattern(&segments);
            let with_slash = format!("{}/", shortest.trim_end_matches('/'));
            for pattern in [shortest, with_slash] {
                // One that is there belongs to a route that says more.
                let _ = matcher.insert(pattern, index);
            }
        }
    }

    fn insert(&mut self, position: usize) -> Result<(), RouteError> {
        let (Some(route), Some(entry)) = (self.routes.get(position), self.entries.get(position)) else { return Ok(()) };
        let slot = match self.matchers.iter().position(|(method, _)| *method == route.method) {
            Some(slot) => slot,
            None => {
                self.matchers.push((route.method.clone(), matchit::Router::new()));
                self.matchers.len() - 1
            }
        };
        let Some((_, matcher)) = self.matchers.get_mut(slot) else { return Ok(()) };
        let inserted = matcher.insert(pattern(&entry.segments), position as RouteIndex);
        inserted.map_err(|_| self.conflict(position))
    }

    /// The error for a route that the matcher refused because of an earlier one.
    fn conflict(&self, position: usize) -> RouteError {
        let name = |at: usize| self.entries.get(at).map(|entry| entry.span_name.to_string()).unwrap_or_default();
        let mut earlier = (0..position).filter_map(|at| Some((at, self.overlap(at, position)?)));
        match earlier.next() {
            Some((at, Overlap::Wildcard)) => RouteError::WildcardBesideParameter(name(at), name(position)),
            Some((at, Overlap::Whole)) => RouteError::Ambiguous(name(at), name(position)),
            None => RouteError::Ambiguous(name(position), name(position)),
        }
    }

    /// How two routes compete for the same paths with the same right.
    fn overlap(&self, one: usize, other: usize) -> Option<Overlap> {
        let ((method, one), (other_method, other)) = (self.shape(one)?, self.shape(other)?);
        if method != other_method {
            return None;
        }
        match one.iter().zip(&other).find(|(one, other)| one != other) {
            Some((Segment::Parameter(_), Segment::Wildcard(_)) | (Segment::Wildcard(_), Segment::Parameter(_))) => {
                Some(Overlap::Wildcard)
            }
            None if one.len() == other.len() => Some(Overlap::Whole),
            _ => None,
        }
    }

    /// Paths that can be tried with a plain GET request: those of the GET routes, with 1 for every parameter.
    pub fn examples(&self) -> Vec<String> {
        let plain = self.routes.iter().filter(|route| route.method == Method::GET && !route.template.ends_with("**"));
        plain.map(|route| example(&route.template)).collect()
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
        self.entries.get(index as usize).map(|entry| &entry.span_name)
    }

    /// The names of the parameters of a route, in path order.
    pub fn parameter_names(&self, index: RouteIndex) -> impl Iterator<Item = &str> {
        self.segments(index).iter().filter_map(Segment::name)
    }

    /// The methods of all routes, and OPTIONS, which the host answers for the service as a whole.
    pub fn methods(&self) -> BTreeSet<String> {
        let gets = self.routes.iter().any(|route| route.method == Method::GET);
        let implied = gets.then_some(Method::HEAD).into_iter().chain([Method::OPTIONS]);
        self.routes.iter().map(|route| route.method.clone()).chain(implied).map(|method| method.to_string()).collect()
    }

    /// Finds the route for a request. `HEAD` falls back to the route for `GET`.
    pub fn find(&self, method: &Method, path: &str) -> Match {
        let normal = normalize(path);
        let at = |method: &Method| self.at(method, &normal);
        let index = at(method).or_else(|| if method == Method::HEAD { at(&Method::GET) } else { None });
        match index {
            Some(index) => Match::Found { index, params: self.params(index, path) },
            None => self.without_route(&normal),
        }
    }

    fn at(&self, method: &Method, path: &str) -> Option<RouteIndex> {
        let (_, matcher) = self.matchers.iter().find(|(served, _)| served == method)?;
        matcher.at(path).ok().map(|found| *found.value)
    }

    fn without_route(&self, path: &str) -> Match {
        let mut allowed = BTreeSet::new();
        for (method, matcher) in &self.matchers {
            if matcher.at(path).is_ok() {
                allowed.insert(method.to_string());
            }
        }
        if allowed.contains(Method::GET.as_str()) {
            allowed.insert(Method::HEAD.to_string());
        }
        if allowed.is_empty() { Match::NotFound } else { Match::WrongMethod(allowed) }
    }

    fn params(&self, index: RouteIndex, path: &str) -> Vec<String> {
        let mut rest = path.strip_prefix('/').unwrap_or(path);
        let mut params = Vec::new();
        for segment in self.segments(index) {
            let (part, after) = rest.split_once('/').unwrap_or((rest, ""));
            match segment {
                Segment::Literal(_) => {}
                Segment::Parameter(_) => params.push(decode(part)),
                Segment::Wildcard(_) => params.push(decode(rest)),
            }
            rest = after;
        }
        params
    }

    /// The routes of `self` that `newer` no longer has: what a swap would take away from callers. A table without routes
    /// says nothing of what is served, and so nothing is taken away.
    pub fn dropped_by(&self, newer: &RouteTable) -> Vec<String> {
        if newer.routes.is_empty() {
            return Vec::new();
        }
        let kept: BTreeSet<_> = (0..newer.routes.len()).filter_map(|position| newer.shape(position)).collect();
        let dropped = (0..self.routes.len()).filter(|at| self.shape(*at).is_none_or(|shape| !kept.contains(&shape)));
        dropped.filter_map(|at| self.entries.get(at)).map(|entry| entry.span_name.to_string()).collect()
    }

    /// A route with its parameters' names left out: what tells two routes apart from outside.
    fn shape(&self, position: usize) -> Option<(&str, Vec<Segment>)> {
        let method = self.routes.get(position)?.method.as_str();
        let nameless = |segment: &Segment| match segment {
            Segment::Literal(text) => Segment::Literal(text.clone()),
            Segment::Parameter(_) => Segment::Parameter(String::new()),
            Segment::Wildcard(_) => Segment::Wildcard(String::new()),
        };
        Some((method, self.entries.get(position)?.segments.iter().map(nameless).collect()))
    }

    fn segments(&self, index: RouteIndex) -> &[Segment] {
        self.entries.get(index as usize).map_or(&[], |entry| &entry.segments)
    }
}

impl std::fmt::Debug for RouteTable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.entries.iter().map(|entry| &entry.span_name)).finish()
    }
}

/// What stands before the `**` of a template that ends with it.
fn before_rest(template: &str) -> Option<&str> {
    template.strip_suffix("**").filter(|before| before.ends_with('/'))
}

/// A template as the matcher takes it.
fn pattern(segments: &[Segment]) -> String {
    let mut pattern = String::new();
    for segment in segments {
        pattern.push('/');
        match segment {
            Segment::Literal(text) => pattern.push_str(&opaque(text).replace('{', "{{").replace('}', "}}")),
            // The names do not matter here, and must not conflict between routes.
            Segment::Parameter(_) => pattern.push_str("{x}"),
            Segment::Wildcard(_) => pattern.push_str("{*x}"),
        }
    }
    pattern
}

/// A path in the form in which templates are matched: each segment percent-decoded, and still one segment.
fn normalize(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let segments: Vec<_> = path.split('/').map(|segment| opaque(&decode(segment))).collect();
    Cow::Owned(segments.join("/"))
}

/// A decoded segment without the slashes that `%2F` gave it. What takes their place cannot be told from bytes that are
/// no UTF-8, which no template contains either.
fn opaque(segment: &str) -> String {
    segment.replace('/', "\u{fffd}")
}

/// A path that a template matches: every parameter is 1.
fn example(template: &str) -> String {
    let segments = template.split('/').map(|segment| if segment.starts_with('{') { "1" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests;
