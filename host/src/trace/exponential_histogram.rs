//! Exponential histograms of guests. SDKs lower the scale when the range of their measurements grows, which merges
//! neighbouring buckets, so histograms are compared and added at a scale that both can have.

use super::guest_limits::MAX_BUCKETS;
use super::histogram::HistogramTotals;
use super::point_error::PointError;

/// The index of the first bucket, and the counts of the buckets.
type Buckets = (i32, Vec<u64>);

/// An exponential histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExponentialHistogram {
    /// Count, sum, minimum and maximum.
    pub totals: HistogramTotals,
    /// The scale, which determines the width of the buckets.
    pub scale: i32,
    /// The number of measurements that count as zero.
    pub zero_count: u64,
    /// The largest absolute value that counts as zero.
    pub zero_threshold: f64,
    /// Positive measurements: the index of the first bucket, and the counts of the buckets.
    pub positive: (i32, Vec<u64>),
    /// Negative measurements, in the same form.
    pub negative: (i32, Vec<u64>),
}

impl ExponentialHistogram {
    /// Checks whether the histogram can be added to a series.
    pub(super) fn check(&self) -> Result<(), PointError> {
        if !self.zero_threshold.is_finite() || self.zero_threshold < 0.0 {
            return Err(PointError::ZeroThreshold);
        }
        if [&self.positive, &self.negative].iter().any(|(_, counts)| counts.len() > MAX_BUCKETS) {
            return Err(PointError::TooManyBuckets);
        }
        self.totals.check(self.positive.1.iter().chain(&self.negative.1).chain([&self.zero_count]))
    }

    /// The delta since `before`. If a bucket has decreased or the scale has increased, the instrument was reset, and the
    /// delta is the whole value.
    pub(super) fn delta_since(&self, before: &ExponentialHistogram) -> ExponentialHistogram {
        let before = before.at_scale(self.scale);
        if !self.continues(&before) {
            return self.clone();
        }
        ExponentialHistogram {
            totals: self.totals.delta_since(before.totals),
            zero_count: self.zero_count.saturating_sub(before.zero_count),
            positive: difference(&self.positive, &before.positive),
            negative: difference(&self.negative, &before.negative),
            ..*self
        }
    }

    /// Adds a delta, at the greatest scale at which the buckets are within the limit.
    pub(super) fn add(&mut self, delta: &ExponentialHistogram) {
        let mut scale = self.scale.min(delta.scale);
        // It ends at the latest when all buckets are merged into a few.
        let (positive, negative) = loop {
            let (known, delta) = (self.at_scale(scale), delta.at_scale(scale));
            match (sum(&known.positive, &delta.positive), sum(&known.negative, &delta.negative)) {
                (Some(positive), Some(negative)) => break (positive, negative),
                _ => scale = scale.saturating_sub(1),
            }
        };
        (self.scale, self.positive, self.negative) = (scale, positive, negative);
        self.totals.add(delta.totals);
        self.zero_count = self.zero_count.saturating_add(delta.zero_count);
    }

    /// The same histogram at a scale, if that is not greater than its own.
    fn at_scale(&self, scale: i32) -> ExponentialHistogram {
        let Some(steps) = u32::try_from(i64::from(self.scale) - i64::from(scale)).ok().filter(|steps| *steps > 0)
        else {
            return self.clone();
        };
        let (positive, negative) = (merged(&self.positive, steps), merged(&self.negative, steps));
        ExponentialHistogram { scale, positive, negative, ..*self }
    }

    /// Whether no bucket has decreased.
    fn continues(&self, before: &ExponentialHistogram) -> bool {
        self.scale == before.scale
            && self.zero_count >= before.zero_count
            && includes(&self.positive, &before.positive)
            && includes(&self.negative, &before.negative)
    }
}

/// The buckets at a scale that is lower by `steps`: each step merges the buckets of the indexes `2n` and `2n + 1`.
fn merged((first, counts): &Buckets, steps: u32) -> Buckets {
    // All shifts by more than the bits of an index have the same result.
    let steps = steps.min(i32::BITS - 1);
    let start = first >> steps;
    let mut merged = Vec::new();
    for (index, count) in (i64::from(*first)..).zip(counts) {
        let position = usize::try_from((index >> steps) - i64::from(start)).unwrap_or_default();
        if position == merged.len() {
            merged.push(0_u64);
        }
        if let Some(known) = merged.get_mut(position) {
            *known = known.saturating_add(*count);
        }
    }
    (start, merged)
}

/// Whether each bucket has at least the count that it has in `before`.
fn includes(now: &Buckets, before: &Buckets) -> bool {
    (i64::from(before.0)..).zip(&before.1).all(|(index, count)| count_at(now, index) >= *count)
}

/// What was counted since `before`, if `now` includes it.
fn difference(now: &Buckets, before: &Buckets) -> Buckets {
    let counts = (i64::from(now.0)..).zip(&now.1);
    (now.0, counts.map(|(index, count)| count.saturating_sub(count_at(before, index))).collect())
}

/// The sum, index by index, if it is within the limit of buckets.
fn sum(one: &Buckets, other: &Buckets) -> Option<Buckets> {
    if one.1.is_empty() {
        return Some(other.clone());
    }
    if other.1.is_empty() {
        return Some(one.clone());
    }
    let end = |buckets: &Buckets| i64::from(buckets.0) + buckets.1.len() as i64;
    let (start, end) = (one.0.min(other.0), end(one).max(end(other)));
    let length = usize::try_from(end - i64::from(start)).ok().filter(|length| *length <= MAX_BUCKETS)?;
    let indexes = (i64::from(start)..).take(length);
    Some((start, indexes.map(|index| count_at(one, index).saturating_add(count_at(other, index))).collect()))
}

/// The count of the bucket at an index.
fn count_at((first, counts): &Buckets, index: i64) -> u64 {
    let position = usize::try_from(index - i64::from(*first)).ok();
    position.and_then(|position| counts.get(position)).copied().unwrap_or(0)
}
