//! Resolves instruction addresses to source locations with untrusted DWARF.
//!
//! The debug information is part of the component and may be forged, for example with functions nested deeper than the
//! call stack allows, or with one long list that a million entries refer to. This module therefore has no recursion
//! whose depth depends on the input and keeps nothing that grows with it. Every entry, attribute, range and row is
//! charged to a finite [`ReadBudget`].

use std::sync::Arc;

use gimli::constants as dw;
use gimli::{
    Abbreviation, AttributeValue, EndianSlice, EntriesRaw, LittleEndian, Reader, Section, SectionId, UnitHeader,
};

use super::dwarf_budget::ReadError;
pub(super) use super::dwarf_budget::{BudgetExhausted, ReadBudget};

type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Value<'a> = AttributeValue<Slice<'a>>;
/// The sections with debug information.
pub(super) type Dwarf<'a> = gimli::Dwarf<Slice<'a>>;

/// The sections that are read.
pub(super) const SECTIONS: [SectionId; 9] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
];

/// The most nested inlined functions at one instruction.
const MAX_INLINED: usize = 64;
/// The most references that are followed from a function's entry to the entry with its name.
const MAX_NAME_REFERENCES: usize = 16;
/// The most bytes of a name or of a path component.
const MAX_TEXT: usize = 512;
/// The most entries and attributes of a unit's abbreviation table.
const MAX_ABBREVIATIONS: u64 = 256 << 10;
/// The most bytes of a unit's line table, and of its header, which lists the files.
const MAX_LINE_TABLE: u64 = 8 << 20;
const MAX_LINE_TABLE_HEADER: u64 = 1 << 20;

/// A function and a position in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Its name, if the debug information has one.
    pub function: Option<String>,
    /// The path of the file.
    pub file: String,
    /// The line, from 1; 0 if unknown.
    pub line: u32,
}

/// The locations of instruction addresses: for each address, the innermost inlined function first and the function that
/// contains it last; empty if unknown.
pub(super) fn find(
    dwarf: &Dwarf<'_>,
    addresses: &[u64],
    budget: &mut ReadBudget,
) -> Result<Vec<Vec<Location>>, BudgetExhausted> {
    let mut found = vec![Vec::new(); addresses.len()];
    let mut headers = dwarf.units();
    while let Ok(Some(header)) = headers.next() {
        let read = Unit::open(dwarf, header, budget).and_then(|unit| unit.find(addresses, &mut found, budget));
        if let Err(ReadError::BudgetExhausted) = read {
            budget.0 = 0;
            return Err(BudgetExhausted);
        }
    }
    Ok(found)
}

/// A compilation unit.
struct Unit<'a> {
    dwarf: &'a Dwarf<'a>,
    unit: gimli::Unit<Slice<'a>>,
    /// The addresses of the unit.
    ranges: AddressRanges<'a>,
    comp_dir: Option<Value<'a>>,
    lines: Option<gimli::DebugLineOffset>,
}

impl<'a> Unit<'a> {
    fn open(
        dwarf: &'a Dwarf<'a>,
        header: UnitHeader<Slice<'a>>,
        budget: &mut ReadBudget,
    ) -> Result<Unit<'a>, ReadError> {
        let encoding = header.encoding();
        let abbreviations = abbreviations(dwarf, &header, budget)?;
        let mut entries = header.entries_raw(&abbreviations, None)?;
        let root = entries.read_abbreviation()?.ok_or(ReadError::Malformed)?;
        budget.spend(root.attributes().len() as u64)?;
        let file_type = dwarf.file_type;
        let mut unit = gimli::Unit {
            header,
            abbreviations: abbreviations.clone(),
            name: None,
            comp_dir: None,
            low_pc: 0,
            str_offsets_base: gimli::DebugStrOffsetsBase::default_for_encoding_and_file(encoding, file_type),
            addr_base: gimli::DebugAddrBase(0),
            loclists_base: gimli::DebugLocListsBase::default_for_encoding_and_file(encoding, file_type),
            rnglists_base: gimli::DebugRngListsBase::default_for_encoding_and_file(encoding, file_type),
            line_program: None,
            dwo_id: None,
        };
        let (mut ranges, mut comp_dir, mut lines) = (AddressRanges::default(), None, None);
        for attribute in root.attributes() {
            let attribute = entries.read_attribute(*attribute)?;
            match (attribute.name(), attribute.value()) {
                (dw::DW_AT_comp_dir, value) => comp_dir = Some(value),
                (dw::DW_AT_stmt_list, AttributeValue::DebugLineRef(offset)) => lines = Some(offset),
                (_, AttributeValue::DebugStrOffsetsBase(base)) => unit.str_offsets_base = base,
                (_, AttributeValue::DebugAddrBase(base)) => unit.addr_base = base,
                (_, AttributeValue::DebugRngListsBase(base)) => unit.rnglists_base = base,
                (name, value) => ranges.take(name, value),
            }
        }
        if let Some(low) = ranges.low {
            unit.low_pc = dwarf.attr_address(&unit, low)?.unwrap_or(0);
        }
        Ok(Unit { dwarf, unit, ranges, comp_dir, lines })
    }

    /// Adds the locations of those addresses that have none yet and belong to this unit.
    fn find(&self, addresses: &[u64], found: &mut [Vec<Location>], budget: &mut ReadBudget) -> Result<(), ReadError> {
        let wanted = |index: &usize| found.get(*index).is_some_and(Vec::is_empty);
        let mut chains: Vec<InlineChain<'a>> =
            (0..addresses.len()).filter(wanted).map(|index| InlineChain::new(index, addresses[index])).collect();
        if !self.ranges.is_unknown() {
            let mut is_covered = vec![false; chains.len()];
            self.ranges.mark_covered(self, chains.iter().map(|chain| chain.address), &mut is_covered, budget)?;
            let mut is_covered = is_covered.into_iter();
            chains.retain(|_| is_covered.next() == Some(true));
        }
        if chains.is_empty() {
            return Ok(());
        }
        let functions = self.functions(&mut chains, budget);
        if let Err(ReadError::BudgetExhausted) = functions {
            return functions;
        }
        self.locations(&chains, found, budget)
    }

    /// Finds the functions that contain the addresses, and the functions inlined there.
    fn functions(&self, chains: &mut [InlineChain<'a>], budget: &mut ReadBudget) -> Result<(), ReadError> {
        budget.spend(self.unit.header.length_including_self() as u64 / 16)?;
        let mut entries = self.unit.header.entries_raw(&self.unit.abbreviations, None)?;
        let mut covered = vec![false; chains.len()];
        while !entries.is_empty() {
            let depth = entries.next_depth();
            let Some(kind) = self.read_entry(&mut entries, budget)? else { continue };
            let inlined = kind.tag() == dw::DW_TAG_inlined_subroutine;
            if !inlined && kind.tag() != dw::DW_TAG_subprogram {
                entries.skip_attributes(kind.attributes())?;
                continue;
            }
            let function = Function::read(&mut entries, kind)?;
            covered.fill(false);
            function.ranges.mark_covered(self, chains.iter().map(|chain| chain.address), &mut covered, budget)?;
            for (chain, _) in chains.iter_mut().zip(&covered).filter(|(_, covered)| **covered) {
                chain.push(depth, inlined, function.clone());
            }
        }
        Ok(())
    }

    fn read_entry<'b>(
        &self,
        entries: &mut EntriesRaw<'b, Slice<'a>>,
        budget: &mut ReadBudget,
    ) -> Result<Option<&'b Abbreviation>, ReadError> {
        let kind = entries.read_abbreviation()?;
        budget.spend(1 + kind.map_or(0, |kind| kind.attributes().len() as u64))?;
        Ok(kind)
    }

    /// Adds the locations of the chains, if the unit has a line table.
    fn locations(
        &self,
        chains: &[InlineChain<'a>],
        found: &mut [Vec<Location>],
        budget: &mut ReadBudget,
    ) -> Result<(), ReadError> {
        let Some(program) = self.line_program(budget)? else { return Ok(()) };
        let mut rows = program.rows();
        let mut nearest = vec![None; chains.len()];
        let mut previous: Option<(u64, u64, u32)> = None;
        while let Some((_, row)) = rows.next_row()? {
            budget.spend(1 + chains.len() as u64 / 8)?;
            if let Some((address, file, line)) = previous {
                let here = address..row.address();
                for (chain, nearest) in chains.iter().zip(&mut nearest) {
                    if here.contains(&chain.address) {
                        *nearest = Some((file, line));
                    }
                }
            }
            let line = row.line().map_or(0, |line| u32::try_from(line.get()).unwrap_or(0));
            previous = (!row.end_sequence()).then(|| (row.address(), row.file_index(), line));
        }
        let header = rows.header();
        for (chain, nearest) in chains.iter().zip(nearest) {
            // The location of an inlined function may be unknown; that of its call site is still used.
            let mut at = nearest;
            let mut locations = Vec::new();
            let location = |function, (file, line)| Some(Location { function, file: self.file(header, file)?, line });
            for (_, function) in chain.functions.iter().rev() {
                let name = function.name(self, MAX_NAME_REFERENCES, budget)?;
                locations.extend(at.and_then(|at| location(name, at)));
                at = Some(function.called_at);
            }
            if chain.functions.is_empty() {
                locations.extend(at.and_then(|at| location(None, at)));
            }
            if let Some(slot) = found.get_mut(chain.index) {
                *slot = locations;
            }
        }
        Ok(())
    }

    fn line_program(
        &self,
        budget: &mut ReadBudget,
    ) -> Result<Option<gimli::IncompleteLineProgram<Slice<'a>>>, ReadError> {
        let Some(offset) = self.lines else { return Ok(None) };
        let mut start = section_from(&self.dwarf.debug_line, offset.0)?;
        let (length, format) = start.read_initial_length()?;
        let version = start.read_u16()?;
        if version >= 5 {
            // The sizes of an address and of a segment selector.
            start.read_u16()?;
        }
        let head = start.read_word(format)?;
        if length as u64 > MAX_LINE_TABLE || head as u64 > MAX_LINE_TABLE_HEADER {
            return Err(ReadError::Malformed);
        }
        budget.spend(length as u64 / 4)?;
        Ok(Some(self.dwarf.debug_line.program(offset, self.unit.header.address_size(), None, None)?))
    }

    /// The path of a file in the line table.
    fn file(&self, header: &gimli::LineProgramHeader<Slice<'a>>, index: u64) -> Option<String> {
        let file = header.file(index)?;
        let directory = file.directory(header).filter(|_| file.directory_index() != 0);
        let mut path = String::new();
        for part in [self.comp_dir, directory, Some(file.path_name())].into_iter().flatten() {
            let part = self.text(part)?;
            if is_absolute(&part) {
                path.clear();
            } else if !path.is_empty() && !path.ends_with('/') {
                path.push('/');
            }
            path.push_str(&part);
        }
        Some(path)
    }

    /// The text of an attribute, from its section if it is a reference. Truncated to [`MAX_TEXT`].
    fn text(&self, value: Value<'a>) -> Option<String> {
        let dwarf = self.dwarf;
        let debug_str = |offset: gimli::DebugStrOffset| section_from(&dwarf.debug_str, offset.0).ok();
        let text = match value {
            AttributeValue::String(text) => text,
            AttributeValue::DebugStrRef(offset) => debug_str(offset)?,
            AttributeValue::DebugLineStrRef(offset) => section_from(&dwarf.debug_line_str, offset.0).ok()?,
            AttributeValue::DebugStrOffsetsIndex(index) => {
                let (format, base) = (self.unit.header.format(), self.unit.str_offsets_base);
                debug_str(dwarf.debug_str_offsets.get_str_offset(format, base, index).ok()?)?
            }
            _ => return None,
        };
        let text = text.slice().split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(text.get(..MAX_TEXT).unwrap_or(text)).into_owned())
    }
}

/// The functions that contain an address.
struct InlineChain<'a> {
    /// The index of the address among all addresses.
    index: usize,
    address: u64,
    /// The containing function first, then the functions inlined there, with their depths in the entry tree.
    functions: Vec<(isize, Function<'a>)>,
}

impl<'a> InlineChain<'a> {
    fn new(index: usize, address: u64) -> InlineChain<'a> {
        InlineChain { index, address, functions: Vec::new() }
    }

    fn push(&mut self, depth: isize, inlined: bool, function: Function<'a>) {
        if !inlined {
            self.functions.clear();
        } else if self.functions.is_empty() {
            return;
        }
        while self.functions.len() > 1 && self.functions.last().is_some_and(|(last, _)| *last >= depth) {
            self.functions.pop();
        }
        if self.functions.len() < MAX_INLINED {
            self.functions.push((depth, function));
        }
    }
}

/// The attributes of a function's entry.
#[derive(Clone)]
struct Function<'a> {
    name: Option<Value<'a>>,
    /// The entry with the remaining attributes.
    origin: Option<Value<'a>>,
    ranges: AddressRanges<'a>,
    /// The file and line of the call site of an inlined function.
    called_at: (u64, u32),
}

impl<'a> Function<'a> {
    fn read(entries: &mut EntriesRaw<'_, Slice<'a>>, kind: &Abbreviation) -> Result<Function<'a>, ReadError> {
        let mut function = Function { name: None, origin: None, ranges: AddressRanges::default(), called_at: (0, 0) };
        let mut linkage = None;
        for attribute in kind.attributes() {
            let attribute = entries.read_attribute(*attribute)?;
            match (attribute.name(), attribute.value()) {
                (dw::DW_AT_linkage_name | dw::DW_AT_MIPS_linkage_name, value) => linkage = Some(value),
                (dw::DW_AT_name, value) => function.name = Some(value),
                (dw::DW_AT_abstract_origin | dw::DW_AT_specification, value) => function.origin = Some(value),
                (dw::DW_AT_call_file, AttributeValue::FileIndex(file)) => function.called_at.0 = file,
                (dw::DW_AT_call_line, value) => {
                    function.called_at.1 = value.udata_value().and_then(|line| line.try_into().ok()).unwrap_or(0);
                }
                (name, value) => function.ranges.take(name, value),
            }
        }
        function.name = linkage.or(function.name);
        Ok(function)
    }

    /// The linkage name if there is one, otherwise the name, from this entry or the entries that it refers to.
    fn name(
        &self,
        unit: &Unit<'a>,
        references_left: usize,
        budget: &mut ReadBudget,
    ) -> Result<Option<String>, ReadError> {
        if let Some(name) = self.name {
            return Ok(unit.text(name));
        }
        match self.origin {
            Some(_) if references_left == 0 => Ok(None),
            Some(AttributeValue::UnitRef(offset)) => {
                Function::read_at(unit, offset, budget)?.name(unit, references_left - 1, budget)
            }
            Some(AttributeValue::DebugInfoRef(offset)) => {
                let mut headers = unit.dwarf.units();
                while let Some(header) = headers.next()? {
                    budget.spend(1)?;
                    if let Some(offset) = offset.to_unit_offset(&header) {
                        let unit = Unit::open(unit.dwarf, header, budget)?;
                        return Function::read_at(&unit, offset, budget)?.name(&unit, references_left - 1, budget);
                    }
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn read_at(unit: &Unit<'a>, offset: gimli::UnitOffset, budget: &mut ReadBudget) -> Result<Function<'a>, ReadError> {
        let mut entries = unit.unit.header.entries_raw(&unit.unit.abbreviations, Some(offset))?;
        let kind = unit.read_entry(&mut entries, budget)?.ok_or(ReadError::Malformed)?;
        Function::read(&mut entries, kind)
    }
}

/// The address ranges of a unit or function, as given by the attributes of its entry.
#[derive(Clone, Default)]
struct AddressRanges<'a> {
    low: Option<Value<'a>>,
    high: Option<Value<'a>>,
    ranges: Option<Value<'a>>,
}

impl<'a> AddressRanges<'a> {
    fn take(&mut self, name: gimli::DwAt, value: Value<'a>) {
        match name {
            dw::DW_AT_low_pc => self.low = Some(value),
            dw::DW_AT_high_pc => self.high = Some(value),
            dw::DW_AT_ranges => self.ranges = Some(value),
            _ => {}
        }
    }

    fn is_unknown(&self) -> bool {
        self.ranges.is_none() && (self.low.is_none() || self.high.is_none())
    }

    /// Marks the addresses that are within the ranges.
    fn mark_covered(
        &self,
        unit: &Unit<'a>,
        addresses: impl Iterator<Item = u64> + Clone,
        covered: &mut [bool],
        budget: &mut ReadBudget,
    ) -> Result<(), ReadError> {
        let mut mark = |begin: u64, end: u64| {
            for (address, covered) in addresses.clone().zip(covered.iter_mut()) {
                *covered |= (begin..end).contains(&address);
            }
        };
        let (dwarf, entries) = (unit.dwarf, &unit.unit);
        if let Some(ranges) = self.ranges {
            let Some(offset) = dwarf.attr_ranges_offset(entries, ranges)? else { return Ok(()) };
            // Charged before, because a list may contain any number of entries that yield no range.
            let mut raw = dwarf.raw_ranges(entries, offset)?;
            while raw.next()?.is_some() {
                budget.spend(2)?;
            }
            let mut ranges = dwarf.ranges(entries, offset)?;
            while let Some(range) = ranges.next()? {
                mark(range.begin, range.end);
            }
        } else if let (Some(low), Some(high)) = (self.low, self.high) {
            let Some(begin) = dwarf.attr_address(entries, low)? else { return Ok(()) };
            let end = match high {
                AttributeValue::Udata(size) => Some(begin.wrapping_add(size)),
                high => dwarf.attr_address(entries, high)?,
            };
            mark(begin, end.unwrap_or(begin));
        }
        Ok(())
    }
}

/// Reads a unit's abbreviation table. It is scanned before, because its size is not stored anywhere.
fn abbreviations(
    dwarf: &Dwarf<'_>,
    header: &UnitHeader<Slice<'_>>,
    budget: &mut ReadBudget,
) -> Result<Arc<gimli::Abbreviations>, ReadError> {
    let offset = header.debug_abbrev_offset();
    let mut table = section_from(&dwarf.debug_abbrev, offset.0)?;
    let mut size = 0;
    while table.read_uleb128()? != 0 {
        // The tag, and whether the entry has children.
        table.read_uleb128()?;
        table.read_u8()?;
        loop {
            size += 1;
            budget.spend(4)?;
            if size > MAX_ABBREVIATIONS {
                return Err(ReadError::Malformed);
            }
            let (name, form) = (table.read_uleb128()?, table.read_uleb128()?);
            if form == u64::from(dw::DW_FORM_implicit_const.0) {
                table.read_sleb128()?;
            }
            if (name, form) == (0, 0) {
                break;
            }
        }
    }
    Ok(Arc::new(header.abbreviations(&dwarf.debug_abbrev)?))
}

/// The part of a section that starts at `offset`.
fn section_from<'a>(section: &impl Section<Slice<'a>>, offset: usize) -> gimli::Result<Slice<'a>> {
    let mut rest = *section.reader();
    rest.skip(offset)?;
    Ok(rest)
}

/// Whether a path is absolute, on any operating system.
fn is_absolute(path: &str) -> bool {
    path.starts_with(['/', '\\']) || matches!(path.get(1..3), Some(":/" | ":\\"))
}

#[cfg(test)]
#[path = "dwarf_tests.rs"]
pub(super) mod tests;
