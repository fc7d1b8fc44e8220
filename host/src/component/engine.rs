//! The Wasmtime engine with its settings, its linker, and the threads that compile.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;
use wasmtime::component::Linker;
use wasmtime::{Cache, CacheConfig, Config, PoolingAllocationConfig, WasmBacktraceDetails};

use super::epoch::Ticker;
use super::guest::lean;
use super::store_data::StoreData;

/// The most instances that exist at one time, over all services and their generations.
///
/// Each reserves 4 GiB of address space, of which a process has 128 TiB.
const MAX_INSTANCES: u32 = 3072;
/// The `nice` value of the threads that compile.
const COMPILER_NICENESS: i32 = 10;
/// Core instances that one component may be made of; one with a WASI adapter has four.
const CORE_INSTANCES: u32 = 16;
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

/// Compiles and links components. One for the whole host; a clone is a handle to the same engine.
#[derive(Clone)]
pub struct Engine {
    pub(super) engine: wasmtime::Engine,
    pub(super) linker: Arc<Linker<StoreData>>,
    pub(super) compilers: Arc<rayon::ThreadPool>,
    _ticker: Arc<Ticker>,
}

impl Engine {
    /// Makes the engine. Compiled code is kept in `cache` and found again by the component's digest. A folder that is of
    /// no use is done without: it only saves time.
    pub fn new(cache: Option<&Path>) -> Result<Engine, EngineError> {
        let engine = wasmtime::Engine::new(&settings(cache)?).map_err(unsupported)?;
        let linker = lean::linker(&engine).map_err(unsupported)?;
        let ticker = Ticker::start(engine.clone());
        let compilers = Arc::new(compilers()?);
        Ok(Engine { engine, linker: Arc::new(linker), compilers, _ticker: Arc::new(ticker) })
    }

    /// How many instances there are, of all components and all their generations.
    pub fn instances(&self) -> u64 {
        self.engine.pooling_allocator_metrics().map_or(0, |metrics| metrics.component_instances())
    }
}

fn unsupported(error: wasmtime::Error) -> EngineError {
    EngineError::Unsupported(format!("{error:#}"))
}

fn settings(cache: Option<&Path>) -> Result<Config, EngineError> {
    let mut config = Config::new();
    config.epoch_interruption(true);
    // Lean guests never run two tasks in one instance, and an engine that knows it is markedly faster.
    config.concurrency_support(false);
    config.wasm_backtrace_max_frames(MAX_FRAMES);
    // Locations in the source are for `symbolizer` to find.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config.allocation_strategy(pooling());
    if let Some(folder) = cache {
        match open_cache(folder) {
            Ok(cache) => {
                config.cache(Some(cache));
            }
            Err(reason) => tracing::warn!(
                folder = %folder.display(),
                reason,
                "compiled components are not kept: the next start compiles them again"
            ),
        }
    }
    Ok(config)
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

/// Room for [`MAX_INSTANCES`]. The sizes reserve address space, not memory.
fn pooling() -> PoolingAllocationConfig {
    let mut pooling = PoolingAllocationConfig::default();
    pooling
        .total_component_instances(MAX_INSTANCES)
        .total_core_instances(MAX_INSTANCES * 4)
        .max_core_instances_per_component(CORE_INSTANCES)
        .total_memories(MAX_INSTANCES)
        .total_tables(MAX_INSTANCES * 2)
        .max_tables_per_component(CORE_INSTANCES)
        .total_stacks(MAX_INSTANCES)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .max_memory_size(4 << 30)
        .table_elements(40_000)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(16 * 1024)
        .max_unused_warm_slots(WARM_SLOTS);
    pooling
}

/// Opens the cache in a folder that can be written.
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
