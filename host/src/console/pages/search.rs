//! `/traces`: the search form and its results.

use maud::{Markup, html};

use super::layout::{ActivePage, Updates, page};
use super::model::TraceRow;
use super::{scatter, text, traces, units};

/// The lookback of a search: its value in the URL, and its label.
pub(in crate::console) const LOOKBACKS: [(&str, &str); 6] = [
    ("5m", "5 minutes"),
    ("15m", "15 minutes"),
    ("1h", "1 hour"),
    ("6h", "6 hours"),
    ("24h", "1 day"),
    ("all", "all stored traces"),
];
/// Choices for the number of traces.
pub(in crate::console) const LIMITS: [usize; 4] = [20, 50, 100, 500];

/// The values of the form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::console) struct Form {
    pub service: String,
    pub operation: String,
    /// Such as `http.response.status_code=500 business.user_id="1"`.
    pub tags: String,
    pub min_duration: String,
    pub max_duration: String,
    pub errors: bool,
    pub lookback: String,
    pub limit: usize,
}

/// The view model of the page.
pub(in crate::console) struct Search {
    pub form: Form,
    /// Validation errors: the field and the message.
    pub errors: Vec<(&'static str, String)>,
    pub services: Vec<String>,
    pub operations: Vec<String>,
    pub found: Vec<TraceRow>,
    /// What the store contains and what it left out, as a sentence.
    pub note: Option<String>,
}

/// The page.
pub(in crate::console) fn search(view: &Search) -> Markup {
    page(
        "Traces",
        ActivePage::Traces,
        Updates::Live,
        &html! {
            h1.sr { "Traces" }
            (form(view))
            section #found data-refresh aria-label="Results" {
                p.summary role="status" {
                    (units::counted(view.found.len(), "trace"))
                    @if view.found.len() == view.form.limit { ", the latest" }
                    @if let Some(note) = &view.note { span.note { (note) } }
                }
                @if view.found.is_empty() {
                    div.empty {
                        h2 { "Nothing found" }
                        p { "The latest traces are stored in memory. Use a longer lookback or fewer conditions. "
                            a href="/traces?lookback=all" { "Show all traces" } }
                    }
                } @else {
                    (scatter::scatter(&view.found))
                    (traces::list(&view.found))
                }
            }
        },
    )
}

fn form(view: &Search) -> Markup {
    let Form { service, operation, tags, min_duration, max_duration, errors, lookback, limit } = &view.form;
    html! {
        form.search role="search" action="/traces" aria-label="Traces" {
            div.field { label for="service" { "Service" } (options("service", service, &view.services)) }
            div.field.wide {
                label for="operation" { "Operation" }
                input #operation name="operation" list="operations" value=(operation) placeholder="all" autocomplete="off";
                datalist #operations { @for name in &view.operations { option value=(name) {} } }
            }
            (field(view, "tags", "Tags", "http.response.status_code=500", tags))
            (field(view, "min_duration", "Min duration", "10ms", min_duration))
            (field(view, "max_duration", "Max duration", "1.5s", max_duration))
            div.field {
                label for="lookback" { "Lookback" }
                select #lookback name="lookback" {
                    @for (value, name) in LOOKBACKS { option value=(value) selected[value == lookback] { (name) } }
                }
            }
            div.field {
                label for="limit" { "Limit" }
                select #limit name="limit" {
                    @for most in LIMITS { option selected[most == *limit] { (most) } }
                }
            }
            label.check { input type="checkbox" name="errors" value="true" checked[*errors]; " Errors only" }
            button.primary { "Search" }
        }
    }
}

/// A select field with an option for all. The selected value is kept even if it is not among the options.
fn options(name: &str, chosen: &str, all: &[String]) -> Markup {
    let unknown = !chosen.is_empty() && !all.iter().any(|known| known == chosen);
    html! {
        select id=(name) name=(name) {
            option value="" { "all" }
            @if unknown { option value=(chosen) selected { (text(chosen)) } }
            @for known in all { option value=(known) selected[known == chosen] { (text(known)) } }
        }
    }
}

fn field(view: &Search, name: &'static str, label: &str, placeholder: &str, value: &str) -> Markup {
    let error = view.errors.iter().find(|(field, _)| *field == name);
    let message_id = format!("{name}-error");
    html! {
        div.field.wide[name == "tags"] {
            label for=(name) { (label) }
            input id=(name) name=(name) value=(value) placeholder=(placeholder) autocomplete="off" spellcheck="false"
                data-search[name == "tags"] aria-invalid=[error.map(|_| "true")]
                aria-describedby=[error.map(|_| message_id.as_str())];
            @if let Some((_, message)) = error { p.error id=(message_id) { (text(message)) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::pages::tree::tests::{span, trace};

    fn view() -> Search {
        let form = Form { limit: 20, ..Form::default() };
        Search { form, errors: Vec::new(), services: Vec::new(), operations: Vec::new(), found: Vec::new(), note: None }
    }

    #[test]
    fn values_of_the_form_are_kept_and_escaped() {
        let mut view = view();
        view.form.tags = "\"><script>alert(1)</script>".to_owned();
        view.form.service = "gone".to_owned();
        view.errors = vec![("tags", "`\"><script>` is not a tag".to_owned())];
        let page = search(&view).into_string();
        assert!(!page.contains("><script>"));
        assert!(page.contains("<option value=\"gone\" selected>gone</option>"));
        assert!(page.contains("aria-describedby=\"tags-error\""));
    }

    #[test]
    fn span_names_are_escaped() {
        let mut view = view();
        view.found = vec![trace(vec![span(1, 0, "<i>s</i>", "<svg onload=alert(1)>\u{1b}]0;x\u{7}", 0, 1)]).row()];
        let page = search(&view).into_string();
        assert!(!page.contains("<svg onload") && !page.contains("<i>s") && !page.contains('\u{1b}'));
        assert!(page.contains("&lt;svg onload=alert(1)&gt;␛]0;x␇"));
    }
}
