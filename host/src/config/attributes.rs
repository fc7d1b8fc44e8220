//! What of a request stands on its spans: `[[telemetry.attributes]]`, which stand on all of them and on log records, and may
//! travel with the trace as baggage, and `[telemetry] redact`, what is left out of URLs.

use std::collections::BTreeSet;

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE};

use super::section::{Placed, Result, Section, all};
use crate::http::redaction::Redaction;

/// The most entries: each is looked for in every request.
const MOST: usize = 16;
/// The most names, and the most places, of one entry.
const MOST_OF_ONE: usize = 4;
/// The most names of `redact`: each is looked for in every query.
const MOST_REDACTED: usize = 64;
/// The longest name of an attribute or parameter, in bytes.
const LONGEST: usize = 64;

/// What the names of attributes begin with that the host or the semantic conventions give a meaning on such spans.
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
/// The attribute that makes an operation of a span.
const OPERATION: &str = "custom.operation_type";

/// Header fields that hold credentials, which must not stand on spans.
const CREDENTIALS: [HeaderName; 4] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE];

const SOURCE_HELP: &str = "write \"header:x-client-id\", \"query:user_id\" or \"path:user_id\"";

/// One entry: a value of a request, and the attributes that it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestAttribute {
    /// Where it is looked for; the first place that has it counts.
    pub sources: Vec<Source>,
    /// The attributes' names, at least one. The first is the key in the baggage.
    pub names: Vec<String>,
    /// Whether it travels as baggage, and is taken from a caller's where the request does not have it.
    pub baggage: bool,
}

/// A place in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A header field.
    Header(HeaderName),
    /// A parameter of the query.
    Query(String),
    /// A parameter of the route's template.
    Path(String),
}

impl Source {
    /// The name of the header field or parameter.
    fn name(&self) -> &str {
        match self {
            Source::Header(name) => name.as_str(),
            Source::Query(name) | Source::Path(name) => name,
        }
    }

    /// Whether it holds a secret, most likely.
    fn is_secret(&self) -> bool {
        match self {
            Source::Header(name) => CREDENTIALS.contains(name) || Redaction::default().is_secret(name.as_str()),
            Source::Query(name) => Redaction::default().is_secret(name),
            // A code of a product, say: paths are on spans in any case.
            Source::Path(_) => false,
        }
    }
}

/// Reads `redact` under `[telemetry]`.
pub(super) fn redaction(telemetry: &Section<'_>) -> Result<Redaction> {
    let names = telemetry.texts("redact")?.unwrap_or_default();
    if names.len() > MOST_REDACTED {
        let problem = format!("`redact` lists {} names, more than {MOST_REDACTED}", names.len());
        return Err(telemetry.error("redact", problem, "leave out some: each is looked for in every query"));
    }
    let name = |(text, place): Placed| {
        if text.len() <= LONGEST && text.contains(|letter: char| letter.is_ascii_alphanumeric()) {
            return Ok(text);
        }
        let help = "write a name with letters or digits, up to 64, as in \"session_key\"";
        Err(telemetry.reader.error(place, format!("`redact` lists `{text}`, which is no name of a parameter"), help))
    };
    Ok(Redaction::of_more(all(names.into_iter().map(name))?))
}

/// Reads the entries under `[telemetry]`. What `redaction` leaves out of URLs must not become an attribute either.
pub(super) fn attributes(telemetry: &Section<'_>, redaction: &Redaction) -> Result<Vec<RequestAttribute>> {
    let Some(value) = telemetry.get("attributes") else { return Ok(Vec::new()) };
    let Some(tables) = value.get_ref().as_array() else {
        let problem = "`attributes` is no list of tables".to_owned();
        return Err(telemetry.error("attributes", problem, "write `[[telemetry.attributes]]`"));
    };
    if tables.len() > MOST {
        let problem = format!("there are {} entries of [[telemetry.attributes]], more than {MOST}", tables.len());
        return Err(telemetry.error("attributes", problem, "leave out some: each is looked for in every request"));
    }
    let mut known = BTreeSet::new();
    let entry = |table| entry(&telemetry.reader.table(table, "[[telemetry.attributes]]")?, &mut known, redaction);
    all(tables.iter().map(entry))
}

fn entry(section: &Section<'_>, known: &mut BTreeSet<String>, redaction: &Redaction) -> Result<RequestAttribute> {
    section.only(&["from", "as", "baggage"]);
    let from = section.one_or_more("from");
    let from = from.and_then(|from| section.required(from, "from", "from = \"header:x-client-id\""));
    let names = section.one_or_more("as");
    let names = names.and_then(|names| section.required(names, "as", "as = [\"app.client_id\"]"));
    let (from, names) = (from?, names?);
    for (key, given) in [("from", &from), ("as", &names)] {
        if given.is_empty() || given.len() > MOST_OF_ONE {
            let problem = format!("`{key}` lists {}", given.len());
            section.error(key, problem, &format!("list at least one, and at most {MOST_OF_ONE}"));
        }
    }
    let sources = all(from.into_iter().map(|placed| source(section, placed, redaction)));
    let names = all(names.into_iter().map(|placed| name(section, placed, known)));
    let baggage = section.boolean("baggage").unwrap_or_default().unwrap_or(false);
    Ok(RequestAttribute { sources: sources?, names: names?, baggage })
}

fn source(section: &Section<'_>, (text, place): Placed, redaction: &Redaction) -> Result<Source> {
    let is_parameter = |name: &str| (1..=LONGEST).contains(&name.len()) && !name.contains(char::is_control);
    let (kind, name) = text.split_once(':').unwrap_or_default();
    let source = match kind {
        "header" => name.parse().ok().filter(|_| name.len() <= LONGEST).map(Source::Header),
        "query" => is_parameter(name).then(|| Source::Query(name.to_owned())),
        "path" => is_parameter(name).then(|| Source::Path(name.to_owned())),
        _ => None,
    };
    match source {
        Some(source) if redaction.lists(source.name()) => {
            let problem = format!("`{text}` would put on spans what `redact` leaves out of them");
            Err(section.reader.error(place, problem, "take it out of `redact`, or use another value"))
        }
        Some(source) if source.is_secret() => {
            let problem = format!("`{text}` would put credentials on spans");
            Err(section.reader.error(place, problem, "use something that holds no secret"))
        }
        Some(source) => Ok(source),
        None => Err(section.reader.error(place, format!("`{text}` is no part of a request"), SOURCE_HELP)),
    }
}

fn name(section: &Section<'_>, (text, place): Placed, known: &mut BTreeSet<String>) -> Result<String> {
    let error = |problem, help| Err(section.reader.error(place.clone(), problem, help));
    if !is_name(&text) {
        let help = "use up to 64 letters, digits, `_` and `-`, with dots between words, as in \"app.client_id\"";
        return error(format!("`{text}` is no name for an attribute"), help);
    }
    let namespace = text.split('.').next().unwrap_or_default();
    if RESERVED.contains(&namespace) || text == OPERATION {
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
    text.len() <= LONGEST && text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.split('.').all(is_word)
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
    fn an_entry_says_where_from_what_as_and_whether_it_travels() {
        let read =
            parse("from = [\"path:user_id\", \"query:user_id\"]\nas = [\"app.user\", \"user.id\"]\nbaggage = true");
        let expected = RequestAttribute {
            sources: vec![Source::Path("user_id".to_owned()), Source::Query("user_id".to_owned())],
            names: vec!["app.user".to_owned(), "user.id".to_owned()],
            baggage: true,
        };
        assert_eq!(read.unwrap(), [expected]);
        let read = parse("from = \"header:X-Client-Id\"\nas = \"tenant\"").unwrap().remove(0);
        assert_eq!(read.sources, [Source::Header(HeaderName::from_static("x-client-id"))]);
        assert!(!read.baggage, "nothing travels that the manifest does not name");
    }

    #[test]
    fn without_entries_there_are_none() {
        let config = read("[telemetry]\nkeep = [\"errors\"]\n", Path::new("services.toml"), &Environment::default());
        assert_eq!(config.unwrap().attributes, []);
    }

    #[test]
    fn a_place_that_is_none_or_holds_credentials_is_refused() {
        let parse = |from: &str| parse(&format!("from = \"{from}\"\nas = \"app.a\"")).unwrap_err();
        for from in ["", "x-client-id", "header:", "header:a b", "cookie:a", "query:", "path:", "body:a", "query:a\\nb"]
        {
            assert!(parse(from).contains("is no part of a request"), "{from}");
        }
        assert!(parse(&format!("header:{}", "a".repeat(65))).contains("is no part of a request"));
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
    fn what_is_left_out_of_urls_becomes_no_attribute() {
        let parse = |redact: &str, from: &str| {
            let text =
                format!("[telemetry]\nredact = {redact}\n[[telemetry.attributes]]\nfrom = {from}\nas = \"a.b\"\n");
            let config = read(&text, Path::new("services.toml"), &Environment::default());
            config.map(|config| config.attributes.len()).map_err(|error| error.to_string())
        };
        for from in ["query:ssn", "query:S%73N", "query:user[ssn]", "path:ssn", "header:ssn", "header:s-s-n"] {
            let message = parse("[\"SSN\"]", &format!("\"{from}\"")).unwrap_err();
            assert!(message.contains("services.toml:4:8: ") && message.contains("`redact` leaves out"), "{message}");
        }
        assert!(parse("[\"ssn\"]", "[\"query:a\", \"query:ssn\"]").is_err());
        assert_eq!(parse("[\"ssn\"]", "[\"query:a\", \"query:assn\"]"), Ok(1));
        assert_eq!(parse("[\"ssn\"]", "\"path:code\""), Ok(1));
        assert_eq!(parse("[]", "\"query:ssn\""), Ok(1));
    }

    #[test]
    fn names_of_secrets_are_added_to_those_that_are_known() {
        let parse = |names: &str| {
            let text = format!("[telemetry]\nredact = [{names}]\n");
            let config = read(&text, Path::new("services.toml"), &Environment::default());
            config.map(|config| config.redaction).map_err(|error| error.to_string())
        };
        let redaction = parse("\"e-mail\", \"ssn\"").unwrap();
        assert!(["email", "SSN", "token"].iter().all(|name| redaction.is_secret(name)));
        assert_eq!(parse(""), Ok(Redaction::default()));
        assert!(parse("\"-\"").unwrap_err().contains("2:11: `redact` lists `-`, which is no name"));
        assert!(parse(&"\"a\",".repeat(65)).unwrap_err().contains("more than 64"));
    }

    #[test]
    fn a_name_that_is_none_or_reserved_is_refused() {
        let parse = |name: &str| parse(&format!("from = \"query:a\"\nas = [\"{name}\"]")).unwrap_err();
        for name in ["", ".a", "a.", "a..b", "a b", "1a", "ä", "a=b", &"a".repeat(65)] {
            assert!(parse(name).contains("is no name for an attribute"), "{name}");
        }
        for name in ["http.method", "url.path", "error.type", "service.name", "http", "custom.operation_type"] {
            assert!(parse(name).contains("is reserved"), "{name}");
        }
    }

    #[test]
    fn what_is_missing_double_or_too_much_is_refused() {
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
