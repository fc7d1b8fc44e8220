//! The Wasmtime engines with their settings, their linkers, and the threads that compile.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use thiserror::Error;
use wasmtime::component::Linker;
use wasmtime::{Cache, CacheConfig, Config, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use super::background::BackgroundWork;
use super::compiled::CompiledComponents;
use super::contract::HttpWorld;
use super::epoch::Ticker;
use super::guest::{lean, standard};
use super::idle::IdleInstances;
use super::store_data::{StoreData, TABLE_ELEMENTS};

/// The slots of either engine, and so the most instances that exist in them at one time, over all services and their generations.
///
/// Each reserves 4 GiB of address space, of which a process has 128 TiB.
const SEQUENTIAL_INSTANCES: u32 = 3072;
const CONCURRENT_INSTANCES: u32 = 1024;
/// The `nice` value of the threads that compile.
const COMPILER_NICENESS: i32 = 10;
/// Core instances that one component may be made of: one with a WASI adapter has four, a Python interpreter with its
/// libraries some dozens.
const CORE_INSTANCES: u32 = 256;
/// Tables that one component may have, and one module of it.
const TABLES: u32 = 64;
const TABLES_OF_MODULE: u32 = 16;
/// Frames that the backtrace of a trap shows.
const MAX_FRAMES: Option<NonZeroUsize> = NonZeroUsize::new(40);
/// Bytes of a freed instance's memory that are cleared by hand and kept, which is cheaper than giving the pages back.
const KEEP_RESIDENT: usize = 256 * 1024;

/// Slots of freed instances that are left as they are for the next instance of the same component. Each holds up to
/// [`KEEP_RESIDENT`] bytes, also for components that no longer serve.
const WARM_SLOTS: u32 = 32;

/// Why the engine could not be made.
#[derive(Debug, Error)]
pub enum EngineError {
    /// Wasmtime refused its settings on this machine.
    #[error("WebAssembly cannot run on this machine: {0}")]
    Unsupported(String),
}

/// Compiles and links components. One for the whole host; a clone is a handle to the same engines.
#[derive(Clone)]
pub struct Engine {
    pub(super) sequential: Arc<Engines<Sequential>>,
    pub(super) concurrent: Arc<Engines<Concurrent>>,
    pub(super) compilers: Arc<rayon::ThreadPool>,
    pub(super) compiled: CompiledComponents,
    pub(super) idle: IdleInstances,
    pub(super) background: BackgroundWork,
}

/// Runs what never has two tasks in one instance: lean components and those of WASI 0.2. An engine that knows it is
/// markedly faster.
pub(super) struct Sequential {
    pub engine: wasmtime::Engine,
    pub lean: Linker<StoreData>,
    pub p2: Linker<StoreData>,
    _ticker: Ticker,
}

/// Runs components of WASI 0.3.
pub(super) struct Concurrent {
    pub engine: wasmtime::Engine,
    pub p3: Linker<StoreData>,
    _ticker: Ticker,
}

/// Where the instances of an engine come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allocation {
    /// Out of slots that are set aside: fast, for components within the limits of a slot.
    Pooled,
    /// From the system, one by one: for components that fit no slot.
    OnDemand,
}

/// An engine of one kind.
pub(super) trait Runtime: Sized {
    /// Makes one.
    fn make(cache: Option<Cache>, allocation: Allocation) -> wasmtime::Result<Self>;

    /// The engine itself.
    fn engine(&self) -> &wasmtime::Engine;
}

/// The engines of one kind, by where their instances come from.
pub(super) struct Engines<R> {
    pub pooled: R,
    /// Made when the first component needs it.
    on_demand: OnceLock<R>,
    cache: Option<Cache>,
}

impl<R: Runtime> Engines<R> {
    fn new(cache: Option<Cache>) -> wasmtime::Result<Engines<R>> {
        let pooled = R::make(cache.clone(), Allocation::Pooled)?;
        Ok(Engines { pooled, on_demand: OnceLock::new(), cache })
    }

    /// The engine for components that fit no slot.
    pub fn on_demand(&self) -> wasmtime::Result<&R> {
        if let Some(made) = self.on_demand.get() {
            return Ok(made);
        }
        let made = R::make(self.cache.clone(), Allocation::OnDemand)?;
        Ok(self.on_demand.get_or_init(|| made))
    }
}

impl Engine {
    /// Makes the engines. Compiled code is kept in `cache` and found again by the component's digest. A folder that is of
    /// no use is done without: it only saves time.
    pub fn new(cache: Option<&Path>) -> Result<Engine, EngineError> {
        let cache = cache.and_then(usable_cache);
        Ok(Engine {
            sequential: Arc::new(Engines::new(cache.clone()).map_err(unsupported)?),
            concurrent: Arc::new(Engines::new(cache).map_err(unsupported)?),
            compilers: Arc::new(compilers()?),
            compiled: CompiledComponents::default(),
            idle: IdleInstances::with_sweeper(),
            background: BackgroundWork::default(),
        })
    }

    /// The guests that go on after their response.
    pub fn background(&self) -> &BackgroundWork {
        &self.background
    }

    /// How many instances there are in slots, of all components and all their generations.
    pub fn instances(&self) -> u64 {
        let engines = [&self.sequential.pooled.engine, &self.concurrent.pooled.engine].into_iter();
        engines.filter_map(|engine| Some(engine.pooling_allocator_metrics()?.component_instances())).sum()
    }
}

impl Runtime for Sequential {
    fn make(cache: Option<Cache>, allocation: Allocation) -> wasmtime::Result<Sequential> {
        let mut config = settings(cache, allocation, SEQUENTIAL_INSTANCES);
        config.concurrency_support(false);
        let engine = wasmtime::Engine::new(&config)?;
        let (lean, p2) = (lean::linker(&engine)?, standard::linker(&engine, HttpWorld::P2)?);
        Ok(Sequential { _ticker: Ticker::start(engine.clone()), engine, lean, p2 })
    }

    fn engine(&self) -> &wasmtime::Engine {
        &self.engine
    }
}

impl Runtime for Concurrent {
    fn make(cache: Option<Cache>, allocation: Allocation) -> wasmtime::Result<Concurrent> {
        let mut config = settings(cache, allocation, CONCURRENT_INSTANCES);
        config.wasm_component_model_async(true);
        config.wasm_component_model_async_stackful(true);
        config.wasm_component_model_more_async_builtins(true);
        let engine = wasmtime::Engine::new(&config)?;
        let p3 = standard::linker(&engine, HttpWorld::P3)?;
        Ok(Concurrent { _ticker: Ticker::start(engine.clone()), engine, p3 })
    }

    fn engine(&self) -> &wasmtime::Engine {
        &self.engine
    }
}

fn unsupported(error: wasmtime::Error) -> EngineError {
    EngineError::Unsupported(format!("{error:#}"))
}

fn settings(cache: Option<Cache>, allocation: Allocation, instances: u32) -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.wasm_backtrace_max_frames(MAX_FRAMES);
    // Locations in the source are for `symbolizer` to find.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config.allocation_strategy(match allocation {
        Allocation::Pooled => InstanceAllocationStrategy::Pooling(pooling(instances)),
        Allocation::OnDemand => InstanceAllocationStrategy::OnDemand,
    });
    config.cache(cache);
    config
}

/// The threads that compile. They give way to those that serve.
fn compilers() -> Result<rayon::ThreadPool, EngineError> {
    let give_way = |_| {
        let thread = rustix::thread::gettid();
        if let Err(error) = rustix::process::setpriority_process(Some(thread), COMPILER_NICENESS) {
            tracing::debug!(%error, "the compiler threads keep the usual priority");
        }
    };
    let pool = rayon::ThreadPoolBuilder::new().thread_name(|_| "compiler".into()).start_handler(give_way);
    // A compiler that panics fails the one swap; the host goes on.
    let pool = pool.panic_handler(|_| tracing::error!("the compiler panicked")).build();
    pool.map_err(|error| EngineError::Unsupported(error.to_string()))
}

/// Room for so many instances. The sizes reserve address space, not memory.
fn pooling(instances: u32) -> PoolingAllocationConfig {
    let mut pooling = PoolingAllocationConfig::default();
    pooling
        .total_component_instances(instances)
        .total_core_instances(instances * 4)
        .max_core_instances_per_component(CORE_INSTANCES)
        .total_memories(instances)
        .total_tables(instances * 2)
        .max_tables_per_component(TABLES)
        .max_tables_per_module(TABLES_OF_MODULE)
        .total_stacks(instances)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .max_memory_size(4 << 30)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(16 * 1024)
        .max_unused_warm_slots(WARM_SLOTS);
    pooling
}

/// Opens the cache in a folder that can be written.
/// The cache in a folder, if it can be used.
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
    // Wasmtime would only notice in a thread of its own, and say nothing of it.
    let probe = folder.join(format!(".writable-{:016x}", fastrand::u64(..)));
    std::fs::write(&probe, []).and_then(|()| std::fs::remove_file(&probe)).map_err(|error| error.to_string())?;
    let folder = folder.canonicalize().map_err(|error| error.to_string())?;
    let mut config = CacheConfig::new();
    config.with_directory(folder);
    Cache::new(config).map_err(|error| format!("{error:#}"))
}
