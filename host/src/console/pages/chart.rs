//! Small charts of the last minutes, as SVG.

use maud::{Markup, html};

use super::model::Sample;
use super::units;

/// The size in SVG user units; the page scales it.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 40.0;

/// Requests per interval as bars, with the failed ones at the bottom.
pub(super) fn requests(samples: &[Sample], slots: usize) -> Markup {
    let most = samples.iter().map(|sample| sample.rate).fold(1.0, f64::max);
    let step = WIDTH / slots.max(1) as f64;
    let first = slots.saturating_sub(samples.len());
    let height = |rate: f64| if rate > 0.0 { (rate / most * (HEIGHT - 2.0)).max(1.0) } else { 0.0 };
    let last = samples.last().copied().unwrap_or_default();
    let label = format!("Requests per second: {} now, {} at most", units::rate(last.rate), units::rate(most));
    html! {
        svg.chart viewBox={"0 0 " (WIDTH) " " (HEIGHT)} preserveAspectRatio="none" role="img" aria-label=(label) {
            line.axis x1="0" x2=(WIDTH) y1=(HEIGHT - 0.5) y2=(HEIGHT - 0.5) {}
            @for (at, sample) in samples.iter().enumerate().filter(|(_, sample)| sample.rate > 0.0) {
                @let x = (first + at) as f64 * step;
                (bar("bar", x, step, height(sample.rate)))
                (bar("bar failed", x, step, height(sample.errors)))
            }
        }
    }
}

fn bar(class: &str, x: f64, step: f64, height: f64) -> Markup {
    let (x, y, width) = (round(x + step * 0.1), round(HEIGHT - height), round(step * 0.8));
    html! {
        @if height > 0.0 { rect class=(class) x=(x) y=(y) width=(width) height=(round(height)) {} }
    }
}

/// The median and the 99th percentile as lines, on a logarithmic scale.
pub(super) fn latency(samples: &[Sample], slots: usize) -> Markup {
    let measured: Vec<_> = samples.iter().flat_map(|sample| [sample.p50_ms, sample.p99_ms]).flatten().collect();
    let most = measured.iter().copied().fold(0.1, f64::max) * 1.2;
    let least = (measured.iter().copied().fold(most, f64::min) * 0.8).max(0.01);
    let y = |value: f64| HEIGHT - (value.max(least) / least).ln() / (most / least).ln() * (HEIGHT - 3.0) - 1.5;
    let last = samples.iter().rev().find(|sample| sample.p99_ms.is_some()).copied().unwrap_or_default();
    let label = format!(
        "Latency: median {}, 99th percentile {}",
        units::milliseconds(last.p50_ms),
        units::milliseconds(last.p99_ms)
    );
    html! {
        svg.chart viewBox={"0 0 " (WIDTH) " " (HEIGHT)} preserveAspectRatio="none" role="img" aria-label=(label) {
            line.axis x1="0" x2=(WIDTH) y1=(HEIGHT - 0.5) y2=(HEIGHT - 0.5) {}
            path.line.p99 d=(path(samples, slots, |sample| sample.p99_ms.map(y))) {}
            path.line.p50 d=(path(samples, slots, |sample| sample.p50_ms.map(y))) {}
        }
    }
}

/// A line that is interrupted where there are no samples. A single sample is drawn as a short line.
fn path(samples: &[Sample], slots: usize, height: impl Fn(&Sample) -> Option<f64>) -> String {
    let step = WIDTH / slots.max(1) as f64;
    let first = slots.saturating_sub(samples.len());
    let mut path = String::new();
    let mut broken = true;
    for (at, sample) in samples.iter().enumerate() {
        let Some(y) = height(sample).map(round) else {
            broken = true;
            continue;
        };
        let x = (first + at) as f64 * step;
        let command = if broken { 'M' } else { 'L' };
        path.push_str(&format!("{command}{} {y}H{}", round(x), round(x + step)));
        broken = false;
    }
    path
}

pub(super) fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_sample_is_drawn_at_the_right() {
        let sample = Sample { rate: 10.0, errors: 5.0, p50_ms: Some(1.0), p99_ms: Some(4.0) };
        let drawn = requests(&[sample], 10).into_string();
        assert!(drawn.contains("x=\"273\"") && drawn.contains("bar failed"), "{drawn}");
    }

    #[test]
    fn a_line_is_interrupted_where_samples_have_no_value() {
        let measured = Sample { p50_ms: Some(1.0), ..Sample::default() };
        let drawn = path(&[measured, Sample::default(), measured], 3, |sample| sample.p50_ms);
        assert_eq!(drawn, "M0 1H100M200 1H300");
    }

    #[test]
    fn charts_without_samples_are_empty() {
        assert!(!requests(&[], 10).into_string().contains("NaN"));
        assert!(!latency(&[Sample::default()], 10).into_string().contains("NaN"));
    }
}
