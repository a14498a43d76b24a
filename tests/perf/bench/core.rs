//! The cost of a request without TLS and HTTP: its steps, the naive way beside it, growth, and the sandbox.
//!
//! * [`fixture`] makes reviews of several sizes, and configurations that give about 35 operations.
//! * [`naive`] is the simplest webhook that gives the same pod.
#![expect(clippy::unwrap_used, clippy::panic, reason = "whatever goes wrong ends the benchmark")]

mod fixture;
mod naive;

use std::fmt;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bumpalo::Bump;
use criterion::{BenchmarkId, Criterion, Throughput};
use podgraft::model::hook::Budget;
use podgraft::model::hook::{Execution, Hook, HookOutput, HookRequest, HookResponse};
use podgraft::model::review::Review;
use podgraft::model::snapshot::{Module, Snapshot};
use podgraft::wasm::Engine;
use serde_json::{Value, json};

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .without_plots()
        .configure_from_args();
    steps(&mut criterion);
    growth(&mut criterion);
    modules(&mut criterion);
    criterion.final_summary();
}

/// Ten layers over an ordinary review.
fn steps(criterion: &mut Criterion) {
    let body = fixture::ordinary_review();
    let layers = fixture::layers(10);
    let snapshot = fixture::snapshot(&layers, 10, &[]);
    let reply = fixture::answer(&body, &snapshot, &Bump::new());
    println!("the review has {} bytes; ten layers give {} operations", body.len(), reply.operations);
    assert!((30..=40).contains(&reply.operations));
    let naive = naive::answer(&body, &layers);
    assert!(fixture::patched(&body, &reply.body) == fixture::patched(&body, &naive), "the naive way gives another pod");

    let mut group = criterion.benchmark_group("core");
    group.throughput(Throughput::Bytes(body.len() as u64));
    let mut arena = Bump::new();
    group.bench_function("parse", |bencher| {
        bencher.iter(|| {
            arena.reset();
            black_box(Review::parse(&body, &arena).unwrap().uid.len())
        });
    });
    group.bench_function("answer", |bencher| answers(bencher, &body, &snapshot));
    group.bench_function("naive", |bencher| bencher.iter(|| naive::answer(black_box(&body), &layers)));
    group.finish();
}

fn growth(criterion: &mut Criterion) {
    let ten = fixture::snapshot(&fixture::layers(10), 10, &[]);
    let mut group = criterion.benchmark_group("pod");
    let reviews = [
        ("4KB", fixture::review(0, 0)),
        ("8KB", fixture::ordinary_review()),
        ("160KB", fixture::review(950, 134)),
        ("clearml-small", fixture::clearml_review("pod-small", false)),
        ("clearml-small-applied", fixture::clearml_review("pod-small", true)),
        ("clearml-large", fixture::clearml_review("pod-large", false)),
        ("clearml-large-applied", fixture::clearml_review("pod-large", true)),
    ];
    for (name, body) in &reviews {
        let operations = fixture::answer(body, &ten, &Bump::new()).operations;
        println!("pod/{name}: {} bytes, {operations} operations", body.len());
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(*name, |bencher| answers(bencher, body, &ten));
    }
    group.finish();

    let body = fixture::ordinary_review();
    let mut group = criterion.benchmark_group("layers");
    for count in [1, 10, 100] {
        let snapshot = fixture::snapshot(&fixture::layers(count), 10, &[]);
        let id = BenchmarkId::from_parameter(count);
        group.bench_function(id, |bencher| answers(bencher, &body, &snapshot));
    }
    group.finish();
    let mut group = criterion.benchmark_group("queues");
    for count in [10, 1000] {
        let snapshot = fixture::snapshot(&fixture::layers(10), count, &[]);
        let id = BenchmarkId::from_parameter(count);
        group.bench_function(id, |bencher| answers(bencher, &body, &snapshot));
    }
    group.finish();
}

/// Ten layers and a module; and the module alone, in a fresh instance for each call.
fn modules(criterion: &mut Criterion) {
    let body = fixture::ordinary_review();
    let layers = fixture::layers(10);
    let engine = Engine::new().unwrap();
    for (name, bytes) in [("fragment", fixture::fragment_module()), ("template", fixture::template_module())] {
        let module = fixture::compile(&engine, name, &bytes);
        let snapshot = fixture::snapshot(&layers, 10, &[Arc::clone(&module)]);
        let answer = fixture::answer(&body, &snapshot, &Bump::new());
        let pod = fixture::patched(&body, &answer.body);
        assert!(pod["spec"]["volumes"].as_array().unwrap().iter().any(|volume| volume["name"] == "custom-mount"));

        let (request, template) = arguments(&body, &layers);
        let task_config = Arc::clone(&snapshot.task_config[0].config);
        let left = || Duration::from_secs(10);
        let (budget, execution) = (Budget::default(), Execution::Pooled(&left));
        let call = HookRequest { request: &request, template: &template, task_config: &task_config, budget, execution };
        println!("sandbox/{name}: the template has {} bytes", template.len());
        let mut group = criterion.benchmark_group("module");
        group.bench_function(name, |bencher| answers(bencher, &body, &snapshot));
        group.finish();
        let mut group = criterion.benchmark_group("sandbox");
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(module.hook.call(&call)).result.unwrap());
        });
        group.finish();
    }
}

fn answers(bencher: &mut criterion::Bencher<'_>, body: &[u8], snapshot: &Snapshot) {
    let mut arena = Bump::new();
    bencher.iter(|| {
        arena.reset();
        fixture::answer(black_box(body), snapshot, &arena).body
    });
}

/// A module's input for this review.
fn arguments(body: &[u8], layers: &[podgraft::merge::layer::Layer]) -> (String, String) {
    let seen = Arc::new(Mutex::new(None));
    let module = Module {
        name: "spy".to_owned(),
        digest: "0".repeat(64),
        when: None,
        params: json!(null),
        may_remove: false,
        on_error: podgraft::model::snapshot::OnError::Fail,
        budget: Budget::default(),
        hook: Arc::new(Spy(Arc::clone(&seen))),
    };
    fixture::answer(body, &fixture::snapshot(layers, 10, &[Arc::new(module)]), &Bump::new());
    seen.lock().unwrap().take().unwrap()
}

/// Keeps what it was called with.
struct Spy(Arc<Mutex<Option<(String, String)>>>);

impl fmt::Debug for Spy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Spy")
    }
}

impl Hook for Spy {
    fn call(&self, call: &HookRequest<'_>) -> HookResponse {
        assert!(serde_json::from_str::<Value>(call.template).is_ok());
        *self.0.lock().unwrap() = Some((call.request.to_owned(), call.template.to_owned()));
        HookResponse { result: Ok(HookOutput::Unchanged), logs: Vec::new(), elapsed: Duration::ZERO }
    }
}
