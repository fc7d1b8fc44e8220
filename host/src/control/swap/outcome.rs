//! The options of a swap, and its result.

use std::sync::Arc;
use std::time::Duration;

use crate::services::Generation;

/// Where the component of the new version comes from.
#[derive(Clone, Debug)]
pub enum ComponentSource {
    /// The file that the manifest names when the swap starts.
    File,
    /// The serving component, under the manifest's current configuration.
    Serving,
    /// Uploaded bytes.
    Bytes(Arc<[u8]>),
}

/// Options of a swap.
#[derive(Clone, Debug, Default)]
pub struct SwapOptions {
    /// Publish even if routes were removed.
    pub allow_dropped_routes: bool,
    /// Publish as a canary that serves this many of 10,000 traces.
    pub canary: Option<u32>,
}

/// Parses the share of a canary, such as `10%` or `0.5%`, into ten-thousandths.
///
/// # Errors
///
/// Returns a message that says what is wrong with `text`.
pub fn parse_share(text: &str) -> Result<u32, String> {
    match text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>() {
        Ok(percent) if percent >= 100.0 && percent.is_finite() => {
            Err(format!("a canary of {text} would serve all requests: swap without a canary, or use less than 100%"))
        }
        Ok(percent) if percent > 0.0 && percent.is_finite() => Ok((percent * 100.0).round().max(1.0) as u32),
        _ => Err(format!(
            "`{text}` is not a valid share for a canary: use more than 0 % and less than 100 %, such as 10%"
        )),
    }
}

/// A completed swap.
#[derive(Clone, Debug)]
pub struct Swapped {
    /// The generation that serves afterwards.
    pub generation: u64,
    /// The digest of its component.
    pub digest: String,
    /// Whether anything changed. The same component under the same configuration is not swapped.
    pub changed: bool,
    /// The duration of each step, in the order in which they ran.
    pub timings: Vec<(&'static str, Duration)>,
}

impl Swapped {
    /// A swap after which `generation` serves. `changed` is false if it already served before.
    pub(super) fn new(generation: &Generation, changed: bool, timings: Vec<(&'static str, Duration)>) -> Swapped {
        Swapped { generation: generation.number, digest: generation.digest().as_str().to_owned(), changed, timings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_share_is_above_0_and_below_100_percent() {
        for (text, share) in [("10%", 1000), ("0.5%", 50), ("25", 2500), ("0.001 %", 1)] {
            assert_eq!(parse_share(text), Ok(share), "{text}");
        }
        for text in ["100%", "200%", "1e9%"] {
            assert!(parse_share(text).unwrap_err().contains("all requests"), "{text}");
        }
        for text in ["0", "-1%", "lots", "", "%", "NaN", "inf%", "10%%"] {
            assert!(parse_share(text).unwrap_err().contains("not a valid share"), "{text}");
        }
    }
}
