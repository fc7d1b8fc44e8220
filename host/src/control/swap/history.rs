//! The results of the last swaps of a service.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

/// The number of swaps kept per service.
const MAX_RECORDS: usize = 20;

/// A swap, rollback, promotion or abort, successful or not.
#[derive(Clone, Debug, Serialize)]
pub struct SwapRecord {
    /// The time of its end, in milliseconds since 1970-01-01.
    #[serde(rename = "time_ms", serialize_with = "milliseconds")]
    pub time: SystemTime,
    /// The outcome, as in the metric of swaps: `swapped`, `canary_started`, `rolled_back`, `promoted`, `aborted`,
    /// `refused`, `superseded`.
    pub outcome: &'static str,
    /// The generation that it concerned, if there was one.
    pub generation: Option<u64>,
    /// The digest of its component.
    pub digest: Option<String>,
    /// Why the swap failed, or why the guard rolled back.
    pub reason: Option<String>,
    /// The total duration of its steps.
    #[serde(rename = "duration_ms", serialize_with = "fractional_milliseconds")]
    pub duration: Duration,
}

impl SwapRecord {
    /// The record of a successful swap.
    pub(super) fn succeeded(outcome: &'static str, generation: u64, digest: &str, duration: Duration) -> SwapRecord {
        let (generation, digest) = (Some(generation), Some(digest.to_owned()));
        SwapRecord { time: SystemTime::now(), outcome, generation, digest, reason: None, duration }
    }

    /// The record of a swap that did not happen.
    pub(super) fn failed(outcome: &'static str, reason: &str, duration: Duration) -> SwapRecord {
        let reason = Some(reason.to_owned());
        SwapRecord { time: SystemTime::now(), outcome, generation: None, digest: None, reason, duration }
    }
}

/// The last swaps.
#[derive(Debug, Default)]
pub(super) struct SwapHistory(VecDeque<SwapRecord>);

impl SwapHistory {
    /// Adds a swap. Removes the oldest if there are too many.
    pub fn add(&mut self, record: SwapRecord) {
        self.0.push_front(record);
        self.0.truncate(MAX_RECORDS);
    }

    /// Records the reason of the latest swap.
    pub fn set_reason(&mut self, reason: &str) {
        if let Some(latest) = self.0.front_mut() {
            latest.reason = Some(reason.to_owned());
        }
    }

    /// The swaps, latest first.
    pub fn records(&self) -> Vec<SwapRecord> {
        self.0.iter().cloned().collect()
    }
}

fn milliseconds<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_u64(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn fractional_milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_swaps_are_kept() {
        let mut history = SwapHistory::default();
        for generation in 2..100 {
            history.add(SwapRecord::succeeded("swapped", generation, "sha256:00", Duration::from_millis(3)));
        }
        let records = history.records();
        assert_eq!(records.len(), MAX_RECORDS);
        assert_eq!(records[0].generation, Some(99), "the latest comes first");
    }

    #[test]
    fn a_rollback_records_its_reason() {
        let mut history = SwapHistory::default();
        history.set_reason("there is no record yet");
        history.add(SwapRecord::succeeded("rolled_back", 1, "sha256:00", Duration::ZERO));
        history.set_reason("half of the requests failed");
        let json = serde_json::to_value(history.records()).unwrap();
        assert_eq!(json[0]["reason"], "half of the requests failed");
        assert_eq!(json[0]["duration_ms"], 0.0);
    }
}
