//! Resolves instructions to source locations with the debug information of a component.
//!
//! Wasmtime can do that too, but parses the tables again for each frame of each trap. A panic then takes tens of
//! milliseconds, so a client that can make a guest panic could keep the host busy. Here locations are cached: a
//! component can only trap at a limited number of instructions.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use gimli::{EndianSlice, LittleEndian, SectionId};
use wasmparser::{KnownCustom, Name, Parser, Payload};

use super::dwarf::{self, BudgetExhausted, Dwarf, Location, ReadBudget};

/// Debug information beyond this many bytes is not kept. It stays in memory as long as the component serves.
const MAX_DEBUG_INFO: usize = 64 << 20;
/// The most instructions whose locations are cached.
const MAX_CACHED_LOCATIONS: usize = 16 << 10;
/// The most steps that the budget can hold. Resolving an uncached trap in a component with a megabyte of debug
/// information takes about two hundred thousand steps, or three milliseconds.
const MAX_BUDGET: u64 = 32 << 20;
/// The steps that are added to the budget per second: a component that traps continuously uses at most 2 % of a core.
const BUDGET_PER_SECOND: u64 = 1 << 20;

/// The locations of one instruction: the innermost inlined function first, the function that contains it last.
type Locations = Arc<[Location]>;

/// The debug information of a component, and the locations resolved so far.
#[derive(Default)]
pub struct Symbolizer {
    modules: Vec<Module>,
    cache: Mutex<LookupCache>,
}

/// One of the core modules of a component.
#[derive(Default)]
struct Module {
    name: String,
    /// The offset of the code section in the component. DWARF addresses are relative to it.
    code: u64,
    sections: HashMap<String, Box<[u8]>>,
}

/// The locations resolved so far, and the budget for more.
struct LookupCache {
    /// By the index of the module and the offset of the instruction.
    locations: HashMap<(usize, u64), Locations>,
    budget: ReadBudget,
    refilled: Instant,
}

impl Default for LookupCache {
    fn default() -> LookupCache {
        LookupCache { locations: HashMap::new(), budget: ReadBudget(MAX_BUDGET), refilled: Instant::now() }
    }
}

impl Symbolizer {
    /// Reads the debug information of a component. Without any, no location is found.
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
                        module.add_section(section.name(), section.data(), section.as_known());
                    }
                }
                Ok(Payload::End(_)) => modules.extend(open.take().filter(Module::has_line_table)),
                Ok(_) => {}
                // Validation is the compiler's task.
                Err(_) => break,
            }
        }
        Symbolizer { modules, cache: Mutex::default() }
    }

    /// The locations of instructions, each given by its module and its offset in it.
    pub fn locations<'a>(&self, instructions: impl Iterator<Item = (&'a str, Option<usize>)>) -> Vec<Locations> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<_> = instructions.map(|(name, offset)| self.key(name, offset)).collect();
        if cache.locations.len() + keys.len() > MAX_CACHED_LOCATIONS {
            cache.locations.clear();
        }
        for (index, module) in self.modules.iter().enumerate() {
            let new = |key: &&(usize, u64)| key.0 == index && !cache.locations.contains_key(key);
            let mut offsets: Vec<u64> = keys.iter().flatten().filter(new).map(|(_, offset)| *offset).collect();
            offsets.sort_unstable();
            offsets.dedup();
            if !offsets.is_empty() {
                cache.look_up(index, module, &offsets);
            }
        }
        keys.into_iter().map(|key| cache.locations.get(&key?).cloned()).map(Option::unwrap_or_default).collect()
    }

    fn key(&self, name: &str, offset: Option<usize>) -> Option<(usize, u64)> {
        Some((self.modules.iter().position(|module| module.name == name)?, offset? as u64))
    }
}

impl LookupCache {
    fn look_up(&mut self, index: usize, module: &Module, offsets: &[u64]) {
        let seconds = self.refilled.elapsed().as_secs();
        if seconds > 0 {
            self.budget.0 = seconds.saturating_mul(BUDGET_PER_SECOND).saturating_add(self.budget.0).min(MAX_BUDGET);
            self.refilled = Instant::now();
        }
        match module.locations(offsets, &mut self.budget) {
            Ok(locations) => {
                let keys = offsets.iter().map(|offset| (index, *offset));
                self.locations.extend(keys.zip(locations.into_iter().map(Locations::from)));
            }
            Err(BudgetExhausted) => {
                tracing::debug!(module = module.name, "resolving source locations exceeds the budget")
            }
        }
    }
}

impl Module {
    fn add_section(&mut self, name: &str, data: &[u8], custom: KnownCustom<'_>) {
        if let KnownCustom::Name(names) = custom {
            for names in names.into_iter().flatten() {
                if let Name::Module { name, .. } = names {
                    self.name = name.to_owned();
                }
            }
        }
        let kept: usize = self.sections.values().map(|section| section.len()).sum();
        let wanted = dwarf::SECTIONS.iter().any(|section| section.name() == name);
        if wanted && kept + data.len() <= MAX_DEBUG_INFO {
            self.sections.insert(name.to_owned(), data.into());
        }
    }

    fn has_line_table(&self) -> bool {
        self.sections.contains_key(".debug_line")
    }

    fn locations(&self, offsets: &[u64], budget: &mut ReadBudget) -> Result<Vec<Vec<Location>>, BudgetExhausted> {
        let section = |id: SectionId| -> Result<_, gimli::Error> {
            let bytes = self.sections.get(id.name()).map(AsRef::as_ref).unwrap_or_default();
            Ok(EndianSlice::new(bytes, LittleEndian))
        };
        let Ok(dwarf) = Dwarf::load(section) else { return Ok(vec![Vec::new(); offsets.len()]) };
        let addresses: Vec<u64> = offsets.iter().map(|offset| offset.wrapping_sub(self.code)).collect();
        dwarf::find(&dwarf, &addresses, budget)
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
    fn locations_beyond_the_budget_are_found_after_a_refill() {
        let sections = dwarf::tests::shop();
        let sections = sections.named().into_iter().map(|(name, bytes)| (name.to_owned(), bytes.into())).collect();
        let module = Module { name: "shop".to_owned(), code: 1000, sections };
        let cache = LookupCache { budget: ReadBudget(10), ..LookupCache::default() };
        let symbolizer = Symbolizer { modules: vec![module], cache: Mutex::new(cache) };
        let functions = || {
            let locations =
                symbolizer.locations([("shop", Some(1050)), ("shop", Some(7)), ("other", Some(1050))].into_iter());
            let name = |locations: &Locations| locations.first().and_then(|location| location.function.clone());
            locations.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(functions(), [None, None, None]);
        symbolizer.cache.lock().unwrap().refilled -= Duration::from_secs(2);
        assert_eq!(functions(), [Some("reserve".to_owned()), None, None]);
        symbolizer.cache.lock().unwrap().budget = ReadBudget(0);
        assert_eq!(functions(), [Some("reserve".to_owned()), None, None], "it is remembered");
    }

    #[test]
    fn bytes_that_are_no_component_have_no_locations() {
        for bytes in [&b""[..], b"no component", b"\0asm\x0d\0\x01\0", b"\0asm\x01\0\0\0\0\xff"] {
            let locations = Symbolizer::of(bytes).locations([("", Some(0))].into_iter());
            assert!(locations.iter().all(|locations| locations.is_empty()), "{locations:?}");
        }
    }
}
