//! Locations in the source, found in the debug information that a component carries.
//!
//! Wasmtime finds them too, but reads the tables anew for each frame of each trap: tens of milliseconds for a panic, so
//! that whoever can make a guest panic could keep the host busy with it. Here what was found is remembered, and there are
//! only so many locations in which a component can trap.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use gimli::{EndianSlice, LittleEndian, SectionId};
use wasmparser::{KnownCustom, Name, Parser, Payload};

use super::dwarf::{self, Dwarf, Effort, Exhausted, Location};

/// Debug information beyond this many bytes is not kept: it stays in memory as long as the component serves.
const MOST: usize = 64 << 20;
/// How many instructions' locations are remembered.
const REMEMBERED: usize = 16 << 10;
/// The steps that can be saved up for looking locations up. A trap whose locations are not known yet takes a component with a
/// megabyte of debug information some two hundred thousand of them, and those take three milliseconds.
const SAVED: u64 = 32 << 20;
/// The steps that are added each second: a hostile component that traps all the time gets a fiftieth of a core.
const EARNED: u64 = 1 << 20;

/// The locations of one instruction: first the function that was inlined last, at the end the one that it is in.
type Locations = Arc<[Location]>;

/// What is known of the source of a component.
#[derive(Default)]
pub struct Symbolizer {
    modules: Vec<Module>,
    known: Mutex<Known>,
}

/// One of the core modules that a component is made of.
#[derive(Default)]
struct Module {
    name: String,
    /// Where the code section begins in the component. DWARF counts from there.
    code: u64,
    sections: HashMap<String, Box<[u8]>>,
}

/// What was looked up so far, and what may still be.
struct Known {
    /// By the position of the module and the offset of the instruction.
    found: HashMap<(usize, u64), Locations>,
    effort: Effort,
    earned: Instant,
}

impl Default for Known {
    fn default() -> Known {
        Known { found: HashMap::new(), effort: Effort(SAVED), earned: Instant::now() }
    }
}

impl Symbolizer {
    /// Takes the debug information out of a component. Where there is none, nothing is ever found.
    pub fn of(component: &[u8]) -> Symbolizer {
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
        Symbolizer { modules, known: Mutex::default() }
    }

    /// The locations of instructions, each named by its module and its offset there.
    pub fn locations<'a>(&self, instructions: impl Iterator<Item = (&'a str, Option<usize>)>) -> Vec<Locations> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<_> = instructions.map(|(name, offset)| self.key(name, offset)).collect();
        if known.found.len() + keys.len() > REMEMBERED {
            known.found.clear();
        }
        for (index, module) in self.modules.iter().enumerate() {
            let new = |key: &&(usize, u64)| key.0 == index && !known.found.contains_key(key);
            let mut offsets: Vec<u64> = keys.iter().flatten().filter(new).map(|(_, offset)| *offset).collect();
            offsets.sort_unstable();
            offsets.dedup();
            if !offsets.is_empty() {
                known.look_up(index, module, &offsets);
            }
        }
        keys.into_iter().map(|key| known.found.get(&key?).cloned()).map(Option::unwrap_or_default).collect()
    }

    fn key(&self, name: &str, offset: Option<usize>) -> Option<(usize, u64)> {
        Some((self.modules.iter().position(|module| module.name == name)?, offset? as u64))
    }
}

impl Known {
    fn look_up(&mut self, index: usize, module: &Module, offsets: &[u64]) {
        let seconds = self.earned.elapsed().as_secs();
        if seconds > 0 {
            self.effort.0 = seconds.saturating_mul(EARNED).saturating_add(self.effort.0).min(SAVED);
            self.earned = Instant::now();
        }
        match module.locations(offsets, &mut self.effort) {
            Ok(locations) => {
                let keys = offsets.iter().map(|offset| (index, *offset));
                self.found.extend(keys.zip(locations.into_iter().map(Locations::from)));
            }
            Err(Exhausted) => tracing::debug!(module = module.name, "its debug information takes too long to read"),
        }
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
        let wanted = dwarf::SECTIONS.iter().any(|section| section.name() == name);
        if wanted && kept + data.len() <= MOST {
            self.sections.insert(name.to_owned(), data.into());
        }
    }

    fn has_lines(&self) -> bool {
        self.sections.contains_key(".debug_line")
    }

    fn locations(&self, offsets: &[u64], effort: &mut Effort) -> Result<Vec<Vec<Location>>, Exhausted> {
        let section = |id: SectionId| -> Result<_, gimli::Error> {
            let bytes = self.sections.get(id.name()).map(AsRef::as_ref).unwrap_or_default();
            Ok(EndianSlice::new(bytes, LittleEndian))
        };
        let Ok(dwarf) = Dwarf::load(section) else { return Ok(vec![Vec::new(); offsets.len()]) };
        let addresses: Vec<u64> = offsets.iter().map(|offset| offset.wrapping_sub(self.code)).collect();
        dwarf::find(&dwarf, &addresses, effort)
    }
}

impl fmt::Debug for Symbolizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.modules.iter().map(|module| &module.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn places_that_took_too_long_are_found_when_effort_was_earned() {
        let sections = dwarf::tests::shop();
        let sections = sections.named().into_iter().map(|(name, bytes)| (name.to_owned(), bytes.into())).collect();
        let module = Module { name: "shop".to_owned(), code: 1000, sections };
        let known = Known { effort: Effort(10), ..Known::default() };
        let symbolizer = Symbolizer { modules: vec![module], known: Mutex::new(known) };
        let functions = || {
            let locations =
                symbolizer.locations([("shop", Some(1050)), ("shop", Some(7)), ("other", Some(1050))].into_iter());
            let name = |locations: &Locations| locations.first().and_then(|location| location.function.clone());
            locations.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(functions(), [None, None, None]);
        symbolizer.known.lock().unwrap().earned -= Duration::from_secs(2);
        assert_eq!(functions(), [Some("reserve".to_owned()), None, None]);
        symbolizer.known.lock().unwrap().effort = Effort(0);
        assert_eq!(functions(), [Some("reserve".to_owned()), None, None], "it is remembered");
    }

    #[test]
    fn what_is_no_component_has_no_places() {
        for bytes in [&b""[..], b"no component", b"\0asm\x0d\0\x01\0", b"\0asm\x01\0\0\0\0\xff"] {
            let locations = Symbolizer::of(bytes).locations([("", Some(0))].into_iter());
            assert!(locations.iter().all(|locations| locations.is_empty()), "{locations:?}");
        }
    }
}
