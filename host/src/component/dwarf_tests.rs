//! Tests with valid, forged and corrupt DWARF.

use gimli::{EndianSlice, LittleEndian, SectionId};
use proptest::prelude::*;

use super::{BudgetExhausted, Dwarf, Location, ReadBudget, find};

/// The abbreviations of all units in these tests.
const ABBREVIATIONS: &[&[u8]] = &[
    // 1: a unit with line table, compilation directory and address range.
    &[1, 0x11, 1, 0x10, 0x17, 0x1b, 0x08, 0x11, 0x01, 0x12, 0x06, 0, 0],
    // 2: a function with its own name.
    &[2, 0x2e, 1, 0x03, 0x08, 0x11, 0x01, 0x12, 0x06, 0, 0],
    // 3: an inlined function: origin in the unit, address range, file and line of the call.
    &[3, 0x1d, 1, 0x31, 0x13, 0x11, 0x01, 0x12, 0x06, 0x58, 0x0b, 0x59, 0x0b, 0, 0],
    // 4: the same with its origin anywhere in the section.
    &[4, 0x1d, 1, 0x31, 0x10, 0x11, 0x01, 0x12, 0x06, 0x58, 0x0b, 0x59, 0x0b, 0, 0],
    // 5: a function without instructions, with both names.
    &[5, 0x2e, 0, 0x03, 0x08, 0x6e, 0x08, 0, 0],
    // 6: an inlined function without attributes.
    &[6, 0x1d, 1, 0, 0],
    // 7: a function whose addresses are in a range list.
    &[7, 0x2e, 0, 0x55, 0x17, 0, 0],
    // 8: a block.
    &[8, 0x0b, 1, 0, 0],
    // 9: a function whose name is in another entry.
    &[9, 0x2e, 0, 0x47, 0x13, 0, 0],
];

#[derive(Clone, Debug, Default)]
pub(in crate::component) struct Sections {
    abbrev: Vec<u8>,
    info: Vec<u8>,
    line: Vec<u8>,
    ranges: Vec<u8>,
}

impl Sections {
    /// One unit with these entries after its root.
    fn of(entries: &[u8]) -> Sections {
        let mut root = vec![4, 0, 0, 0, 0, 0, 4, 1];
        root.splice(8.., [0, 0, 0, 0]);
        root.extend(b"/shop\0");
        root.extend(extent(0, 1000));
        root.extend(entries);
        root.push(0);
        let mut abbrev = ABBREVIATIONS.concat();
        abbrev.push(0);
        Sections { abbrev, info: sized(root), line: lines(), ranges: Vec::new() }
    }

    /// The offset of the first entry after the root.
    const ENTRIES: usize = 4 + 7 + 1 + 4 + 6 + 8;

    fn one(&mut self, which: usize) -> &mut Vec<u8> {
        match which {
            0 => &mut self.abbrev,
            1 => &mut self.info,
            _ => &mut self.line,
        }
    }

    /// The sections by name.
    pub(in crate::component) fn named(&self) -> [(&'static str, &[u8]); 3] {
        [(".debug_abbrev", &self.abbrev), (".debug_info", &self.info), (".debug_line", &self.line)]
    }

    fn find(&self, addresses: &[u64], budget: u64) -> Result<Vec<Vec<Location>>, BudgetExhausted> {
        let section = |id: SectionId| -> Result<_, gimli::Error> {
            let bytes = match id {
                SectionId::DebugAbbrev => self.abbrev.as_slice(),
                SectionId::DebugInfo => &self.info,
                SectionId::DebugLine => &self.line,
                SectionId::DebugRanges => &self.ranges,
                _ => &[],
            };
            Ok(EndianSlice::new(bytes, LittleEndian))
        };
        find(&Dwarf::load(section).expect("loading copies nothing"), addresses, &mut ReadBudget(budget))
    }
}

fn sized(content: Vec<u8>) -> Vec<u8> {
    let mut unit = u32::try_from(content.len()).expect("small").to_le_bytes().to_vec();
    unit.extend(content);
    unit
}

fn extent(low: u32, size: u32) -> Vec<u8> {
    [low.to_le_bytes(), size.to_le_bytes()].concat()
}

/// Addresses 0 to 99 are line 4 of `src/stock.rs`, 100 to 199 line 10 of `/std/option.rs`.
fn lines() -> Vec<u8> {
    let mut head = vec![1, 1, 1, 0xfb, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1];
    head.extend(b"src\0/std\0\0");
    head.extend(b"stock.rs\0\x01\0\0option.rs\0\x02\0\0\0");
    let mut content = vec![4, 0];
    content.extend(sized(head));
    content.extend([0, 5, 2, 0, 0, 0, 0, 3, 3, 1]);
    content.extend([2, 100, 4, 2, 3, 6, 1]);
    content.extend([2, 100, 0, 1, 1]);
    sized(content)
}

fn location(function: &str, file: &str, line: u32) -> Location {
    Location { function: Some(function.to_owned()), file: file.to_owned(), line }
}

/// `reserve` at 0 to 199; inlined in it `take` from 100; inlined in that `unwrap` from 150.
pub(in crate::component) fn shop() -> Sections {
    let mut entries = b"\x05take\0_take\0".to_vec();
    let unwrap = Sections::ENTRIES + entries.len();
    entries.extend(b"\x05unwrap\0_unwrap\0");
    entries.extend(b"\x02reserve\0");
    entries.extend(extent(0, 200));
    entries.push(8);
    entries.push(3);
    entries.extend(u32::try_from(Sections::ENTRIES).expect("small").to_le_bytes());
    entries.extend(extent(100, 100));
    entries.extend([1, 44]);
    entries.push(4);
    entries.extend(u32::try_from(unwrap).expect("small").to_le_bytes());
    entries.extend(extent(150, 50));
    entries.extend([1, 33]);
    entries.extend([0, 0, 0, 0]);
    Sections::of(&entries)
}

const PLENTY: u64 = 1 << 20;

#[test]
fn each_inlined_function_has_its_location() {
    let found = shop().find(&[50, 120, 180, 999], PLENTY).expect("found");
    let option = "/std/option.rs";
    assert_eq!(found[0], [location("reserve", "/shop/src/stock.rs", 4)]);
    assert_eq!(found[1], [location("_take", option, 10), location("reserve", "/shop/src/stock.rs", 44)]);
    let third = [location("_unwrap", option, 10), location("_take", "/shop/src/stock.rs", 33)];
    assert_eq!(found[2][..2], third);
    assert_eq!(found[2][2..], [location("reserve", "/shop/src/stock.rs", 44)]);
    assert_eq!(found[3], [], "the unit says it is its own, and knows nothing of it");
}

#[test]
fn functions_may_be_nested_deeper_than_a_stack() {
    let mut entries = b"\x02reserve\0".to_vec();
    entries.extend(extent(0, 200));
    entries.resize(entries.len() + 2_000_000, 6);
    let found = Sections::of(&entries).find(&[50], u64::MAX).expect("found");
    assert_eq!(found, [[location("reserve", "/shop/src/stock.rs", 4)]]);

    let mut entries = b"\x02reserve\0".to_vec();
    entries.extend(extent(0, 200));
    for _ in 0..10_000 {
        entries.extend(b"\x03\0\0\0\0");
        entries.extend(extent(0, 200));
        entries.extend([1, 1]);
    }
    let found = Sections::of(&entries).find(&[50], u64::MAX).expect("found");
    assert!(found[0].len() < 100, "{} locations", found[0].len());
}

#[test]
fn a_name_that_refers_to_itself_is_unknown() {
    let mut entries = vec![9];
    entries.extend(u32::try_from(Sections::ENTRIES).expect("small").to_le_bytes());
    entries.extend(b"\x02reserve\0");
    entries.extend(extent(0, 200));
    entries.push(3);
    entries.extend(u32::try_from(Sections::ENTRIES).expect("small").to_le_bytes());
    entries.extend(extent(0, 200));
    entries.extend([1, 9]);
    let found = Sections::of(&entries).find(&[50], PLENTY).expect("found");
    assert_eq!(found[0][0].function, None);
    assert_eq!(found[0][1], location("reserve", "/shop/src/stock.rs", 9));
}

#[test]
fn a_long_range_list_with_many_references_exhausts_the_budget() {
    let entries = [7, 0, 0, 0, 0].repeat(100_000);
    // An empty range is skipped; two zeros end a list.
    let ranges = [1, 0, 0, 0, 1, 0, 0, 0].repeat(100_000);
    let sections = Sections { ranges, ..Sections::of(&entries) };
    assert_eq!(sections.find(&[50], 10 * PLENTY), Err(BudgetExhausted));
}

#[test]
fn texts_are_truncated() {
    let mut entries = vec![2];
    entries.resize(100_000, b'x');
    entries.push(0);
    entries.extend(extent(0, 200));
    let found = Sections::of(&entries).find(&[50], PLENTY).expect("found");
    assert_eq!(found[0][0].function.as_ref().map(String::len), Some(512));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn corrupt_debug_information_never_panics(
        changes in proptest::collection::vec((0..3usize, any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of((0..3usize, any::<prop::sample::Index>())),
        budget in 0..PLENTY,
    ) {
        let mut sections = shop();
        for (which, at, byte) in changes {
            let bytes = sections.one(which);
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some((which, at)) = cut {
            let bytes = sections.one(which);
            bytes.truncate(at.index(bytes.len()));
        }
        let found = sections.find(&[0, 50, 120, 180, u64::MAX], budget);
        prop_assert!(found.is_err() || found.is_ok_and(|found| found.len() == 5));
    }
}
