//! wasmtime's engine with all that must agree, and the clock that its deadlines are read from.

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

/// The only import.
pub(super) const HOST: &str = "podgraft:template/host@0.1.0";

/// The export; its version says what the module expects.
pub(super) const HOOK: &str = "podgraft:template/hook@0.1.0";

/// A Python runtime is 20 MB; a Rust module 70 KB.
const MAX_BYTES: usize = 32 << 20;

/// Calls at one moment. A slot costs address space until it is used, so this is far above what workers and module
/// threads can want; beyond it a call is [`crate::model::hook::Fault::Busy`].
const INSTANCES: u32 = 256;

/// Of a parser's own words about a damaged module.
const MAX_DETAIL_CHARS: usize = 120;

/// wasm stack of a call. It lies on the caller's thread, whose 2 MiB must hold both.
const STACK: usize = 512 << 10;

/// The clock's grain: a deadline is met within one of these.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// The clock rests after this long without calls; ticking costs 0.5 % of a core.
const PARK_AFTER: Duration = Duration::from_secs(1);

/// Compiles template modules; one per process.
#[derive(Debug)]
pub struct Engine {
    pub(super) wasmtime: wasmtime::Engine,
    linker: LinkerCell,
    pub(super) clock: Arc<EpochTicker>,
    /// what is in use, by digest
    compiled: Mutex<HashMap<String, Weak<Module>>>,
}

/// [`Linker`] has no `Debug`.
struct LinkerCell(Linker<State>);

impl std::fmt::Debug for LinkerCell {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Linker")
    }
}

impl Engine {
    /// The engine as podgraft runs it.
    pub fn new() -> anyhow::Result<Self> {
        Self::with_instances(INSTANCES)
    }

    pub(super) fn with_instances(instances: u32) -> anyhow::Result<Self> {
        let engine = wasmtime::Engine::new(&config(instances, nothing_is_swapped()))?;
        let mut linker = Linker::new(&engine);
        host::add_to_linker(&mut linker)?;
        let clock = EpochTicker::start(engine.weak())?;
        Ok(Self { wasmtime: engine, linker: LinkerCell(linker), clock, compiled: Mutex::default() })
    }

    /// Compiles a component, unless the same bytes are in use already. The error is one sentence that names the
    /// module and says what would be right.
    pub fn compile(&self, name: &str, bytes: &[u8]) -> Result<Arc<dyn Hook>, String> {
        let digest = sha256_hex(bytes);
        // held while compiling: a second caller with the same bytes finds them done
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = compiled.get(&digest).and_then(Weak::upgrade) {
            return Ok(module);
        }
        let code = self.link(bytes).map_err(|why| format!("module '{name}' {why}"))?;
        let (clock, record) = (Arc::clone(&self.clock), CallHistory::default());
        let module = Arc::new(Module { digest: digest.clone(), code, clock, record });
        compiled.retain(|_, module| module.strong_count() > 0);
        compiled.insert(digest, Arc::downgrade(&module));
        Ok(module)
    }

    /// Checks and links a component; the error is a sentence's end.
    pub(super) fn link(&self, bytes: &[u8]) -> Result<TemplateModulePre<State>, String> {
        check_form(bytes)?;
        let component = Component::new(&self.wasmtime, bytes).map_err(|error| describe_invalid(&error))?;
        self.check_world(&component)?;
        let linked = self.linker.0.instantiate_pre(&component);
        linked
            .and_then(TemplateModulePre::new)
            .map_err(|error| format!("does not fit policies/wit/template.wit: {error:#}"))
    }

    /// Names and versions of what goes in and out, and the hook's type; linking checks the import's.
    fn check_world(&self, component: &Component) -> Result<(), String> {
        let world = component.component_type();
        if let Some((import, _)) = world.imports(&self.wasmtime).find(|(import, _)| *import != HOST) {
            let hint =
                if import.starts_with("wasi:") { "; a Rust module is built for wasm32-unknown-unknown" } else { "" };
            return Err(format!("imports {import}, but nothing except {HOST} can be imported{hint}"));
        }
        let exports: Vec<&str> = world.exports(&self.wasmtime).map(|(export, _)| export).collect();
        if let Some(hook) = world.get_export(&self.wasmtime, HOOK) {
            let other = || format!("exports {HOOK} in another form than policies/wit/template.wit");
            return self.is_hook(&hook.ty).then_some(()).ok_or_else(other);
        }
        let exports = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
        Err(format!("exports {exports}, but must export {HOOK}"))
    }

    /// wasmtime itself would compare the types at the first call only.
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

/// What the parser means matters more than what it says.
fn describe_invalid(error: &wasmtime::Error) -> String {
    let detail = error.root_cause().to_string();
    let detail = detail.lines().next().unwrap_or_default();
    format!(
        "is damaged or not a whole component: build it again, or copy it here again and compare its sha256 ({})",
        truncate(detail, MAX_DETAIL_CHARS)
    )
}

/// What can be said without compiling.
pub(super) fn check_form(bytes: &[u8]) -> Result<(), String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("has {} bytes, more than the limit of {MAX_BYTES}", bytes.len()));
    }
    match bytes {
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            Err("is a core module, not a component: `podgraft module build FILE` makes one of it".into())
        }
        [0, b'a', b's', b'm', ..] => Ok(()),
        _ => Err("is not WebAssembly: a component's bytes begin with \\0asm".into()),
    }
}

/// SHA-256 as 64 hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        let _ = write!(hex, "{byte:02x}"); // a String takes everything
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
        // the compilers of guests have optimised already: a call takes 2 to 7 % less with `Speed`, compiling 28 % more
        .cranelift_opt_level(OptLevel::None)
        // a trap's text must not quote the guest's symbols
        .wasm_backtrace_max_frames(None)
        // a render is a function: the same bits on every machine
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false);
    config
}

/// A fresh instance costs 1.6 µs from a warm slot, 50 µs without the pool.
fn pool(instances: u32, pagemap_scan: bool) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    // with the scan only pages that were written are reset, and kept; without it all below the limit are
    let keep = if pagemap_scan { 4 << 20 } else { 1 << 20 };
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(4)) // the module itself, and the shims that wit-component adds
        .total_memories(instances)
        .total_tables(instances.saturating_mul(4))
        .linear_memory_keep_resident(keep)
        .table_keep_resident(128 << 10)
        // a slot that a module left holds what it kept resident: a bound on the memory of an idle process
        .max_unused_warm_slots(32)
        .pagemap_scan(if pagemap_scan { Enabled::Auto } else { Enabled::No });
    pool
}

/// wasmtime 48's page scan overlooks a written page that is swapped out, which would then be seen by the next
/// instance in that slot: it is for processes that cannot be swapped only.
fn nothing_is_swapped() -> bool {
    let no_swap = |swaps: String| swaps.lines().count() <= 1; // the first line is a heading
    let cgroup_forbids = || {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
        let max = fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.swap.max")).ok()?;
        Some(max.trim() == "0")
    };
    fs::read_to_string("/proc/swaps").is_ok_and(no_swap) || cgroup_forbids().unwrap_or(false)
}

/// Advances the engine's epoch by one a millisecond while calls run, and rests while none do.
#[derive(Debug)]
pub(super) struct EpochTicker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct Shared {
    /// calls that run now
    active: AtomicUsize,
    /// a call has run since the clock last looked
    used: AtomicBool,
    resting: AtomicBool,
    stopped: AtomicBool,
}

impl EpochTicker {
    fn start(engine: EngineWeak) -> anyhow::Result<Arc<Self>> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = thread::Builder::new().name("module-clock".into()).spawn(move || own.tick(&engine))?;
        Ok(Arc::new(Self { shared, thread: thread.thread().clone() }))
    }

    #[cfg(test)]
    pub(super) fn is_parked(&self) -> bool {
        self.shared.resting.load(Ordering::SeqCst)
    }

    /// Keeps the clock going until the guard is dropped.
    pub(super) fn ticking(&self) -> TickGuard<'_> {
        self.shared.active.fetch_add(1, Ordering::SeqCst);
        if !self.shared.used.load(Ordering::Relaxed) {
            self.shared.used.store(true, Ordering::Relaxed);
        }
        // SeqCst on both sides: either the clock sees this call before it rests, or this call sees it resting
        if self.shared.resting.load(Ordering::SeqCst) {
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

/// A call that needs the clock.
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
            // by what passed, not by one: a late wake-up must not stretch deadlines
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
        self.resting.store(true, Ordering::SeqCst);
        while self.active.load(Ordering::SeqCst) == 0 && !self.stopped.load(Ordering::SeqCst) {
            thread::park();
        }
        self.resting.store(false, Ordering::SeqCst);
    }
}
