//! From an instruction to its locations in the source, read from DWARF that nobody vouches for.
//!
//! A component brings its debug information along, and whoever wrote the one may have forged the other: functions nested
//! deeper than a stack reaches, one long list that a million entries point to. So nothing here calls itself as deep as the
//! input says, nothing is kept that grows with what is read, and every entry, attribute, range and row is paid for from
//! an [`Effort`] that ends.

use std::sync::Arc;

use gimli::constants as dw;
use gimli::{
    Abbreviation, AttributeValue, EndianSlice, EntriesRaw, LittleEndian, Reader, Section, SectionId, UnitHeader,
};

type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Value<'a> = AttributeValue<Slice<'a>>;
/// The sections that hold debug information.
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

/// Functions that were inlined into each other at one instruction, at most.
const INLINED: usize = 64;
/// From a function's entry to the one that has its name, at most.
const HOPS: usize = 16;
/// The bytes of a name or of a part of a path that are looked at.
const TEXT: usize = 512;
/// The entries and attributes of a unit's table of abbreviations, at most.
const ABBREVIATIONS: u64 = 256 << 10;
/// The bytes of a unit's line table, at most, and those of its head, which lists the files.
const LINE_TABLE: u64 = 8 << 20;
const LINE_TABLE_HEAD: u64 = 1 << 20;

/// A function in the source, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Its name, as far as the debug information has one.
    pub function: Option<String>,
    /// The file.
    pub file: String,
    /// The line, from 1; 0 is unknown.
    pub line: u32,
}

/// How much may still be read. A step takes some nanoseconds.
#[derive(Debug)]
pub(super) struct Effort(pub u64);

/// All effort was spent before the locations were found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exhausted;

impl Effort {
    fn spend(&mut self, steps: u64) -> Result<(), Stop> {
        self.0 = self.0.checked_sub(steps).ok_or(Stop::Exhausted)?;
        Ok(())
    }
}

/// Why the reading of a unit ended early.
enum Stop {
    /// It is not as DWARF should be. The others may be.
    Malformed,
    Exhausted,
}

impl From<gimli::Error> for Stop {
    fn from(_: gimli::Error) -> Stop {
        Stop::Malformed
    }
}

/// The locations of instructions, each named by its address. For each there is first the function that was inlined last, at
/// the end the one that it is in; none where nothing is known.
pub(super) fn find(dwarf: &Dwarf<'_>, addresses: &[u64], effort: &mut Effort) -> Result<Vec<Vec<Location>>, Exhausted> {
    let mut found = vec![Vec::new(); addresses.len()];
    let mut headers = dwarf.units();
    while let Ok(Some(header)) = headers.next() {
        let read = Unit::open(dwarf, header, effort).and_then(|unit| unit.find(addresses, &mut found, effort));
        if let Err(Stop::Exhausted) = read {
            effort.0 = 0;
            return Err(Exhausted);
        }
    }
    Ok(found)
}

/// A compilation unit.
struct Unit<'a> {
    dwarf: &'a Dwarf<'a>,
    unit: gimli::Unit<Slice<'a>>,
    /// The instructions that it says are its own.
    extent: Extent<'a>,
    folder: Option<Value<'a>>,
    lines: Option<gimli::DebugLineOffset>,
}

impl<'a> Unit<'a> {
    fn open(dwarf: &'a Dwarf<'a>, header: UnitHeader<Slice<'a>>, effort: &mut Effort) -> Result<Unit<'a>, Stop> {
        let encoding = header.encoding();
        let abbreviations = abbreviations(dwarf, &header, effort)?;
        let mut entries = header.entries_raw(&abbreviations, None)?;
        let root = entries.read_abbreviation()?.ok_or(Stop::Malformed)?;
        effort.spend(root.attributes().len() as u64)?;
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
        let (mut extent, mut folder, mut lines) = (Extent::default(), None, None);
        for attribute in root.attributes() {
            let attribute = entries.read_attribute(*attribute)?;
            match (attribute.name(), attribute.value()) {
                (dw::DW_AT_comp_dir, value) => folder = Some(value),
                (dw::DW_AT_stmt_list, AttributeValue::DebugLineRef(offset)) => lines = Some(offset),
                (_, AttributeValue::DebugStrOffsetsBase(base)) => unit.str_offsets_base = base,
                (_, AttributeValue::DebugAddrBase(base)) => unit.addr_base = base,
                (_, AttributeValue::DebugRngListsBase(base)) => unit.rnglists_base = base,
                (name, value) => extent.take(name, value),
            }
        }
        if let Some(low) = extent.low {
            unit.low_pc = dwarf.attr_address(&unit, low)?.unwrap_or(0);
        }
        Ok(Unit { dwarf, unit, extent, folder, lines })
    }

    /// Adds the locations of those addresses that have none yet and belong to this unit.
    fn find(&self, addresses: &[u64], found: &mut [Vec<Location>], effort: &mut Effort) -> Result<(), Stop> {
        let wanted = |index: &usize| found.get(*index).is_some_and(Vec::is_empty);
        let mut trails: Vec<Trail<'a>> =
            (0..addresses.len()).filter(wanted).map(|index| Trail::to(index, addresses[index])).collect();
        if !self.extent.is_unknown() {
            let mut own = vec![false; trails.len()];
            self.extent.covers(self, trails.iter().map(|trail| trail.address), &mut own, effort)?;
            let mut own = own.into_iter();
            trails.retain(|_| own.next() == Some(true));
        }
        if trails.is_empty() {
            return Ok(());
        }
        let functions = self.functions(&mut trails, effort);
        if let Err(Stop::Exhausted) = functions {
            return functions;
        }
        self.locations(&trails, found, effort)
    }

    /// Follows the functions that contain the addresses, and those that were inlined there.
    fn functions(&self, trails: &mut [Trail<'a>], effort: &mut Effort) -> Result<(), Stop> {
        effort.spend(self.unit.header.length_including_self() as u64 / 16)?;
        let mut entries = self.unit.header.entries_raw(&self.unit.abbreviations, None)?;
        let mut covered = vec![false; trails.len()];
        while !entries.is_empty() {
            let depth = entries.next_depth();
            let Some(kind) = self.enter(&mut entries, effort)? else { continue };
            let inlined = kind.tag() == dw::DW_TAG_inlined_subroutine;
            if !inlined && kind.tag() != dw::DW_TAG_subprogram {
                entries.skip_attributes(kind.attributes())?;
                continue;
            }
            let function = Function::read(&mut entries, kind)?;
            covered.fill(false);
            function.extent.covers(self, trails.iter().map(|trail| trail.address), &mut covered, effort)?;
            for (trail, _) in trails.iter_mut().zip(&covered).filter(|(_, covered)| **covered) {
                trail.step(depth, inlined, function.clone());
            }
        }
        Ok(())
    }

    fn enter<'b>(
        &self,
        entries: &mut EntriesRaw<'b, Slice<'a>>,
        effort: &mut Effort,
    ) -> Result<Option<&'b Abbreviation>, Stop> {
        let kind = entries.read_abbreviation()?;
        effort.spend(1 + kind.map_or(0, |kind| kind.attributes().len() as u64))?;
        Ok(kind)
    }

    /// Writes down where the trails lead, if there is a line table to name the file.
    fn locations(&self, trails: &[Trail<'a>], found: &mut [Vec<Location>], effort: &mut Effort) -> Result<(), Stop> {
        let Some(program) = self.line_program(effort)? else { return Ok(()) };
        let mut rows = program.rows();
        let mut nearest = vec![None; trails.len()];
        let mut previous: Option<(u64, u64, u32)> = None;
        while let Some((_, row)) = rows.next_row()? {
            effort.spend(1 + trails.len() as u64 / 8)?;
            if let Some((address, file, line)) = previous {
                let here = address..row.address();
                for (trail, nearest) in trails.iter().zip(&mut nearest) {
                    if here.contains(&trail.address) {
                        *nearest = Some((file, line));
                    }
                }
            }
            let line = row.line().map_or(0, |line| u32::try_from(line.get()).unwrap_or(0));
            previous = (!row.end_sequence()).then(|| (row.address(), row.file_index(), line));
        }
        let header = rows.header();
        for (trail, nearest) in trails.iter().zip(nearest) {
            // What is known may begin further out: with the location that an inlined function was called at.
            let mut at = nearest;
            let mut locations = Vec::new();
            let location = |function, (file, line)| Some(Location { function, file: self.file(header, file)?, line });
            for (_, function) in trail.functions.iter().rev() {
                let name = function.name(self, HOPS, effort)?;
                locations.extend(at.and_then(|at| location(name, at)));
                at = Some(function.called_at);
            }
            if trail.functions.is_empty() {
                locations.extend(at.and_then(|at| location(None, at)));
            }
            if let Some(slot) = found.get_mut(trail.index) {
                *slot = locations;
            }
        }
        Ok(())
    }

    fn line_program(&self, effort: &mut Effort) -> Result<Option<gimli::IncompleteLineProgram<Slice<'a>>>, Stop> {
        let Some(offset) = self.lines else { return Ok(None) };
        let mut start = from(&self.dwarf.debug_line, offset.0)?;
        let (length, format) = start.read_initial_length()?;
        let version = start.read_u16()?;
        if version >= 5 {
            // The sizes of an address and of a segment selector.
            start.read_u16()?;
        }
        let head = start.read_word(format)?;
        if length as u64 > LINE_TABLE || head as u64 > LINE_TABLE_HEAD {
            return Err(Stop::Malformed);
        }
        effort.spend(length as u64 / 4)?;
        Ok(Some(self.dwarf.debug_line.program(offset, self.unit.header.address_size(), None, None)?))
    }

    /// The path of a file of the line table.
    fn file(&self, header: &gimli::LineProgramHeader<Slice<'a>>, index: u64) -> Option<String> {
        let file = header.file(index)?;
        let folder = file.directory(header).filter(|_| file.directory_index() != 0);
        let mut path = String::new();
        for part in [self.folder, folder, Some(file.path_name())].into_iter().flatten() {
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

    /// A text, from its section where it is kept in one. It is read no further than [`TEXT`].
    fn text(&self, value: Value<'a>) -> Option<String> {
        let dwarf = self.dwarf;
        let kept = |offset: gimli::DebugStrOffset| from(&dwarf.debug_str, offset.0).ok();
        let text = match value {
            AttributeValue::String(text) => text,
            AttributeValue::DebugStrRef(offset) => kept(offset)?,
            AttributeValue::DebugLineStrRef(offset) => from(&dwarf.debug_line_str, offset.0).ok()?,
            AttributeValue::DebugStrOffsetsIndex(index) => {
                let (format, base) = (self.unit.header.format(), self.unit.str_offsets_base);
                kept(dwarf.debug_str_offsets.get_str_offset(format, base, index).ok()?)?
            }
            _ => return None,
        };
        let text = text.slice().split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(text.get(..TEXT).unwrap_or(text)).into_owned())
    }
}

/// The functions on the way to an address.
struct Trail<'a> {
    /// Its position among all that are looked for.
    index: usize,
    address: u64,
    /// First the function that it is in, then what was inlined there, with their depths in the tree of entries.
    functions: Vec<(isize, Function<'a>)>,
}

impl<'a> Trail<'a> {
    fn to(index: usize, address: u64) -> Trail<'a> {
        Trail { index, address, functions: Vec::new() }
    }

    fn step(&mut self, depth: isize, inlined: bool, function: Function<'a>) {
        if !inlined {
            self.functions.clear();
        } else if self.functions.is_empty() {
            return;
        }
        while self.functions.len() > 1 && self.functions.last().is_some_and(|(last, _)| *last >= depth) {
            self.functions.pop();
        }
        if self.functions.len() < INLINED {
            self.functions.push((depth, function));
        }
    }
}

/// What an entry tells of a function.
#[derive(Clone)]
struct Function<'a> {
    name: Option<Value<'a>>,
    /// The entry that tells the rest.
    origin: Option<Value<'a>>,
    extent: Extent<'a>,
    /// The file and the line that it was called at, where it was inlined.
    called_at: (u64, u32),
}

impl<'a> Function<'a> {
    fn read(entries: &mut EntriesRaw<'_, Slice<'a>>, kind: &Abbreviation) -> Result<Function<'a>, Stop> {
        let mut function = Function { name: None, origin: None, extent: Extent::default(), called_at: (0, 0) };
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
                (name, value) => function.extent.take(name, value),
            }
        }
        function.name = linkage.or(function.name);
        Ok(function)
    }

    /// The full name where there is one, which other entries may have.
    fn name(&self, unit: &Unit<'a>, hops: usize, effort: &mut Effort) -> Result<Option<String>, Stop> {
        if let Some(name) = self.name {
            return Ok(unit.text(name));
        }
        match self.origin {
            Some(_) if hops == 0 => Ok(None),
            Some(AttributeValue::UnitRef(offset)) => Function::at(unit, offset, effort)?.name(unit, hops - 1, effort),
            Some(AttributeValue::DebugInfoRef(offset)) => {
                let mut headers = unit.dwarf.units();
                while let Some(header) = headers.next()? {
                    effort.spend(1)?;
                    if let Some(offset) = offset.to_unit_offset(&header) {
                        let unit = Unit::open(unit.dwarf, header, effort)?;
                        return Function::at(&unit, offset, effort)?.name(&unit, hops - 1, effort);
                    }
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn at(unit: &Unit<'a>, offset: gimli::UnitOffset, effort: &mut Effort) -> Result<Function<'a>, Stop> {
        let mut entries = unit.unit.header.entries_raw(&unit.unit.abbreviations, Some(offset))?;
        let kind = unit.enter(&mut entries, effort)?.ok_or(Stop::Malformed)?;
        Function::read(&mut entries, kind)
    }
}

/// The instructions of a unit or of a function, as an entry's attributes say.
#[derive(Clone, Default)]
struct Extent<'a> {
    low: Option<Value<'a>>,
    high: Option<Value<'a>>,
    ranges: Option<Value<'a>>,
}

impl<'a> Extent<'a> {
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

    /// Marks those of the addresses that are within.
    fn covers(
        &self,
        unit: &Unit<'a>,
        addresses: impl Iterator<Item = u64> + Clone,
        covered: &mut [bool],
        effort: &mut Effort,
    ) -> Result<(), Stop> {
        let mut mark = |begin: u64, end: u64| {
            for (address, covered) in addresses.clone().zip(covered.iter_mut()) {
                *covered |= (begin..end).contains(&address);
            }
        };
        let (dwarf, entries) = (unit.dwarf, &unit.unit);
        if let Some(ranges) = self.ranges {
            let Some(offset) = dwarf.attr_ranges_offset(entries, ranges)? else { return Ok(()) };
            // Paid for first, as a list may hold any number of entries that give no range.
            let mut raw = dwarf.raw_ranges(entries, offset)?;
            while raw.next()?.is_some() {
                effort.spend(2)?;
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

/// Reads a unit's table of abbreviations. It is gone through once before, as its size stands nowhere.
fn abbreviations(
    dwarf: &Dwarf<'_>,
    header: &UnitHeader<Slice<'_>>,
    effort: &mut Effort,
) -> Result<Arc<gimli::Abbreviations>, Stop> {
    let offset = header.debug_abbrev_offset();
    let mut table = from(&dwarf.debug_abbrev, offset.0)?;
    let mut size = 0;
    while table.read_uleb128()? != 0 {
        // Its tag, and whether it has children.
        table.read_uleb128()?;
        table.read_u8()?;
        loop {
            size += 1;
            effort.spend(4)?;
            if size > ABBREVIATIONS {
                return Err(Stop::Malformed);
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

/// A section from an offset on.
fn from<'a>(section: &impl Section<Slice<'a>>, offset: usize) -> gimli::Result<Slice<'a>> {
    let mut rest = *section.reader();
    rest.skip(offset)?;
    Ok(rest)
}

/// Whether a path begins anew, on whichever system the component was built.
fn is_absolute(path: &str) -> bool {
    path.starts_with(['/', '\\']) || matches!(path.get(1..3), Some(":/" | ":\\"))
}

#[cfg(test)]
#[path = "dwarf_tests.rs"]
pub(super) mod tests;
