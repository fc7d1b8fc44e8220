//! Calls to product-service.
//!
//! If a call fails, the client gets 503 if product-service is unreachable or times out, and 502 if the call is denied
//! or the response is invalid.

use std::time::Duration;

use guest::client::{self, Request as Outgoing};
use guest::{Problem, Request, Response, config};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::shopping::Stock;
use crate::users::User;

const SERVICE: &str = "product-service";
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// Request headers that are forwarded to product-service.
const FORWARDED_HEADERS: [&str; 2] = ["x-client-id", "x-session-id"];

/// The part of product-service's response that an analysis needs. The products are kept as JSON text.
#[derive(Debug, Deserialize)]
pub struct RecommendationResponse {
    pub products: Box<RawValue>,
    pub user_score: u64,
}

impl RecommendationResponse {
    /// The stock of the products, in their order.
    pub fn stock(&self) -> Result<Vec<Stock>, client::Error> {
        serde_json::from_str(self.products.get()).map_err(|error| client::Error::Body(error.to_string()))
    }
}

/// Gets the recommendations for a user.
pub fn recommended_to(user: &User, request: &Request) -> Result<Response, Problem> {
    let query = format!("user_id={}", user.id);
    recommend(Some(&query), request)?.success().map_err(upstream_problem)
}

/// Forwards this query to product-service. The response may have any status code.
pub fn recommend(query: Option<&str>, request: &Request) -> Result<Response, Problem> {
    let mut url = url("/products/recommend")?;
    if let Some(query) = query {
        url.push('?');
        url.push_str(query);
    }
    let headers = FORWARDED_HEADERS.into_iter().filter_map(|name| Some((name, request.header(name)?)));
    headers
        .fold(Outgoing::get(url), |outgoing, (name, value)| outgoing.header(name, value))
        .send()
        .map_err(upstream_problem)
}

/// Whether product-service reports within five seconds that it is healthy.
pub fn is_healthy() -> bool {
    let Ok(url) = url("/health") else { return false };
    Outgoing::get(url).timeout(HEALTH_TIMEOUT).send().is_ok_and(|response| response.is_success())
}

/// The problem for a failed call.
pub fn upstream_problem(error: client::Error) -> Problem {
    Problem::upstream(SERVICE, &error)
}

fn url(path: &str) -> Result<String, config::Error> {
    let mut url = config::require("product_url")?;
    url.truncate(url.trim_end_matches('/').len());
    url.push_str(path);
    Ok(url)
}
