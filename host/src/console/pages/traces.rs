//! A list of traces.

use maud::{Markup, html};

use super::colour::Colours;
use super::model::TraceRow;
use super::{text, units};

/// How many services are named per row; the others are counted.
const MAX_NAMED_SERVICES: usize = 4;

/// The list, latest first.
pub(super) fn list(rows: &[TraceRow]) -> Markup {
    let services = rows.iter().flat_map(|row| row.services.iter().map(|(name, _)| name.as_str()));
    let colours = Colours::of(services);
    let longest = rows.iter().map(|row| row.duration.as_secs_f64()).fold(1e-6, f64::max);
    html! {
        div.scroll {
            table.traces {
                thead {
                    tr {
                        th scope="col" { "When" }
                        th scope="col" { "Trace" }
                        th scope="col" { "Services" }
                        th.number scope="col" { "Spans" }
                        th.number scope="col" { "Errors" }
                        th.number scope="col" { "Duration" }
                        td.meter {}
                    }
                }
                tbody {
                    @for row in rows { (line(row, &colours, longest)) }
                }
            }
        }
    }
}

fn line(row: &TraceRow, colours: &Colours, longest: f64) -> Markup {
    let width = super::chart::round(row.duration.as_secs_f64() / longest * 100.0).max(0.8);
    html! {
        tr id={"t" (row.id)} class=[(row.errors > 0).then_some("failed")] {
            td.when { (time(row.start)) }
            td.what {
                a href={"/traces/" (row.id)} data-row {
                    span.service.(colours.class(&row.service)) { (text(&row.service)) }
                    " "
                    span.operation { (text(&row.name)) }
                }
            }
            td.services {
                @for (name, count) in row.services.iter().take(MAX_NAMED_SERVICES) {
                    span.chip.(colours.class(name)) { (text(name)) " " b { (count) } }
                }
                @if row.services.len() > MAX_NAMED_SERVICES { span.more { "+" (row.services.len() - MAX_NAMED_SERVICES) } }
            }
            td.number { (units::grouped(row.spans as u64)) }
            td.number.errors { @if row.errors > 0 { span.bad { (row.errors) } } @else { span.none { "–" } } }
            td.number { (units::duration(row.duration)) }
            td.meter {
                svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
                    rect class=(if row.errors > 0 { "failed" } else { "fill" }) y="1" height="6" width=(width) {}
                }
            }
        }
    }
}

/// A time that the script converts to local time.
pub(super) fn time(time: std::time::SystemTime) -> Markup {
    html! { time datetime=(units::timestamp(time)) title=(units::timestamp(time)) { (units::clock(time)) } }
}
