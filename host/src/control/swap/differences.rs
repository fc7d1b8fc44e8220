//! How what a new version offers and needs differs from the old one.

use crate::component::Prepared;

/// How what a new version offers and needs differs from the old one's: attributes of the swap.
pub(super) fn differences(old: &Prepared, new: &Prepared) -> [(&'static str, Vec<String>); 4] {
    let missing = |from: &[String], of: &[String]| -> Vec<String> {
        of.iter().filter(|name| !from.contains(name)).cloned().collect()
    };
    [
        ("spandrel.swap.routes.dropped", old.routes().dropped_by(new.routes())),
        ("spandrel.swap.routes.added", new.routes().dropped_by(old.routes())),
        ("spandrel.swap.imports.dropped", missing(new.imports(), old.imports())),
        ("spandrel.swap.imports.added", missing(old.imports(), new.imports())),
    ]
}
