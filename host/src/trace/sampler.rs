//! Sampling decisions at the start of a trace. Pure functions.

use opentelemetry::trace::TraceId;

use super::context::TraceContext;
use super::ids;
use super::settings::{RootSampler, Sampler};

impl Sampler {
    /// Whether a trace is sampled. A parent-based sampler follows the decision of the caller, including a denial
    /// without a span context (`denied`), unless the caller defers it.
    pub(super) fn samples(&self, caller: Option<&TraceContext>, denied: bool, trace_id: TraceId) -> bool {
        match caller.filter(|caller| self.parent_based && !caller.undecided) {
            Some(caller) => caller.sampled,
            None => !(self.parent_based && denied) && self.root.samples(trace_id),
        }
    }
}

impl RootSampler {
    fn samples(self, trace_id: TraceId) -> bool {
        match self {
            RootSampler::AlwaysOn => true,
            RootSampler::AlwaysOff => false,
            RootSampler::Ratio(ratio) => is_below(low_bits(trace_id), ratio),
        }
    }
}

/// Whether a finished trace is in the ratio that is kept. All hosts decide alike for a trace, independently of the
/// decision of a ratio sampler.
pub(super) fn keeps(rate: f64, trace_id: TraceId) -> bool {
    is_below(ids::mix(low_bits(trace_id)), rate)
}

/// The low half of the id, which is random for all id generators.
fn low_bits(trace_id: TraceId) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = trace_id.to_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Compares as the OpenTelemetry SDKs do, so that services in other languages sample the same traces.
fn is_below(bits: u64, ratio: f64) -> bool {
    ratio >= 1.0 || ((bits >> 1) as f64) < ratio.max(0.0) * (1_u64 << 63) as f64
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::SpanId;
    use proptest::prelude::*;

    use super::*;

    fn caller(sampled: bool) -> TraceContext {
        TraceContext::valid(TraceId::from(1_u128), SpanId::from(1_u64), sampled).unwrap()
    }

    #[test]
    fn a_ratio_sampler_samples_its_ratio() {
        let kept = (0..10_000).filter(|_| RootSampler::Ratio(0.25).samples(ids::trace_id())).count();
        assert!((2_200..2_800).contains(&kept), "{kept}");
        assert!(RootSampler::Ratio(1.0).samples(TraceId::from(u128::MAX)));
        assert!(!RootSampler::Ratio(0.0).samples(TraceId::from(1_u128 << 80)));
    }

    #[test]
    fn the_kept_ratio_does_not_depend_on_the_sampled_ratio() {
        let sampled = std::iter::repeat_with(ids::trace_id).filter(|id| RootSampler::Ratio(0.1).samples(*id));
        let kept = sampled.take(10_000).filter(|id| keeps(0.5, *id)).count();
        assert!((4_700..5_300).contains(&kept), "{kept}");
    }

    #[test]
    fn a_parent_based_sampler_follows_the_caller() {
        let id = ids::trace_id();
        let check = |root, parent_based, caller: Option<&TraceContext>, expected| {
            assert_eq!(Sampler { root, parent_based }.samples(caller, false, id), expected);
        };
        check(RootSampler::AlwaysOff, true, Some(&caller(true)), true);
        check(RootSampler::AlwaysOn, true, Some(&caller(false)), false);
        check(RootSampler::AlwaysOn, true, None, true);
        check(RootSampler::AlwaysOff, false, Some(&caller(true)), false);
        check(RootSampler::AlwaysOn, false, Some(&caller(false)), true);
        let undecided = TraceContext { undecided: true, ..caller(false) };
        check(RootSampler::AlwaysOn, true, Some(&undecided), true);
        check(RootSampler::AlwaysOff, true, Some(&undecided), false);
    }

    #[test]
    fn a_denial_without_a_span_context_is_followed_only_by_a_parent_based_sampler() {
        let denied =
            |parent_based| Sampler { root: RootSampler::AlwaysOn, parent_based }.samples(None, true, ids::trace_id());
        assert_eq!([denied(true), denied(false)], [false, true]);
    }

    proptest! {
        #[test]
        fn decisions_are_deterministic_and_a_higher_ratio_samples_a_superset(id: u128, one in 0.0..=1.0_f64, two in 0.0..=1.0_f64) {
            let samples = |ratio| RootSampler::Ratio(ratio).samples(TraceId::from(id));
            prop_assert_eq!(samples(one), samples(one));
            prop_assert!(!samples(one.min(two)) || samples(one.max(two)));
        }
    }
}
