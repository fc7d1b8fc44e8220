//! The limits on metrics of guests, for both kinds: custom instruments and metrics of a guest's own SDK.

/// The most instruments of one service.
pub const MAX_INSTRUMENTS: usize = 32;
/// The most series of one instrument, in addition to the overflow series.
pub const MAX_SERIES: usize = 100;
/// The most attributes of one measurement.
pub const MAX_LABELS: usize = 8;
/// The most buckets of one histogram: the default of exponential histograms in SDKs.
pub const MAX_BUCKETS: usize = 160;
/// The maximum length of names, units and attribute keys, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// The maximum length of attribute values and descriptions, in bytes.
pub const MAX_TEXT_BYTES: usize = 256;
/// The attribute of the overflow series, as OpenTelemetry specifies.
pub const OVERFLOW_ATTRIBUTE: &str = "otel.metric.overflow";
