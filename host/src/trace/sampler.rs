//! Which traces are recorded, decided where they begin. Pure.

use opentelemetry::trace::TraceId;

use super::context::TraceContext;
use super::identity;
use super::settings::{RootSampler, Sampler};

impl Sampler {
    /// Whether a trace is recorded. A caller's decision holds where the sampler follows callers and this one decided,
    /// be it without naming a span (`denied`).
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

/// Whether a finished trace is among the share that is kept. Every host that sees the trace decides alike, and the
/// decision does not depend on whether a ratio sampler took the trace.
pub(super) fn keeps(rate: f64, trace_id: TraceId) -> bool {
    is_below(identity::mix(low_bits(trace_id)), rate)
}

/// The half of the id that is random wherever the id came from.
fn low_bits(trace_id: TraceId) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = trace_id.to_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// As the OpenTelemetry SDKs compare, so that services of other languages take the same traces.
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
    fn a_ratio_keeps_its_share() {
        let kept = (0..10_000).filter(|_| RootSampler::Ratio(0.25).samples(identity::trace_id())).count();
        assert!((2_200..2_800).contains(&kept), "{kept}");
        assert!(RootSampler::Ratio(1.0).samples(TraceId::from(u128::MAX)));
        assert!(!RootSampler::Ratio(0.0).samples(TraceId::from(1_u128 << 80)));
    }

    #[test]
    fn the_share_that_is_kept_does_not_depend_on_the_share_that_was_sampled() {
        let sampled = std::iter::repeat_with(identity::trace_id).filter(|id| RootSampler::Ratio(0.1).samples(*id));
        let kept = sampled.take(10_000).filter(|id| keeps(0.5, *id)).count();
        assert!((4_700..5_300).contains(&kept), "{kept}");
    }

    #[test]
    fn callers_are_followed_where_the_sampler_says_so() {
        let id = identity::trace_id();
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
    fn a_caller_without_a_span_may_deny_but_not_to_a_sampler_that_follows_nobody() {
        let denied = |parent_based| {
            Sampler { root: RootSampler::AlwaysOn, parent_based }.samples(None, true, identity::trace_id())
        };
        assert_eq!([denied(true), denied(false)], [false, true]);
    }

    proptest! {
        #[test]
        fn everybody_decides_alike_and_a_higher_ratio_takes_no_less(id: u128, one in 0.0..=1.0_f64, two in 0.0..=1.0_f64) {
            let samples = |ratio| RootSampler::Ratio(ratio).samples(TraceId::from(id));
            prop_assert_eq!(samples(one), samples(one));
            prop_assert!(!samples(one.min(two)) || samples(one.max(two)));
        }
    }
}
