//! Places in the source, found in the debug information that a component carries.
//!
//! Wasmtime finds them too, but reads the tables anew for each frame of each trap: tens of milliseconds for a panic, so
//! that whoever can make a guest panic could keep the host busy with it. Here what was found is remembered, and there are
//! only so many places in which a component can trap.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use addr2line::Context;
use gimli::{Dwarf, EndianSlice, LittleEndian, SectionId};
use wasmparser::{KnownCustom, Name, Parser, Payload};

/// Debug information beyond this many bytes is not kept: it stays in memory as long as the component serves.
const MOST: usize = 64 << 20;
/// How many instructions' places are remembered.
const REMEMBERED: usize = 16 << 10;

/// The places of one instruction: first the function that was inlined last, at the end the one that it is in.
type Places = Arc<[Place]>;

/// What is known of the source of a component.
#[derive(Default)]
pub(super) struct Symbols {
    modules: Vec<Module>,
    /// By the position of the module and the offset of the instruction.
    found: Mutex<HashMap<(usize, u64), Places>>,
}

/// One of the core modules that a component is made of.
#[derive(Default)]
struct Module {
    name: String,
    /// Where the code section begins in the component. DWARF counts from there.
    code: u64,
    sections: HashMap<String, Box<[u8]>>,
}

/// A function in the source, and where in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Its name, as far as the debug information has one.
    pub function: Option<String>,
    /// The file.
    pub file: String,
    /// The line, from 1; 0 is unknown.
    pub line: u32,
}

impl Symbols {
    /// Takes the debug information out of a component. Where there is none, nothing is ever found.
    pub fn of(component: &[u8]) -> Symbols {
        let mut modules = Vec::new();
        let mut open: Option<Module> = None;
        for payload in Parser::new(0).parse_all(component) {
            match payload {
                Ok(Payload::Version { encoding: wasmparser::Encoding::Module, .. }) => open = Some(Module::default()),
                Ok(Payload::CodeSectionStart { range, .. }) => {
                    open.iter_mut().for_each(|module| module.code = range.start as u64);
                }
                Ok(Payload::CustomSection(section)) => {
                    if let Some(module) = &mut open {
                        module.take(section.name(), section.data(), section.as_known());
                    }
                }
                Ok(Payload::End(_)) => modules.extend(open.take().filter(Module::has_lines)),
                Ok(_) => {}
                // Whether it is valid is for others to say.
                Err(_) => break,
            }
        }
        Symbols { modules, found: Mutex::default() }
    }

    /// The places of instructions, each named by its module and its offset there.
    pub fn places<'a>(&self, instructions: impl Iterator<Item = (&'a str, Option<usize>)>) -> Vec<Places> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let mut opened = HashMap::new();
        let mut places = |(name, offset): (&str, Option<usize>)| {
            let index = self.modules.iter().position(|module| module.name == name)?;
            let (module, offset) = (self.modules.get(index)?, offset? as u64);
            if let Some(known) = found.get(&(index, offset)) {
                return Some(known.clone());
            }
            let context = opened.entry(index).or_insert_with(|| module.open()).as_ref();
            let places: Places = context.and_then(|context| module.places(context, offset)).unwrap_or_default().into();
            if found.len() < REMEMBERED {
                found.insert((index, offset), places.clone());
            }
            Some(places)
        };
        instructions.map(|instruction| places(instruction).unwrap_or_default()).collect()
    }
}

impl Module {
    fn take(&mut self, name: &str, data: &[u8], known: KnownCustom<'_>) {
        if let KnownCustom::Name(names) = known {
            for names in names.into_iter().flatten() {
                if let Name::Module { name, .. } = names {
                    self.name = name.to_owned();
                }
            }
        }
        let kept: usize = self.sections.values().map(|section| section.len()).sum();
        if name.starts_with(".debug_") && kept + data.len() <= MOST {
            self.sections.insert(name.to_owned(), data.into());
        }
    }

    fn has_lines(&self) -> bool {
        self.sections.contains_key(".debug_line")
    }

    fn places(&self, context: &Context<EndianSlice<'_, LittleEndian>>, offset: u64) -> Option<Vec<Place>> {
        let mut frames = context.find_frames(offset.checked_sub(self.code)?).skip_all_loads().ok()?;
        let mut places = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            let Some((file, line)) = frame.location.and_then(|place| Some((place.file?, place.line))) else { continue };
            let function = frame.function.and_then(|function| Some(function.raw_name().ok()?.into_owned()));
            places.push(Place { function, file: file.to_owned(), line: line.unwrap_or(0) });
        }
        Some(places)
    }

    fn open(&self) -> Option<Context<EndianSlice<'_, LittleEndian>>> {
        let section = |id: SectionId| -> Result<_, gimli::Error> {
            let bytes = self.sections.get(id.name()).map(AsRef::as_ref).unwrap_or_default();
            Ok(EndianSlice::new(bytes, LittleEndian))
        };
        Context::from_dwarf(Dwarf::load(section).ok()?).ok()
    }
}

impl fmt::Debug for Symbols {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.modules.iter().map(|module| &module.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_has_no_places() {
        for bytes in [&b""[..], b"no component", b"\0asm\x0d\0\x01\0", b"\0asm\x01\0\0\0\0\xff"] {
            let places = Symbols::of(bytes).places([("", Some(0))].into_iter());
            assert!(places.iter().all(|places| places.is_empty()), "{places:?}");
        }
    }
}
