//! The console's web pages: renders view models as HTML.
//!
//! Everything here is pure; `console::web` creates the view models and handles requests. The pages work without the
//! script: expandable parts are `<details>`, actions are forms. The script adds live updates, keyboard shortcuts and
//! the theme. Nothing is inline or from other origins, so the Content-Security-Policy allows only the host's own two
//! assets. Positions and widths are attributes of SVG elements, because inline styles are not allowed.

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
pub(crate) use self::model::{AttributeModel, Event, SpanKindModel, SpanModel, ValueModel, find};
#[cfg(test)]
pub(crate) use self::tree::tests as sample;
pub(crate) use self::tree::{TraceModel, TreeNode};
use crate::printable::printable;

/// External text on one line: escaped by the template engine, and with control characters made visible.
fn text(text: &str) -> Markup {
    html! { (printable(text).as_ref()) }
}
