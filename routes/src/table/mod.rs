//! The route table of a service.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use http::Method;

use crate::template::{Place, RouteError, Segment, decode, parse};

/// An endpoint of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The HTTP method. `None` for all methods, which only a manifest can declare.
    pub method: Option<Method>,
    /// The path template, as in `/inventory/{product_id}`; the value of `http.route`.
    pub template: Arc<str>,
}

/// The form in which a manifest declares the route: `{method} {template}`, or the template alone.
impl fmt::Display for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.method {
            Some(method) => write!(formatter, "{method} {}", self.template),
            None => formatter.write_str(&self.template),
        }
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
    routes: Vec<Route>,
    /// The parsed template of each route.
    templates: Vec<Vec<Segment>>,
    /// A matcher for each method of a route, because a path may match a less specific route of another method. It also
    /// has the routes for all methods.
    matchers: Vec<(Method, Matcher)>,
    /// The matcher for the other methods. It has only the routes for all methods.
    any_method: Matcher,
}

type Matcher = matchit::Router<RouteIndex>;

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
        RouteTable::of(routes, Place::Component)
    }

    /// The same for routes from a manifest, which only name spans: the list may be empty, a route may be for all methods,
    /// and `**` at the end of a template matches the rest of a path, including an empty rest.
    ///
    /// Of two routes for the same paths, one with a method takes precedence over one for all methods.
    ///
    /// # Errors
    /// If a template is malformed, or two of them match the same requests.
    pub fn declared(routes: Vec<Route>) -> Result<RouteTable, RouteError> {
        RouteTable::of(routes, Place::Manifest)
    }

    fn of(routes: Vec<Route>, place: Place) -> Result<RouteTable, RouteError> {
        let parse_route = |route: &Route| match prefix_of_rest(&route.template) {
            Some(before) => parse(&format!("{before}{{*rest}}"), place),
            None => parse(&route.template, place),
        };
        let templates = routes.iter().map(parse_route).collect::<Result<Vec<_>, _>>()?;
        let mut table = RouteTable { routes, templates, matchers: Vec::new(), any_method: Matcher::new() };
        table.any_method = table.matcher(None)?;
        for route in &table.routes {
            let Some(method) = &route.method else { continue };
            if table.matchers.iter().all(|(known, _)| known != method) {
                table.matchers.push((method.clone(), table.matcher(Some(method))?));
            }
        }
        Ok(table)
    }

    /// Creates the matcher for a method; `None` stands for all methods that no route names.
    fn matcher(&self, method: Option<&Method>) -> Result<Matcher, RouteError> {
        let indices = self.serving(method);
        let mut matcher = Matcher::new();
        for (count, index) in indices.iter().enumerate() {
            let inserted = matcher.insert(pattern(self.segments(*index)), *index);
            let earlier = indices.get(..count).unwrap_or_default();
            if inserted.is_err() && !self.is_overridden(*index, earlier) {
                return Err(self.conflict(*index, earlier));
            }
        }
        self.insert_empty_rests(&mut matcher, &indices);
        Ok(matcher)
    }

    /// The routes that serve a method: those that name it, then those for all methods.
    fn serving(&self, method: Option<&Method>) -> Vec<RouteIndex> {
        let of = |method: Option<&Method>| {
            let indexed = (0..).zip(&self.routes);
            let chosen = indexed.filter(|(_, route)| route.method.as_ref() == method).map(|(index, _)| index);
            chosen.collect::<Vec<RouteIndex>>()
        };
        let named = if method.is_some() { of(method) } else { Vec::new() };
        [named, of(None)].concat()
    }

    /// Adds the paths with an empty rest to routes that end with `**`, unless another route matches them.
    fn insert_empty_rests(&self, matcher: &mut Matcher, indices: &[RouteIndex]) {
        for index in indices {
            let Some(before) = self.get(*index).and_then(|route| prefix_of_rest(&route.template)) else { continue };
            let parse = |template| parse(template, Place::Manifest);
            let Ok(segments) = parse(before.trim_end_matches('/')).or_else(|_| parse("/")) else { continue };
            let shortest = pattern(&segments);
            let with_slash = format!("{}/", shortest.trim_end_matches('/'));
            for pattern in [shortest, with_slash] {
                // An existing entry belongs to a more specific route.
                let _ = matcher.insert(pattern, *index);
            }
        }
    }

    /// Whether a route for all methods has the same paths as one of `earlier` that names its method.
    fn is_overridden(&self, index: RouteIndex, earlier: &[RouteIndex]) -> bool {
        let names_method = |index: RouteIndex| self.get(index).is_some_and(|route| route.method.is_some());
        let has_same_paths = |other: &&RouteIndex| matches!(self.overlap(**other, index), Some(Overlap::SamePaths));
        !names_method(index) && earlier.iter().find(has_same_paths).is_some_and(|other| names_method(*other))
    }

    /// The error for a route that conflicts with one of `earlier`.
    fn conflict(&self, index: RouteIndex, earlier: &[RouteIndex]) -> RouteError {
        let name = |index: RouteIndex| self.get(index).map(ToString::to_string).unwrap_or_default();
        let mut conflicts = earlier.iter().filter_map(|other| Some((*other, self.overlap(*other, index)?)));
        match conflicts.next() {
            Some((other, Overlap::Wildcard)) => RouteError::WildcardBesideParameter(name(other), name(index)),
            Some((other, Overlap::SamePaths)) => RouteError::Ambiguous(name(other), name(index)),
            None => RouteError::Ambiguous(name(index), name(index)),
        }
    }

    /// How two routes of one method conflict, if they match the same paths with equal precedence.
    fn overlap(&self, first: RouteIndex, second: RouteIndex) -> Option<Overlap> {
        let (first, second) = (self.shape(first), self.shape(second));
        match first.iter().zip(&second).find(|(first, second)| first != second) {
            Some((Segment::Parameter(_), Segment::Wildcard(_)) | (Segment::Wildcard(_), Segment::Parameter(_))) => {
                Some(Overlap::Wildcard)
            }
            None if first.len() == second.len() => Some(Overlap::SamePaths),
            _ => None,
        }
    }

    /// Paths for a GET request to each route that serves GET, with the value 1 for every parameter. A table without routes
    /// is that of a component whose routes are not known; its example is `/`.
    pub fn examples(&self) -> Vec<String> {
        if self.routes.is_empty() {
            return vec![String::from("/")];
        }
        let mut examples = Vec::new();
        for route in self.routes.iter().filter(|route| !route.template.ends_with("**")) {
            let path = example(&route.template);
            if route.method.as_ref().is_none_or(|method| *method == Method::GET) && !examples.contains(&path) {
                examples.push(path);
            }
        }
        examples
    }

    /// The routes in the order of the component's list.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The route with this index.
    pub fn get(&self, index: RouteIndex) -> Option<&Route> {
        self.routes.get(index as usize)
    }

    /// The names of a route's parameters, in path order.
    pub fn parameter_names(&self, index: RouteIndex) -> impl Iterator<Item = &str> {
        self.segments(index).iter().filter_map(Segment::name)
    }

    /// The methods that routes name, and OPTIONS, which the host itself answers.
    pub fn methods(&self) -> BTreeSet<String> {
        let named = self.routes.iter().filter_map(|route| route.method.as_ref());
        let gets = named.clone().any(|method| *method == Method::GET);
        let implied = gets.then_some(&Method::HEAD).into_iter().chain([&Method::OPTIONS]);
        named.chain(implied).map(ToString::to_string).collect()
    }

    /// Finds the route for a request. `HEAD` uses the route for `GET` if it has none of its own.
    pub fn find(&self, method: &Method, path: &str) -> Match {
        let normal = normalize(path);
        let index = match self.lookup(method, &normal) {
            // The route for GET may be more specific than one for all methods.
            found if *method == Method::HEAD && !self.names(found, method) => {
                self.lookup(&Method::GET, &normal).or(found)
            }
            found => found,
        };
        match index {
            Some(index) => Match::Found { index, params: self.params(index, path) },
            None => self.without_route(&normal),
        }
    }

    fn lookup(&self, method: &Method, path: &str) -> Option<RouteIndex> {
        let named = self.matchers.iter().find(|(served, _)| served == method);
        let matcher = named.map_or(&self.any_method, |(_, matcher)| matcher);
        matcher.at(path).ok().map(|found| *found.value)
    }

    /// Whether this route is declared for `method` by name.
    fn names(&self, index: Option<RouteIndex>, method: &Method) -> bool {
        let route = index.and_then(|index| self.get(index));
        route.is_some_and(|route| route.method.as_ref() == Some(method))
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

    /// The routes of `self` that `newer` does not have. A route for all methods includes those for a single method. A
    /// table without routes does not restrict what is served, so it drops none.
    pub fn dropped_by(&self, newer: &RouteTable) -> Vec<String> {
        if newer.routes.is_empty() {
            return Vec::new();
        }
        let kept: BTreeSet<_> = (0..).zip(&newer.routes).map(|(index, route)| newer.key(index, route)).collect();
        let is_kept = |(method, shape): (Option<&str>, Vec<Segment>)| {
            kept.contains(&(None, shape.clone())) || kept.contains(&(method, shape))
        };
        let dropped = (0..).zip(&self.routes).filter(|(index, route)| !is_kept(self.key(*index, route)));
        dropped.map(|(_, route)| route.to_string()).collect()
    }

    /// What identifies a route when tables are compared.
    fn key<'a>(&self, index: RouteIndex, route: &'a Route) -> (Option<&'a str>, Vec<Segment>) {
        (route.method.as_ref().map(Method::as_str), self.shape(index))
    }

    /// The segments of a route without the names of its parameters, to compare routes.
    fn shape(&self, index: RouteIndex) -> Vec<Segment> {
        let without_name = |segment: &Segment| match segment {
            Segment::Literal(text) => Segment::Literal(text.clone()),
            Segment::Parameter(_) => Segment::Parameter(String::new()),
            Segment::Wildcard(_) => Segment::Wildcard(String::new()),
        };
        self.segments(index).iter().map(without_name).collect()
    }

    fn segments(&self, index: RouteIndex) -> &[Segment] {
        self.templates.get(index as usize).map_or(&[], |template| template)
    }
}

impl fmt::Debug for RouteTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.routes.iter().map(ToString::to_string)).finish()
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
