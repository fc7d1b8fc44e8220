//! The figures that metrics read of the other rooms, each in the form in which metrics want them.

use crate::catalog::Generation;
use crate::metrics::{Exemplar, ExportStats, PipelineStats, PoolStats, SeriesExemplars};
use crate::trace::{self, Pipeline};

/// The state of the span queue.
pub(crate) fn pipeline(pipeline: &Pipeline) -> PipelineStats {
    let counters = pipeline.counters();
    let (length, capacity) = pipeline.queue();
    let exports = counters.exports().into_iter();
    PipelineStats {
        queue_length: length as u64,
        queue_capacity: capacity as u64,
        exported: counters.exported_spans(),
        dropped: counters.dropped_spans(),
        exports: exports.map(|(signal, outcome, count, took)| ExportStats { signal, outcome, count, took }).collect(),
    }
}

/// The instances of the generation that serves.
pub(crate) fn pool(generation: &Generation) -> PoolStats {
    let stats = generation.pool.stats();
    PoolStats {
        generation: generation.number,
        live: stats.live as u64,
        idle: stats.idle as u64,
        memory_bytes: stats.memory,
        memory_high_water_bytes: stats.memory_high_water,
    }
}

/// Exemplars in the form in which the exporter wants them.
pub(crate) fn exemplars(series: Vec<SeriesExemplars>) -> Vec<trace::SeriesExemplars> {
    let exemplar = |exemplar: Exemplar| {
        let Exemplar { value, time, trace_id, span_id } = exemplar;
        trace::MetricExemplar { value, time, trace_id, span_id }
    };
    let series = series.into_iter().map(|series| trace::SeriesExemplars {
        service: series.service,
        metric: series.metric,
        attributes: series.attributes,
        exemplars: series.exemplars.into_iter().map(exemplar).collect(),
    });
    series.collect()
}
