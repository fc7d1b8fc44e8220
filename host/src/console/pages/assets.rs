//! The stylesheet, the script and the icon, and the response headers of pages.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

/// The Content-Security-Policy: only the console's own assets, and nothing inline.
pub(in crate::console) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; \
    script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

const STYLE: &str = include_str!("console.css");
const SCRIPT: &str = include_str!("console.js");
const ICON: &str = include_str!("icon.svg");

/// A hash of the assets' content, so that a browser never combines the assets of two versions of the host.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    (STYLE, SCRIPT, ICON).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
});

/// The URL of an asset, which changes with its content.
pub(super) fn path(name: &str) -> String {
    format!("/assets/{}/{name}", *VERSION)
}

/// An asset, with its content type.
pub(in crate::console) fn find(name: &str) -> Option<(&'static str, &'static str)> {
    match name {
        "console.css" => Some(("text/css; charset=utf-8", STYLE)),
        "console.js" => Some(("text/javascript; charset=utf-8", SCRIPT)),
        "icon.svg" => Some(("image/svg+xml", ICON)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_load_nothing_from_other_origins() {
        for name in ["console.css", "console.js", "icon.svg"] {
            let (_, content) = find(name).unwrap();
            let foreign = content.replace("http://www.w3.org/", "");
            assert!(!foreign.contains("://") && !foreign.contains("@import"), "{name}");
        }
    }

    #[test]
    fn the_policy_allows_no_inline_content() {
        assert!(!CONTENT_SECURITY_POLICY.contains("unsafe"));
    }
}
