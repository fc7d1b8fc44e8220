//! The names of request methods in the OpenTelemetry semantic conventions.

use http::Method;

/// The name of a method in span names. `HTTP` for a method that the conventions do not list.
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
    fn span_names_contain_the_methods_of_the_conventions() {
        assert_eq!(span_name(&"QUERY".parse().unwrap()), "QUERY");
        assert_eq!(span_name(&"BREW".parse().unwrap()), "HTTP");
    }
}
