//! The traces of a list as a scatter plot: time on the x axis, duration on a logarithmic y axis.

use std::time::{Duration, SystemTime};

use maud::{Markup, html};

use super::chart::round;
use super::model::TraceRow;
use super::units;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 150.0;
/// The margins for the axis labels: durations at the left, times at the bottom.
const MARGIN_LEFT: f64 = 64.0;
const MARGIN_BOTTOM: f64 = 18.0;

/// The ranges of the axes.
struct Scale {
    from: SystemTime,
    span: f64,
    least: f64,
    most: f64,
}

impl Scale {
    fn of(rows: &[TraceRow]) -> Option<Scale> {
        let from = rows.iter().map(|row| row.start).min()?;
        let to = rows.iter().map(|row| row.start).max()?;
        let seconds = |row: &TraceRow| row.duration.as_secs_f64().max(1e-6);
        let least = rows.iter().map(seconds).fold(f64::MAX, f64::min) * 0.7;
        let most = rows.iter().map(seconds).fold(0.0, f64::max) * 1.4;
        let span = to.duration_since(from).unwrap_or_default().as_secs_f64().max(1e-3);
        Some(Scale { from, span, least, most })
    }

    fn x(&self, time: SystemTime) -> f64 {
        let since = time.duration_since(self.from).unwrap_or_default().as_secs_f64();
        round(MARGIN_LEFT + 10.0 + since / self.span * (WIDTH - MARGIN_LEFT - 24.0))
    }

    fn y(&self, seconds: f64) -> f64 {
        let share = (seconds.max(self.least) / self.least).ln() / (self.most / self.least).ln();
        round((HEIGHT - MARGIN_BOTTOM) * (1.0 - share) + 4.0 * (2.0 * share - 1.0))
    }

    /// The grid lines: at most six round durations within the range: powers of ten, and values between them if there are few.
    fn marks(&self) -> Vec<f64> {
        let powers = || (-6..4).map(|power| 10_f64.powi(power));
        let fine: &[f64] = if self.most / self.least < 30.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let marks = powers().flat_map(|power| fine.iter().map(move |of| power * of));
        marks.filter(|mark| (self.least..self.most).contains(mark)).take(6).collect()
    }
}

/// The plot. Each point links to its trace; the list below has the same links, for keyboard use.
pub(super) fn scatter(rows: &[TraceRow]) -> Markup {
    let Some(scale) = Scale::of(rows) else { return html! {} };
    let most = rows.iter().map(|row| row.spans).max().unwrap_or(1).max(2) as f64;
    let radius = |row: &TraceRow| round(3.5 + 4.5 * (row.spans as f64).sqrt() / most.sqrt());
    html! {
        svg.scatter viewBox={"0 0 " (WIDTH) " " (HEIGHT)} role="group" aria-label="Durations over time" {
            @for mark in scale.marks() {
                line.grid x1=(MARGIN_LEFT) x2=(WIDTH) y1=(scale.y(mark)) y2=(scale.y(mark)) {}
                text.label x=(MARGIN_LEFT - 8.0) y=(scale.y(mark) + 4.0) text-anchor="end" {
                    (units::duration(Duration::from_secs_f64(mark)))
                }
            }
            line.axis x1=(MARGIN_LEFT) x2=(WIDTH) y1=(HEIGHT - MARGIN_BOTTOM) y2=(HEIGHT - MARGIN_BOTTOM) {}
            (time_label(&scale, 0.0, "start"))
            (time_label(&scale, 0.5, "middle"))
            (time_label(&scale, 1.0, "end"))
            @for row in rows {
                a href={"/traces/" (row.id)} tabindex="-1" {
                    circle.failed[row.errors > 0] cx=(scale.x(row.start)) cy=(scale.y(row.duration.as_secs_f64()))
                        r=(radius(row)) {
                        title { (super::text(&row.name)) " · " (units::duration(row.duration)) }
                    }
                }
            }
        }
    }
}

fn time_label(scale: &Scale, share: f64, anchor: &str) -> Markup {
    let time = scale.from + Duration::from_secs_f64(scale.span * share);
    let clock = units::clock(time);
    html! {
        text.label x=(round(MARGIN_LEFT + 10.0 + share * (WIDTH - MARGIN_LEFT - 24.0))) y=(HEIGHT - 3.0) text-anchor=(anchor)
            data-time=(units::timestamp(time)) { (clock.get(..8).unwrap_or(&clock)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::pages::tree::tests::{span, trace};

    #[test]
    fn every_trace_is_a_link_and_every_coordinate_is_finite() {
        let rows: Vec<_> = (0..3).map(|at| trace(vec![span(1, 0, "s", "GET /", at, at + at)]).row()).collect();
        let drawn = scatter(&rows).into_string();
        assert_eq!(drawn.matches("href=\"/traces/").count(), 3);
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
        assert_eq!(scatter(&[]).into_string(), "");
    }
}
