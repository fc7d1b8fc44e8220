//! Random trace and span ids. The low 56 bits of a trace id are random, as W3C Trace Context Level 2 requires.

use opentelemetry::trace::{SpanId, TraceId};

pub(super) fn trace_id() -> TraceId {
    loop {
        let id = TraceId::from(fastrand::u128(..));
        if id != TraceId::INVALID {
            return id;
        }
    }
}

pub(super) fn span_id() -> SpanId {
    loop {
        let id = SpanId::from(fastrand::u64(..));
        if id != SpanId::INVALID {
            return id;
        }
    }
}

/// A hash of a trace id, evenly distributed and the same on every host. The whole id is hashed, because some clients
/// randomize only part of it.
pub(crate) fn trace_hash(trace: TraceId) -> u64 {
    let id = u128::from_be_bytes(trace.to_bytes());
    let folded = (id as u64) ^ ((id >> 64) as u64).rotate_left(32);
    mix(folded)
}

/// The finalizer of SplitMix64: every input bit affects every output bit.
pub(super) fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
