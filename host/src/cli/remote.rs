//! The commands that use the admin API of a running host.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

use super::arguments::HostTarget;
use super::arguments::{ServiceActionArguments, StatusArguments, SwapArguments};
use super::error::CommandError;
use super::local;
use super::table::{row, table};
use crate::config::{Config, Environment};
use crate::control::swap::parse_share;
use crate::printable::printable;

/// How long the connection to a console may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client of a host's console.
pub(super) struct Remote {
    client: Client,
    url: String,
    token: Option<String>,
}

impl Remote {
    pub(super) fn new(target: &HostTarget, environment: &Environment) -> Result<Remote, CommandError> {
        let url = match &target.console {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => {
                let config = Config::load(&target.manifest, environment)?;
                let listen = config.console.listen.ok_or(CommandError::NoConsole)?;
                format!("http://{listen}")
            }
        };
        let client = client().map_err(CommandError::Client)?;
        let token = environment.admin_token().map(|token| token.reveal().to_owned());
        Ok(Remote { client, url, token })
    }

    /// The URL of the console.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The JSON response to a GET request.
    pub(super) async fn get(&self, path: &str) -> Result<Value, CommandError> {
        self.send(self.request(Method::GET, path)).await
    }

    fn service_request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, &format!("/admin/v1/services{path}"))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Value, CommandError> {
        let fail = |error: reqwest::Error| CommandError::NoHost { url: self.url.clone(), reason: error.to_string() };
        let response = request.send().await.map_err(fail)?;
        let status = response.status();
        let body = response.bytes().await.map_err(fail)?;
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() {
            return Ok(value);
        }
        // Errors of Jaeger's API have another form than problem details.
        let detail = value["detail"].as_str().or_else(|| value["errors"][0]["msg"].as_str());
        let detail = detail.unwrap_or("the response has no reason");
        Err(CommandError::Rejected(format!("{status}: {}", printable(detail))))
    }
}

/// A client that sends requests to the console only: without redirects and proxies.
fn client() -> Result<Client, reqwest::Error> {
    // The provider is process-wide. The call fails if one is already installed, which is sufficient.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().redirect(Policy::none()).no_proxy().connect_timeout(CONNECT_TIMEOUT).build()
}

/// `spandrel status`.
pub async fn status(arguments: StatusArguments, environment: &Environment) -> Result<String, CommandError> {
    let remote = Remote::new(&arguments.target, environment)?;
    let services = remote.get("/admin/v1/services").await?;
    if arguments.json {
        return Ok(format!("{services:#}\n"));
    }
    let header =
        ["SERVICE", "VERSION", "GEN", "STATE", "IN FLIGHT", "RATE/S", "ERRORS", "P50 MS", "P99 MS", "SWAPS", "DIGEST"];
    let mut rows = vec![row(header)];
    let mut errors = String::new();
    for service in services.as_array().into_iter().flatten() {
        rows.push(version_row(service, &service["serving"], text(&service["state"])));
        if service["canary"].is_object() {
            let share = format!("canary {}%", number(&service["canary"]["share_percent"]));
            rows.push(version_row(service, &service["canary"], share));
        }
        if let Some(error) = service["last_error"].as_str() {
            errors.push_str(&format!("{}: {}\n", printable(&text(&service["name"])), printable(error)));
        }
    }
    Ok(format!("{}{errors}", table(&rows)))
}

fn version_row(service: &Value, figures: &Value, state: String) -> Vec<String> {
    let digest = text(&figures["digest"]);
    let percent = figures["error_rate"].as_f64().unwrap_or(0.0) * 100.0;
    vec![
        text(&service["name"]),
        text(&figures["version"]),
        number(&figures["generation"]),
        state,
        number(&figures["in_flight"]),
        number(&figures["rate"]),
        format!("{percent:.2}%"),
        number(&figures["p50_ms"]),
        number(&figures["p99_ms"]),
        number(&service["swaps"]),
        digest.get(..19).unwrap_or(&digest).to_owned(),
    ]
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

fn number(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_u64() => number.to_string(),
        Value::Number(number) => format!("{:.1}", number.as_f64().unwrap_or(0.0)),
        _ => "-".to_owned(),
    }
}

/// `spandrel swap`.
pub async fn swap(arguments: SwapArguments, environment: &Environment) -> Result<String, CommandError> {
    let share = arguments.canary.as_deref().map(parse_share).transpose().map_err(CommandError::Rejected)?;
    let bytes = local::read(&arguments.file).await?;
    let remote = Remote::new(&arguments.target, environment)?;
    let mut query = vec![("allow-dropped-routes", arguments.allow_dropped_routes.to_string())];
    query.extend(arguments.canary.clone().map(|share| ("canary", share)));
    let query: Vec<_> = query.iter().map(|(key, value)| format!("{key}={}", value.replace('%', "%25"))).collect();
    let path = format!("/{}/component?{}", arguments.service, query.join("&"));
    let answer = remote.send(remote.service_request(Method::PUT, &path).body(bytes.to_vec())).await?;
    if arguments.json {
        return Ok(format!("{answer:#}\n"));
    }
    Ok(match (answer["changed"].as_bool(), share) {
        (Some(false), _) => format!("{} already serves this component\n", arguments.service),
        (_, Some(share)) => {
            let percent = f64::from(share) / 100.0;
            format!("{} serves {percent}% of its requests with {}\n", arguments.service, outcome(&answer))
        }
        _ => format!("{} now serves {}\n", arguments.service, outcome(&answer)),
    })
}

/// `spandrel rollback`, `promote` and `abort`.
pub async fn service_action(
    action: &str,
    arguments: ServiceActionArguments,
    environment: &Environment,
) -> Result<String, CommandError> {
    let remote = Remote::new(&arguments.target, environment)?;
    let path = format!("/{}/{action}", arguments.service);
    let answer = remote.send(remote.service_request(Method::POST, &path)).await?;
    Ok(if arguments.json {
        format!("{answer:#}\n")
    } else {
        format!("{} now serves {}\n", arguments.service, outcome(&answer))
    })
}

/// The generation, its digest and the duration of each step.
fn outcome(answer: &Value) -> String {
    let timings = answer["timings_ms"].as_object().into_iter().flatten();
    let timings: Vec<_> =
        timings.map(|(step, took)| format!("{step} {:.1} ms", took.as_f64().unwrap_or(0.0))).collect();
    let took = if timings.is_empty() { String::new() } else { format!(" ({})", timings.join(", ")) };
    format!("generation {}, {}{took}", number(&answer["generation"]), text(&answer["digest"]))
}
