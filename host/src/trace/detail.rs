//! The details of a span in a tree, besides its name and duration: status code, address and error.

use opentelemetry::trace::SpanKind;

use super::sanitize::sanitize_line;

/// The most characters of an address or a message that are shown.
const MAX_TEXT: usize = 120;

/// The details of one span: the status code of server and client spans; the URL of client spans; the path of server
/// spans without a route; `error.type` and message of an error. Empty if the span has none of these.
pub fn span_detail(kind: &SpanKind, attribute: impl Fn(&str) -> Option<String>, error: Option<&str>) -> String {
    let status = || attribute("http.response.status_code");
    let (status, address) = match kind {
        SpanKind::Server if attribute("http.route").is_none() => (status(), attribute("url.path")),
        SpanKind::Server => (status(), None),
        SpanKind::Client => (status(), attribute("url.full")),
        _ => (None, None),
    };
    let failure = error.map(|message| {
        // A status code that equals `error.type` is shown already.
        let kind = attribute("error.type").filter(|kind| status.as_ref() != Some(kind));
        let kind = kind.map_or_else(String::new, |kind| format!(" {}", sanitize_line(&kind, MAX_TEXT)));
        let message = sanitize_line(message, MAX_TEXT);
        if message.is_empty() { format!("ERROR{kind}") } else { format!("ERROR{kind}: {message}") }
    });
    let parts = [status, address.map(|address| sanitize_line(&address, MAX_TEXT)), failure];
    parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(kind: SpanKind, attributes: &[(&str, &str)], error: Option<&str>) -> String {
        let find = |key: &str| attributes.iter().find(|(known, _)| *known == key).map(|(_, value)| (*value).to_owned());
        span_detail(&kind, find, error)
    }

    const STATUS: &str = "http.response.status_code";

    #[test]
    fn a_server_span_shows_its_status_and_its_path_if_no_route_matched() {
        let path = ("url.path", "/nowhere");
        assert_eq!(detail(SpanKind::Server, &[(STATUS, "404"), path], None), "404  /nowhere");
        assert_eq!(detail(SpanKind::Server, &[(STATUS, "200"), path, ("http.route", "/{x}")], None), "200");
    }

    #[test]
    fn a_client_span_shows_its_status_and_its_url() {
        let url = ("url.full", "http://localhost:8000/products");
        assert_eq!(detail(SpanKind::Client, &[(STATUS, "200"), url], None), "200  http://localhost:8000/products");
        let refused = detail(SpanKind::Client, &[url, ("error.type", "unreachable")], Some("connection refused"));
        assert_eq!(refused, "http://localhost:8000/products  ERROR unreachable: connection refused");
    }

    #[test]
    fn an_error_shows_its_type_and_the_first_line_of_its_message() {
        let kind = [("error.type", "wasm_trap")];
        assert_eq!(detail(SpanKind::Internal, &kind, Some("it broke\nbadly")), "ERROR wasm_trap: it broke");
        assert_eq!(detail(SpanKind::Internal, &[], Some("")), "ERROR");
        assert_eq!(detail(SpanKind::Internal, &[], Some("no shelf")), "ERROR: no shelf");
        assert_eq!(detail(SpanKind::Server, &[(STATUS, "503"), ("error.type", "503")], Some("")), "503  ERROR");
        assert_eq!(detail(SpanKind::Internal, &[(STATUS, "200")], None), "");
    }

    #[test]
    fn control_characters_are_replaced() {
        let hostile = "\u{1b}[2J\r\n".repeat(99);
        let text = detail(SpanKind::Client, &[("url.full", &hostile), ("error.type", &hostile)], Some(&hostile));
        assert!(!text.contains(char::is_control), "{text:?}");
    }
}
