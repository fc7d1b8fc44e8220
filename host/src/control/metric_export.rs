//! Periodic export of metrics. Their data sources are connected at the start.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::handle::Control;
use super::observe;

impl Control {
    /// Connects the observable metrics to their data sources.
    pub(crate) fn observe_metrics(&self) {
        let pipeline = self.pipeline.clone();
        self.builder.metrics().observe_pipeline(move || observe::pipeline(&pipeline));
        self.pipeline.counters().on_export(self.builder.metrics().exports());
        let pipeline = self.pipeline.clone();
        self.builder.metrics().observe_guests(move || pipeline.guest_metrics());
        let engine = self.builder.engine().clone();
        self.builder.metrics().observe_instances(move || engine.instances());
        if let Some(cache) = self.builder.engine().code_cache() {
            self.builder.metrics().observe_code_cache(cache);
        }
        let state = self.builder.state().clone();
        self.builder.metrics().observe_state_failures(move || state.failures());
    }

    /// Exports the current metrics once.
    pub(crate) async fn export_metrics(&self) {
        let metrics = self.builder.metrics();
        let (mut collected, exemplars) = (metrics.collect(), metrics.exemplars());
        collected.extend(metrics.collect_retired());
        self.pipeline.export_metrics(collected, exemplars).await;
    }
}

/// Exports the metrics at the configured interval.
pub(crate) async fn export_periodically(control: Arc<Control>) {
    let interval = control.config.load().telemetry.metric_export_interval;
    let mut ticks = export_ticks(interval);
    loop {
        ticks.tick().await;
        control.export_metrics().await;
    }
}

/// The ticks of the export. Ticks that pass during an export are skipped.
fn export_ticks(interval: Duration) -> Interval {
    let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn missed_ticks_are_skipped() {
        const INTERVAL: Duration = Duration::from_millis(20);
        let mut ticks = export_ticks(INTERVAL);
        ticks.tick().await;
        let began = Instant::now();
        // An export that takes ten intervals.
        while began.elapsed() < 10 * INTERVAL {
            std::hint::spin_loop();
        }
        // One immediate export, and two that are an interval apart.
        for _ in 0..3 {
            ticks.tick().await;
        }
        assert!(began.elapsed() >= 11 * INTERVAL, "{:?}", began.elapsed());
    }
}
