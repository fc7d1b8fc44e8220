//! Request attributes and redaction. `[[telemetry.attributes]]` are values of a request that become attributes of all its
//! spans and log records, and optionally baggage. `[telemetry] redact` lists parameters whose values are redacted in URLs.

use std::collections::BTreeSet;

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE};

use super::section::{Result, Section, SpannedText, all};
use crate::http::redaction::Redaction;

/// The largest number of entries: the host searches every request for each.
const MAX_ENTRIES: usize = 16;
/// The largest number of names, and of sources, of one entry.
const MAX_PER_ENTRY: usize = 4;
/// The largest number of names in `redact`: the host searches every query for each.
const MAX_REDACTED: usize = 64;
/// The longest name of an attribute or parameter, in bytes.
const MAX_LENGTH: usize = 64;

/// The namespaces of attributes that the host sets or the semantic conventions define for such spans.
const RESERVED: [&str; 20] = [
    "client",
    "code",
    "deployment",
    "error",
    "exception",
    "host",
    "http",
    "log",
    "network",
    "otel",
    "performance",
    "process",
    "server",
    "service",
    "spandrel",
    "system",
    "telemetry",
    "thread",
    "url",
    "user_agent",
];
/// The attribute that marks a span as an operation.
const OPERATION_TYPE: &str = "custom.operation_type";

/// Header fields with credentials, which must not be recorded on spans.
const CREDENTIALS: [HeaderName; 4] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE];

const SOURCE_HELP: &str = "write \"header:x-client-id\", \"query:user_id\" or \"path:user_id\"";

/// One entry: a value of the request and the names of its attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestAttribute {
    /// The sources of the value; the first one that has it is used.
    pub sources: Vec<AttributeSource>,
    /// The names of the attributes, at least one. The first is the key in the baggage.
    pub names: Vec<String>,
    /// Whether the value is propagated as baggage, and read from the caller's baggage if the request does not have it.
    pub baggage: bool,
}

/// The part of a request that a value is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeSource {
    /// A header field.
    Header(HeaderName),
    /// A parameter of the query.
    Query(String),
    /// A parameter of the route's template.
    Path(String),
}

impl AttributeSource {
    /// The name of the header field or parameter.
    fn name(&self) -> &str {
        match self {
            AttributeSource::Header(name) => name.as_str(),
            AttributeSource::Query(name) | AttributeSource::Path(name) => name,
        }
    }

    /// Whether the value is probably a secret.
    fn is_secret(&self) -> bool {
        match self {
            AttributeSource::Header(name) => {
                CREDENTIALS.contains(name) || Redaction::default().is_secret(name.as_str())
            }
            AttributeSource::Query(name) => Redaction::default().is_secret(name),
            // Paths are recorded on spans anyway.
            AttributeSource::Path(_) => false,
        }
    }
}

/// Parses `redact` under `[telemetry]`.
pub(super) fn redaction(telemetry: &Section<'_>) -> Result<Redaction> {
    let names = telemetry.texts("redact")?.unwrap_or_default();
    if names.len() > MAX_REDACTED {
        let problem = format!("`redact` lists {} names, more than {MAX_REDACTED}", names.len());
        return Err(telemetry.error("redact", problem, "remove some: the host searches every query for each"));
    }
    let name = |(text, span): SpannedText| {
        if text.len() <= MAX_LENGTH && text.contains(|letter: char| letter.is_ascii_alphanumeric()) {
            return Ok(text);
        }
        let help = "write a name with letters or digits, up to 64, as in \"session_key\"";
        Err(telemetry.reader.error(span, format!("`redact` lists `{text}`, which is not a valid parameter name"), help))
    };
    Ok(Redaction::with_names(all(names.into_iter().map(name))?))
}

/// Parses `[[telemetry.attributes]]`. Parameters that `redaction` lists cannot become attributes.
pub(super) fn attributes(telemetry: &Section<'_>, redaction: &Redaction) -> Result<Vec<RequestAttribute>> {
    let Some(value) = telemetry.get("attributes") else { return Ok(Vec::new()) };
    let Some(tables) = value.get_ref().as_array() else {
        let problem = "`attributes` is not a list of tables".to_owned();
        return Err(telemetry.error("attributes", problem, "write `[[telemetry.attributes]]`"));
    };
    if tables.len() > MAX_ENTRIES {
        let problem =
            format!("there are {} entries of [[telemetry.attributes]], more than {MAX_ENTRIES}", tables.len());
        return Err(telemetry.error("attributes", problem, "remove some: the host searches every request for each"));
    }
    let mut known = BTreeSet::new();
    let entry = |table| entry(&telemetry.reader.table(table, "[[telemetry.attributes]]")?, &mut known, redaction);
    all(tables.iter().map(entry))
}

fn entry(section: &Section<'_>, known: &mut BTreeSet<String>, redaction: &Redaction) -> Result<RequestAttribute> {
    section.allow_keys(&["from", "as", "baggage"]);
    let from = section.one_or_more("from");
    let from = from.and_then(|from| section.required(from, "from", "from = \"header:x-client-id\""));
    let names = section.one_or_more("as");
    let names = names.and_then(|names| section.required(names, "as", "as = [\"app.client_id\"]"));
    let (from, names) = (from?, names?);
    for (key, given) in [("from", &from), ("as", &names)] {
        if given.is_empty() || given.len() > MAX_PER_ENTRY {
            let problem = format!("`{key}` lists {}", given.len());
            section.error(key, problem, &format!("list at least one, and at most {MAX_PER_ENTRY}"));
        }
    }
    let sources = all(from.into_iter().map(|spanned| source(section, spanned, redaction)));
    let names = all(names.into_iter().map(|spanned| name(section, spanned, known)));
    let baggage = section.boolean("baggage").unwrap_or_default().unwrap_or(false);
    Ok(RequestAttribute { sources: sources?, names: names?, baggage })
}

fn source(section: &Section<'_>, (text, span): SpannedText, redaction: &Redaction) -> Result<AttributeSource> {
    let is_parameter = |name: &str| (1..=MAX_LENGTH).contains(&name.len()) && !name.contains(char::is_control);
    let (kind, name) = text.split_once(':').unwrap_or_default();
    let source = match kind {
        "header" => name.parse().ok().filter(|_| name.len() <= MAX_LENGTH).map(AttributeSource::Header),
        "query" => is_parameter(name).then(|| AttributeSource::Query(name.to_owned())),
        "path" => is_parameter(name).then(|| AttributeSource::Path(name.to_owned())),
        _ => None,
    };
    match source {
        Some(source) if redaction.is_additional(source.name()) => {
            let problem = format!("`{text}` would record a value that `redact` excludes from spans");
            Err(section.reader.error(span, problem, "remove it from `redact`, or use another value"))
        }
        Some(source) if source.is_secret() => {
            let problem = format!("`{text}` would record credentials on spans");
            Err(section.reader.error(span, problem, "use a value that is not a secret"))
        }
        Some(source) => Ok(source),
        None => Err(section.reader.error(span, format!("`{text}` is not a part of a request"), SOURCE_HELP)),
    }
}

fn name(section: &Section<'_>, (text, span): SpannedText, known: &mut BTreeSet<String>) -> Result<String> {
    let error = |problem, help| Err(section.reader.error(span.clone(), problem, help));
    if !is_name(&text) {
        let help = "use up to 64 letters, digits, `_` and `-`, with dots between words, as in \"app.client_id\"";
        return error(format!("`{text}` is not a valid attribute name"), help);
    }
    let namespace = text.split('.').next().unwrap_or_default();
    if RESERVED.contains(&namespace) || text == OPERATION_TYPE {
        let help = "use a namespace of your own, as in \"app.client_id\"";
        return error(format!("`{text}` is reserved: the host or the semantic conventions set it"), help);
    }
    if !known.insert(text.clone()) {
        return error(format!("`{text}` is given twice"), "give each attribute once");
    }
    Ok(text)
}

fn is_name(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(good);
    text.len() <= MAX_LENGTH
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.split('.').all(is_word)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::manifest::read;
    use super::*;
    use crate::config::Environment;

    fn parse(entry: &str) -> Result<Vec<RequestAttribute>, String> {
        let text = format!("[[telemetry.attributes]]\n{entry}\n");
        let config = read(&text, Path::new("services.toml"), &Environment::default());
        config.map(|config| config.attributes).map_err(|error| error.to_string())
    }

    #[test]
    fn an_entry_has_sources_names_and_optional_baggage() {
        let read =
            parse("from = [\"path:user_id\", \"query:user_id\"]\nas = [\"app.user\", \"user.id\"]\nbaggage = true");
        let expected = RequestAttribute {
            sources: vec![AttributeSource::Path("user_id".to_owned()), AttributeSource::Query("user_id".to_owned())],
            names: vec!["app.user".to_owned(), "user.id".to_owned()],
            baggage: true,
        };
        assert_eq!(read.unwrap(), [expected]);
        let read = parse("from = \"header:X-Client-Id\"\nas = \"tenant\"").unwrap().remove(0);
        assert_eq!(read.sources, [AttributeSource::Header(HeaderName::from_static("x-client-id"))]);
        assert!(!read.baggage, "baggage is off by default");
    }

    #[test]
    fn without_entries_there_are_no_request_attributes() {
        let config = read("[telemetry]\nkeep = [\"errors\"]\n", Path::new("services.toml"), &Environment::default());
        assert_eq!(config.unwrap().attributes, []);
    }

    #[test]
    fn invalid_sources_and_credentials_are_rejected() {
        let parse = |from: &str| parse(&format!("from = \"{from}\"\nas = \"app.a\"")).unwrap_err();
        for from in ["", "x-client-id", "header:", "header:a b", "cookie:a", "query:", "path:", "body:a", "query:a\\nb"]
        {
            assert!(parse(from).contains("is not a part of a request"), "{from}");
        }
        assert!(parse(&format!("header:{}", "a".repeat(65))).contains("is not a part of a request"));
        for from in [
            "header:authorization",
            "header:Cookie",
            "header:set-cookie",
            "header:Proxy-Authorization",
            "header:x-api-key",
            "query:access_token",
        ] {
            assert!(parse(from).contains("services.toml:2:8: ") && parse(from).contains("credentials"), "{from}");
        }
    }

    #[test]
    fn redacted_parameters_cannot_become_attributes() {
        let parse = |redact: &str, from: &str| {
            let text =
                format!("[telemetry]\nredact = {redact}\n[[telemetry.attributes]]\nfrom = {from}\nas = \"a.b\"\n");
            let config = read(&text, Path::new("services.toml"), &Environment::default());
            config.map(|config| config.attributes.len()).map_err(|error| error.to_string())
        };
        for from in ["query:ssn", "query:S%73N", "query:user[ssn]", "path:ssn", "header:ssn", "header:s-s-n"] {
            let message = parse("[\"SSN\"]", &format!("\"{from}\"")).unwrap_err();
            assert!(message.contains("services.toml:4:8: ") && message.contains("`redact` excludes from"), "{message}");
        }
        assert!(parse("[\"ssn\"]", "[\"query:a\", \"query:ssn\"]").is_err());
        assert_eq!(parse("[\"ssn\"]", "[\"query:a\", \"query:assn\"]"), Ok(1));
        assert_eq!(parse("[\"ssn\"]", "\"path:code\""), Ok(1));
        assert_eq!(parse("[]", "\"query:ssn\""), Ok(1));
    }

    #[test]
    fn redact_adds_names_to_the_known_secrets() {
        let parse = |names: &str| {
            let text = format!("[telemetry]\nredact = [{names}]\n");
            let config = read(&text, Path::new("services.toml"), &Environment::default());
            config.map(|config| config.redaction).map_err(|error| error.to_string())
        };
        let redaction = parse("\"e-mail\", \"ssn\"").unwrap();
        assert!(["email", "SSN", "token"].iter().all(|name| redaction.is_secret(name)));
        assert_eq!(parse(""), Ok(Redaction::default()));
        assert!(parse("\"-\"").unwrap_err().contains("2:11: `redact` lists `-`, which is not a valid parameter name"));
        assert!(parse(&"\"a\",".repeat(65)).unwrap_err().contains("more than 64"));
    }

    #[test]
    fn invalid_and_reserved_names_are_rejected() {
        let parse = |name: &str| parse(&format!("from = \"query:a\"\nas = [\"{name}\"]")).unwrap_err();
        for name in ["", ".a", "a.", "a..b", "a b", "1a", "ä", "a=b", &"a".repeat(65)] {
            assert!(parse(name).contains("is not a valid attribute name"), "{name}");
        }
        for name in ["http.method", "url.path", "error.type", "service.name", "http", "custom.operation_type"] {
            assert!(parse(name).contains("is reserved"), "{name}");
        }
    }

    #[test]
    fn missing_duplicate_and_too_many_values_are_rejected() {
        let refuse = |entry: &str, expected: &str| {
            let message = parse(entry).unwrap_err();
            assert!(message.contains(expected), "{entry}: {message}");
        };
        refuse("as = \"a\"", "has no `from`");
        refuse("from = \"query:a\"", "has no `as`");
        refuse("from = 1\nas = \"a\"", "`from` in [[telemetry.attributes]] is of type integer");
        refuse("from = []\nas = \"a\"", "`from` lists 0");
        refuse("from = \"query:a\"\nas = [\"a\", \"b\", \"c\", \"d\", \"e\"]", "`as` lists 5");
        let entry = "from = \"query:a\"\nas = \"a\"";
        refuse(&format!("{entry}\n[[telemetry.attributes]]\n{entry}"), "`a` is given twice");
        let more: String =
            (0..16).map(|n| format!("\n[[telemetry.attributes]]\nfrom = \"path:a\"\nas = \"a{n}\"")).collect();
        refuse(&format!("{entry}{more}"), "more than 16");
        let table = read("[telemetry]\nattributes = 1\n", Path::new("services.toml"), &Environment::default());
        assert!(table.unwrap_err().to_string().contains("write `[[telemetry.attributes]]`"));
    }
}
