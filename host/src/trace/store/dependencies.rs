//! Which service calls which, counted from parent and child spans in the stored traces. Calls within a service count
//! too, as in Jaeger.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use opentelemetry::trace::SpanId;

use super::TraceStore;
use super::stored_part::StoredPart;

/// Traces that are copied out of the index at a time.
const CHUNK: usize = 256;

/// How often spans of one service have children in another service, or in the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The caller.
    pub parent: String,
    /// The callee.
    pub child: String,
    /// The number of calls.
    pub calls: u64,
}

impl TraceStore {
    /// The calls between services in the traces that overlap this time range, sorted by name.
    pub fn dependencies(&self, after: SystemTime, before: SystemTime) -> Vec<Dependency> {
        self.index_inbox();
        let (mut calls, mut cursor) = (BTreeMap::new(), Some(u64::MAX));
        while let Some(from) = cursor {
            let mut traces = Vec::new();
            cursor = self.index().walk(from, CHUNK, &mut |summary, parts| {
                if summary.start > after && summary.start + summary.duration < before {
                    traces.push(parts);
                }
            });
            traces.iter().for_each(|parts| count(parts, &mut calls));
        }
        calls.into_iter().map(|((parent, child), calls)| Dependency { parent, child, calls }).collect()
    }
}

fn count(parts: &[StoredPart], calls: &mut BTreeMap<(String, String), u64>) {
    let spans = parts.iter().flat_map(|part| part.spans().map(move |span| (span.span_id(), part.service())));
    let services: HashMap<SpanId, &str> = spans.collect();
    for part in parts {
        for parent in part.spans().filter_map(|span| services.get(&span.parent()).copied()) {
            *calls.entry((parent.to_owned(), part.service().to_owned())).or_default() += 1;
        }
    }
}
