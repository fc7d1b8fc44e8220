//! Calls to product-service.
//!
//! What a client is told when they fail: 503 where product-service does not answer, or not in time, and 502 where it
//! may not be called or its answer is of no use.

use std::time::Duration;

use guest::client::{self, Request as Outgoing};
use guest::{Problem, Request, Response, config};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::shopping::Stock;
use crate::users::User;

const SERVICE: &str = "product-service";
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// Headers of a client's request that product-service should see too.
const PASSED_ON: [&str; 2] = ["x-client-id", "x-session-id"];

/// What an analysis needs of product-service's answer. The products stay as they came.
#[derive(Debug, Deserialize)]
pub struct Recommended {
    pub products: Box<RawValue>,
    pub user_score: u64,
}

impl Recommended {
    /// The stock of the products, in their order.
    pub fn stock(&self) -> Result<Vec<Stock>, client::Error> {
        serde_json::from_str(self.products.get()).map_err(|error| client::Error::Body(error.to_string()))
    }
}

/// What product-service recommends to a user.
pub fn recommended_to(user: &User, request: &Request) -> Result<Response, Problem> {
    let query = format!("user_id={}", user.id);
    recommend(Some(&query), request)?.success().map_err(unusable)
}

/// What product-service answers to this query, whatever it is.
pub fn recommend(query: Option<&str>, request: &Request) -> Result<Response, Problem> {
    let mut url = url("/products/recommend")?;
    if let Some(query) = query {
        url.push('?');
        url.push_str(query);
    }
    let present = PASSED_ON.into_iter().filter_map(|name| Some((name, request.header(name)?)));
    present.fold(Outgoing::get(url), |outgoing, (name, value)| outgoing.header(name, value)).send().map_err(unusable)
}

/// Whether product-service says within five seconds that it is well.
pub fn is_healthy() -> bool {
    let Ok(url) = url("/health") else { return false };
    Outgoing::get(url).timeout(HEALTH_TIMEOUT).send().is_ok_and(|answer| answer.is_success())
}

/// The problem that a client is told about when a call gave nothing to work with.
pub fn unusable(error: client::Error) -> Problem {
    Problem::upstream(SERVICE, &error)
}

fn url(path: &str) -> Result<String, config::Error> {
    let mut url = config::require("product_url")?;
    url.truncate(url.trim_end_matches('/').len());
    url.push_str(path);
    Ok(url)
}
