//! The common layout of all pages: head, navigation, help.

use maud::{DOCTYPE, Markup, html};

use super::{assets, text};

/// The current page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::console) enum ActivePage {
    Services,
    Traces,
    Other,
}

/// Whether a page follows changes on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Updates {
    Live,
    Fixed,
}

/// A complete page around its main part.
pub(super) fn page(title: &str, here: ActivePage, updates: Updates, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (text(title)) " · Spandrel" }
                link rel="icon" type="image/svg+xml" href=(assets::path("icon.svg"));
                link rel="stylesheet" href=(assets::path("console.css"));
                script src=(assets::path("console.js")) {}
            }
            body data-live[updates == Updates::Live] {
                a.skip href="#main" { "Skip to content" }
                (header(here, updates))
                main #main tabindex="-1" { (main) }
                (help())
            }
        }
    }
}

fn header(here: ActivePage, updates: Updates) -> Markup {
    let current = |page: ActivePage| (here == page).then_some("page");
    html! {
        header.top {
            a.brand href="/" aria-label="Spandrel" {
                svg viewBox="0 0 32 32" width="20" height="20" aria-hidden="true" {
                    path d="M2 4h28v24h-4C26 18 21 12 16 12S6 18 6 28H2z" {}
                }
                span { "Spandrel" }
            }
            nav aria-label="Pages" {
                a href="/" aria-current=[current(ActivePage::Services)] { "Services" }
                a href="/traces" aria-current=[current(ActivePage::Traces)] { "Traces" }
            }
            div.tools {
                @if updates == Updates::Live {
                    button.live type="button" data-pause hidden aria-pressed="true" { span.dot {} span { "Live" } }
                }
                button.quiet type="button" data-help hidden aria-label="Keyboard shortcuts" { "?" }
                button.quiet type="button" data-theme-toggle hidden aria-label="Switch between light and dark" { "◐" }
            }
        }
    }
}

fn help() -> Markup {
    let keys = [
        ("j / k", "next, previous row"),
        ("Enter", "open or expand"),
        ("← / →", "collapse, expand a subtree"),
        ("e", "next error"),
        ("/", "search"),
        ("g s / g t", "services, traces"),
        ("Esc", "close a menu, leave a field"),
        ("?", "this help"),
    ];
    html! {
        dialog #help aria-labelledby="help-title" {
            h2 #help-title { "Keyboard" }
            dl.keys {
                @for (key, what) in keys {
                    dt { kbd { (key) } }
                    dd { (what) }
                }
            }
            form method="dialog" { button { "Close" } }
        }
    }
}

/// An error page.
pub(in crate::console) fn problem(title: &str, detail: &str) -> Markup {
    page(
        title,
        ActivePage::Other,
        Updates::Fixed,
        &html! {
            section.empty {
                h1 { (text(title)) }
                p { (text(detail)) }
                p { a href="/" { "Services" } " · " a href="/traces" { "Traces" } }
            }
        },
    )
}
