//! Request methods as the OpenTelemetry semantic conventions name them.

use http::Method;

/// The name of a method in a span's name: `HTTP` for one that the conventions do not know.
pub fn span_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "CONNECT" => "CONNECT",
        "TRACE" => "TRACE",
        "QUERY" => "QUERY",
        _ => "HTTP",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_the_conventions_know_is_named() {
        assert_eq!(span_name(&"QUERY".parse().unwrap()), "QUERY");
        assert_eq!(span_name(&"BREW".parse().unwrap()), "HTTP");
    }
}
