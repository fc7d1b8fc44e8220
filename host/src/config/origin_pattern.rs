//! Patterns of origins: one origin, all subdomains of a domain, or every origin.

use std::fmt;

use super::origin::{Origin, Scheme};

/// An entry of a list of origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    /// One origin.
    Exact(Origin),
    /// `https://*.example.com`: the subdomains of a domain at any depth, without the domain itself.
    Subdomains {
        /// The scheme.
        scheme: Scheme,
        /// The domain with a dot before it, in lower case.
        suffix: String,
        /// The port.
        port: u16,
    },
    /// `*`.
    Any,
}

impl OriginPattern {
    /// Parses an origin like [`Origin::parse`], `scheme://*.domain` with or without a port, or `*`. The domain must have
    /// at least two labels: a wildcard for a top-level domain would match unrelated owners.
    pub fn parse(text: &str) -> Option<OriginPattern> {
        if text == "*" {
            return Some(OriginPattern::Any);
        }
        let Some((scheme, rest)) = text.split_once("://*.") else {
            return Origin::parse(text).map(OriginPattern::Exact);
        };
        let Origin { scheme, host, port } = Origin::parse(&format!("{scheme}://{rest}"))?;
        let labels: Vec<_> = host.split('.').collect();
        let is_label = |label: &&str| !label.is_empty();
        let is_number = |label: &&str| label.bytes().all(|byte| byte.is_ascii_digit());
        let is_domain = labels.len() > 1 && labels.iter().all(is_label) && !labels.last().is_some_and(is_number);
        is_domain.then(|| OriginPattern::Subdomains { scheme, suffix: format!(".{host}"), port })
    }

    /// Whether this is one origin, not a wildcard.
    pub fn is_exact(&self) -> bool {
        matches!(self, OriginPattern::Exact(_))
    }

    /// Whether the pattern matches `origin`.
    pub fn matches(&self, origin: &Origin) -> bool {
        match self {
            OriginPattern::Exact(exact) => exact == origin,
            OriginPattern::Subdomains { scheme, suffix, port } => {
                let subdomain = origin.host.strip_suffix(suffix.as_str());
                *scheme == origin.scheme && *port == origin.port && subdomain.is_some_and(|name| !name.is_empty())
            }
            OriginPattern::Any => true,
        }
    }

    /// Whether the pattern matches all origins that `other` matches.
    pub fn covers(&self, other: &OriginPattern) -> bool {
        match (self, other) {
            (OriginPattern::Any, _) => true,
            (_, OriginPattern::Exact(origin)) => self.matches(origin),
            (
                OriginPattern::Subdomains { scheme, suffix, port },
                OriginPattern::Subdomains { scheme: their_scheme, suffix: narrower, port: their_port },
            ) => scheme == their_scheme && port == their_port && narrower.ends_with(suffix),
            _ => false,
        }
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OriginPattern::Exact(origin) => origin.fmt(formatter),
            OriginPattern::Subdomains { scheme, suffix, port } => write!(formatter, "{scheme}://*{suffix}:{port}"),
            OriginPattern::Any => formatter.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> OriginPattern {
        OriginPattern::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    fn origin(text: &str) -> Origin {
        Origin::parse(text).unwrap()
    }

    #[test]
    fn a_wildcard_matches_subdomains_at_any_depth_with_its_scheme_and_port() {
        for (wildcard, inside) in [
            ("https://*.example.com", "https://a.example.com"),
            ("https://*.Example.com", "https://A.b.EXAMPLE.com:443"),
            ("http://*.example.com:8080", "http://a.example.com:8080"),
            ("*", "http://10.0.0.1:1"),
            ("http://a.example", "http://A.example:80"),
        ] {
            assert!(pattern(wildcard).matches(&origin(inside)), "{wildcard} {inside}");
        }
        for outside in [
            "https://example.com",
            "https://notexample.com",
            "https://a.example.com.evil.org",
            "https://a.example.com:8443",
            "http://a.example.com",
            "http://a.example.com:443",
            "https://.example.com",
        ] {
            assert!(!pattern("https://*.example.com").matches(&origin(outside)), "{outside}");
        }
    }

    #[test]
    fn invalid_wildcards_are_rejected() {
        for text in [
            "",
            "**",
            "*.example.com",
            "https://*",
            "https://*.",
            "https://*.com",
            "https://*.0.0.1",
            "https://*.[::1]",
            "https://a.*.example.com",
            "https://*a.example.com",
            "https://*.*.example.com",
            "https://*..example.com",
            "https://*.example.com/path",
            "https://me@*.example.com",
            "ftp://*.example.com",
            "https://*.example.com:*",
        ] {
            assert_eq!(OriginPattern::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_pattern_covers_narrower_ones() {
        let check = |wide: &str, narrow: &str, expected: bool| {
            assert_eq!(pattern(wide).covers(&pattern(narrow)), expected, "{wide} {narrow}");
        };
        check("*", "*", true);
        check("*", "https://*.example.com", true);
        check("https://*.example.com", "*", false);
        check("https://*.example.com", "https://*.a.example.com", true);
        check("https://*.a.example.com", "https://*.example.com", false);
        check("https://*.example.com", "https://*.example.com:1", false);
        check("https://*.example.com", "https://a.example.com", true);
        check("https://a.example.com", "https://*.example.com", false);
    }

    #[test]
    fn the_text_of_a_pattern_includes_its_port() {
        let shown = [("*", "*"), ("https://*.example.com", "https://*.example.com:443"), ("http://a:1", "http://a:1")];
        for (text, expected) in shown {
            assert_eq!(pattern(text).to_string(), expected);
        }
    }
}
