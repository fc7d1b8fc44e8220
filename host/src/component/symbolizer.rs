//! Resolves instructions to source locations with the debug information of a component.
//!
//! Wasmtime can do that too, but parses the tables again for each frame of each trap. A panic then takes tens of
//! milliseconds, so a client that can make a guest panic could keep the host busy. Here locations are cached: a
//! component can only trap at a limited number of instructions.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
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
    /// The name in its `name` section. Some toolchains set none.
    name: Option<String>,
    /// Where the code section is in the component. DWARF addresses are relative to its start.
    code: Range<usize>,
    sections: HashMap<String, Box<[u8]>>,
}

/// The locations resolved so far, and the budget for more.
struct LookupCache {
    /// By the index of the module and the offset of the instruction.
    locations: HashMap<(usize, usize), Locations>,
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
                    open.iter_mut().for_each(|module| module.code = range.clone());
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

    /// The locations of instructions, each given by the name of its module, if it has one, and its offset in the component.
    pub fn locations<'a>(
        &self,
        instructions: impl Iterator<Item = (Option<&'a str>, Option<usize>)>,
    ) -> Vec<Locations> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<_> = instructions.map(|(name, offset)| self.key(name, offset?)).collect();
        if cache.locations.len() + keys.len() > MAX_CACHED_LOCATIONS {
            cache.locations.clear();
        }
        for (index, module) in self.modules.iter().enumerate() {
            let new = |key: &&(usize, usize)| key.0 == index && !cache.locations.contains_key(key);
            let mut offsets: Vec<usize> = keys.iter().flatten().filter(new).map(|(_, offset)| *offset).collect();
            offsets.sort_unstable();
            offsets.dedup();
            if !offsets.is_empty() {
                cache.look_up(index, module, &offsets);
            }
        }
        keys.into_iter().map(|key| cache.locations.get(&key?).cloned()).map(Option::unwrap_or_default).collect()
    }

    /// The module whose code contains the offset. Its name must fit too: the offsets in modules that Wasmtime generates
    /// between components, which have no name, are not those of the component.
    fn key(&self, name: Option<&str>, offset: usize) -> Option<(usize, usize)> {
        let is_meant = |module: &Module| module.code.contains(&offset) && module.name.as_deref() == name;
        Some((self.modules.iter().position(is_meant)?, offset))
    }
}

impl LookupCache {
    fn look_up(&mut self, index: usize, module: &Module, offsets: &[usize]) {
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
                tracing::debug!(module = index, "resolving source locations exceeds the budget")
            }
        }
    }
}

impl Module {
    fn add_section(&mut self, name: &str, data: &[u8], custom: KnownCustom<'_>) {
        if let KnownCustom::Name(names) = custom {
            for names in names.into_iter().flatten() {
                if let Name::Module { name, .. } = names {
                    self.name = Some(name.to_owned());
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

    fn locations(&self, offsets: &[usize], budget: &mut ReadBudget) -> Result<Vec<Vec<Location>>, BudgetExhausted> {
        let section = |id: SectionId| -> Result<_, gimli::Error> {
            let bytes = self.sections.get(id.name()).map(AsRef::as_ref).unwrap_or_default();
            Ok(EndianSlice::new(bytes, LittleEndian))
        };
        let Ok(dwarf) = Dwarf::load(section) else { return Ok(vec![Vec::new(); offsets.len()]) };
        let addresses: Vec<u64> = offsets.iter().map(|offset| (offset - self.code.start) as u64).collect();
        dwarf::find(&dwarf, &addresses, budget)
    }
}

impl fmt::Debug for Symbolizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.modules.iter().map(|module| &module.code)).finish()
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
        let module = Module { name: None, code: 1000..1100, sections };
        let cache = LookupCache { budget: ReadBudget(10), ..LookupCache::default() };
        let symbolizer = Symbolizer { modules: vec![module], cache: Mutex::new(cache) };
        let functions = || {
            let locations = symbolizer.locations([(None, Some(1050)), (None, Some(7)), (None, None)].into_iter());
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
    fn an_instruction_belongs_to_the_module_with_its_name_whose_code_contains_it() {
        let module = |name: Option<&str>, start: usize| {
            let sections = dwarf::tests::shop();
            let sections = sections.named().into_iter().map(|(name, bytes)| (name.to_owned(), bytes.into())).collect();
            Module { name: name.map(str::to_owned), code: start..start + 100, sections }
        };
        let modules = vec![module(None, 1000), module(Some("shop"), 5000), module(Some("shop"), 9000)];
        let symbolizer = Symbolizer { modules, cache: Mutex::default() };
        for (name, offset, is_found) in [
            (None, 1050, true),
            (None, 1150, false),
            (None, 5050, false),
            (Some("shop"), 5050, true),
            (Some("shop"), 9050, true),
            (Some("shop"), 1050, false),
            (Some("other"), 5050, false),
        ] {
            let locations = symbolizer.locations([(name, Some(offset))].into_iter());
            assert_eq!(!locations[0].is_empty(), is_found, "{name:?} {offset}");
        }
    }

    #[test]
    fn bytes_that_are_no_component_have_no_locations() {
        for bytes in [&b""[..], b"no component", b"\0asm\x0d\0\x01\0", b"\0asm\x01\0\0\0\0\xff"] {
            let locations = Symbolizer::of(bytes).locations([(None, Some(0))].into_iter());
            assert!(locations.iter().all(|locations| locations.is_empty()), "{locations:?}");
        }
    }
}
