//! Tests of the store as a whole.

use std::time::SystemTime;

use opentelemetry::trace::SpanKind;

use super::*;
use crate::trace::otlp::Attribute;
use crate::trace::segment::{Segment, Status};
use crate::trace::tests::{log, segment, span};

impl TraceStore {
    /// All stored segments of this host.
    pub(in crate::trace) fn segments(&self) -> Vec<Arc<Segment>> {
        let found = self.matching(&TraceQuery::default());
        let parts = found.into_iter().flat_map(|candidate| candidate.parts);
        let local = parts.filter_map(|part| match part {
            StoredPart::Local(segment) => Some(segment),
            StoredPart::Received(_) => None,
        });
        local.collect()
    }
}

fn large_store() -> TraceStore {
    TraceStore::new(64 << 20)
}

fn add(store: &TraceStore, service: &str, trace: u128, parent: u64, change: impl FnOnce(&mut Segment)) {
    let mut made = segment(service, trace, vec![span(parent + 1, parent, "GET /", SpanKind::Server)]);
    change(&mut made);
    store.add(StoredPart::Local(Arc::new(made)));
}

fn fail(segment: &mut Segment) {
    segment.spans[0].status = Status::Error("no".to_owned());
}

fn number(id: TraceId) -> u128 {
    u128::from_be_bytes(id.to_bytes())
}

fn ids(store: &TraceStore, query: &TraceQuery) -> Vec<u128> {
    store.search(query).into_iter().map(|summary| number(summary.trace_id)).collect()
}

fn matching_ids(store: &TraceStore, change: impl FnOnce(&mut TraceQuery)) -> Vec<u128> {
    let mut query = TraceQuery::default();
    change(&mut query);
    let mut found = ids(store, &query);
    found.sort_unstable();
    found
}

/// The bytes that one more segment made by [`add`] takes in the store.
fn segment_bytes() -> usize {
    let store = large_store();
    let held = [1, 2].map(|trace| {
        add(&store, "user", trace, 0, |_| ());
        store.stats().bytes
    });
    held[1] - held[0]
}

#[test]
fn parts_of_a_trace_are_merged_and_the_span_without_a_parent_is_the_root() {
    let store = large_store();
    add(&store, "product", 1, 1, |segment| segment.logs.push(log(crate::trace::Severity::Info, "hello")));
    add(&store, "user", 1, 0, |segment| {
        segment.spans[0].attributes = [Attribute::new("http.response.status_code", 200)].into_iter().collect();
    });
    let trace = store.trace(TraceId::from(1_u128)).unwrap();
    assert_eq!((trace.spans().count(), trace.logs().count()), (2, 1));
    let summary = store.summary(TraceId::from(1_u128)).unwrap();
    let root = summary.root.unwrap();
    assert_eq!((&*root.service, &*root.name, root.http_status, root.is_whole), ("user", "GET /", Some(200), true));
    assert_eq!((summary.spans, summary.errors, summary.logs), (2, 0, 1));
    assert_eq!(store.services(), ["product", "user"]);
}

#[test]
fn the_root_of_received_spans_whose_parents_form_a_cycle_is_the_earliest_span() {
    let store = large_store();
    let mut late = span(1, 2, "late", SpanKind::Internal);
    late.start += Duration::from_millis(1);
    let cycle = segment("user", 1, vec![late, span(2, 1, "early", SpanKind::Internal)]);
    store.add(StoredPart::Received(Arc::new(SpanGroup::of(&cycle))));
    let root = store.summary(TraceId::from(1_u128)).unwrap().root.unwrap();
    assert_eq!((&*root.service, &*root.name, root.is_whole), ("user", "early", false));
}

#[test]
fn the_oldest_trace_is_evicted_first_and_completely() {
    let store = TraceStore::new(segment_bytes() * 40);
    for trace in 1..=1000 {
        add(&store, "product", trace, 1, |_| ());
        add(&store, "user", trace, 0, |_| ());
        store.index_inbox();
    }
    let (stats, found) = (store.stats(), store.find(&TraceQuery::default()));
    assert!((15..40).contains(&found.len()), "{stats:?}");
    assert!(found.iter().all(|trace| trace.groups.len() == 2));
    assert!(found.iter().all(|trace| number(trace.trace_id) > 950));
    assert_eq!(stats.evicted + stats.sampled_out + stats.traces as u64, 1000);
    assert!(stats.bytes <= stats.capacity);
}

#[test]
fn failed_and_slow_traces_outlive_others_but_do_not_fill_the_store() {
    let store = TraceStore::new(segment_bytes() * 100);
    add(&store, "user", 1, 0, fail);
    add(&store, "user", 2, 0, |segment| segment.spans[0].duration = Duration::from_secs(2));
    let add_many = |from: u128, change: fn(&mut Segment)| {
        for trace in from..from + 1000 {
            add(&store, "user", trace, 0, change);
            store.index_inbox();
        }
    };
    add_many(1000, |_| ());
    assert_eq!(matching_ids(&store, |query| query.errors_only = true), [1]);
    assert_eq!(matching_ids(&store, |query| query.min_duration = Some(Duration::from_secs(1))), [2]);
    add_many(3000, fail);
    assert_eq!(store.stats().slow, 1);
    assert!(store.stats().failed > 20, "{:?}", store.stats());
    add_many(5000, |_| ());
    let stats = store.stats();
    assert!((20..=26).contains(&stats.failed) && stats.traces > 70, "{stats:?}");
}

#[test]
fn one_growing_trace_does_not_evict_all_others() {
    let store = TraceStore::new(segment_bytes() * 40);
    add(&store, "user", 1, 0, |_| ());
    for _ in 0..200 {
        add(&store, "user", 2, 0, |_| ());
        store.index_inbox();
    }
    assert!(store.trace(TraceId::from(1_u128)).is_some());
    let cut = store.summary(TraceId::from(2_u128)).unwrap();
    assert!(cut.is_cut && (5..40).contains(&cut.spans), "{cut:?}");
    assert_eq!(store.stats().too_large, 1);
}

#[test]
fn queries_choose_by_service_name_kind_duration_time_and_outcome() {
    let store = large_store();
    let second = Duration::from_secs(1);
    add(&store, "user", 1, 0, |segment| segment.spans[0].duration = second);
    add(&store, "user", 2, 0, fail);
    add(&store, "product", 3, 0, |segment| {
        segment.spans[0].start += second;
        segment.spans[0].kind = SpanKind::Client;
    });
    assert_eq!(matching_ids(&store, |query| query.min_duration = Some(Duration::from_millis(500))), [1]);
    assert_eq!(matching_ids(&store, |query| query.max_duration = Some(Duration::from_millis(500))), [2, 3]);
    assert_eq!(matching_ids(&store, |query| query.errors_only = true), [2]);
    assert_eq!(matching_ids(&store, |query| query.service = Some("product".to_owned())), [3]);
    assert_eq!(matching_ids(&store, |query| query.kind = Some(SpanKind::Client)), [3]);
    assert!(matching_ids(&store, |query| query.operation = Some("GET /other".to_owned())).is_empty());
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + second / 2;
    assert_eq!(matching_ids(&store, |query| query.after = Some(later)), [3]);
    assert_eq!(matching_ids(&store, |query| query.before = Some(later)), [1, 2]);
    assert_eq!(matching_ids(&store, |query| query.limit = 1), [3], "the latest comes first");
}

#[test]
fn tags_match_span_event_resource_and_shared_attributes() {
    let store = large_store();
    add(&store, "user", 1, 0, |segment| {
        let own = [Attribute::new("user.id", 7), Attribute::new("share", 0.5), Attribute::new("vip", true)];
        segment.spans[0].attributes = own.into_iter().collect();
        segment.shared = [Attribute::new("session", "s1")].into_iter().collect();
    });
    add(&store, "user", 2, 0, fail);
    let with = |pairs: &[(&str, &str)]| {
        let tags = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        matching_ids(&store, |query| query.tags = tags)
    };
    for pair in [("user.id", "7"), ("share", "0.5"), ("vip", "true"), ("session", "s1")] {
        assert_eq!(with(&[pair]), [1], "{pair:?}");
    }
    assert_eq!(with(&[("user.id", "7"), ("session", "s1"), ("service.version", "1.0.0")]), [1]);
    assert_eq!(with(&[("span.kind", "server"), ("service.name", "user")]), [1, 2]);
    assert_eq!(with(&[("error", "true")]), [2]);
    assert_eq!(with(&[("otel.status_code", "ERROR"), ("otel.status_description", "no")]), [2]);
    assert!(with(&[("user.id", "7"), ("error", "true")]).is_empty(), "no span has both");
    assert!(with(&[("user.id", "8")]).is_empty());
}

#[test]
fn the_scope_of_a_guests_own_sdk_takes_the_place_of_the_hosts() {
    let store = large_store();
    add(&store, "user", 1, 0, |segment| {
        segment.spans[0].attributes = [Attribute::new("otel.scope.name", "sdk")].into_iter().collect();
    });
    add(&store, "user", 2, 0, |_| ());
    let with =
        |key: &str, value: &str| matching_ids(&store, |query| query.tags = vec![(key.to_owned(), value.to_owned())]);
    assert_eq!((with("otel.scope.name", "sdk"), with("otel.scope.name", "spandrel")), (vec![1], vec![2]));
    assert_eq!(with("otel.scope.version", env!("CARGO_PKG_VERSION")), [2]);
}

#[test]
fn all_conditions_must_hold_for_a_single_span() {
    let store = large_store();
    add(&store, "user", 1, 0, |segment| {
        let mut child = span(5, 1, "inner", SpanKind::Internal);
        child.attributes = [Attribute::new("k", "v")].into_iter().collect();
        child.duration = Duration::from_micros(10);
        segment.spans.push(child);
    });
    let ask = |operation: &str, time_scope| {
        matching_ids(&store, |query| {
            query.operation = Some(operation.to_owned());
            query.service = Some("user".to_owned());
            query.min_duration = Some(Duration::from_micros(500));
            query.time_scope = time_scope;
        })
    };
    assert_eq!(ask("GET /", TimeScope::Span), [1]);
    assert!(ask("inner", TimeScope::Span).is_empty(), "it took 10 µs");
    assert_eq!(ask("inner", TimeScope::Trace), [1], "the trace took longer");
    let tagged = |operation: &str| {
        matching_ids(&store, |query| {
            query.operation = Some(operation.to_owned());
            query.tags = vec![("k".to_owned(), "v".to_owned())];
        })
    };
    assert_eq!((tagged("inner"), tagged("GET /")), (vec![1], vec![]));
}

#[test]
fn operations_have_kinds_and_are_removed_with_their_last_trace() {
    let store = TraceStore::new(segment_bytes() * 20);
    add(&store, "user", 1, 0, |segment| segment.spans.push(span(9, 1, "call", SpanKind::Client)));
    let names = |kind: Option<&SpanKind>| {
        store.operations("user", kind).into_iter().map(|operation| operation.name).collect::<Vec<_>>()
    };
    assert_eq!(names(None), ["GET /", "call"]);
    assert_eq!(names(Some(&SpanKind::Client)), ["call"]);
    assert!(store.operations("unknown", None).is_empty());
    for trace in 2..100 {
        add(&store, "user", trace, 0, |_| ());
        store.index_inbox();
    }
    assert_eq!(names(None), ["GET /"]);
}

#[test]
fn index_entries_of_unique_span_names_count_towards_the_capacity() {
    let held = |name: fn(u128) -> String| {
        let store = large_store();
        for trace in 1..=100 {
            add(&store, "user", trace, 0, |segment| segment.spans[0].name = name(trace).into());
        }
        store.stats().bytes
    };
    let (same, different) = (held(|_| "GET /users/000".to_owned()), held(|trace| format!("GET /users/{trace:03}")));
    assert!(different > same + 99 * 256, "{different} and {same}");
}

#[test]
fn dependencies_are_counted_from_parents() {
    let store = large_store();
    for trace in 1..=3 {
        add(&store, "product", trace, 1, |_| ());
        add(&store, "user", trace, 0, |segment| segment.spans.push(span(50, 1, "inner", SpanKind::Internal)));
    }
    let calls = |child: &str| Dependency { parent: "user".to_owned(), child: child.to_owned(), calls: 3 };
    let (early, late) = (SystemTime::UNIX_EPOCH, SystemTime::now());
    assert_eq!(store.dependencies(early, late), [calls("product"), calls("user")]);
    assert!(store.dependencies(late, late).is_empty());
}

#[test]
fn a_store_with_capacity_zero_stores_nothing() {
    let store = TraceStore::new(0);
    add(&store, "user", 1, 0, |_| ());
    assert!(store.search(&TraceQuery::default()).is_empty());
}

#[test]
fn an_inbox_that_is_not_indexed_stays_bounded_and_counts_omitted_traces() {
    let store = TraceStore::new(segment_bytes() * 80);
    for trace in 1..=100 {
        add(&store, "user", trace, 0, |_| ());
    }
    let stats = store.stats();
    assert!(stats.overflowed > 50 && stats.traces > 5, "{stats:?}");
    assert_eq!(stats.overflowed + stats.sampled_out + stats.traces as u64, 100);
}

#[tokio::test]
async fn subscribers_receive_summaries_of_new_and_growing_traces() {
    let store = Arc::new(large_store());
    tokio::spawn(TraceStore::run(Arc::downgrade(&store)));
    let mut subscriber = store.subscribe();
    add(&store, "user", 7, 0, |_| ());
    let received = tokio::time::timeout(Duration::from_secs(10), subscriber.recv()).await.unwrap().unwrap();
    assert_eq!(number(received.trace_id), 7);
    add(&store, "product", 7, 1, |_| ());
    let received = tokio::time::timeout(Duration::from_secs(10), subscriber.recv()).await.unwrap().unwrap();
    assert_eq!(received.spans, 2);
}

#[test]
fn searching_ten_thousand_traces_takes_less_than_400_ms() {
    let store = TraceStore::new(1 << 30);
    for trace in 1..=10_000_u128 {
        add(&store, "user", trace, 0, |segment| {
            let id = trace.to_string();
            segment.spans[0].attributes = [Attribute::new("user.id", &id)].into_iter().collect();
            segment.spans.extend((0..20).map(|index| span(index + 100, 1, "inner", SpanKind::Internal)));
        });
    }
    store.index_inbox();
    // On a busy machine the thread of the test is interrupted now and then.
    let searches = (0..20).map(|_| {
        let began = Instant::now();
        assert_eq!(matching_ids(&store, |query| query.tags = vec![("user.id".to_owned(), "17".to_owned())]), [17]);
        began.elapsed()
    });
    let quickest = searches.min().unwrap();
    assert!(quickest < Duration::from_millis(400), "{quickest:?} without optimisation");
}

proptest::proptest! {
    #[test]
    fn indexes_and_byte_counts_stay_consistent(
        parts in proptest::collection::vec((1_u128..40, 0_usize..3, 0_u64..3, 0_usize..6, proptest::bool::ANY), 1..200),
    ) {
        let store = TraceStore::new(segment_bytes() * 25);
        for (trace, service, parent, more, failed) in parts {
            add(&store, ["user", "product", "inventory"][service], trace, parent, |segment| {
                segment.spans.extend((0..more).map(|at| span(at as u64 + 50, 1, "inner", SpanKind::Internal)));
                if failed {
                    fail(segment);
                }
            });
            store.index_inbox();
            store.index().check();
        }
        let found = store.find(&TraceQuery::default());
        proptest::prop_assert_eq!(found.len(), store.stats().traces);
        proptest::prop_assert!(store.stats().bytes <= store.stats().capacity);
    }
}
