//! Checks that `docs/manifest.md` lists exactly the keys of the parser, and that its examples are valid.

use std::collections::BTreeSet;
use std::fs;

use super::*;

const REFERENCE: &str = include_str!("../../../docs/manifest.md");
const SERVICE: &str = "[[service]]\nname = \"a\"\ncomponent = \"a.wasm\"\nlisten = \"127.0.0.1:1\"\n";

type Keys = BTreeSet<String>;

/// The sources of the module `config`, without its tests.
fn sources() -> String {
    let files = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config")).unwrap();
    let paths = files.map(|file| file.unwrap().path()).filter(|path| path.is_file());
    let own = paths.filter(|path| !path.to_string_lossy().ends_with("_tests.rs"));
    own.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// The keys of each table in the parser.
fn parsed() -> BTreeSet<Keys> {
    let sources = sources();
    let lists = sources.split(".allow_keys(&[").skip(1).filter_map(|rest| rest.split(']').next());
    lists.map(|list| list.split('"').skip(1).step_by(2).map(str::to_owned).collect()).collect()
}

/// The keys of each table in the reference.
fn documented() -> BTreeSet<Keys> {
    let mut tables = BTreeSet::new();
    let mut lines = REFERENCE.lines();
    while lines.any(|line| line.starts_with("| key |")) {
        tables.insert(lines.by_ref().take_while(|line| line.starts_with('|')).filter_map(key).collect());
    }
    tables
}

/// The key of a row. The key of a nested table is the last part of its header.
fn key(row: &str) -> Option<String> {
    let header = row.split('`').nth(1)?;
    header.trim_matches(['[', ']']).rsplit('.').next().map(str::to_owned)
}

#[test]
fn the_reference_lists_the_keys_of_every_table_and_no_others() {
    let (parsed, documented) = (parsed(), documented());
    assert!(parsed.len() >= 10, "{parsed:?}");
    let unknown: Vec<_> = documented.difference(&parsed).collect();
    let missing: Vec<_> = parsed.difference(&documented).collect();
    assert!(unknown.is_empty() && missing.is_empty(), "only documented: {unknown:?}; only parsed: {missing:?}");
}

#[test]
fn the_examples_of_the_reference_are_valid() {
    let manifest = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../services.toml"));
    let examples: Vec<_> = REFERENCE.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 10, "{}", examples.len());
    for example in examples {
        let of_service = example.starts_with("[service.") || example.starts_with("[[service.");
        let text = if of_service { format!("{SERVICE}{example}") } else { example.to_owned() };
        let error = read(&text, manifest, &Environment::default()).err();
        assert_eq!(error.map(|error| error.to_string()), None, "{example}");
    }
}
