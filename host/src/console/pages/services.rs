//! The start page: the services of the host and the latest traces.

use maud::{Markup, html};

use super::layout::{ActivePage, Updates, page};
use super::model::{Sample, ServiceView, SwapView, TraceRow, VersionView};
use super::{chart, text, traces, units};

/// The view model of the page.
pub(in crate::console) struct Services {
    pub services: Vec<ServiceView>,
    pub traces: Vec<TraceRow>,
    /// Whether the host records traces.
    pub traced: bool,
    /// How many samples fill a chart, and their interval in seconds.
    pub slots: usize,
    pub interval: u64,
    /// The service whose swaps are expanded, because an action on it has just completed.
    pub opened: Option<String>,
}

/// The page.
pub(in crate::console) fn services(view: &Services) -> Markup {
    page(
        "Services",
        ActivePage::Services,
        Updates::Live,
        &html! {
            h1.sr { "Services" }
            div.cards #services data-refresh {
                @for service in &view.services { (card(service, view)) }
                @if view.services.is_empty() {
                    section.empty { h2 { "No services" } p { "The manifest contains none." } }
                }
            }
            section.recent #recent data-refresh {
                div.heading {
                    h2 { "Recent traces" }
                    @if !view.traces.is_empty() { a href="/traces" { "Search all traces" } }
                }
                @if view.traces.is_empty() { (example_requests(view)) } @else { (traces::list(&view.traces)) }
            }
        },
    )
}

/// Example requests to send, shown before the first traced request.
fn example_requests(view: &Services) -> Markup {
    html! {
        div.empty {
            @if view.traced {
                h3 { "No request has been traced yet" }
                p { "Send one; it appears here when its response has ended." }
                @for service in &view.services {
                    @for path in service.examples.iter().take(4) { (command(&format!("curl {}{path}", service.url))) }
                }
            } @else {
                h3 { "Traces are not stored" }
                p { "The host stores no traces for this page: tracing is off, or " code { "traces" } " under "
                    code { "[console]" } " is 0." }
            }
        }
    }
}

/// A command with a copy button.
pub(super) fn command(line: &str) -> Markup {
    html! {
        div.command {
            code { (text(line)) }
            button.quiet type="button" hidden data-copy=(line) { "Copy" }
        }
    }
}

fn card(service: &ServiceView, view: &Services) -> Markup {
    let id = format!("service-{}", service.name);
    html! {
        article.card id=(id) aria-labelledby={(id) "-name"} {
            header {
                h2 id={(id) "-name"} {
                    a href={"/traces?service=" (encoded(&service.name))} data-row { (text(&service.name)) }
                }
                span.state data-state=(service.state) { (text(&service.state)) }
            }
            p.where {
                a href=(service.url) { (service.url) }
                span { (text(&service.kind)) " component" }
                span { (units::grouped(service.in_flight as u64)) " in flight" }
            }
            @if service.versions.len() > 1 { (versions(&service.versions)) } @else { (figures(service)) }
            (charts(&service.samples, view))
            @if let Some(error) = &service.last_error { p.last-error { (text(error)) } }
            footer {
                (actions(service))
                (swaps(service, view.opened.as_deref() == Some(service.name.as_str())))
            }
        }
    }
}

/// A single serving version, with the statistics of the last interval that had requests.
fn figures(service: &ServiceView) -> Markup {
    let Some(version) = service.versions.first() else { return html! {} };
    let now = service.samples.last().copied().unwrap_or_default();
    let latest = service.samples.iter().rev().find(|sample| sample.rate > 0.0).copied().unwrap_or_default();
    let share = if latest.rate > 0.0 { latest.errors / latest.rate } else { 0.0 };
    html! {
        dl.figures {
            (figure("Requests/s", &units::rate(now.rate), ""))
            (figure("Errors", &units::percent(share), if share > 0.0 { "bad" } else { "" }))
            (figure("p50", &units::milliseconds(latest.p50_ms), ""))
            (figure("p99", &units::milliseconds(latest.p99_ms), ""))
        }
        p.version {
            span { "version " b { (text(&version.version)) } }
            span { "generation " b data-generation { (version.generation) } }
            (digest(&version.digest))
        }
    }
}

fn figure(name: &str, value: &str, class: &str) -> Markup {
    html! { div { dt { (name) } dd class=(class) { (value) } } }
}

/// Two versions side by side, compared over the same period.
fn versions(versions: &[VersionView]) -> Markup {
    html! {
        table.versions {
            thead {
                tr {
                    td {}
                    @for version in versions {
                        th scope="col" {
                            @match version.canary_percent {
                                Some(share) => span.canary { "canary " (share) " %" },
                                None => "serving",
                            }
                        }
                    }
                }
            }
            tbody {
                (compared("generation", versions, |version| html! { b { (version.generation) } }))
                (compared("version", versions, |version| text(&version.version)))
                (compared("digest", versions, |version| digest(&version.digest)))
                (compared("requests", versions, |version| html! { (units::grouped(version.requests)) }))
                (compared("in flight", versions, |version| html! { (version.in_flight) }))
                (compared("requests/s", versions, |version| html! { (units::rate(version.rate)) }))
                (compared("errors", versions, |version| html! {
                    span.bad[version.error_rate > 0.0] { (units::percent(version.error_rate)) }
                }))
                (compared("p50", versions, |version| html! { (units::milliseconds(version.p50_ms)) }))
                (compared("p99", versions, |version| html! { (units::milliseconds(version.p99_ms)) }))
            }
        }
    }
}

fn compared(name: &str, versions: &[VersionView], value: impl Fn(&VersionView) -> Markup) -> Markup {
    html! { tr { th scope="row" { (name) } @for version in versions { td { (value(version)) } } } }
}

/// The start of a digest, with the complete one as tooltip.
pub(super) fn digest(digest: &str) -> Markup {
    let short = digest.strip_prefix("sha256:").unwrap_or(digest);
    let short: String = short.chars().take(12).collect();
    html! { code.digest title=(digest) { (text(&short)) } }
}

fn charts(samples: &[Sample], view: &Services) -> Markup {
    let minutes = view.slots as u64 * view.interval / 60;
    html! {
        div.charts {
            figure { figcaption { "Requests" span { (minutes) " min" } } (chart::requests(samples, view.slots)) }
            figure {
                figcaption { "Latency" span { i.key-p50 {} "p50 " i.key-p99 {} "p99" } }
                (chart::latency(samples, view.slots))
            }
        }
    }
}

/// The actions for a service. Each asks for confirmation.
fn actions(service: &ServiceView) -> Markup {
    let canary = service.versions.iter().find(|version| version.canary_percent.is_some());
    html! {
        div.actions {
            @if let Some(canary) = canary {
                (action(service, "promote", "Promote", &format!("Serve all requests with generation {}", canary.generation)))
                (action(service, "abort", "Abort", &format!("Stop the canary of generation {}", canary.generation)))
            }
            @if let Some(earlier) = service.earlier {
                (action(service, "rollback", "Roll back", &format!("Roll back to generation {earlier}")))
            }
        }
    }
}

fn action(service: &ServiceView, action: &str, label: &str, question: &str) -> Markup {
    html! {
        details.confirm id={"do-" (action) "-" (service.name)} {
            summary { (label) "…" }
            form method="post" action={"/services/" (encoded(&service.name)) "/" (action)} {
                p { (question) "?" }
                button.primary { (label) span.sr { " " (text(&service.name)) } }
            }
        }
    }
}

fn swaps(service: &ServiceView, open: bool) -> Markup {
    html! {
        details.swaps id={"swaps-" (service.name)} open[open] {
            summary { "Swaps " span.count { (service.swaps.len()) } }
            @if service.swaps.is_empty() { p.none { "None since the host started." } }
            ol { @for swap in &service.swaps { (swapped(swap)) } }
        }
    }
}

fn swapped(swap: &SwapView) -> Markup {
    html! {
        li class=[swap.failed().then_some("failed")] {
            (traces::time(swap.time))
            span.outcome data-outcome=(swap.outcome) { (text(&swap.outcome.replace('_', " "))) }
            @if let Some(generation) = swap.generation { span { "generation " (generation) } }
            @if let Some(of) = &swap.digest { (digest(of)) }
            span.took { (units::duration(swap.duration)) }
            @if let Some(reason) = &swap.reason { p { (text(reason)) } }
        }
    }
}

/// Percent-encodes a text as a path segment or a query value.
pub(in crate::console) fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    pub fn version(generation: u64, canary_percent: Option<f64>) -> VersionView {
        VersionView {
            canary_percent,
            version: "1.0.0".to_owned(),
            generation,
            digest: format!("sha256:{generation:064x}"),
            in_flight: 0,
            requests: 100,
            rate: 1.0,
            error_rate: 0.0,
            p50_ms: Some(1.0),
            p99_ms: Some(2.0),
        }
    }

    pub fn service(name: &str) -> ServiceView {
        ServiceView {
            name: name.to_owned(),
            kind: "lean".to_owned(),
            url: "http://localhost:8000".to_owned(),
            state: "serving".to_owned(),
            in_flight: 0,
            versions: vec![version(2, None)],
            earlier: Some(1),
            samples: Vec::new(),
            swaps: Vec::new(),
            last_error: None,
            examples: vec!["/products".to_owned()],
        }
    }

    fn shown(service: ServiceView) -> String {
        let view = Services {
            services: vec![service],
            traces: Vec::new(),
            traced: true,
            slots: 120,
            interval: 5,
            opened: None,
        };
        services(&view).into_string()
    }

    #[test]
    fn a_page_without_traces_shows_example_requests() {
        assert!(shown(service("product-service")).contains("curl http://localhost:8000/products"));
    }

    #[test]
    fn text_from_guests_is_escaped() {
        let mut hostile = service("product-service");
        hostile.last_error = Some("<script>alert(1)</script>\u{1b}[2J".to_owned());
        let reason = Some("\"><img src=x onerror=alert(1)>".to_owned());
        let (time, duration) = (UNIX_EPOCH, Duration::ZERO);
        let outcome = "refused".to_owned();
        hostile.swaps = vec![SwapView { time, outcome, generation: None, digest: None, reason, duration }];
        hostile.examples = vec!["/<b>\u{202e}".to_owned()];
        let page = shown(hostile);
        for markup in ["<script>", "<img", "<b>\u{202e}", "\u{1b}"] {
            assert!(!page.contains(markup), "{markup}");
        }
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;␛[2J"));
    }

    #[test]
    fn a_canary_is_shown_beside_the_serving_version() {
        let mut with_canary = service("product-service");
        with_canary.versions.push(version(3, Some(10.0)));
        let page = shown(with_canary);
        for words in ["canary 10 %", "Promote", "Abort", "/services/product-service/promote"] {
            assert!(page.contains(words), "{words}");
        }
        assert!(!shown(service("product-service")).contains("Promote"));
    }

    #[test]
    fn without_an_earlier_generation_there_is_no_rollback() {
        let first = ServiceView { earlier: None, ..service("product-service") };
        assert!(!shown(first).contains("Roll back"));
    }

    #[test]
    fn names_in_urls_are_percent_encoded() {
        assert_eq!(encoded("a b/ü?&"), "a%20b%2F%C3%BC%3F%26");
    }
}
