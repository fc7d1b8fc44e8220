//! The route table of a service.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method;

use crate::template::{RouteError, Segment, decode, parse};

/// An endpoint of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The HTTP method.
    pub method: Method,
    /// The path template, as in `/inventory/{product_id}`; the value of `http.route`.
    pub template: Arc<str>,
}

impl Route {
    /// The name of the server span: `{method} {route}`, as defined by the HTTP semantic conventions.
    pub fn span_name(&self) -> String {
        format!("{} {}", self.method, self.template)
    }
}

/// The index of a route in the component's list.
pub type RouteIndex = u32;

/// The result of matching a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// A route matches. Its parameters are percent-decoded and in the order of the path.
    Found {
        /// The index of the route.
        index: RouteIndex,
        /// The decoded parameters.
        params: Vec<String>,
    },
    /// Routes match the path, but only for these methods.
    WrongMethod(BTreeSet<String>),
    /// No route matches the path.
    NotFound,
}

/// The routes of one version of a service.
#[derive(Clone)]
pub struct RouteTable {
    entries: Vec<Entry>,
    routes: Vec<Route>,
    /// A matcher for each method, because a path may match a less specific route of another method.
    matchers: Vec<(Method, matchit::Router<RouteIndex>)>,
}

#[derive(Clone)]
struct Entry {
    span_name: Arc<str>,
    segments: Vec<Segment>,
}

/// The paths that two routes both match.
enum Overlap {
    /// Both match the same paths.
    SamePaths,
    /// One has a parameter and the other a wildcard in the same position.
    Wildcard,
}

impl RouteTable {
    /// Validates the templates and creates the matchers.
    ///
    /// # Errors
    /// If there is no route, a template is malformed, or two of them match the same requests.
    pub fn new(routes: Vec<Route>) -> Result<RouteTable, RouteError> {
        if routes.is_empty() {
            return Err(RouteError::Empty);
        }
        RouteTable::declared(routes)
    }

    /// The same for routes from a manifest, which only name spans: the list may be empty, and `**` at the end of a
    /// template matches the rest of a path, including an empty rest.
    ///
    /// # Errors
    /// If a template is malformed, or two of them match the same requests.
    pub fn declared(routes: Vec<Route>) -> Result<RouteTable, RouteError> {
        let entry = |route: &Route| {
            let segments = match prefix_of_rest(&route.template) {
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

    /// Adds the paths with an empty rest to routes that end with `**`, unless another route matches them.
    fn insert_empty_rests(&mut self) {
        for (index, route) in (0..).zip(&self.routes) {
            let Some(before) = prefix_of_rest(&route.template) else { continue };
            let Some((_, matcher)) = self.matchers.iter_mut().find(|(method, _)| *method == route.method) else {
                continue;
            };
            let Ok(segments) = parse(before.trim_end_matches('/')).or_else(|_| parse("/")) else { continue };
            let shortest = pattern(&segments);
            let with_slash = format!("{}/", shortest.trim_end_matches('/'));
            for pattern in [shortest, with_slash] {
                // An existing entry belongs to a more specific route.
                let _ = matcher.insert(pattern, index);
            }
        }
    }

    fn insert(&mut self, position: usize) -> Result<(), RouteError> {
        let (Some(route), Some(entry)) = (self.routes.get(position), self.entries.get(position)) else { return Ok(()) };
        let matcher_index = match self.matchers.iter().position(|(method, _)| *method == route.method) {
            Some(matcher_index) => matcher_index,
            None => {
                self.matchers.push((route.method.clone(), matchit::Router::new()));
                self.matchers.len() - 1
            }
        };
        let Some((_, matcher)) = self.matchers.get_mut(matcher_index) else { return Ok(()) };
        let inserted = matcher.insert(pattern(&entry.segments), position as RouteIndex);
        inserted.map_err(|_| self.conflict(position))
    }

    /// The error for a route that conflicts with an earlier one.
    fn conflict(&self, position: usize) -> RouteError {
        let name = |index: usize| self.entries.get(index).map(|entry| entry.span_name.to_string()).unwrap_or_default();
        let mut earlier = (0..position).filter_map(|index| Some((index, self.overlap(index, position)?)));
        match earlier.next() {
            Some((index, Overlap::Wildcard)) => RouteError::WildcardBesideParameter(name(index), name(position)),
            Some((index, Overlap::SamePaths)) => RouteError::Ambiguous(name(index), name(position)),
            None => RouteError::Ambiguous(name(position), name(position)),
        }
    }

    /// How two routes conflict, if they match the same paths with equal precedence.
    fn overlap(&self, first: usize, second: usize) -> Option<Overlap> {
        let ((method, first), (second_method, second)) = (self.shape(first)?, self.shape(second)?);
        if method != second_method {
            return None;
        }
        match first.iter().zip(&second).find(|(first, second)| first != second) {
            Some((Segment::Parameter(_), Segment::Wildcard(_)) | (Segment::Wildcard(_), Segment::Parameter(_))) => {
                Some(Overlap::Wildcard)
            }
            None if first.len() == second.len() => Some(Overlap::SamePaths),
            _ => None,
        }
    }

    /// Paths for a GET request to each GET route, with the value 1 for every parameter. A table without routes is that of
    /// a component whose routes are not known; its example is `/`.
    pub fn examples(&self) -> Vec<String> {
        if self.routes.is_empty() {
            return vec![String::from("/")];
        }
        let get_routes =
            self.routes.iter().filter(|route| route.method == Method::GET && !route.template.ends_with("**"));
        get_routes.map(|route| example(&route.template)).collect()
    }

    /// The routes in the order of the component's list.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The route with this index.
    pub fn get(&self, index: RouteIndex) -> Option<&Route> {
        self.routes.get(index as usize)
    }

    /// The name of the server span for a route.
    pub fn span_name(&self, index: RouteIndex) -> Option<&Arc<str>> {
        self.entries.get(index as usize).map(|entry| &entry.span_name)
    }

    /// The names of a route's parameters, in path order.
    pub fn parameter_names(&self, index: RouteIndex) -> impl Iterator<Item = &str> {
        self.segments(index).iter().filter_map(Segment::name)
    }

    /// The methods of all routes, and OPTIONS, which the host itself answers.
    pub fn methods(&self) -> BTreeSet<String> {
        let gets = self.routes.iter().any(|route| route.method == Method::GET);
        let implied = gets.then_some(Method::HEAD).into_iter().chain([Method::OPTIONS]);
        self.routes.iter().map(|route| route.method.clone()).chain(implied).map(|method| method.to_string()).collect()
    }

    /// Finds the route for a request. `HEAD` uses the route for `GET` if it has none of its own.
    pub fn find(&self, method: &Method, path: &str) -> Match {
        let normal = normalize(path);
        let lookup = |method: &Method| self.lookup(method, &normal);
        let index = lookup(method).or_else(|| if method == Method::HEAD { lookup(&Method::GET) } else { None });
        match index {
            Some(index) => Match::Found { index, params: self.params(index, path) },
            None => self.without_route(&normal),
        }
    }

    fn lookup(&self, method: &Method, path: &str) -> Option<RouteIndex> {
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

    /// The routes of `self` that `newer` does not have. A table without routes does not restrict what is served, so it
    /// drops none.
    pub fn dropped_by(&self, newer: &RouteTable) -> Vec<String> {
        if newer.routes.is_empty() {
            return Vec::new();
        }
        let kept: BTreeSet<_> = (0..newer.routes.len()).filter_map(|position| newer.shape(position)).collect();
        let dropped =
            (0..self.routes.len()).filter(|index| self.shape(*index).is_none_or(|shape| !kept.contains(&shape)));
        dropped.filter_map(|index| self.entries.get(index)).map(|entry| entry.span_name.to_string()).collect()
    }

    /// A route without the names of its parameters, to compare routes.
    fn shape(&self, position: usize) -> Option<(&str, Vec<Segment>)> {
        let method = self.routes.get(position)?.method.as_str();
        let without_name = |segment: &Segment| match segment {
            Segment::Literal(text) => Segment::Literal(text.clone()),
            Segment::Parameter(_) => Segment::Parameter(String::new()),
            Segment::Wildcard(_) => Segment::Wildcard(String::new()),
        };
        Some((method, self.entries.get(position)?.segments.iter().map(without_name).collect()))
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

/// The part of a template before its final `**`.
fn prefix_of_rest(template: &str) -> Option<&str> {
    template.strip_suffix("**").filter(|before| before.ends_with('/'))
}

/// A template in the syntax of the matcher.
fn pattern(segments: &[Segment]) -> String {
    let mut pattern = String::new();
    for segment in segments {
        pattern.push('/');
        match segment {
            Segment::Literal(text) => pattern.push_str(&escape_slashes(text).replace('{', "{{").replace('}', "}}")),
            // Parameter names are irrelevant for matching, and must be equal in all routes.
            Segment::Parameter(_) => pattern.push_str("{x}"),
            Segment::Wildcard(_) => pattern.push_str("{*x}"),
        }
    }
    pattern
}

/// Percent-decodes each segment of a path, without creating new segments.
fn normalize(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let segments: Vec<_> = path.split('/').map(|segment| escape_slashes(&decode(segment))).collect();
    Cow::Owned(segments.join("/"))
}

/// Replaces the slashes that `%2F` was decoded to. The replacement character also stands for invalid UTF-8, which no
/// template contains.
fn escape_slashes(segment: &str) -> String {
    segment.replace('/', "\u{fffd}")
}

/// A path that a template matches, with the value 1 for every parameter.
fn example(template: &str) -> String {
    let segments = template.split('/').map(|segment| if segment.starts_with('{') { "1" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests;
