//! Converts state of the host into the form that the observable metrics read.

use std::sync::Arc;

use crate::metrics::{Metrics, PipelineStats, PoolStats};
use crate::services::{Service, Serving};
use crate::trace::Pipeline;

/// The state of the span queue.
pub(super) fn pipeline(pipeline: &Pipeline) -> PipelineStats {
    let counters = pipeline.counters();
    let (length, capacity) = pipeline.queue();
    PipelineStats {
        queue_length: length as u64,
        queue_capacity: capacity as u64,
        exported: counters.exported_spans(),
        dropped: counters.dropped_spans(),
        exported_logs: counters.exported_log_records(),
        dropped_logs: counters.dropped_log_records(),
    }
}

/// Makes the instruments of the serving generation the ones that are reported for the service.
pub(super) fn observe_service(metrics: &Metrics, service: &Arc<Service>) {
    let own = service.serving().stable.pool.context().metrics.clone();
    let watched = Arc::downgrade(service);
    own.observe_pool(move || watched.upgrade().map(|service| pool(&service.serving())).unwrap_or_default());
    metrics.report(service.name.as_str(), own.clone());
    let before = service.metrics.swap(own.clone());
    if !Arc::ptr_eq(&before, &own) {
        before.observe_pool(PoolStats::default);
    }
}

/// The instances of the serving generations.
fn pool(serving: &Serving) -> PoolStats {
    let generations = std::iter::once(&serving.stable).chain(serving.canary.iter().map(|canary| &canary.generation));
    let mut sum = PoolStats { generation: serving.stable.number, ..PoolStats::default() };
    for stats in generations.map(|generation| generation.pool.stats()) {
        sum.live += stats.live;
        sum.idle += stats.idle;
        sum.memory_bytes += stats.memory_bytes;
        sum.memory_high_water_bytes = sum.memory_high_water_bytes.max(stats.memory_high_water_bytes);
    }
    sum
}
