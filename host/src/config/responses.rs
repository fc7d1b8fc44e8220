//! The manifest's settings of responses: CORS and compression.

use http::{HeaderName, Method};
use toml::de::DeValue;

use super::origin::{Origin, Scheme};
use super::section::{Result, Section, SpannedText, all};
use crate::http::coding::Coding;
use crate::http::cors::{Cors, HeaderNames, Origins};

/// The default of `methods`: the CORS-safelisted methods (Fetch, 3.3.2).
const METHODS: [Method; 3] = [Method::GET, Method::HEAD, Method::POST];

/// `[service.cors]`.
pub(super) fn cors(section: &Section<'_>) -> Result<Option<Cors>> {
    section.allow_keys(&["origins", "methods", "headers", "expose", "credentials", "max_age"]);
    if section.table.is_none() {
        return Ok(None);
    }
    let listed = section.texts("origins");
    let listed = listed.and_then(|list| section.required(list, "origins", "origins = [\"https://shop.example\"]"));
    let origins = listed.and_then(|listed| origins(section, listed));
    let (methods, headers, expose) = (methods(section), names(section, "headers"), names(section, "expose"));
    let (credentials, max_age) = (section.boolean("credentials"), section.duration("max_age"));
    let cors = Cors {
        origins: origins?,
        methods: methods?.unwrap_or_else(|| METHODS.to_vec()),
        headers: headers?,
        expose: expose?,
        credentials: credentials?.unwrap_or(false),
        max_age: max_age?,
    };
    // With credentials, browsers treat `*` as a literal value, not as a wildcard (Fetch, 3.3.4).
    let any = [
        ("origins", cors.origins == Origins::Any),
        ("headers", cors.headers == HeaderNames::Any),
        ("expose", cors.expose == HeaderNames::Any),
    ];
    match any.into_iter().find(|(_, is_any)| *is_any && cors.credentials) {
        Some((key, _)) => {
            let problem = format!("`{key} = [\"*\"]` cannot be combined with `credentials`");
            Err(section.error(key, problem, "list them one by one, or remove `credentials`"))
        }
        None => Ok(Some(cors)),
    }
}

fn origins(section: &Section<'_>, listed: Vec<SpannedText>) -> Result<Origins> {
    if let [(only, _)] = &*listed
        && only == "*"
    {
        return Ok(Origins::Any);
    }
    if listed.is_empty() {
        let help = "list an origin, or remove `[service.cors]`";
        return Err(section.error("origins", "`origins` is empty".to_owned(), help));
    }
    let origin = |(text, span): SpannedText| match Origin::parse(&text) {
        Some(origin) => Ok(serialized_origin(&origin)),
        None => {
            let help = "write scheme, host and port only, as in \"https://shop.example\", or \"*\" alone for any";
            Err(section.reader.error(span, format!("`origins` lists `{text}`, which is not a valid origin"), help))
        }
    };
    all(listed.into_iter().map(origin)).map(Origins::Listed)
}

/// The origin as browsers serialize it: without the scheme's default port (RFC 6454, 6.2).
fn serialized_origin(origin: &Origin) -> String {
    let (scheme, standard) = match origin.scheme {
        Scheme::Http => ("http", 80),
        Scheme::Https => ("https", 443),
    };
    let port = if origin.port == standard { String::new() } else { format!(":{}", origin.port) };
    format!("{scheme}://{}{port}", origin.host)
}

fn methods(section: &Section<'_>) -> Result<Option<Vec<Method>>> {
    let Some(listed) = section.texts("methods")? else { return Ok(None) };
    let method = |(text, span): SpannedText| {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
        text.parse::<Method>().ok().filter(|_| is_plain).ok_or_else(|| {
            section.reader.error(span, format!("`{text}` is not a valid method"), "write methods such as \"PUT\"")
        })
    };
    all(listed.into_iter().map(method)).map(Some)
}

fn names(section: &Section<'_>, key: &str) -> Result<HeaderNames> {
    let listed = section.texts(key)?.unwrap_or_default();
    if let [(only, _)] = &*listed
        && only == "*"
    {
        return Ok(HeaderNames::Any);
    }
    let name = |(text, span): SpannedText| {
        text.parse::<HeaderName>().ok().filter(|_| text != "*").ok_or_else(|| {
            let help = "write names of header fields, or \"*\" alone for any";
            section.reader.error(span, format!("`{text}` is not a valid header field name"), help)
        })
    };
    all(listed.into_iter().map(name)).map(HeaderNames::Listed)
}

/// `compression`.
pub(super) fn compression(section: &Section<'_>) -> Result<Vec<Coding>> {
    let is_switch = section.get("compression").is_some_and(|value| matches!(value.get_ref(), DeValue::Boolean(_)));
    if is_switch {
        let is_on = section.boolean("compression")?.unwrap_or(false);
        return Ok(if is_on { Coding::ALL.to_vec() } else { Vec::new() });
    }
    let mut codings = Vec::new();
    for (text, span) in section.texts("compression")?.unwrap_or_default() {
        let help = "write \"zstd\", \"br\" or \"gzip\", each at most once, or `true` for all";
        match Coding::parse(&text) {
            Some(coding) if !codings.contains(&coding) => codings.push(coding),
            Some(coding) => {
                section.reader.error(span, format!("`{coding}` is listed twice"), help);
            }
            None => {
                section.reader.error(span, format!("`{text}` is not a supported content coding"), help);
            }
        }
    }
    Ok(codings)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::manifest::read;
    use super::*;
    use crate::config::{ConfigError, Environment, ServiceConfig};

    fn service(text: &str) -> Result<ServiceConfig, ConfigError> {
        let text = format!("[[service]]\nname = \"s\"\ncomponent = \"s.wasm\"\nlisten = \"127.0.0.1:0\"\n{text}\n");
        let config = read(&text, std::path::Path::new("services.toml"), &Environment::default())?;
        Ok(config.services.into_iter().next().unwrap())
    }

    fn refused(text: &str, words: &str) {
        let error = service(text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }

    #[test]
    fn cors_and_compression_are_off_by_default() {
        let service = service("").unwrap();
        assert_eq!((service.cors, service.compression), (None, Vec::new()));
    }

    #[test]
    fn cors_settings_are_parsed() {
        let text = "[service.cors]\norigins = [\"https://Shop.example:443\", \"http://localhost:5173\"]\n\
                    methods = [\"GET\", \"PUT\"]\nheaders = [\"Content-Type\"]\nexpose = [\"traceresponse\"]\n\
                    credentials = true\nmax_age = \"10m\"\n";
        let cors = service(text).unwrap().cors.unwrap();
        let known = ["https://shop.example", "http://localhost:5173"].map(str::to_owned);
        assert_eq!(cors.origins, Origins::Listed(known.to_vec()), "as browsers write them");
        assert_eq!(cors.methods, [Method::GET, Method::PUT]);
        assert_eq!(cors.headers, HeaderNames::Listed(vec![http::header::CONTENT_TYPE]));
        assert_eq!((cors.credentials, cors.max_age), (true, Some(Duration::from_secs(600))));
        let open = service("[service.cors]\norigins = [\"*\"]\nheaders = [\"*\"]\n").unwrap().cors.unwrap();
        assert_eq!((open.origins, open.headers, open.methods), (Origins::Any, HeaderNames::Any, METHODS.to_vec()));
    }

    #[test]
    fn invalid_cors_settings_are_rejected() {
        let cors = |rest: &str| format!("[service.cors]\n{rest}\n");
        refused(&cors("methods = [\"GET\"]"), "no `origins`");
        refused(&cors("origins = []"), "is empty");
        refused(
            &cors("origins = [\"*\"]\ncredentials = true"),
            "`origins = [\"*\"]` cannot be combined with `credentials`",
        );
        let named = "origins = [\"https://a.example\"]\n";
        for key in ["headers", "expose"] {
            refused(
                &cors(&format!("{named}credentials = true\n{key} = [\"*\"]")),
                "cannot be combined with `credentials`",
            );
        }
        for origin in ["a.example", "https://a.example/path", "https://*.example", "null", "*\", \"https://a.example"] {
            refused(&cors(&format!("origins = [\"{origin}\"]")), "which is not a valid origin");
        }
        refused(&cors(&format!("{named}methods = [\"get\"]")), "`get` is not a valid method");
        refused(&cors(&format!("{named}headers = [\"a b\"]")), "`a b` is not a valid header field name");
        refused(&cors(&format!("{named}origin = [\"x\"]")), "did you mean `origins`?");
    }

    #[test]
    fn codings_keep_the_order_of_preference() {
        let codings = |value: &str| service(&format!("compression = {value}")).unwrap().compression;
        assert_eq!(codings("true"), Coding::ALL);
        assert_eq!(codings("false"), []);
        assert_eq!(codings("[\"gzip\", \"br\"]"), [Coding::Gzip, Coding::Brotli]);
        refused("compression = [\"deflate\"]", "`deflate` is not a supported content coding");
        refused("compression = [\"br\", \"br\"]", "`br` is listed twice");
        refused("compression = \"gzip\"", "a list of strings");
    }
}
