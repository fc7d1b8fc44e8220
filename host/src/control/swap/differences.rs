//! Differences between the routes, imports and needs of the old and the new version.

use crate::component::Prepared;

/// The differences between what the new and the old version offer and need, as attributes of the swap.
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
