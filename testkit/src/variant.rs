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

/// Core instances that are more than a slot of the host has room for.
const TOO_MANY_INSTANCES: usize = 300;

/// The same component made of so many core instances that it fits no slot of the host.
pub fn without_slot(package: &str) -> Vec<u8> {
    let bytes = read(package);
    let module = core_modules(&bytes);
    let instance = [vec![0], leb128(module), vec![0]].concat();
    let instances = [leb128(TOO_MANY_INSTANCES), instance.repeat(TOO_MANY_INSTANCES)].concat();
    [bytes, section(1, EMPTY_MODULE.to_vec()), section(2, instances)].concat()
}

/// The header of a core module, which is all that an empty one has.
const EMPTY_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// A section of a component or a core module.
fn section(id: u8, content: Vec<u8>) -> Vec<u8> {
    [vec![id], leb128(content.len()), content].concat()
}

/// How many core modules a component contains, and so the index of the next one.
fn core_modules(component: &[u8]) -> usize {
    let (mut rest, mut count) = (&component[EMPTY_MODULE.len()..], 0);
    while let Some((id, sized)) = rest.split_first() {
        let end = sized.iter().position(|byte| byte & 0x80 == 0).expect("a size") + 1;
        let size = sized[..end].iter().rev().fold(0, |size, byte| (size << 7) | usize::from(byte & 0x7f));
        count += usize::from(*id == 1);
        rest = &sized[end + size..];
    }
    count
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
