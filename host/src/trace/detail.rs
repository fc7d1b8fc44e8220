//! What a line of a tree says of a span besides its name and duration: how it was answered, where the request went, what failed.

use opentelemetry::trace::SpanKind;

use super::plain::plain;

/// The most characters of an address or a message that are shown.
const TEXT: usize = 120;

/// The status of server and client spans; the URL of client spans, and of server spans that no route has named the path;
/// `error.type` and message where there is an error. Empty for a span of which none of it is known.
pub fn span_detail(kind: &SpanKind, attribute: impl Fn(&str) -> Option<String>, error: Option<&str>) -> String {
    let status = || attribute("http.response.status_code");
    let (status, address) = match kind {
        SpanKind::Server if attribute("http.route").is_none() => (status(), attribute("url.path")),
        SpanKind::Server => (status(), None),
        SpanKind::Client => (status(), attribute("url.full")),
        _ => (None, None),
    };
    let failure = error.map(|message| {
        // A status that is the type of the error is there already.
        let kind = attribute("error.type").filter(|kind| status.as_ref() != Some(kind));
        let kind = kind.map_or_else(String::new, |kind| format!(" {}", plain(&kind, TEXT)));
        let message = plain(message, TEXT);
        if message.is_empty() { format!("ERROR{kind}") } else { format!("ERROR{kind}: {message}") }
    });
    let parts = [status, address.map(|address| plain(&address, TEXT)), failure];
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
    fn a_server_span_has_its_status_and_its_path_where_no_route_matched() {
        let path = ("url.path", "/nowhere");
        assert_eq!(detail(SpanKind::Server, &[(STATUS, "404"), path], None), "404  /nowhere");
        assert_eq!(detail(SpanKind::Server, &[(STATUS, "200"), path, ("http.route", "/{x}")], None), "200");
    }

    #[test]
    fn a_client_span_has_its_status_and_its_url() {
        let url = ("url.full", "http://localhost:8000/products");
        assert_eq!(detail(SpanKind::Client, &[(STATUS, "200"), url], None), "200  http://localhost:8000/products");
        let refused = detail(SpanKind::Client, &[url, ("error.type", "unreachable")], Some("connection refused"));
        assert_eq!(refused, "http://localhost:8000/products  ERROR unreachable: connection refused");
    }

    #[test]
    fn an_error_has_its_type_and_the_first_line_of_its_message() {
        let kind = [("error.type", "wasm_trap")];
        assert_eq!(detail(SpanKind::Internal, &kind, Some("it broke\nbadly")), "ERROR wasm_trap: it broke");
        assert_eq!(detail(SpanKind::Internal, &[], Some("")), "ERROR");
        assert_eq!(detail(SpanKind::Internal, &[], Some("no shelf")), "ERROR: no shelf");
        assert_eq!(detail(SpanKind::Server, &[(STATUS, "503"), ("error.type", "503")], Some("")), "503  ERROR");
        assert_eq!(detail(SpanKind::Internal, &[(STATUS, "200")], None), "");
    }

    #[test]
    fn nothing_in_it_controls_the_terminal() {
        let hostile = "\u{1b}[2J\r\n".repeat(99);
        let text = detail(SpanKind::Client, &[("url.full", &hostile), ("error.type", &hostile)], Some(&hostile));
        assert!(!text.contains(char::is_control), "{text:?}");
    }
}
