//! Results of OpenSearch for the queries in docs/stack.md and the saved search.

use std::time::Instant;

use serde_json::{Value, json};
use testkit::Client;

use crate::running::{Stack, root};
use crate::{INDEXED, rounds};

/// The names of all indices.
pub async fn indices(stack: &Stack) -> Vec<String> {
    let answer = Client::default().request("GET", stack.address("opensearch"), "/_cat/indices?h=index").send().await;
    answer.text().lines().map(|line| line.trim().to_owned()).collect()
}

/// Whether a name consists of this prefix and a date such as 2026-01-31.
pub fn is_daily(name: &str, prefix: &str) -> bool {
    let digits = |part: &str, count| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_prefix(prefix).is_some_and(|date| {
        let parts: Vec<&str> = date.split('-').collect();
        matches!(parts[..], [year, month, day] if digits(year, 4) && digits(month, 2) && digits(day, 2))
    })
}

/// The three queries for Dev Tools, in the order of the document.
pub fn documented_queries() -> [Value; 3] {
    let text = std::fs::read_to_string(root().join("docs/stack.md")).expect("the document");
    let blocks = text.split("```\n").filter_map(|block| block.strip_prefix("GET jaeger-jaeger-span-*/_search\n"));
    let queries: Vec<Value> = blocks.map(|block| serde_json::from_str(block).expect("a query is JSON")).collect();
    queries.try_into().expect("three queries")
}

/// The filter of the saved search.
pub fn saved_filter() -> String {
    let file = root().join("deploy/opensearch-dashboards/spandrel.ndjson");
    let text = std::fs::read_to_string(file).expect("the import file");
    let objects = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    let search = objects.into_iter().find(|object| object["type"] == "search").expect("a saved search");
    let source = search["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"].as_str().expect("its source");
    let source: Value = serde_json::from_str(source).expect("its source is JSON");
    let filter = source["query"]["query"].as_str().expect("its filter");
    assert_eq!(filter, r#"process.serviceName: "product-service" AND operationName: "recommend_products""#);
    filter.to_owned()
}

/// The spans that Dashboards' filter finds: it has the same meaning in Lucene's syntax.
pub async fn found_by_filter(stack: &Stack, filter: &str, count: usize) -> Vec<Value> {
    found(stack, &json!({ "query": { "query_string": { "query": filter } } }), count).await
}

/// Waits until this many spans are found, and returns them. Panics if there are more.
pub async fn found(stack: &Stack, query: &Value, count: usize) -> Vec<Value> {
    let (deadline, mut rounds) = (Instant::now() + INDEXED, rounds());
    loop {
        rounds.tick().await;
        let spans = search(stack, query).await;
        if spans.len() == count {
            return spans;
        }
        let waiting = Instant::now() < deadline && spans.len() < count;
        assert!(waiting, "{} instead of {count} found by {query:#}", spans.len());
    }
}

/// The spans that a query finds.
pub async fn search(stack: &Stack, query: &Value) -> Vec<Value> {
    let path = "/jaeger-jaeger-span-*/_search?size=1000";
    let request = Client::default().request("GET", stack.address("opensearch"), path);
    let answer = request.header("content-type", "application/json").body(query.to_string()).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let hits = answer.json()["hits"]["hits"].as_array().cloned().unwrap_or_default();
    hits.into_iter().map(|hit| hit["_source"].clone()).collect()
}

/// The value of a nested tag as it was sent: only the index converts it to text.
pub fn tag<'a>(span: &'a Value, key: &str) -> Option<&'a Value> {
    span["tags"].as_array()?.iter().find(|tag| tag["key"] == key).map(|tag| &tag["value"])
}
