//! The export of metrics: what they read is connected at the start, then they leave at an interval.

use std::sync::Arc;

use super::handle::Control;
use super::observe;

impl Control {
    /// Lets metrics read the figures that others keep.
    pub(crate) fn observe(&self) {
        let pipeline = self.pipeline.clone();
        self.builder.metrics().observe_pipeline(move || observe::pipeline(&pipeline));
        self.pipeline.counters().on_export(self.builder.metrics().exports());
        let engine = self.builder.engine().clone();
        self.builder.metrics().observe_instances(move || engine.instances());
    }

    /// Sends the current metrics once.
    pub(crate) async fn export_metrics(&self) {
        let metrics = self.builder.metrics();
        let (mut collected, exemplars) = (metrics.collect(), metrics.exemplars());
        collected.extend(metrics.collect_retired());
        self.pipeline.export_metrics(collected, observe::exemplars(exemplars)).await;
    }
}

/// Sends the metrics at the interval that the settings name.
pub(crate) async fn export_periodically(control: Arc<Control>) {
    let interval = control.config.load().telemetry.metric_export_interval;
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    loop {
        ticks.tick().await;
        control.export_metrics().await;
    }
}
