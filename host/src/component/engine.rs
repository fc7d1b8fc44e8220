//! The Wasmtime engines with their settings, their linkers and the compiler threads.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use thiserror::Error;
use wasmtime::component::Linker;
use wasmtime::{Cache, CacheConfig, Config, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use super::background::BackgroundWork;
use super::capacity::{Capacity, OnDemandLimit};
use super::compiled::CompiledComponents;
use super::contract::HttpWorld;
use super::epoch::EpochTicker;
use super::guest::{lean, standard};
use super::idle::IdleInstances;
use super::store_data::{StoreData, TABLE_ELEMENTS};
use crate::metrics::CodeCacheStats;

/// The slots of each pooled engine: the most instances at a time, across all services and generations.
///
/// Each slot reserves 4 GiB of address space, of which a process has 128 TiB.
const SEQUENTIAL_INSTANCES: u32 = 3072;
const CONCURRENT_INSTANCES: u32 = 1024;
/// Stacks in addition to one for each instance: Wasmtime takes a stack before it finds that no slot is free.
const SPARE_STACKS: u32 = 256;
/// The `nice` value of the compiler threads.
const COMPILER_NICENESS: i32 = 10;
/// The most core instances of one component. One with a WASI adapter has four, a Python interpreter with its libraries
/// a few dozen.
const CORE_INSTANCES_PER_COMPONENT: u32 = 256;
/// The most tables of one component, and of one of its modules.
const TABLES_PER_COMPONENT: u32 = 64;
const TABLES_PER_MODULE: u32 = 16;
/// The most frames in the backtrace of a trap.
const MAX_FRAMES: Option<NonZeroUsize> = NonZeroUsize::new(40);
/// Bytes of a freed instance's memory that are zeroed and kept resident, which is cheaper than unmapping the pages. All
/// slots that were ever in use keep them.
const KEEP_RESIDENT: usize = 256 * 1024;

/// Freed slots that keep the memory image of their component for its next instance, also of components that no longer
/// serve.
const WARM_SLOTS: u32 = 32;

/// Why the engine could not be created.
#[derive(Debug, Error)]
pub enum EngineError {
    /// Wasmtime does not support its settings on this machine.
    #[error("WebAssembly cannot run on this machine: {0}")]
    Unsupported(String),
}

/// Compiles and links components. There is one per host; clones are handles to the same engines.
#[derive(Clone)]
pub struct Engine {
    pub(super) sequential: Arc<Engines<Sequential>>,
    pub(super) concurrent: Arc<Engines<Concurrent>>,
    pub(super) compiler_threads: Arc<rayon::ThreadPool>,
    pub(super) compiled: CompiledComponents,
    pub(super) idle: IdleInstances,
    on_demand: OnDemandLimit,
    cache: Option<Cache>,
    pub(super) background: BackgroundWork,
}

/// Runs components that never have two tasks in one instance: lean ones, and those of WASI 0.2. Without concurrency
/// support, Wasmtime is markedly faster.
pub(super) struct Sequential {
    pub engine: wasmtime::Engine,
    pub lean: Linker<StoreData>,
    pub p2: Linker<StoreData>,
}

/// Runs components of WASI 0.3.
pub(super) struct Concurrent {
    pub engine: wasmtime::Engine,
    pub p3: Linker<StoreData>,
}

/// How the instances of an engine are allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allocation {
    /// From preallocated slots: fast, for components within the limits of a slot.
    Pooled,
    /// From the operating system: for components that fit no slot.
    OnDemand,
    /// The same, with a heap for garbage collection: for components that use it, or exceptions.
    GarbageCollected,
}

/// An engine with its linkers.
pub(super) trait Runtime: Sized {
    /// Creates the engine and its linkers.
    fn new(cache: Option<Cache>, allocation: Allocation) -> wasmtime::Result<Self>;

    /// The Wasmtime engine.
    fn engine(&self) -> &wasmtime::Engine;
}

/// The engines with one configuration, by allocation strategy.
pub(super) struct Engines<R> {
    pub pooled: R,
    /// Created for the first component that needs it.
    on_demand: OnceLock<R>,
    /// Created for the first component that needs it.
    garbage_collected: OnceLock<R>,
    cache: Option<Cache>,
    ticker: EpochTicker,
}

impl<R: Runtime> Engines<R> {
    fn new(cache: Option<Cache>, ticker: EpochTicker) -> wasmtime::Result<Engines<R>> {
        let pooled = R::new(cache.clone(), Allocation::Pooled)?;
        ticker.add(pooled.engine());
        Ok(Engines { pooled, on_demand: OnceLock::new(), garbage_collected: OnceLock::new(), cache, ticker })
    }

    /// The engine with this allocation.
    pub fn with(&self, allocation: Allocation) -> wasmtime::Result<&R> {
        let created = match allocation {
            Allocation::Pooled => return Ok(&self.pooled),
            Allocation::OnDemand => &self.on_demand,
            Allocation::GarbageCollected => &self.garbage_collected,
        };
        if let Some(engine) = created.get() {
            return Ok(engine);
        }
        let engine = R::new(self.cache.clone(), allocation)?;
        self.ticker.add(engine.engine());
        Ok(created.get_or_init(|| engine))
    }
}

impl Engine {
    /// Creates the engines. Compiled code is cached in `cache` by the component's digest. If the folder cannot be used,
    /// the host runs without a cache.
    pub fn new(cache: Option<&Path>) -> Result<Engine, EngineError> {
        let (cache, ticker) = (cache.and_then(usable_cache), EpochTicker::start());
        Ok(Engine {
            sequential: Arc::new(Engines::new(cache.clone(), ticker.clone()).map_err(unsupported)?),
            concurrent: Arc::new(Engines::new(cache.clone(), ticker).map_err(unsupported)?),
            compiler_threads: Arc::new(compiler_threads()?),
            compiled: CompiledComponents::default(),
            idle: IdleInstances::with_sweeper(),
            on_demand: OnDemandLimit::default(),
            cache,
            background: BackgroundWork::default(),
        })
    }

    /// The guests that continue after their response.
    pub fn background(&self) -> &BackgroundWork {
        &self.background
    }

    /// The number of instances, of all components and generations.
    pub fn instances(&self) -> u64 {
        let metrics = self.pooled().into_iter().filter_map(wasmtime::Engine::pooling_allocator_metrics);
        metrics.map(|metrics| metrics.component_instances()).sum::<u64>() + self.on_demand.instances()
    }

    /// A function that reads the lookups in the cache of compiled code, if there is a cache.
    pub fn code_cache(&self) -> Option<impl Fn() -> CodeCacheStats + Send + Sync + use<>> {
        let cache = self.cache.clone()?;
        Some(move || CodeCacheStats { hits: cache.cache_hits() as u64, misses: cache.cache_misses() as u64 })
    }

    /// What limits the number of instances of components that this engine compiled.
    pub(super) fn capacity(&self, engine: &wasmtime::Engine) -> Capacity {
        let is_pooled = self.pooled().into_iter().any(|pooled| wasmtime::Engine::same(pooled, engine));
        if is_pooled { Capacity::Slots(engine.clone()) } else { Capacity::OnDemand(self.on_demand.clone()) }
    }

    fn pooled(&self) -> [&wasmtime::Engine; 2] {
        [&self.sequential.pooled.engine, &self.concurrent.pooled.engine]
    }
}

impl Runtime for Sequential {
    fn new(cache: Option<Cache>, allocation: Allocation) -> wasmtime::Result<Sequential> {
        let mut config = wasmtime_config(cache, allocation, SEQUENTIAL_INSTANCES);
        config.concurrency_support(false);
        let engine = wasmtime::Engine::new(&config)?;
        let (lean, p2) = (lean::linker(&engine)?, standard::linker(&engine, HttpWorld::P2)?);
        Ok(Sequential { engine, lean, p2 })
    }

    fn engine(&self) -> &wasmtime::Engine {
        &self.engine
    }
}

impl Runtime for Concurrent {
    fn new(cache: Option<Cache>, allocation: Allocation) -> wasmtime::Result<Concurrent> {
        let mut config = wasmtime_config(cache, allocation, CONCURRENT_INSTANCES);
        config.wasm_component_model_async(true);
        config.wasm_component_model_async_stackful(true);
        config.wasm_component_model_more_async_builtins(true);
        let engine = wasmtime::Engine::new(&config)?;
        let p3 = standard::linker(&engine, HttpWorld::P3)?;
        Ok(Concurrent { engine, p3 })
    }

    fn engine(&self) -> &wasmtime::Engine {
        &self.engine
    }
}

fn unsupported(error: wasmtime::Error) -> EngineError {
    EngineError::Unsupported(format!("{error:#}"))
}

fn wasmtime_config(cache: Option<Cache>, allocation: Allocation, instances: u32) -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.wasm_backtrace_max_frames(MAX_FRAMES);
    // The `symbolizer` module resolves source locations.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config.allocation_strategy(match allocation {
        Allocation::Pooled => InstanceAllocationStrategy::Pooling(pooling(instances)),
        Allocation::OnDemand | Allocation::GarbageCollected => InstanceAllocationStrategy::OnDemand,
    });
    // The heap for garbage collection would take the slot of a second instance. Engines with the same proposals share
    // compiled code in the cache.
    let is_collected = allocation == Allocation::GarbageCollected;
    config.gc_support(is_collected).wasm_gc(is_collected);
    config.wasm_function_references(is_collected).wasm_exceptions(is_collected);
    config.cache(cache);
    config
}

/// The compiler threads, which have a lower priority than those that serve.
fn compiler_threads() -> Result<rayon::ThreadPool, EngineError> {
    let lower_priority = |_| {
        let thread = rustix::thread::gettid();
        if let Err(error) = rustix::process::setpriority_process(Some(thread), COMPILER_NICENESS) {
            tracing::debug!(%error, "the compiler threads keep the default priority");
        }
    };
    let pool = rayon::ThreadPoolBuilder::new().thread_name(|_| "compiler".into()).start_handler(lower_priority);
    // A panic in the compiler fails one swap, not the host.
    let pool = pool.panic_handler(|_| tracing::error!("the compiler panicked")).build();
    pool.map_err(|error| EngineError::Unsupported(error.to_string()))
}

/// A pool for so many instances. The sizes reserve address space, not memory.
fn pooling(instances: u32) -> PoolingAllocationConfig {
    let mut pooling = PoolingAllocationConfig::default();
    pooling
        .total_component_instances(instances)
        .total_core_instances(instances * 4)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .total_memories(instances)
        .total_tables(instances * 2)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_tables_per_module(TABLES_PER_MODULE)
        .total_stacks(instances + SPARE_STACKS)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .max_memory_size(4 << 30)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(16 * 1024)
        .max_unused_warm_slots(WARM_SLOTS);
    pooling
}

/// Opens the cache in a folder, if it can be used.
fn usable_cache(folder: &Path) -> Option<Cache> {
    match open_cache(folder) {
        Ok(cache) => Some(cache),
        Err(reason) => {
            let folder = folder.display();
            tracing::warn!(%folder, reason, "compiled components are not kept: the next start compiles them again");
            None
        }
    }
}

fn open_cache(folder: &Path) -> Result<Cache, String> {
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    // Checked here because Wasmtime would only notice it in a background thread, without an error.
    let probe = folder.join(format!(".writable-{:016x}", fastrand::u64(..)));
    std::fs::write(&probe, []).and_then(|()| std::fs::remove_file(&probe)).map_err(|error| error.to_string())?;
    let folder = folder.canonicalize().map_err(|error| error.to_string())?;
    let mut config = CacheConfig::new();
    config.with_directory(folder);
    Cache::new(config).map_err(|error| format!("{error:#}"))
}
