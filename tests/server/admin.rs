//! The plain port, and the real reviewer behind the other one.

use std::sync::Arc;

use podgraft::http::admission::Mutate;
use tokio::sync::watch;

use super::fixture::{Fixture, run};
use podgraft_testkit::fixtures::review;

#[test]
fn readiness_waits_for_the_first_configuration() {
    let mut fixture = Fixture::new();
    let (loaded, receiver) = watch::channel(false);
    fixture.loaded = receiver;
    run(fixture, async |server| {
        let not_yet = "not ready: no readable configuration yet; the log says why\n".to_owned();
        assert_eq!(server.get("/readyz").await, (503, not_yet));
        assert_eq!(server.get("/healthz").await, (200, "ok\n".to_owned()));
        loaded.send_replace(true);
        assert_eq!(server.get("/readyz").await, (200, "ok\n".to_owned()));
    });
}

#[test]
fn requests_are_counted_by_outcome_and_queue() {
    run(Fixture::new(), async |server| {
        server.connect().await.post(b"{}").await;
        let metrics = server.metrics().await;
        for line in [
            "podgraft_requests_total{outcome=\"unchanged\",queue=\"gpu\"} 1\n",
            "podgraft_request_duration_seconds_count{outcome=\"unchanged\"} 1\n",
            "podgraft_requests_in_flight 0\n",
            "podgraft_module_errors_total{module=\"nfs\"} 1\n",
            "podgraft_module_duration_seconds_count{module=\"nfs\"} 1\n",
        ] {
            assert!(metrics.contains(line), "{line} is not in\n{metrics}");
        }
    });
}

#[test]
fn a_review_is_answered_under_its_uid_and_other_json_is_not_a_review() {
    let mut fixture = Fixture::new();
    fixture.reviewer = Arc::new(Mutate);
    run(fixture, async |server| {
        let mut client = server.connect().await;
        let reply = client.post(review("admission.k8s.io/v1").as_bytes()).await;
        assert_eq!(reply.status, 200);
        let reply: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(reply["response"]["uid"], "a-\"uid\"");
        assert_eq!(reply["response"]["allowed"], true);
        for body in [&review("admission.k8s.io/v1beta1"), "", "{", "[]", "null", "{}", "\u{0}"] {
            let reply = client.post(body.as_bytes()).await;
            assert_eq!((reply.status, reply.body.lines().count()), (400, 1), "{body}: {}", reply.body);
        }
    });
}
