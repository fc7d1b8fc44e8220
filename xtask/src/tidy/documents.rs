//! Documents refer only to files that exist.

use super::finding::Finding;

/// The folders that relative paths in documents can start from.
const BASES: [&str; 7] = ["", "host/src/", "guest/src/", "routes/src/", "testkit/src/", "bench/src/", "xtask/src/"];

/// File name extensions of paths. Other words in code type, such as `text/plain`, are not paths.
const EXTENSIONS: [&str; 12] =
    ["/", ".rs", ".md", ".toml", ".wit", ".yaml", ".yml", ".sh", ".proto", ".lock", ".html", "/.ci/run"];

/// Files that a build or a run creates.
const GENERATED: [&str; 2] = ["target/", "data/"];

/// Finds paths, in backticks or as link targets, that do not exist.
pub(crate) fn refers_only_to_existing_files(document: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in prose(text) {
        let missing = paths(line).filter(|path| !BASES.iter().any(|base| exists(&format!("{base}{path}"))));
        findings.extend(missing.map(|path| Finding {
            path: document.to_owned(),
            line: number,
            message: format!("`{path}` does not exist"),
        }));
    }
    findings
}

/// The lines outside fenced code blocks, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((index + 1, line))
    })
}

fn paths(line: &str) -> impl Iterator<Item = &str> {
    let code = line.split('`').skip(1).step_by(2);
    let links = line.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ']).next());
    code.filter(|word| looks_like_a_path(word)).chain(links.filter(|link| is_local(link)))
}

fn looks_like_a_path(word: &str) -> bool {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    plain
        && is_local(word)
        && EXTENSIONS.iter().any(|extension| word.len() > extension.len() && word.ends_with(extension))
}

fn is_local(word: &str) -> bool {
    !word.is_empty()
        && !word.starts_with(['/', '.', '#'])
        && !word.contains(':')
        && !GENERATED.iter().any(|folder| word.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(text: &str) -> Vec<(usize, String)> {
        let exists = |path: &str| ["host/src/trace/", "host/src/main.rs", "LICENSE", "docs/a.md"].contains(&path);
        let findings = refers_only_to_existing_files("README.md", text, &exists);
        findings.into_iter().map(|finding| (finding.line, finding.message)).collect()
    }

    #[test]
    fn a_reference_to_a_missing_file_is_found_with_its_line() {
        assert_eq!(missing("one\nsee `host/src/gone.rs`\n"), [(2, "`host/src/gone.rs` does not exist".to_owned())]);
    }

    #[test]
    fn paths_may_be_relative_to_the_source_folders() {
        assert!(missing("| `main.rs` | `trace/` |").is_empty());
        assert_eq!(missing("| `gone/` |").len(), 1);
    }

    #[test]
    fn links_within_the_checkout_are_checked() {
        assert!(missing("[a](docs/a.md#part) [b](https://example.com/x.md) [c](#here) [LICENSE](LICENSE)").is_empty());
        assert_eq!(missing("[a](docs/b.md)").len(), 1);
    }

    #[test]
    fn media_types_commands_and_build_output_are_not_paths() {
        assert!(missing("`text/plain` `cargo xtask run` `GET /users/{id}` `target/x.rs` `/healthz/`").is_empty());
    }

    #[test]
    fn fenced_code_blocks_are_not_checked() {
        assert!(missing("```\n`gone.rs`\n```\n").is_empty());
    }
}
