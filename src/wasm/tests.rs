//! The sandbox, called with the guests of `policies/misbehaving`.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::model::hook::{LogLevel, LogLine};
use crate::model::placeholder::look_up;

/// Enough time on the slowest machine: no test measures time.
const PLENTY: Duration = Duration::from_secs(20);

/// Enough time for a guest that ends, and a short wait for one that never does.
const SHORT: Duration = Duration::from_millis(30);

const MEMORY: u64 = 8 << 20;

fn misbehaving(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("policies/misbehaving/{name}.wat"));
    wat::parse_file(&path).unwrap_or_else(|error| panic!("{error}"))
}

fn module(name: &str) -> Arc<dyn Hook> {
    Engine::new().unwrap().compile(name, &misbehaving(name)).unwrap()
}

/// Makes one pooled call.
fn call(module: &dyn Hook, template: &str, task_config: Value, time: Duration) -> HookResponse {
    let budget = Budget { time, memory: MEMORY };
    let (task_config, execution) = (Arc::new(task_config), Execution::Pooled(&|| PLENTY));
    module.call(&HookRequest { request: "{}", template, task_config: &task_config, budget, execution })
}

fn inline(module: &dyn Hook, template: &str) -> HookResponse {
    let task_config = Arc::new(Value::Null);
    let budget = Budget { time: PLENTY, memory: MEMORY };
    module.call(&HookRequest {
        request: "{}",
        template,
        task_config: &task_config,
        budget,
        execution: Execution::Inline,
    })
}

fn run(name: &str, template: &str) -> Result<HookOutput, HookError> {
    call(&*module(name), template, Value::Null, PLENTY).result
}

#[expect(clippy::unnecessary_wraps, reason = "calls' results are compared with it")]
fn fragment(text: &str) -> Result<HookOutput, HookError> {
    Ok(HookOutput::Fragment(text.into()))
}

fn load_error(name: &str) -> String {
    Engine::new().unwrap().compile(name, &misbehaving(name)).expect_err(name)
}

#[test]
fn a_fragment_comes_back() {
    assert_eq!(run("echo", "{\"spec\":{}}"), fragment("{\"spec\":{}}"));
}

#[test]
fn every_failure_of_a_guest_has_its_own_error() {
    let trap = |text: &str| Err(HookError::Trap(text.into()));
    assert_eq!(run("memory", "x"), Err(HookError::Memory(MEMORY)));
    assert_eq!(run("memory-at-start", "x"), Err(HookError::Memory(MEMORY)));
    assert_eq!(run("table", "x"), trap("table grown beyond its limit"));
    assert_eq!(run("stack", "x"), Err(HookError::Stack));
    assert_eq!(run("output", "x"), Err(HookError::Output(MAX_OUTPUT)));
    assert_eq!(run("trap", "x"), trap("wasm `unreachable` instruction executed"));
    assert_eq!(run("not-utf8", "x"), trap("a result that is not UTF-8"));
    assert_eq!(run("out-of-bounds", "x"), trap("a result that breaks the component ABI"));
    assert_eq!(run("deny", "no queue"), Err(HookError::Denied("no queue".into())));
}

#[test]
fn a_loop_ends_at_its_deadline_in_the_hook_and_at_the_start() {
    for name in ["loop", "start-loop"] {
        assert_eq!(call(&*module(name), "x", Value::Null, SHORT).result, Err(HookError::TimedOut(SHORT)), "{name}");
    }
}

#[test]
fn the_rest_of_the_request_timeout_limits_a_call_too() {
    let (task_config, budget) = (Arc::new(Value::Null), Budget { time: PLENTY, memory: MEMORY });
    let within = |name: &str, left: Duration| {
        let left = move || left;
        let execution = Execution::Pooled(&left);
        module(name)
            .call(&HookRequest { request: "", template: "", task_config: &task_config, budget, execution })
            .result
    };
    assert_eq!(within("loop", SHORT), Err(HookError::TimedOut(SHORT)));
    assert_eq!(within("echo", Duration::ZERO), Err(HookError::Unavailable));
}

#[test]
fn memory_within_the_budget_is_granted() {
    let budget = Budget { time: PLENTY, memory: 2 << 16 }; // the initial memory of `echo`
    let task_config = Arc::new(Value::Null);
    let with = |budget: Budget| {
        let execution = Execution::Pooled(&|| PLENTY);
        module("echo")
            .call(&HookRequest { request: "", template: "x", task_config: &task_config, budget, execution })
            .result
    };
    assert_eq!(with(budget), fragment("x"));
    assert_eq!(with(Budget { memory: budget.memory - 1, ..budget }), Err(HookError::Memory(budget.memory - 1)));
}

#[test]
fn a_result_that_is_not_json_is_returned_as_it_is() {
    assert_eq!(run("not-json", "x"), fragment("not json"));
}

#[test]
fn every_call_has_an_instance_of_its_own() {
    let counter = module("counter");
    for _ in 0..50 {
        assert_eq!(call(&*counter, "x", Value::Null, PLENTY).result, fragment("11"));
    }
}

#[test]
fn the_next_call_does_not_see_the_memory_of_a_call() {
    let engine = Engine::with_instances(1).unwrap(); // one slot, so that it is used again
    let modules = ["counter", "trap", "echo"].map(|name| engine.compile(name, &misbehaving(name)).unwrap());
    for _ in 0..5 {
        assert_eq!(call(&*modules[0], "x", Value::Null, PLENTY).result, fragment("11"));
        assert!(call(&*modules[1], "secret", Value::Null, PLENTY).result.is_err());
        assert_eq!(call(&*modules[2], "x", Value::Null, PLENTY).result, fragment("x"));
    }
}

#[test]
fn logs_are_kept_up_to_their_limits() {
    let logger = module("log");
    let short = call(&*logger, "hello", Value::Null, PLENTY);
    assert_eq!(short.result, Ok(HookOutput::Unchanged));
    assert_eq!(short.logs.len(), 101);
    assert_eq!(short.logs[0], LogLine { level: LogLevel::Error, message: "hello".into() });
    assert_eq!(short.logs[100], LogLine { level: LogLevel::Warn, message: "900 more lines were dropped".into() });

    let long = call(&*logger, &"é".repeat(3000), Value::Null, PLENTY);
    assert_eq!(long.logs[0].message, "é".repeat(1024));
    assert_eq!(long.logs.len(), 9, "8 lines of 2 KiB make 16 KiB");
}

#[test]
fn configuration_is_looked_up_by_path() {
    let tree = json!({"nfs": {"server": {"ip": "10.0.0.1"}, "none": null}, "a.b": {"c": 1}, "": 2, "list": [1]});
    let found = |path: &str| look_up(&tree, path).map(Value::to_string);
    assert_eq!(found("nfs.server.ip").as_deref(), Some("\"10.0.0.1\""));
    assert_eq!(found("nfs.server").as_deref(), Some("{\"ip\":\"10.0.0.1\"}"));
    assert_eq!(found("nfs.none").as_deref(), Some("null"));
    assert_eq!(found("\"a.b\".c").as_deref(), Some("1"));
    assert_eq!(found("\"nfs\".\"server\".ip").as_deref(), Some("\"10.0.0.1\""));
    for missing in
        ["nfs.server.port", "nfs.server.ip.x", "a.b", "nfs.", ".nfs", "\"a.b", "\"a.b\"c", "list.0", "nfs..ip"]
    {
        assert_eq!(found(missing), None, "{missing}");
    }
}

#[test]
fn a_guest_sees_the_configuration() {
    let config = module("config");
    let tree = json!({"nfs": {"server": "x"}});
    assert_eq!(call(&*config, "nfs", tree.clone(), PLENTY).result, fragment("{\"server\":\"x\"}"));
    assert_eq!(call(&*config, "smb", tree, PLENTY).result, Ok(HookOutput::Unchanged));
}

fn inject_nfs() -> Arc<dyn Hook> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/inject-nfs.wasm");
    Engine::new().unwrap().compile("inject-nfs", &std::fs::read(path).unwrap()).unwrap()
}

/// One call of `inject-nfs` with these parameters and this `task_config`.
fn nfs(params: &Value, task_config: Value) -> Result<HookOutput, HookError> {
    let request = json!({"queue": "1", "queue_name": "q", "params": params, "new_field": [1]}).to_string();
    let (task_config, execution) = (Arc::new(task_config), Execution::Pooled(&|| PLENTY));
    let budget = Budget { time: PLENTY, memory: MEMORY };
    inject_nfs()
        .call(&HookRequest { request: &request, template: "{}", task_config: &task_config, budget, execution })
        .result
}

#[test]
fn inject_nfs_mounts_what_the_configuration_has() {
    let section = json!({"nfs": {"server": {"ip": "10.0.0.7", "path": "/export"}, "mountPath": "/mnt/nfs"}});
    let expected = |volume: &str, path: &str| {
        json!({"spec": {
            "volumes": [{"name": volume, "nfs": {"server": "10.0.0.7", "path": "/export"}}],
            "containers": [{"name": "primary", "volumeMounts": [{"name": volume, "mountPath": path}]}],
        }})
    };
    let fragment = |result: Result<HookOutput, HookError>| match result {
        Ok(HookOutput::Fragment(text)) => serde_json::from_str::<Value>(&text).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(fragment(nfs(&Value::Null, section.clone())), expected("custom-mount", "/mnt/nfs"));
    assert_eq!(fragment(nfs(&json!({"volume": "v", "mountPath": "/p"}), section)), expected("v", "/mnt/nfs"));
    let without = json!({"nfs": {"server": {"ip": "10.0.0.7", "path": "/export"}}});
    assert_eq!(fragment(nfs(&json!({"mountPath": "/p"}), without)), expected("custom-mount", "/p"));
}

#[test]
fn inject_nfs_changes_no_task_without_nfs() {
    for task_config in [Value::Null, json!({}), json!({"nfs": null}), json!({"smb": {}})] {
        assert_eq!(nfs(&json!({}), task_config), Ok(HookOutput::Unchanged));
    }
}

#[test]
fn inject_nfs_names_what_is_missing() {
    let cases = [
        (json!({}), "task_config nfs.server.ip is missing"),
        (json!({"server": {"ip": "", "path": "/e"}}), "task_config nfs.server.ip is missing"),
        // a dotted key is not a path: `server.ip` is `ip` in `server`
        (json!({"server.ip": "10.0.0.7"}), "task_config nfs.server.ip is missing"),
        (json!({"server": {"ip": "10.0.0.7"}}), "task_config nfs.server.path is missing"),
        (
            json!({"server": {"ip": "10.0.0.7", "path": "/e"}}),
            "task_config nfs.mountPath (or params.mountPath) is missing",
        ),
    ];
    for (section, text) in cases {
        assert_eq!(nfs(&json!({}), json!({ "nfs": section })), Err(HookError::Denied(text.into())));
    }
}

#[test]
fn an_invalid_module_is_an_error_with_the_reason() {
    let cases = [
        (
            "core-module",
            "module 'core-module' is a core module, not a component: `podgraft module build FILE` makes it one",
        ),
        (
            "imports",
            "module 'imports' imports wasi:clocks/monotonic-clock@0.2.0, but only \
             podgraft:template/host@0.1.0 can be imported; a Rust module is built for wasm32-unknown-unknown",
        ),
        (
            "other-version",
            "module 'other-version' exports podgraft:template/hook@0.2.0, but must export podgraft:template/hook@0.1.0",
        ),
        (
            "signature",
            "module 'signature' exports podgraft:template/hook@0.1.0 with another signature than in policies/wit/template.wit",
        ),
        ("nothing", "module 'nothing' exports nothing, but must export podgraft:template/hook@0.1.0"),
    ];
    for (name, text) in cases {
        assert_eq!(load_error(name), text);
    }
    let engine = Engine::new().unwrap();
    let text = engine.compile("t", b"(component)").unwrap_err();
    assert!(text.starts_with("module 't' is not WebAssembly"), "{text}");
    let broken = engine.compile("t", b"\0asm\x0d\0\x01\0\x01").unwrap_err();
    assert!(broken.starts_with("module 't' is damaged or incomplete: build it again, or copy it again"), "{broken}");
    let large = engine.compile("t", &vec![0; (32 << 20) + 1]).unwrap_err();
    assert!(large.contains("more than the limit of 33554432"), "{large}");
}

#[test]
fn equal_bytes_are_compiled_once_while_in_use() {
    let (engine, bytes) = (Engine::new().unwrap(), misbehaving("echo"));
    let first = engine.compile("a", &bytes).unwrap();
    let second = engine.compile("b", &bytes).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let weak = Arc::downgrade(&first);
    drop((first, second));
    assert!(weak.upgrade().is_none());
    assert!(engine.compile("a", &bytes).is_ok());
}

#[test]
fn a_call_without_a_free_instance_is_unavailable() {
    let engine = Engine::with_instances(1).unwrap();
    let echo = engine.compile("echo", &misbehaving("echo")).unwrap();
    let code = engine.link(&misbehaving("echo")).unwrap();
    let (task_config, budget, execution) = (Arc::new(Value::Null), Budget::default(), Execution::Inline);
    let mut store = Store::new(
        code.engine(),
        State::new(&HookRequest { request: "", template: "", task_config: &task_config, budget, execution }),
    );
    store.set_epoch_deadline(u64::MAX / 2);
    code.instantiate(&mut store).unwrap();
    assert_eq!(call(&*echo, "x", Value::Null, PLENTY).result, Err(HookError::Unavailable));
    drop(store);
    assert_eq!(call(&*echo, "x", Value::Null, PLENTY).result, fragment("x"));
}

#[test]
fn a_module_is_fast_after_enough_fast_calls_until_it_times_out_too_often() {
    let history = CallHistory::default();
    for timeouts in 0..MAX_TIMEOUTS {
        for _ in 0..FAST_CALLS {
            assert!(!history.is_fast(), "after {timeouts} timeouts it needs all fast calls again");
            history.fast_call();
        }
        assert!(history.is_fast());
        history.fast_call();
        assert!(history.is_fast());
        history.timed_out();
    }
    for _ in 0..2 * FAST_CALLS {
        history.fast_call();
        assert!(!history.is_fast());
    }
}

#[test]
fn a_fast_module_runs_inline_until_it_times_out() {
    let module = module("sometimes");
    assert_eq!(inline(&*module, "x").result, Err(HookError::TooSlowInline));
    for _ in 0..100 * FAST_CALLS {
        // far more than needed: a busy machine may make some of them slow
        assert_eq!(call(&*module, "x", Value::Null, PLENTY).result, fragment("x"));
        if inline(&*module, "x").result.is_ok() {
            break;
        }
    }
    assert_eq!(inline(&*module, "x").result, fragment("x"));
    assert_eq!(inline(&*module, "L").result, Err(HookError::TooSlowInline));
    assert_eq!(call(&*module, "x", Value::Null, PLENTY).result, fragment("x"));
    assert_eq!(inline(&*module, "x").result, Err(HookError::TooSlowInline), "it is pooled again");
}

#[test]
fn a_parked_ticker_wakes_for_a_call() {
    let engine = Engine::new().unwrap();
    let module = engine.compile("sometimes", &misbehaving("sometimes")).unwrap();
    assert_eq!(call(&*module, "x", Value::Null, PLENTY).result, fragment("x"));
    let start = Instant::now();
    while !engine.ticker.is_parked() {
        assert!(start.elapsed() < PLENTY, "it parks after a second");
        std::thread::sleep(TICK);
    }
    assert_eq!(call(&*module, "L", Value::Null, SHORT).result, Err(HookError::TimedOut(SHORT)));
}

#[test]
fn digests_are_lower_case_hex() {
    assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
#[cfg(target_os = "linux")]
fn a_long_call_demotes_its_thread_if_that_is_allowed() {
    /// `SCHED_OTHER` is 0, `SCHED_IDLE` 5.
    fn policy() -> String {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, after_name) = stat.rsplit_once(") ").unwrap();
        after_name.split(' ').nth(38).unwrap().to_owned()
    }
    let module = module("sometimes");
    let call_on_new_thread = |demotable: bool, template: &'static str, time: Duration| {
        let module = Arc::clone(&module);
        let body = move || {
            if demotable {
                thread_priority::allow_demotion();
            }
            let result = call(&*module, template, Value::Null, time).result;
            (result.is_ok(), policy())
        };
        std::thread::spawn(body).join().unwrap()
    };
    let expected = |ended: bool, policy: &str| (ended, policy.to_owned());
    let long = Duration::from_millis(500);
    assert_eq!(call_on_new_thread(true, "x", PLENTY), expected(true, "0"));
    assert_eq!(call_on_new_thread(true, "L", long), expected(false, "5"));
    assert_eq!(call_on_new_thread(false, "L", long), expected(false, "0"), "its demotion is not allowed");
}
