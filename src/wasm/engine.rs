//! The compiler of modules: wasmtime's engine with its settings, and the ticker that drives its deadlines.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, Type};
use wasmtime::{Config, Enabled, EngineWeak, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use super::host::{self, State, TemplateModulePre};
use super::{CallHistory, Module};
use crate::model::hook::Hook;
use crate::model::review::truncate;

/// The only interface that a module may import.
pub(super) const HOST: &str = "podgraft:template/host@0.1.0";

/// The interface that a module must export; its version is the version of the contract.
pub(super) const HOOK: &str = "podgraft:template/hook@0.1.0";

/// Maximum bytes of a module. A Python runtime has 20 MB, a Rust module 70 KB.
const MAX_BYTES: usize = 32 << 20;

/// Maximum calls at one moment. A slot costs address space until it is used, so this is far above what workers and
/// module threads need; beyond it a call is [`crate::model::hook::HookError::Unavailable`].
const INSTANCES: u32 = 256;

/// Maximum characters of a parser's message about a damaged module.
const MAX_DETAIL_CHARS: usize = 120;

/// Bytes of a call's wasm stack. It lies on the caller's thread, whose 2 MiB must hold both.
const STACK: usize = 512 << 10;

/// Interval of the ticker, and the precision of deadlines.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// Time without calls after which the ticker is parked; ticking costs 0.5 % of a core.
const PARK_AFTER: Duration = Duration::from_secs(1);

/// The compiler of template modules; one per process.
#[derive(Debug)]
pub struct Engine {
    pub(super) wasmtime: wasmtime::Engine,
    linker: LinkerCell,
    pub(super) ticker: Arc<EpochTicker>,
    /// modules in use, by digest
    compiled: Mutex<HashMap<String, Weak<Module>>>,
}

/// A [`Linker`] with `Debug`.
struct LinkerCell(Linker<State>);

impl std::fmt::Debug for LinkerCell {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Linker")
    }
}

impl Engine {
    /// Creates the engine with podgraft's settings.
    ///
    /// # Errors
    /// wasmtime cannot reserve its address space, or the ticker's thread cannot be started.
    pub fn new() -> anyhow::Result<Self> {
        Self::with_instances(INSTANCES)
    }

    pub(super) fn with_instances(instances: u32) -> anyhow::Result<Self> {
        let engine = wasmtime::Engine::new(&config(instances, has_no_swap()))?;
        let mut linker = Linker::new(&engine);
        host::add_to_linker(&mut linker)?;
        let ticker = EpochTicker::start(engine.weak())?;
        Ok(Self { wasmtime: engine, linker: LinkerCell(linker), ticker, compiled: Mutex::default() })
    }

    /// Compiles a component, unless a module with these bytes is in use.
    ///
    /// # Errors
    /// The bytes are not a module that podgraft can run; one sentence names the module and what would be right.
    pub fn compile(&self, name: &str, bytes: &[u8]) -> Result<Arc<dyn Hook>, String> {
        let digest = sha256_hex(bytes);
        // held while compiling, so that a second caller with these bytes does not compile them too
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = compiled.get(&digest).and_then(Weak::upgrade) {
            return Ok(module);
        }
        let code = self.link(bytes).map_err(|error| format!("module '{name}' {error}"))?;
        let (ticker, history) = (Arc::clone(&self.ticker), CallHistory::default());
        let module = Arc::new(Module { digest: digest.clone(), code, ticker, history });
        compiled.retain(|_, module| module.strong_count() > 0);
        compiled.insert(digest, Arc::downgrade(&module));
        Ok(module)
    }

    /// Checks and links a component; the error is the end of a sentence about the module.
    pub(super) fn link(&self, bytes: &[u8]) -> Result<TemplateModulePre<State>, String> {
        check_form(bytes)?;
        let component = Component::new(&self.wasmtime, bytes).map_err(|error| describe_invalid(&error))?;
        self.check_world(&component)?;
        let linked = self.linker.0.instantiate_pre(&component);
        linked
            .and_then(TemplateModulePre::new)
            .map_err(|error| format!("does not match policies/wit/template.wit: {error:#}"))
    }

    /// Checks names and versions of imports and exports, and the hook's type; linking checks the import's type.
    fn check_world(&self, component: &Component) -> Result<(), String> {
        let world = component.component_type();
        if let Some((import, _)) = world.imports(&self.wasmtime).find(|(import, _)| *import != HOST) {
            let hint =
                if import.starts_with("wasi:") { "; a Rust module is built for wasm32-unknown-unknown" } else { "" };
            return Err(format!("imports {import}, but only {HOST} can be imported{hint}"));
        }
        let exports: Vec<&str> = world.exports(&self.wasmtime).map(|(export, _)| export).collect();
        if let Some(hook) = world.get_export(&self.wasmtime, HOOK) {
            let error = || format!("exports {HOOK} with another signature than in policies/wit/template.wit");
            return self.is_hook(&hook.ty).then_some(()).ok_or_else(error);
        }
        let exports = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
        Err(format!("exports {exports}, but must export {HOOK}"))
    }

    /// Returns true if an export has the hook's type. wasmtime itself compares types at the first call only.
    fn is_hook(&self, hook: &ComponentItem) -> bool {
        let ComponentItem::ComponentInstance(hook) = hook else { return false };
        let update = hook.get_export(&self.wasmtime, "update-template");
        let Some(ComponentItem::ComponentFunc(update)) = update.map(|update| update.ty) else { return false };
        let Some(Type::Result(result)) = update.results().next() else { return false };
        let Some(Type::Variant(outcome)) = result.ok() else { return false };
        update.params().map(|(_, parameter)| parameter).eq([Type::String, Type::String])
            && result.err() == Some(Type::String)
            && outcome.cases().map(|case| (case.name, case.ty)).eq([
                ("unchanged", None),
                ("template", Some(Type::String)),
                ("fragment", Some(Type::String)),
            ])
    }
}

/// Returns the advice for bytes that wasmtime cannot compile, with the first line of the parser's message.
fn describe_invalid(error: &wasmtime::Error) -> String {
    let detail = error.root_cause().to_string();
    let detail = detail.lines().next().unwrap_or_default();
    format!(
        "is damaged or incomplete: build it again, or copy it again and compare its sha256 ({})",
        truncate(detail, MAX_DETAIL_CHARS)
    )
}

/// Checks size and magic number; the error is the end of a sentence about the module.
pub(super) fn check_form(bytes: &[u8]) -> Result<(), String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("has {} bytes, more than the limit of {MAX_BYTES}", bytes.len()));
    }
    match bytes {
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            Err("is a core module, not a component: `podgraft module build FILE` makes it one".into())
        }
        [0, b'a', b's', b'm', ..] => Ok(()),
        _ => Err("is not WebAssembly: a component's bytes begin with \\0asm".into()),
    }
}

/// Returns the SHA-256 as 64 lower-case hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        let _ = write!(hex, "{byte:02x}"); // writing to a String cannot fail
    }
    hex
}

fn config(instances: u32, pagemap_scan: bool) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(instances, pagemap_scan)))
        .memory_init_cow(true)
        .max_wasm_stack(STACK)
        .concurrency_support(false)
        // guests are optimised when they are built: with `Speed` a call takes 2 to 7 % less, compiling 28 % more
        .cranelift_opt_level(OptLevel::None)
        // a trap's text must not quote the guest's symbols
        .wasm_backtrace_max_frames(None)
        // a call's result depends on its arguments only: equal bits on every machine
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false);
    config
}

/// Returns the settings of the instance pool. A fresh instance costs 1.6 µs from a warm slot, 50 µs without the pool.
fn pool(instances: u32, pagemap_scan: bool) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    // bytes that stay resident: with the scan only written pages are reset, without it all of them
    let keep = if pagemap_scan { 4 << 20 } else { 1 << 20 };
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(4)) // the module, and the shims that wit-component adds
        .total_memories(instances)
        .total_tables(instances.saturating_mul(4))
        .linear_memory_keep_resident(keep)
        .table_keep_resident(128 << 10)
        // limits the memory of an idle process, as an unused warm slot keeps its resident pages
        .max_unused_warm_slots(32)
        .pagemap_scan(if pagemap_scan { Enabled::Auto } else { Enabled::No });
    pool
}

/// Returns true if the process cannot be swapped. wasmtime 48's page scan misses a written page that is swapped out, and
/// the next instance in that slot would see it.
fn has_no_swap() -> bool {
    let no_swap = |swaps: String| swaps.lines().count() <= 1; // the first line is a heading
    let cgroup_forbids = || {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
        let max = fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.swap.max")).ok()?;
        Some(max.trim() == "0")
    };
    fs::read_to_string("/proc/swaps").is_ok_and(no_swap) || cgroup_forbids().unwrap_or(false)
}

/// A thread that advances the engine's epoch by one a millisecond while calls run, and is parked while none do.
#[derive(Debug)]
pub(super) struct EpochTicker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct Shared {
    /// calls that run now
    active: AtomicUsize,
    /// true if a call has run since the last tick
    used: AtomicBool,
    parked: AtomicBool,
    stopped: AtomicBool,
}

impl EpochTicker {
    fn start(engine: EngineWeak) -> anyhow::Result<Arc<Self>> {
        let shared = Arc::new(Shared::default());
        let ticking = Arc::clone(&shared);
        let thread = thread::Builder::new().name("module-clock".into()).spawn(move || ticking.tick(&engine))?;
        Ok(Arc::new(Self { shared, thread: thread.thread().clone() }))
    }

    #[cfg(test)]
    pub(super) fn is_parked(&self) -> bool {
        self.shared.parked.load(Ordering::SeqCst)
    }

    /// Keeps the ticker running until the guard is dropped.
    pub(super) fn ticking(&self) -> TickGuard<'_> {
        self.shared.active.fetch_add(1, Ordering::SeqCst);
        if !self.shared.used.load(Ordering::Relaxed) {
            self.shared.used.store(true, Ordering::Relaxed);
        }
        // SeqCst on both sides: either the ticker sees this call before it parks, or this call sees it parked
        if self.shared.parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        TickGuard(&self.shared)
    }
}

impl Drop for EpochTicker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// The guard of a running call, for which the ticker runs.
pub(super) struct TickGuard<'c>(&'c Shared);

impl Drop for TickGuard<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    fn tick(&self, engine: &EngineWeak) {
        let mut last = Instant::now();
        let mut idle_since = last;
        while !self.stopped.load(Ordering::SeqCst) {
            thread::sleep(TICK);
            let Some(engine) = engine.upgrade() else { return };
            // by the time that passed, not by one: a late wake-up must not extend deadlines
            let now = Instant::now();
            while last + TICK <= now {
                engine.increment_epoch();
                last += TICK;
            }
            if self.active.load(Ordering::SeqCst) > 0 || self.used.swap(false, Ordering::Relaxed) {
                idle_since = now;
            } else if now.duration_since(idle_since) >= PARK_AFTER {
                drop(engine);
                self.park();
                last = Instant::now();
                idle_since = last;
            }
        }
    }

    fn park(&self) {
        self.parked.store(true, Ordering::SeqCst);
        while self.active.load(Ordering::SeqCst) == 0 && !self.stopped.load(Ordering::SeqCst) {
            thread::park();
        }
        self.parked.store(false, Ordering::SeqCst);
    }
}
