//! Checks that the modules of a crate have no cyclic dependencies, so that a file can be read after the files it uses.
//!
//! A file depends on another one if its code, except tests, names an item that the other one defines: in a `use`, or by
//! a path such as `crate::a::b::C`. For a re-exported item the dependency is on the file that defines it, neither on
//! the file that re-exports it nor of that file. Macros that define modules or items are not expanded.

mod graph;
mod modules;
mod syntax;

use super::finding::Finding;
use super::source::Source;
use graph::Graph;
use modules::Modules;

/// The folders of the checked crates.
const CRATES: [&str; 6] = ["host/src/", "guest/src/", "routes/src/", "testkit/src/", "xtask/src/", "bench/src/"];

/// Dependency cycles, crate by crate, shortest first. No two of them share a dependency.
pub(crate) fn modules_have_no_import_cycles(sources: &[Source]) -> Vec<Finding> {
    CRATES.iter().flat_map(|folder| cycles_of(folder, sources)).collect()
}

fn cycles_of(folder: &str, sources: &[Source]) -> Vec<Finding> {
    let modules = Modules::read(folder, sources);
    let mut graph = Graph::new();
    for dependency in modules.dependencies() {
        graph.add(dependency.from, dependency.to, dependency.line);
    }
    graph.cycles().iter().map(|cycle| finding(folder, cycle)).collect()
}

/// A finding at the first dependency of the cycle, which names all of them in order.
fn finding(folder: &str, cycle: &[(&str, usize)]) -> Finding {
    let (first, line) = cycle[0];
    let steps: Vec<String> = cycle.iter().map(|(file, line)| format!("{file}:{line}")).collect();
    let message = format!("import cycle: {} -> {first}; move what both need to a third file", steps.join(" -> "));
    Finding { path: format!("{folder}{first}"), line, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cycles of a crate, each as its files in order.
    fn cycles(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> =
            files.iter().map(|(path, text)| Source::new(&format!("{}{path}", CRATES[0]), text)).collect();
        modules_have_no_import_cycles(&sources)
            .into_iter()
            .map(|finding| {
                let steps = finding.message.trim_start_matches("import cycle: ").split(';').next();
                steps.unwrap_or_default().to_owned()
            })
            .collect()
    }

    const LIB: (&str, &str) = ("lib.rs", "mod a;\nmod b;\nmod c;\n");

    #[test]
    fn files_that_import_each_other_are_found() {
        let found = cycles(&[LIB, ("a.rs", "use crate::b::B;\n"), ("b.rs", "\nuse super::a::A;\n")]);
        assert_eq!(found, ["a.rs:1 -> b.rs:2 -> a.rs"]);
    }

    #[test]
    fn files_of_a_binary_without_a_library_are_checked_too() {
        let main = ("main.rs", "mod a;\nmod b;\npub struct Root;\nfn main() { a::f() }\n");
        let found = cycles(&[main, ("a.rs", "use crate::b::B;\n"), ("b.rs", "use crate::a::A;\n")]);
        assert_eq!(found, ["a.rs:1 -> b.rs:1 -> a.rs"]);
        let found = cycles(&[main, ("a.rs", "use crate::Root;\n"), ("b.rs", "")]);
        assert_eq!(found, ["a.rs:1 -> main.rs:4 -> a.rs"]);
    }

    #[test]
    fn a_binary_that_uses_its_library_is_not_a_cycle() {
        let found = cycles(&[LIB, ("main.rs", "fn main() { a::f() }\n"), ("a.rs", "use crate::Root;\n")]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_chain_is_not_a_cycle() {
        let found = cycles(&[LIB, ("a.rs", "use crate::b::B;\n"), ("b.rs", "use crate::c::C;\n"), ("c.rs", "")]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_cycle_of_three_is_found() {
        let c = ("c.rs", "use crate::a::A;\n");
        let found = cycles(&[LIB, ("a.rs", "use crate::b::B;\n"), ("b.rs", "use crate::c::C;\n"), c]);
        assert_eq!(found, ["a.rs:1 -> b.rs:1 -> c.rs:1 -> a.rs"]);
    }

    #[test]
    fn two_cycles_are_two_findings() {
        let c = ("c.rs", "use crate::a::A;\n");
        let found = cycles(&[LIB, ("a.rs", "use crate::b::B;\nuse crate::c::C;\n"), ("b.rs", "use crate::a::A;\n"), c]);
        assert_eq!(found, ["a.rs:1 -> b.rs:1 -> a.rs", "a.rs:2 -> c.rs:1 -> a.rs"]);
    }

    #[test]
    fn a_path_in_code_is_an_import_too() {
        let found = cycles(&[LIB, ("a.rs", "fn f() -> crate::b::B {}\n"), ("b.rs", "fn g(a: &super::a::A) {}\n")]);
        assert_eq!(found, ["a.rs:1 -> b.rs:1 -> a.rs"]);
    }

    #[test]
    fn an_imported_module_counts_at_its_first_use() {
        let a = "use crate::b;\n\nfn f() { b::g() }\n";
        let found = cycles(&[LIB, ("a.rs", a), ("b.rs", "use crate::a::{self, f};\n")]);
        assert_eq!(found, ["a.rs:3 -> b.rs:1 -> a.rs"]);
    }

    #[test]
    fn a_re_export_resolves_to_the_file_that_defines_the_item() {
        let parent = ("a/mod.rs", "mod x;\nmod y;\npub use self::x::X;\npub(crate) use y::{Y as Z, external};\n");
        // x.rs imports what y.rs defines; if the dependency were on mod.rs, the re-exports would create a cycle.
        let found = cycles(&[LIB, parent, ("a/x.rs", "use super::Z;\n"), ("a/y.rs", "")]);
        assert!(found.is_empty(), "{found:?}");
        let found = cycles(&[LIB, parent, ("a/x.rs", "use crate::a::Z;\n"), ("a/y.rs", "use crate::a::X;\n")]);
        assert_eq!(found, ["a/x.rs:1 -> a/y.rs:1 -> a/x.rs"]);
    }

    #[test]
    fn a_parent_that_uses_a_child_that_uses_the_parent_is_found() {
        let child = ("a/x.rs", "use super::Shared;\n");
        let by_path = "mod x;\nstruct Shared;\nfn f() { x::g() }\n";
        assert_eq!(cycles(&[LIB, ("a.rs", by_path), child]), ["a.rs:3 -> a/x.rs:1 -> a.rs"]);
        let by_re_export = "mod x;\npub use x::X;\nstruct Shared;\nfn f(x: X) {}\n";
        assert_eq!(cycles(&[LIB, ("a.rs", by_re_export), child]), ["a.rs:4 -> a/x.rs:1 -> a.rs"]);
    }

    #[test]
    fn a_parent_that_only_declares_its_children_does_not_depend_on_them() {
        let parent = ("a.rs", "mod x;\npub use x::X;\npub struct Shared;\n");
        assert!(cycles(&[LIB, parent, ("a/x.rs", "use super::Shared;\n")]).is_empty());
    }

    #[test]
    fn imports_of_tests_do_not_count() {
        let tested =
            "use crate::b::B;\n#[cfg(test)]\nuse crate::c::C;\n\n#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}\n";
        let helper = "#[cfg(test)]\nfn a<A, B>() -> crate::a::A { 1 }\n";
        let found = cycles(&[LIB, ("a.rs", tested), ("b.rs", helper), ("c.rs", "use crate::a::A;\n")]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn files_of_test_modules_do_not_count() {
        let a = "#[cfg(test)]\nmod checks;\n#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;\n";
        let tests = "use crate::b::B;\n";
        let b = ("b.rs", "use crate::a::checks::A;\nuse crate::a_tests::A;\n");
        let found = cycles(&[LIB, ("a.rs", a), ("a/checks.rs", tests), ("a_tests.rs", tests), b]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn an_inline_module_belongs_to_its_file() {
        let a = "mod inner {\n    use super::super::b::B;\n    pub struct I;\n}\n";
        let found = cycles(&[LIB, ("a.rs", a), ("b.rs", "use crate::a::inner::I;\n")]);
        assert_eq!(found, ["a.rs:2 -> b.rs:1 -> a.rs"]);
    }

    #[test]
    fn a_glob_import_resolves_to_the_defining_files() {
        let parent = ("a/mod.rs", "mod x;\npub use x::*;\n");
        let x = ("a/x.rs", "pub struct X;\nuse crate::b::B;\n");
        assert_eq!(cycles(&[LIB, parent, x, ("b.rs", "use crate::a::X;\n")]), ["a/x.rs:2 -> b.rs:1 -> a/x.rs"]);
        assert_eq!(cycles(&[LIB, parent, x, ("b.rs", "use crate::a::x::*;\n")]), ["a/x.rs:2 -> b.rs:1 -> a/x.rs"]);
    }

    #[test]
    fn names_of_other_crates_and_of_local_items_are_not_modules() {
        let a = "use b::B;\nuse ::c::C;\nfn f(b: u8) { self.c::<u8>(); x.b(b); y::c::d(); }\n";
        let found = cycles(&[LIB, ("a.rs", a), ("b.rs", "use crate::a::A;\n"), ("c.rs", "use crate::a::A;\n")]);
        assert!(found.is_empty(), "{found:?}");
    }
}
