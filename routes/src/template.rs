//! Path templates: their syntax, and hints for the syntax of other routers.

use std::collections::BTreeSet;

use percent_encoding::percent_decode_str;
use thiserror::Error;

/// Why a list of routes is invalid.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RouteError {
    /// A template that does not start with a slash.
    #[error("route `{0}` does not start with `/`")]
    NotAbsolute(String),
    /// A segment with a misplaced brace, or a parameter without a name.
    #[error("route `{template}` has the segment `{segment}`: a parameter is a whole segment, as in `{{product_id}}`")]
    InvalidSegment {
        /// The whole template.
        template: String,
        /// The invalid segment.
        segment: String,
    },
    /// A segment in the syntax of another router.
    #[error("route `{template}` has the segment `{segment}`: write {instead}")]
    ForeignSyntax {
        /// The whole template.
        template: String,
        /// The invalid segment.
        segment: String,
        /// The equivalent in this syntax.
        instead: String,
    },
    /// A wildcard before the end of a template.
    #[error(
        "route `{template}` has the segment `{segment}` in its middle: a wildcard takes the rest of the path. End the template there, or write a parameter such as `{{name}}` for each segment"
    )]
    WildcardNotLast {
        /// The whole template.
        template: String,
        /// The wildcard.
        segment: String,
    },
    /// Two parameters with the same name.
    #[error("route `{template}` has two parameters called `{name}`: give each a name of its own")]
    DuplicateParameter {
        /// The whole template.
        template: String,
        /// The duplicate name.
        name: String,
    },
    /// A template with a query or an optional part.
    #[error("route `{template}` contains a `?`: declare one route for each form of the path, and {query}")]
    Query {
        /// The whole template.
        template: String,
        /// What to do about a query.
        query: &'static str,
    },
    /// Two endpoints that match the same requests.
    #[error("routes `{0}` and `{1}` match the same requests")]
    Ambiguous(String, String),
    /// Two endpoints with a parameter and a wildcard in the same position.
    #[error("routes `{0}` and `{1}` have a parameter and a wildcard at the same place: make one of the two a literal")]
    WildcardBesideParameter(String, String),
    /// No endpoint.
    #[error("the component offers no routes")]
    Empty,
}

/// Where a route is declared. Errors name what can be written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the code of a component, with the guest library.
    Component,
    /// In a manifest.
    Manifest,
}

/// One segment of a template.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Segment {
    /// Matches this text, which is percent-decoded.
    Literal(String),
    /// A parameter with this name: matches any text that is not empty.
    Parameter(String),
    /// A wildcard with this name: matches the rest of the path if it is not empty.
    Wildcard(String),
}

impl Segment {
    /// The name of the parameter or wildcard.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Segment::Literal(_) => None,
            Segment::Parameter(name) | Segment::Wildcard(name) => Some(name),
        }
    }
}

/// Parses a template that is declared in `place`.
pub(crate) fn parse(template: &str, place: Place) -> Result<Vec<Segment>, RouteError> {
    let Some(rest) = template.strip_prefix('/') else {
        return Err(RouteError::NotAbsolute(template.to_owned()));
    };
    if template.contains('?') {
        let query = match place {
            Place::Component => "read the query with `query`",
            Place::Manifest => "leave the query out",
        };
        return Err(RouteError::Query { template: template.to_owned(), query });
    }
    let texts: Vec<_> = rest.split('/').collect();
    let mut segments = Vec::new();
    for (position, text) in texts.iter().enumerate() {
        segments.push(parse_segment(template, text, place, position + 1 == texts.len())?);
    }
    let mut names = BTreeSet::new();
    match segments.iter().filter_map(Segment::name).find(|name| !names.insert(*name)) {
        Some(name) => Err(RouteError::DuplicateParameter { template: template.to_owned(), name: name.to_owned() }),
        None => Ok(segments),
    }
}

fn parse_segment(template: &str, segment: &str, place: Place, is_last: bool) -> Result<Segment, RouteError> {
    let misplaced = || RouteError::WildcardNotLast { template: template.to_owned(), segment: segment.to_owned() };
    match equivalent_syntax(segment) {
        Some(Equivalent::Wildcard(_)) if !is_last => return Err(misplaced()),
        Some(equivalent) => {
            let (template, segment) = (template.to_owned(), segment.to_owned());
            return Err(RouteError::ForeignSyntax { template, segment, instead: equivalent.written_in(place) });
        }
        None => {}
    }
    let invalid = || RouteError::InvalidSegment { template: template.to_owned(), segment: segment.to_owned() };
    match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(inner) => match inner.strip_prefix('*') {
            Some(name) if is_name(name) && !is_last => Err(misplaced()),
            Some(name) if is_name(name) => Ok(Segment::Wildcard(name.to_owned())),
            None if is_name(inner) => Ok(Segment::Parameter(inner.to_owned())),
            _ => Err(invalid()),
        },
        None if segment.contains(['{', '}']) => Err(invalid()),
        None => Ok(Segment::Literal(decode(segment))),
    }
}

/// The equivalent of a segment in the syntax of another router, with the name of the parameter.
enum Equivalent<'a> {
    Parameter(&'a str),
    /// A parameter whose values the other router restricts.
    TypedParameter(&'a str),
    Wildcard(&'a str),
}

impl Equivalent<'_> {
    /// How to write it in `place`.
    fn written_in(&self, place: Place) -> String {
        match (self, place) {
            (Equivalent::Parameter(name), _) => format!("`{{{name}}}`"),
            (Equivalent::TypedParameter(name), Place::Component) => {
                format!("`{{{name}}}` and let `param` check its type")
            }
            (Equivalent::TypedParameter(name), Place::Manifest) => format!("`{{{name}}}`, which matches any segment"),
            (Equivalent::Wildcard(name), Place::Component) => format!("`{{*{name}}}`"),
            (Equivalent::Wildcard(_), Place::Manifest) => "`**`".to_owned(),
        }
    }
}

/// The equivalent of a segment in the syntax of another router.
fn equivalent_syntax(segment: &str) -> Option<Equivalent<'_>> {
    let parameter = |name| Equivalent::Parameter(parameter_name(name, "id"));
    let wildcard = |name| Equivalent::Wildcard(parameter_name(name, "path"));
    let inside = |open, close| segment.strip_prefix(open).and_then(|rest: &str| rest.strip_suffix(close));
    if let Some(name) = segment.strip_prefix(':') {
        return Some(if name.ends_with(['*', '+']) { wildcard(name) } else { parameter(name) });
    }
    if let Some(name) = segment.strip_prefix('*') {
        return Some(wildcard(name));
    }
    if let Some(inner) = inside('<', '>') {
        // Flask and Rocket: `<int:id>`, `<path:rest>`, `<rest..>`.
        let (kind, name) = inner.split_once(':').unwrap_or(("", inner));
        return Some(if kind == "path" || name.ends_with("..") { wildcard(name) } else { parameter(name) });
    }
    if let Some(inner) = inside('[', ']') {
        return Some(if inner.starts_with("...") { wildcard(inner) } else { parameter(inner) });
    }
    let inner = inside('{', '}')?;
    if let Some((name, rule)) = inner.split_once(':') {
        let rest = matches!(rule, "path" | ".*" | ".+" | "*");
        let typed = Equivalent::TypedParameter(parameter_name(name, "id"));
        return Some(if rest { wildcard(name) } else { typed });
    }
    (inner.ends_with("...") || inner.ends_with(['+', '*']) && inner.len() > 1).then(|| wildcard(inner))
}

/// The name in a parameter of another router, or `default` if it has none.
fn parameter_name<'a>(text: &'a str, default: &'a str) -> &'a str {
    let name = text.trim_matches(|character: char| !is_name_character(character));
    let end = name.find(|character| !is_name_character(character)).unwrap_or(name.len());
    if end == 0 { default } else { &name[..end] }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(['{', '}', '*'])
}

fn is_name_character(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-')
}

/// Percent-decodes text. Invalid UTF-8 becomes replacement characters, because parameters are strings.
pub(crate) fn decode(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(template: &str) -> String {
        parse(template, Place::Component).unwrap_err().to_string()
    }

    #[test]
    fn an_invalid_template_is_named_in_the_error() {
        assert_eq!(error("users"), "route `users` does not start with `/`");
        for (template, segment) in [("/users/x{id}", "`x{id}`"), ("/users/{}", "`{}`"), ("/{*}", "`{*}`")] {
            assert!(error(template).contains(segment), "{template}");
        }
        assert!(error("/{x}/of/{x}").contains("two parameters called `x`"));
    }

    #[test]
    fn a_wildcard_before_the_end_is_rejected_in_the_syntax_of_any_router() {
        for segment in ["{*path}", "**", "*", "*rest", ":path*", "{rest:path}", "{rest...}", "<rest..>", "[...slug]"] {
            let error = error(&format!("/files/{segment}/size"));
            assert!(error.contains(&format!("`{segment}` in its middle")), "{error}");
            assert!(!error.contains("write `"), "{error}");
        }
    }

    #[test]
    fn the_syntax_of_other_routers_is_rejected_with_the_equivalent() {
        for (template, instead) in [
            ("/users/:id", "write `{id}`"),
            ("/users/:id/posts", "write `{id}`"),
            ("/files/:path*", "write `{*path}`"),
            ("/files/*", "write `{*path}`"),
            ("/files/*rest", "write `{*rest}`"),
            ("/users/{id:int}", "write `{id}` and let `param` check its type"),
            ("/users/{id:[0-9]+}", "write `{id}` and let `param` check its type"),
            ("/files/{rest:path}", "write `{*rest}`"),
            ("/files/{rest...}", "write `{*rest}`"),
            ("/files/{rest+}", "write `{*rest}`"),
            ("/users/<int:id>", "write `{id}`"),
            ("/files/<rest..>", "write `{*rest}`"),
            ("/files/[...slug]", "write `{*slug}`"),
            ("/users/{id?}", "declare one route for each form"),
            ("/users?id={id}", "declare one route for each form"),
        ] {
            assert!(error(template).contains(instead), "{template}: {}", error(template));
        }
    }

    #[test]
    fn the_equivalent_fits_a_manifest_if_the_route_is_declared_there() {
        for (template, instead) in [
            ("/users/:id", "write `{id}`"),
            ("/files/*", "write `**`"),
            ("/files/<path:rest>", "write `**`"),
            ("/files/{rest...}", "write `**`"),
            ("/users/{id:int}", "write `{id}`, which matches any segment"),
            ("/users?id={id}", "and leave the query out"),
        ] {
            let error = parse(template, Place::Manifest).unwrap_err().to_string();
            assert!(error.ends_with(instead), "{template}: {error}");
        }
    }

    #[test]
    fn colons_and_stars_within_a_literal_are_literal() {
        let literal = |text: &str| Segment::Literal(text.to_owned());
        assert_eq!(parse("/jobs:cancel/a*b", Place::Component).unwrap(), [literal("jobs:cancel"), literal("a*b")]);
    }
}
