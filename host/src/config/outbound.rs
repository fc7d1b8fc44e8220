//! `[service.outbound]`: the allowed origins of a service, and which of them receive baggage and trace context.

use std::ops::Range;

use toml::de::DeValue;

use super::origin::Origin;
use super::origin_pattern::OriginPattern;
use super::section::{Result, Section, SpannedText, all};

const ORIGIN_HELP: &str = "write scheme, host and port only, as in \"http://localhost:8000\", \"https://*.example.com\" for \
                           subdomains, or \"*\"";

/// The allowed origins of a service, and which of them receive baggage and trace context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboundConfig {
    /// The origins that the service may call. Calls to other origins are denied.
    pub allow: Vec<OriginPattern>,
    /// The allowed origins that receive baggage, in addition to the services of this host.
    pub baggage: Recipients,
    /// The origins that receive no baggage, even if they are services of this host.
    pub no_baggage: Vec<OriginPattern>,
    /// The allowed origins that receive trace context, in addition to the services of this host.
    pub trace_context: Recipients,
}

/// A subset of the allowed origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// All allowed origins, or none.
    All(bool),
    /// The origins that match one of these patterns.
    Listed(Vec<OriginPattern>),
}

impl Recipients {
    /// Whether the subset contains `origin`.
    pub fn include(&self, origin: &Origin) -> bool {
        match self {
            Recipients::All(every) => *every,
            Recipients::Listed(patterns) => patterns.iter().any(|pattern| pattern.matches(origin)),
        }
    }
}

impl Default for Recipients {
    fn default() -> Recipients {
        Recipients::All(false)
    }
}

/// Parses the table.
pub(super) fn outbound(section: &Section<'_>) -> Result<OutboundConfig> {
    section.allow_keys(&["allow", "baggage", "no_baggage", "trace_context"]);
    let allow: Vec<_> = patterns(section, "allow")?.into_iter().map(|(pattern, _)| pattern).collect();
    let trace_context = recipients(section, "trace_context", &allow).unwrap_or_default();
    let trace_context = trace_context.unwrap_or(Recipients::All(true));
    let baggage = recipients(section, "baggage", &allow).unwrap_or_default().unwrap_or_default();
    let no_baggage = allowed_patterns(section, "no_baggage", &allow).unwrap_or_default();
    Ok(OutboundConfig { allow, baggage, no_baggage, trace_context })
}

/// Parses true, false or a list of origins.
fn recipients(section: &Section<'_>, key: &str, allow: &[OriginPattern]) -> Result<Option<Recipients>> {
    let Some(value) = section.get(key) else { return Ok(None) };
    match value.get_ref() {
        DeValue::Boolean(every) => Ok(Some(Recipients::All(*every))),
        DeValue::Array(_) => Ok(Some(Recipients::Listed(allowed_patterns(section, key, allow)?))),
        other => {
            let problem = format!("`{key}` in {} is of type {}", section.name, other.type_str());
            Err(section.error(key, problem, "write true, false or a list of origins"))
        }
    }
}

/// Parses a list of origins, each of which `allow` must cover. Otherwise a typo would go unnoticed.
fn allowed_patterns(section: &Section<'_>, key: &str, allow: &[OriginPattern]) -> Result<Vec<OriginPattern>> {
    let listed = |(pattern, span): (OriginPattern, Range<usize>)| {
        if allow.iter().any(|allowed| allowed.covers(&pattern)) {
            return Ok(pattern);
        }
        let problem = format!("`{key}` lists {pattern}, which `allow` does not");
        Err(section.reader.error(span, problem, "add it to `allow` too, or remove it here"))
    };
    all(patterns(section, key)?.into_iter().map(listed))
}

fn patterns(section: &Section<'_>, key: &str) -> Result<Vec<(OriginPattern, Range<usize>)>> {
    let pattern = |(text, span): SpannedText| match OriginPattern::parse(&text) {
        Some(pattern) => Ok((pattern, span)),
        None => {
            let problem = format!("`{key}` lists `{text}`, which is not a valid origin");
            Err(section.reader.error(span, problem, ORIGIN_HELP))
        }
    };
    all(section.texts(key)?.unwrap_or_default().into_iter().map(pattern))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::manifest::read;
    use super::*;
    use crate::config::Environment;

    fn parse(lines: &str) -> Result<OutboundConfig, String> {
        let text = format!(
            "[[service]]\nname = \"a\"\ncomponent = \"a.wasm\"\nlisten = \"127.0.0.1:1\"\n[service.outbound]\n{lines}\n"
        );
        let config = read(&text, Path::new("services.toml"), &Environment::default());
        config.map(|mut config| config.services.remove(0).outbound).map_err(|error| error.to_string())
    }

    #[test]
    fn by_default_allowed_origins_receive_trace_context_and_no_baggage() {
        let read = parse("allow = [\"https://a.example\"]").unwrap();
        assert_eq!(read.trace_context, Recipients::All(true));
        assert_eq!((read.baggage, read.no_baggage), (Recipients::All(false), Vec::new()));
    }

    #[test]
    fn recipients_are_all_none_or_a_list() {
        let (a, b) = (Origin::parse("https://a.example").unwrap(), Origin::parse("https://b.c.example").unwrap());
        for key in ["baggage", "trace_context"] {
            let included = |value: &str| {
                let text = format!("allow = [\"https://a.example\", \"https://*.c.example\"]\n{key} = {value}");
                let read = parse(&text).unwrap();
                let recipients = if key == "baggage" { read.baggage } else { read.trace_context };
                (recipients.include(&a), recipients.include(&b))
            };
            assert_eq!(included("true"), (true, true));
            assert_eq!(included("false"), (false, false));
            assert_eq!(included("[]"), (false, false));
            assert_eq!(included("[\"https://A.example:443\"]"), (true, false));
            assert_eq!(included("[\"https://*.c.example\"]"), (false, true));
            assert_eq!(included("[\"https://b.c.example\"]"), (false, true));
        }
    }

    #[test]
    fn recipients_must_be_allowed() {
        for key in ["baggage", "no_baggage", "trace_context"] {
            let message = parse(&format!("allow = [\"http://a\"]\n{key} = [\"http://b\"]")).unwrap_err();
            assert!(message.contains(&format!("`{key}` lists http://b:80, which `allow` does not")), "{message}");
            let message = parse(&format!("allow = [\"http://a\"]\n{key} = [\"a\"]")).unwrap_err();
            assert!(message.contains(&format!("`{key}` lists `a`, which is not a valid origin")), "{message}");
        }
        assert!(parse("baggage = 1").unwrap_err().contains("write true, false or a list of origins"));
    }
}
