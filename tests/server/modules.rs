//! Panics, and modules that are slow.

use std::sync::Arc;

use podgraft::admission::pool::Limits;
use podgraft::mutate::Verdict;
use podgraft::render::Pace;

use super::fixture::{Fake, Fixture, Gate, done, gated, run};

#[test]
fn a_panic_is_a_500_and_the_connection_lives() {
    let mut fixture = Fixture::new();
    fixture.reviewer = Arc::new(Fake::new(|body, pace| match (body, pace) {
        (b"panic", _) | (b"later", Pace::Patient(_)) => panic!("a bug"),
        (b"later", Pace::Inline) => Verdict::Slow("m".to_owned()),
        _ => done("fine"),
    }));
    run(fixture, async |server| {
        let mut client = server.connect().await;
        for body in ["panic", "later"] {
            let reply = client.post(body.as_bytes()).await;
            assert_eq!((reply.status, reply.body.as_str()), (500, "podgraft has a bug; its log says where"));
        }
        assert_eq!(client.post(b"{}").await.body, "fine");
        assert!(server.metrics().await.contains("podgraft_panics_total 2\n"));
    });
}

#[test]
fn a_slow_module_moves_to_the_pool_and_nobody_else_waits() {
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
        assert!(server.metrics().await.contains("podgraft_module_reruns_total{module=\"slow\"} 1\n"));
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
        server.until_metrics_say("podgraft_requests_in_flight 2\n").await;
        let refused = server.connect().await.post(b"slow").await;
        assert_eq!(
            (refused.status, refused.body.as_str()),
            (200, "503 ModuleUnavailable module 'slow' is busy: too many requests wait for it")
        );
        let mut other = server.connect().await;
        other.send_post(b"other").await;
        gate.wait_for(2).await;
        gate.open();
        assert_eq!(other.reply().await.body, "other");
        assert_eq!(running.reply().await.body, "slow");
        assert_eq!(waiting.reply().await.body, "slow");
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
        let late = "503 ModuleUnavailable module 'slow' is busy: it had no free thread before the deadline";
        assert_eq!(waiting.reply().await.body, late);
        let late = "503 ModuleUnavailable module 'slow' is busy: it was not finished at the deadline";
        assert_eq!(running.reply().await.body, late);
        gate.open();
        let after = server.connect().await.post(b"slow").await;
        assert_eq!((after.body.as_str(), gate.passed()), ("slow", 2), "what was late in the queue is never begun");
    });
}
