//! Histograms of guests with explicit bounds, and what all histograms have in common.

use super::guest_limits::MAX_BUCKETS;
use super::point_error::PointError;

/// The fields that all histograms have.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HistogramTotals {
    /// The number of measurements.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The smallest measurement.
    pub min: Option<f64>,
    /// The largest measurement.
    pub max: Option<f64>,
}

/// A histogram with explicit bounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Count, sum, minimum and maximum.
    pub totals: HistogramTotals,
    /// The upper bounds of all buckets but the last.
    pub bounds: Vec<f64>,
    /// The counts of the buckets.
    pub buckets: Vec<u64>,
}

/// The largest or smallest finite number instead of an infinite one. Sums of finite numbers overflow to infinity, and the
/// difference of infinities is NaN, which a sum would keep forever.
pub(super) fn saturated(sum: f64) -> f64 {
    sum.clamp(f64::MIN, f64::MAX)
}

impl HistogramTotals {
    /// Checks the totals against the counts of all buckets.
    pub(super) fn check<'a>(&self, counts: impl IntoIterator<Item = &'a u64>) -> Result<(), PointError> {
        if !self.sum.is_finite() {
            return Err(PointError::NotFinite);
        }
        let total = counts.into_iter().try_fold(0_u64, |total, count| total.checked_add(*count));
        if total == Some(self.count) { Ok(()) } else { Err(PointError::Count) }
    }

    pub(super) fn delta_since(self, before: HistogramTotals) -> HistogramTotals {
        HistogramTotals {
            count: self.count.saturating_sub(before.count),
            sum: saturated(self.sum - before.sum),
            ..self
        }
    }

    pub(super) fn add(&mut self, delta: HistogramTotals) {
        self.count = self.count.saturating_add(delta.count);
        self.sum = saturated(self.sum + delta.sum);
        self.min = [self.min, delta.min].into_iter().flatten().reduce(f64::min);
        self.max = [self.max, delta.max].into_iter().flatten().reduce(f64::max);
    }
}

impl Histogram {
    /// Checks whether the histogram can be added to a series.
    pub(super) fn check(&self) -> Result<(), PointError> {
        let is_ascending = self.bounds.is_sorted_by(|lower, upper| lower < upper);
        if !is_ascending || !self.bounds.iter().all(|bound| bound.is_finite()) {
            return Err(PointError::Bounds);
        }
        if self.buckets.len() != self.bounds.len() + 1 {
            return Err(PointError::BucketCount);
        }
        if self.buckets.len() > MAX_BUCKETS {
            return Err(PointError::TooManyBuckets);
        }
        self.totals.check(&self.buckets)
    }

    /// The delta since `before`. If a bucket has decreased or the bounds have changed, the instrument was reset, and the
    /// delta is the whole value.
    pub(super) fn delta_since(&self, before: &Histogram) -> Histogram {
        if !self.continues(before) {
            return self.clone();
        }
        let buckets = self.buckets.iter().zip(&before.buckets).map(|(now, before)| now.saturating_sub(*before));
        let totals = self.totals.delta_since(before.totals);
        Histogram { totals, bounds: self.bounds.clone(), buckets: buckets.collect() }
    }

    /// Adds a delta with the same bounds.
    pub(super) fn add(&mut self, delta: &Histogram) {
        self.totals.add(delta.totals);
        let buckets = self.buckets.iter_mut().zip(&delta.buckets);
        buckets.for_each(|(known, delta)| *known = known.saturating_add(*delta));
    }

    /// Whether no bucket has decreased.
    fn continues(&self, before: &Histogram) -> bool {
        self.bounds == before.bounds && self.buckets.iter().zip(&before.buckets).all(|(now, before)| now >= before)
    }
}
