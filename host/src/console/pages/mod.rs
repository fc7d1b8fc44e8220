//! The console's web pages: view models in, HTML out.
//!
//! Everything here is pure; `console::web` makes the view models and answers requests. The pages work without script:
//! what can be expanded is a `<details>`, what can be done is a form. The script adds live updates, keys and the theme.
//! Nothing is inline and nothing comes from elsewhere, so the Content-Security-Policy allows the host's own two assets
//! and no more. Positions and widths are attributes of SVG elements, since inline styles are not allowed.

pub(super) mod assets;
mod chart;
mod colour;
pub(super) mod compare;
mod curl;
mod layout;
mod login;
mod map;
pub(crate) mod model;
mod scatter;
pub(super) mod search;
pub(super) mod services;
mod span;
pub(super) mod trace;
mod traces;
pub(crate) mod tree;
pub(crate) mod units;

use maud::{Markup, html};

pub(super) use self::layout::problem;
pub(super) use self::login::login;
pub(super) use self::model::Sample;
pub(crate) use self::model::{Attribute, Kind, Span, Value, find};
#[cfg(test)]
pub(crate) use self::tree::tests as sample;
pub(crate) use self::tree::{Node, Trace};
use crate::printable::printable;

/// Text from outside on one line: escaped by the template engine, and with its control characters visible.
fn text(text: &str) -> Markup {
    html! { (printable(text).as_ref()) }
}
