//! The printed report: a table of the contenders, and ratios with their goals.

use crate::turns::{Standing, Turn};

/// The goal of a ratio.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// No goal: the ratio is only reported.
    None,
}

/// A figure to compare, and its name.
pub(crate) type Figure = (&'static str, fn(&Turn) -> f64);

/// Requests per second.
pub(crate) const THROUGHPUT: Figure = ("throughput", |turn| turn.per_second);
/// The median latency.
pub(crate) const P50: Figure = ("p50", |turn| turn.p50.as_secs_f64());
/// The latency that 1 % of the requests exceed.
pub(crate) const P99: Figure = ("p99", |turn| turn.p99.as_secs_f64());
/// CPU time for each request.
pub(crate) const CPU: Figure = ("CPU per request", |turn| turn.user + turn.kernel);
/// CPU time of the program itself for each request. Kernel time also depends on how often the load generator sleeps.
pub(crate) const USER_CPU: Figure = ("user CPU per request", |turn| turn.user);
/// CPU time of the kernel for each request.
const KERNEL_CPU: Figure = ("kernel CPU per request", |turn| turn.kernel);

/// Prints a heading.
pub(crate) fn heading(text: &str) {
    println!("\n## {text}\n");
}

/// Prints the medians, one row for each contender.
pub(crate) fn table(standings: &[Standing]) {
    println!("| contender | requests/s | p50 | p99 | CPU/request | user | kernel | spans/request |");
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    for standing in standings {
        let median = |(_, figure): Figure| standing.median(figure);
        println!(
            "| {} | {:.0} | {} | {} | {} | {} | {} | {:.2} |",
            standing.name,
            median(THROUGHPUT),
            time(median(P50)),
            time(median(P99)),
            time(median(CPU)),
            time(median(USER_CPU)),
            time(median(KERNEL_CPU)),
            standing.spans_per_request()
        );
    }
    println!();
}

/// Prints the ratio of one figure of `ours` to that of `theirs`.
pub(crate) fn compare(ours: &Standing, theirs: &Standing, figure: Figure, goal: Goal) {
    let [lowest, median, highest] = ours.ratio(theirs, figure.1);
    println!(
        "- {} of \"{}\" to \"{}\": **{median:.2}x** ({lowest:.2} to {highest:.2} over the rounds){}",
        figure.0,
        ours.name,
        theirs.name,
        verdict(median, goal)
    );
}

fn verdict(ratio: f64, goal: Goal) -> String {
    let (sign, bound, met) = match goal {
        Goal::AtLeast(bound) => (">=", bound, ratio >= bound),
        Goal::AtMost(bound) => ("<=", bound, ratio <= bound),
        Goal::None => return String::new(),
    };
    format!("; goal {sign} {bound}x: {}", if met { "met" } else { "MISSED" })
}

/// Formats seconds with a suitable unit.
pub(crate) fn time(seconds: f64) -> String {
    match seconds {
        ..1e-3 => format!("{:.1} us", seconds * 1e6),
        ..1.0 => format!("{:.2} ms", seconds * 1e3),
        _ => format!("{seconds:.2} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_compared_with_its_goal() {
        assert!(verdict(1.0, Goal::AtLeast(1.0)).ends_with("met"));
        assert!(verdict(0.99, Goal::AtLeast(1.0)).ends_with("MISSED"));
        assert!(verdict(0.5, Goal::AtMost(0.5)).ends_with(": met"));
        assert_eq!(verdict(0.5, Goal::None), "");
    }

    #[test]
    fn times_have_a_suitable_unit() {
        assert_eq!(time(0.000_012_34), "12.3 us");
        assert_eq!(time(0.012_34), "12.34 ms");
        assert_eq!(time(1.5), "1.50 s");
    }
}
