//! Makes other versions of a component without building it again.

use crate::artifacts;

/// A component's bytes with a custom section appended: the same behaviour with another digest. Version 0 is the
/// component itself.
pub fn variant(package: &str, version: u8) -> Vec<u8> {
    match version {
        0 => read(package),
        _ => padded(package, &[version]),
    }
}

/// The same with this content of the section.
pub fn padded(package: &str, padding: &[u8]) -> Vec<u8> {
    with_section(read(package), padding)
}

/// Any component with a custom section of these bytes appended.
pub fn with_section(mut bytes: Vec<u8>, padding: &[u8]) -> Vec<u8> {
    let name = [1, b'v'];
    bytes.push(0);
    bytes.extend(leb128(name.len() + padding.len()));
    bytes.extend(name);
    bytes.extend(padding);
    bytes
}

/// A component's bytes with each text replaced by another of the same length: a version that answers differently.
/// Panics if the component does not contain a text.
pub fn reworded(package: &str, words: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = read(package);
    for (old, new) in words {
        assert_eq!(old.len(), new.len(), "`{old}` and `{new}` differ in length");
        let places: Vec<_> =
            bytes.windows(old.len()).enumerate().filter(|(_, at)| *at == old.as_bytes()).map(|(at, _)| at).collect();
        assert!(!places.is_empty(), "{package} does not hold `{old}`");
        for at in places {
            bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
        }
    }
    bytes
}

/// More core instances than fit into a slot.
const TOO_MANY_INSTANCES: usize = 300;

/// A component's bytes with enough additional core instances that it does not fit into a slot of the host.
pub fn without_slot(package: &str) -> Vec<u8> {
    let bytes = read(package);
    let module = core_modules(&bytes);
    let instance = [vec![0], leb128(module), vec![0]].concat();
    let instances = [leb128(TOO_MANY_INSTANCES), instance.repeat(TOO_MANY_INSTANCES)].concat();
    [bytes, section(1, EMPTY_MODULE.to_vec()), section(2, instances)].concat()
}

/// A component's bytes with a core module appended that is never instantiated. It has this number of long functions to
/// compile, which depend on `seed`.
pub fn laborious(package: &str, functions: usize, seed: u8) -> Vec<u8> {
    // i64.const, i64.xor, local.get 0, i64.mul
    let step = |number: u16| [vec![0x42], leb128(usize::from(number) * 64 + 1), vec![0x85, 0x20, 0, 0x7e]].concat();
    let steps: Vec<u8> = (0..200).flat_map(|number| step(number * 256 + u16::from(seed))).collect();
    let code = [vec![0, 0x20, 0], steps, vec![0x0b]].concat();
    let function = [leb128(code.len()), code].concat();
    let module = [
        EMPTY_MODULE.to_vec(),
        section(1, vec![1, 0x60, 1, 0x7e, 1, 0x7e]),
        section(3, [leb128(functions), vec![0; functions]].concat()),
        section(10, [leb128(functions), function.repeat(functions)].concat()),
    ];
    [read(package), section(1, module.concat())].concat()
}

/// The bytes of an empty core module, which are the header of any.
const EMPTY_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// A section of a component or a core module.
fn section(id: u8, content: Vec<u8>) -> Vec<u8> {
    [vec![id], leb128(content.len()), content].concat()
}

/// The number of core modules in a component, which is the index of the next one.
fn core_modules(component: &[u8]) -> usize {
    sections(component).iter().filter(|(id, _)| *id == 1).count()
}

/// The sections of a component with their ids.
fn sections(component: &[u8]) -> Vec<(u8, &[u8])> {
    let (mut rest, mut sections) = (&component[EMPTY_MODULE.len()..], Vec::new());
    while let Some((id, sized)) = rest.split_first() {
        let end = sized.iter().position(|byte| byte & 0x80 == 0).expect("a size") + 1;
        let size = sized[..end].iter().rev().fold(0, |size, byte| (size << 7) | usize::from(byte & 0x7f));
        sections.push((*id, &sized[end..end + size]));
        rest = &sized[end + size..];
    }
    sections
}

/// A component's bytes with other versions of its imports and exports: in names that start with `prefix`, the version
/// `from` becomes `to`. Panics if there is none.
pub fn reversioned(package: &str, prefix: &str, (from, to): (&str, &str)) -> Vec<u8> {
    const IMPORTS: u8 = 10;
    const EXPORTS: u8 = 11;
    let bytes = read(package);
    let mut renamed = bytes[..EMPTY_MODULE.len()].to_vec();
    let mut count = 0;
    for (id, content) in sections(&bytes) {
        let content = match id {
            IMPORTS | EXPORTS => rename(content, prefix, (from, to), &mut count),
            _ => content.to_vec(),
        };
        renamed.extend(section(id, content));
    }
    assert!(count > 0, "{package} has no {prefix} that ends with {from}");
    renamed
}

/// Renames the names in a section, each of which follows its length.
fn rename(content: &[u8], prefix: &str, (from, to): (&str, &str), count: &mut usize) -> Vec<u8> {
    let (mut renamed, mut rest) = (Vec::new(), content);
    while let Some((first, after)) = rest.split_first() {
        let name = after.get(..usize::from(*first)).and_then(|name| std::str::from_utf8(name).ok());
        match name.filter(|name| name.starts_with(prefix)).and_then(|name| Some((name, name.strip_suffix(from)?))) {
            Some((name, kept)) => {
                renamed.extend(leb128(kept.len() + to.len()));
                renamed.extend(kept.bytes().chain(to.bytes()));
                rest = &after[name.len()..];
                *count += 1;
            }
            None => {
                renamed.push(*first);
                rest = after;
            }
        }
    }
    renamed
}

fn read(package: &str) -> Vec<u8> {
    std::fs::read(artifacts::component(package)).expect("the component can be read")
}

fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
