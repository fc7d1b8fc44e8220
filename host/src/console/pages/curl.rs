//! Formats the request of a trace as a curl command.

use std::fmt::Write;

use super::model::{SpanKindModel, SpanModel, ValueModel, find};

/// The placeholder for parts of a URL that were redacted before recording.
const REDACTED: &str = "REDACTED";

/// A command, and whether parts of the URL are redacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Curl {
    pub command: String,
    pub redacted: bool,
}

/// The command for a server span with request attributes.
pub(super) fn of(span: &SpanModel) -> Option<Curl> {
    let text = |key| match find(&span.attributes, key) {
        Some(ValueModel::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    if span.kind != SpanKindModel::Server {
        return None;
    }
    let method = text("http.request.method_original").or_else(|| text("http.request.method"))?;
    let mut url = format!("{}://{}", text("url.scheme").unwrap_or("http"), text("server.address")?);
    if let Some(ValueModel::Int(port)) = find(&span.attributes, "server.port") {
        let written = write!(url, ":{port}");
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    }
    url.push_str(text("url.path")?);
    let query = text("url.query").unwrap_or_default();
    if !query.is_empty() {
        url.push('?');
        url.push_str(query);
    }
    let redacted = url.contains(REDACTED);
    let url = quoted(&percent_encoded(&url));
    let command = match method {
        "GET" => format!("curl {url}"),
        "HEAD" => format!("curl --head {url}"),
        method => format!("curl --request {} {url}", quoted(method)),
    };
    Some(Curl { command, redacted })
}

/// A URL of printable ASCII: all other bytes are percent-encoded.
fn percent_encoded(url: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic();
    url.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Quotes a word for a POSIX shell. A quoted square bracket or brace is literal to a shell, but curl treats it as a
/// glob, so such words need globbing turned off.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-._~/:".contains(letter);
    let globbed = word.contains(['[', ']', '{', '}']);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("{}'{}'", if globbed { "--globoff " } else { "" }, word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::pages::model::AttributeModel;
    use crate::console::pages::tree::tests::span;

    fn server(attributes: &[(&str, &str)]) -> SpanModel {
        let mut made = span(1, 0, "shop", "GET /", 0, 1);
        made.kind = SpanKindModel::Server;
        let base = [("http.request.method", "GET"), ("server.address", "localhost"), ("url.path", "/")];
        let given = base.iter().filter(|(key, _)| attributes.iter().all(|(other, _)| key != other)).chain(attributes);
        let text = |(key, value): &(&str, &str)| AttributeModel {
            key: (*key).to_owned(),
            value: ValueModel::Text((*value).to_owned()),
        };
        made.attributes = given.map(text).collect();
        made.attributes.push(AttributeModel { key: "server.port".to_owned(), value: ValueModel::Int(8000) });
        made
    }

    fn check(attributes: &[(&str, &str)], expected: &str) {
        assert_eq!(of(&server(attributes)).unwrap().command, expected);
    }

    #[test]
    fn the_command_repeats_the_request() {
        check(&[("url.path", "/users/1")], "curl http://localhost:8000/users/1");
        check(&[("url.query", "a=1&b=2")], "curl 'http://localhost:8000/?a=1&b=2'");
        check(&[("http.request.method", "POST")], "curl --request POST http://localhost:8000/");
        check(&[("http.request.method", "HEAD")], "curl --head http://localhost:8000/");
    }

    #[test]
    fn a_shell_executes_no_part_of_the_url() {
        check(&[("url.path", "/$(rm)`id`;x'y")], "curl 'http://localhost:8000/$(rm)`id`;x'\\''y'");
        check(&[("url.path", "/a\n\u{1b}b ü")], "curl 'http://localhost:8000/a%0A%1Bb%20%C3%BC'");
        check(&[("http.request.method_original", "P;ls")], "curl --request 'P;ls' http://localhost:8000/");
        check(&[("url.path", "/{a}[1-9]")], "curl --globoff 'http://localhost:8000/{a}[1-9]'");
    }

    #[test]
    fn redacted_urls_are_detected() {
        assert!(of(&server(&[("url.query", "sig=REDACTED")])).unwrap().redacted);
        assert!(!of(&server(&[])).unwrap().redacted);
    }

    #[test]
    fn only_server_spans_have_a_command() {
        assert_eq!(of(&span(1, 0, "shop", "work", 0, 1)), None);
    }
}
