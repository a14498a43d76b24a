//! Panics, and modules that are slow.

use std::sync::Arc;
use std::time::Duration;

use podgraft::config::{Builder, File, Input, Wasm};
use podgraft::http::admission::Mutate;
use podgraft::http::admission::pool::Limits;
use podgraft::model::hook::{Execution, Hook, HookError, HookRequest, HookResponse};
use podgraft::mutate::Verdict;
use podgraft::wasm::thread_priority;

use podgraft_testkit::fixtures::task_review;

use super::fixture::{Fake, Fixture, Gate, done, gated, run};

#[test]
fn a_panic_is_a_500_and_the_connection_stays_open() {
    let mut fixture = Fixture::new();
    fixture.reviewer = Arc::new(Fake::new(|body, execution| match (body, execution) {
        (b"panic", _) | (b"later", Execution::Pooled(_)) => panic!("a bug"),
        (b"later", Execution::Inline) => Verdict::NeedsPool("m".to_owned()),
        _ => done("fine"),
    }));
    run(fixture, async |server| {
        let mut client = server.connect().await;
        for body in ["panic", "later"] {
            let reply = client.post(body.as_bytes()).await;
            assert_eq!(
                (reply.status, reply.body.as_str()),
                (500, "internal error: a bug in podgraft; its log says where")
            );
        }
        assert_eq!(client.post(b"{}").await.body, "fine");
        assert!(server.metrics().await.contains("podgraft_panics_total 2\n"));
    });
}

#[test]
fn a_slow_module_moves_to_the_pool_and_delays_no_other_request() {
    let mut fixture = Fixture::new();
    let gate = Arc::new(Gate::default());
    fixture.reviewer = gated(&gate);
    run(fixture, async |server| {
        let mut slow = server.connect().await;
        slow.send_post(b"slow").await;
        gate.wait_for(1).await;
        // more than there are workers
        for _ in 0..8 {
            assert_eq!(server.connect().await.post(b"{}").await.body, "fast");
        }
        gate.open();
        assert_eq!(slow.reply().await.body, "slow");
        assert!(server.metrics().await.contains("podgraft_module_offloads_total{module=\"slow\"} 1\n"));
    });
}

#[test]
fn one_module_cannot_take_all_threads_nor_the_whole_queue() {
    let mut fixture = Fixture::new();
    let gate = Arc::new(Gate::default());
    fixture.reviewer = gated(&gate);
    fixture.limits = Limits { threads: 2, threads_per_module: 1, queue: 2, queue_per_module: 1 };
    run(fixture, async |server| {
        let mut running = server.connect().await;
        running.send_post(b"slow").await;
        gate.wait_for(1).await;
        let mut waiting = server.connect().await;
        waiting.send_post(b"slow").await;
        server.until_metrics_say("podgraft_requests_waiting 1\n").await;
        let denied = server.connect().await.post(b"slow").await;
        assert_eq!(
            (denied.status, denied.body.as_str()),
            (200, "503 ModuleUnavailable module 'slow' is busy: too many requests are waiting for it")
        );
        let mut other = server.connect().await;
        other.send_post(b"other").await;
        gate.wait_for(2).await;
        gate.open();
        assert_eq!(other.reply().await.body, "other");
        assert_eq!(running.reply().await.body, "slow");
        assert_eq!(waiting.reply().await.body, "slow");
        assert!(server.metrics().await.contains("podgraft_requests_waiting 0\n"));
    });
}

#[test]
fn a_deadline_in_the_queue_or_on_a_thread_is_a_denial() {
    let mut fixture = Fixture::new();
    let gate = Arc::new(Gate::default());
    fixture.reviewer = gated(&gate);
    fixture.limits = Limits { threads: 1, threads_per_module: 1, queue: 2, queue_per_module: 2 };
    run(fixture, async |server| {
        let mut running = server.connect().await;
        running.send_post_to("/mutate?timeout=300ms", b"slow").await;
        gate.wait_for(1).await;
        let mut waiting = server.connect().await;
        waiting.send_post_to("/mutate?timeout=150ms", b"slow").await;
        let late = "503 ModuleUnavailable module 'slow' is busy: no thread was free before the deadline";
        assert_eq!(waiting.reply().await.body, late);
        let late = "503 ModuleUnavailable module 'slow' is busy: it was not finished at the deadline";
        assert_eq!(running.reply().await.body, late);
        gate.open();
        let after = server.connect().await.post(b"slow").await;
        assert_eq!((after.body.as_str(), gate.passed()), ("slow", 2), "what was late in the queue is never begun");
    });
}

/// A module with a bug of podgraft in it.
#[derive(Debug)]
struct Panicking;

#[expect(clippy::panic, reason = "it is what this module is for")]
impl Hook for Panicking {
    fn call(&self, call: &HookRequest<'_>) -> HookResponse {
        let slow = HookResponse { result: Err(HookError::TooSlowInline), logs: Vec::new(), elapsed: Duration::ZERO };
        match (call.execution, call.request.contains("\"pooled\"")) {
            (Execution::Inline, true) => slow,
            _ => panic!("{}", call.template),
        }
    }
}

#[test]
fn a_module_call_that_panics_is_a_500_on_a_worker_and_on_a_module_thread() {
    let text = "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\n\
                modules: {m: {wasm: m.wasm}}\n\
                queues: {inline: {modules: [m]}, pooled: {modules: [m]}, beside: {templateOverrides: {labels: {a: b}}}}\n";
    let input = Input {
        files: vec![File { name: "podgraft.yaml".to_owned(), text: text.to_owned() }],
        wasm: vec![Wasm { name: "m.wasm".to_owned(), origin: "here".to_owned(), bytes: [0].into() }],
        namespace: String::new(),
    };
    let built = Builder::default().build(&input, &|_, _| Ok(Arc::new(Panicking)));
    assert!(built.errors.is_empty(), "{:?}", built.errors);
    let snapshot = Arc::into_inner(built.snapshot).unwrap_or_default();
    run(Fixture { reviewer: Arc::new(Mutate), snapshot, ..Fixture::new() }, async |server| {
        let mut client = server.connect().await;
        for queue in ["inline", "pooled", "inline", "pooled"] {
            let reply = client.post(task_review(queue).as_bytes()).await;
            assert_eq!(
                (reply.status, reply.body.as_str()),
                (500, "internal error: a bug in podgraft; its log says where"),
                "{queue}"
            );
        }
        let reply = client.post(task_review("beside").as_bytes()).await;
        assert!(reply.body.contains("\"patch\":"), "{}", reply.body);
        assert!(server.metrics().await.contains("podgraft_panics_total 4\n"));
        assert!(server.metrics().await.contains("podgraft_requests_in_flight 0\n"));
    });
}

#[test]
fn a_request_that_would_wait_past_its_deadline_is_denied_at_once() {
    let gates = [Arc::new(Gate::default()), Arc::new(Gate::default())];
    let mut fixture = Fixture::new();
    fixture.limits = Limits { threads: 1, threads_per_module: 1, queue: 9, queue_per_module: 9 };
    let of_thread = gates.clone();
    fixture.reviewer = Arc::new(Fake::new(move |body, execution| match (body, execution) {
        (_, Execution::Inline) => Verdict::NeedsPool("m".to_owned()),
        (_, Execution::Pooled(left)) if left().is_zero() => Verdict::NeedsPool("m".to_owned()),
        (b"first", _) => {
            of_thread[0].pass();
            done("first")
        }
        (other, _) => {
            of_thread[1].pass();
            done(String::from_utf8_lossy(other))
        }
    }));
    run(fixture, async |server| {
        let (mut first, mut second) = (server.connect().await, server.connect().await);
        first.send_post(b"first").await;
        gates[0].wait_for(1).await;
        second.send_post(b"second").await;
        server.until_metrics_say("podgraft_requests_in_flight 2\n").await;
        // the first call takes longer than the last request has
        tokio::time::sleep(Duration::from_millis(200)).await;
        gates[0].open();
        assert_eq!(first.reply().await.body, "first");
        gates[1].wait_for(1).await;
        let mut late = server.connect().await;
        late.send_post_to("/mutate?timeout=150ms", b"late").await;
        let reply = late.reply().await.body;
        assert_eq!(
            reply,
            "503 ModuleUnavailable module 'm' is busy: so many requests are waiting for it that this one would miss its deadline"
        );
        assert!(server.metrics().await.contains("podgraft_requests_shed_total{reason=\"too_late\"} 1\n"));
        // with time enough it waits
        let mut in_time = server.connect().await;
        in_time.send_post(b"in time").await;
        server.until_metrics_say("podgraft_requests_in_flight 2\n").await;
        gates[1].open();
        assert_eq!(second.reply().await.body, "second");
        assert_eq!(in_time.reply().await.body, "in time");
    });
}

#[test]
#[cfg(target_os = "linux")]
fn long_calls_demote_their_thread_and_short_ones_never() {
    let mut fixture = Fixture::new();
    fixture.limits = Limits { threads: 1, threads_per_module: 1, queue: 9, queue_per_module: 9 };
    // the body is the module's name and its behaviour
    fixture.reviewer =
        Arc::new(Fake::new(|body, execution| match (String::from_utf8_lossy(body).split_once(' '), execution) {
            (Some((module, _)), Execution::Inline) => Verdict::NeedsPool(module.to_owned()),
            (Some((_, "short")), _) => done(policy()),
            (Some((_, "timed-out")), _) => {
                thread_priority::mark_timed_out();
                done(policy())
            }
            (Some((_, "waits")), _) => {
                std::thread::sleep(2 * thread_priority::CPU_BEFORE_DEMOTION);
                done(policy())
            }
            _ => {
                let (before, begun) = (policy(), thread_priority::cpu_time());
                thread_priority::demote();
                while thread_priority::cpu_time().saturating_sub(begun) < thread_priority::CPU_BEFORE_DEMOTION {}
                done(format!("{before} {}", policy()))
            }
        }));
    run(fixture, async |server| {
        let mut client = server.connect().await;
        // SCHED_OTHER is 0, SCHED_IDLE 5. A reply goes out before the thread has looked up from its call, so what follows
        // from a call is asked for until it shows: if it never does, this never ends.
        let calls = [
            ("a long", "0 5"),
            ("b short", "0"), // on the successor
            ("a long", "5 5"),
            ("a short", "5"), // not known before
            ("a short", "0"),
            ("b long", "0 5"),
            ("b long", "5 5"),
            ("b timed-out", "5"),
            ("b waits", "5"), // as a short call does behind the workers
            ("b short", "0"),
            ("a short", "0"),
        ];
        for (body, policies) in calls {
            while client.post(body.as_bytes()).await.body != policies {}
        }
    });
}

/// The scheduling policy of this thread.
#[cfg(target_os = "linux")]
fn policy() -> String {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    after_name.split(' ').nth(38).unwrap().to_owned()
}
