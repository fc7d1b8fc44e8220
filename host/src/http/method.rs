//! The names of request methods in the OpenTelemetry semantic conventions.

use http::Method;

/// The name of a method that the conventions list.
pub fn known(method: &Method) -> Option<&'static str> {
    Some(match method.as_str() {
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
        _ => return None,
    })
}

/// The name of a method in span names. `HTTP` for a method that the conventions do not list.
pub fn span_name(method: &Method) -> &'static str {
    known(method).unwrap_or("HTTP")
}

/// The values of `http.request.method` and, for a method that the conventions do not list,
/// `http.request.method_original`.
pub fn attributes(method: &Method) -> (&'static str, Option<&str>) {
    match known(method) {
        Some(known) => (known, None),
        None => ("_OTHER", Some(method.as_str())),
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

    #[test]
    fn an_unlisted_method_is_an_attribute_of_its_own() {
        assert_eq!(attributes(&Method::TRACE), ("TRACE", None));
        assert_eq!(attributes(&"BREW".parse().unwrap()), ("_OTHER", Some("BREW")));
    }
}
