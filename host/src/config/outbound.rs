//! `[service.outbound]`: where a service may send requests, and what goes with them.

use std::ops::Range;

use toml::de::DeValue;

use super::origin::Origin;
use super::origin_pattern::OriginPattern;
use super::section::{Placed, Result, Section, all};

const ORIGIN_HELP: &str = "write scheme, host and port only, as in \"http://localhost:8000\", \"https://*.example.com\" for \
                           subdomains, or \"*\"";

/// What a service may call, and what goes with its calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboundConfig {
    /// The origins that may be called; nothing else may be.
    pub allow: Vec<OriginPattern>,
    /// Those of them that are sent baggage, besides the services of this host.
    pub baggage: Recipients,
    /// Those that are sent none, though they be services of this host.
    pub no_baggage: Vec<OriginPattern>,
    /// Those that are sent trace context, besides the services of this host.
    pub trace_context: Recipients,
}

/// Some of the origins that may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// All, or none.
    Every(bool),
    /// These.
    Listed(Vec<OriginPattern>),
}

impl Recipients {
    /// Whether `origin` is among them.
    pub fn include(&self, origin: &Origin) -> bool {
        match self {
            Recipients::Every(every) => *every,
            Recipients::Listed(patterns) => patterns.iter().any(|pattern| pattern.matches(origin)),
        }
    }
}

impl Default for Recipients {
    fn default() -> Recipients {
        Recipients::Every(false)
    }
}

/// Reads the table.
pub(super) fn outbound(section: &Section<'_>) -> Result<OutboundConfig> {
    section.only(&["allow", "baggage", "no_baggage", "trace_context"]);
    let allow: Vec<_> = patterns(section, "allow")?.into_iter().map(|(pattern, _)| pattern).collect();
    let trace_context = recipients(section, "trace_context", &allow).unwrap_or_default();
    let trace_context = trace_context.unwrap_or(Recipients::Every(true));
    let baggage = recipients(section, "baggage", &allow).unwrap_or_default().unwrap_or_default();
    let no_baggage = some_of(section, "no_baggage", &allow).unwrap_or_default();
    Ok(OutboundConfig { allow, baggage, no_baggage, trace_context })
}

/// Yes, no, or a list.
fn recipients(section: &Section<'_>, key: &str, allow: &[OriginPattern]) -> Result<Option<Recipients>> {
    let Some(value) = section.get(key) else { return Ok(None) };
    match value.get_ref() {
        DeValue::Boolean(every) => Ok(Some(Recipients::Every(*every))),
        DeValue::Array(_) => Ok(Some(Recipients::Listed(some_of(section, key, allow)?))),
        other => {
            let problem = format!("`{key}` in {} is of type {}", section.name, other.type_str());
            Err(section.error(key, problem, "write true, false or a list of origins"))
        }
    }
}

/// A list of what is allowed. A slip here would send what is meant for one to another, or to nobody.
fn some_of(section: &Section<'_>, key: &str, allow: &[OriginPattern]) -> Result<Vec<OriginPattern>> {
    let listed = |(pattern, place): (OriginPattern, Range<usize>)| {
        if allow.iter().any(|allowed| allowed.covers(&pattern)) {
            return Ok(pattern);
        }
        let problem = format!("`{key}` lists {pattern}, which `allow` does not");
        Err(section.reader.error(place, problem, "list it in `allow` too, or take it out here"))
    };
    all(patterns(section, key)?.into_iter().map(listed))
}

fn patterns(section: &Section<'_>, key: &str) -> Result<Vec<(OriginPattern, Range<usize>)>> {
    let pattern = |(text, place): Placed| match OriginPattern::parse(&text) {
        Some(pattern) => Ok((pattern, place)),
        None => {
            let problem = format!("`{key}` lists `{text}`, which is no origin");
            Err(section.reader.error(place, problem, ORIGIN_HELP))
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
    fn by_default_others_are_sent_trace_context_and_no_baggage() {
        let read = parse("allow = [\"https://a.example\"]").unwrap();
        assert_eq!(read.trace_context, Recipients::Every(true));
        assert_eq!((read.baggage, read.no_baggage), (Recipients::Every(false), Vec::new()));
    }

    #[test]
    fn who_is_sent_what_is_said_for_all_or_for_each() {
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
    fn only_what_may_be_called_can_be_sent_something_or_nothing() {
        for key in ["baggage", "no_baggage", "trace_context"] {
            let message = parse(&format!("allow = [\"http://a\"]\n{key} = [\"http://b\"]")).unwrap_err();
            assert!(message.contains(&format!("`{key}` lists http://b:80, which `allow` does not")), "{message}");
            let message = parse(&format!("allow = [\"http://a\"]\n{key} = [\"a\"]")).unwrap_err();
            assert!(message.contains(&format!("`{key}` lists `a`, which is no origin")), "{message}");
        }
        assert!(parse("baggage = 1").unwrap_err().contains("write true, false or a list of origins"));
    }
}
