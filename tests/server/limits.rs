//! Reviews and other bodies up to and beyond the limits of size and memory.

use std::sync::Arc;

use podgraft::config::{Builder, File, Input};
use podgraft::http::admission::Mutate;
use podgraft::http::admission::pool::Limits;
use podgraft::model::hook::Execution;
use podgraft::mutate::Verdict;

use podgraft_testkit::fixtures::task_review;

use super::client::MIB;
use super::fixture::{Fake, Fixture, Gate, done, run};

#[test]
fn a_review_of_seven_mebibytes_is_read_and_one_byte_more_is_not() {
    run(Fixture::new(), async |server| {
        let mut client = server.connect().await;
        let reply = client.post(&vec![b'x'; 7 * MIB]).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "7340032 bytes"));

        let reply = server.connect().await.post(&vec![b'x'; 7 * MIB + 1]).await;
        assert_eq!((reply.status, reply.body.as_str()), (413, "the body exceeds 7 MiB"));
    });
}

#[test]
fn a_body_without_a_length_meets_the_same_limit() {
    run(Fixture::new(), async |server| {
        for (length, status) in [(7 * MIB, 200), (7 * MIB + 1, 413)] {
            let mut client = server.connect().await;
            client.send(b"POST /mutate HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n").await;
            client.send(format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n").as_bytes()).await;
            client.send(&vec![b'x'; length]).await;
            client.send(b"\r\n0\r\n\r\n").await;
            assert_eq!(client.reply().await.status, status);
        }
    });
}

#[test]
fn a_body_that_is_no_review_gets_one_clear_sentence() {
    run(Fixture::new(), async |server| {
        let json = "Content-Type: application/json\r\n";
        for (line, headers, status, sentence) in [
            ("POST /other", json, 404, "not found: send AdmissionReviews to /mutate"),
            ("GET /mutate", "", 405, "method not allowed: send AdmissionReviews with POST"),
            ("POST /mutate", "", 415, "the Content-Type must be application/json"),
            ("POST /mutate", "Content-Type: text/json\r\n", 415, "the Content-Type must be application/json"),
            ("POST /mutate?timeout=soon", json, 400, "timeout in the query: is not a duration such as 2s or 500ms"),
            ("POST /mutate?timeout=10s", "content-type: Application/JSON; charset=utf-8\r\n", 200, "2 bytes"),
        ] {
            let mut client = server.connect().await;
            client
                .send(format!("{line} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: 2\r\n\r\n{{}}").as_bytes())
                .await;
            let reply = client.reply().await;
            assert_eq!((reply.status, reply.body.as_str()), (status, sentence), "{line} {headers}");
        }
    });
}

/// A review as large as an API server lets an object be: most of it arguments, full of what JSON escapes, and as many
/// annotations as there may be.
#[test]
fn a_review_of_three_mebibytes_gets_its_patch() {
    let text = "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\nqueues: {gpu: {templateOverrides: {env: [{name: A_NAME, value: a-value}]}}}\n";
    let input = Input {
        files: vec![File { name: "podgraft.yaml".to_owned(), text: text.to_owned() }],
        wasm: Vec::new(),
        namespace: String::new(),
    };
    let built = Builder::default().build(&input, &|_, _| Err("there are no modules".to_owned()));
    assert!(built.errors.is_empty(), "{:?}", built.errors);
    let snapshot = Arc::into_inner(built.snapshot).unwrap_or_default();

    let mut review: serde_json::Value = serde_json::from_str(&task_review("gpu")).unwrap();
    let pod = &mut review["request"]["object"];
    pod["metadata"]["labels"]["clearml"] = "agent-0123456789abcdef0123456789abcdef".into();
    for number in 0..250 {
        pod["metadata"]["annotations"][format!("example.com/{number}")] = "\u{e9}\"\n".repeat(250).into();
    }
    pod["spec"]["containers"][0]["args"] = vec!["\\\"\u{1f600}\n".repeat(100); 3_300].into();
    let review = review.to_string();
    assert!((3 * MIB..4 * MIB).contains(&review.len()), "{}", review.len());

    run(Fixture { reviewer: Arc::new(Mutate), snapshot, ..Fixture::new() }, async |server| {
        let reply = server.connect().await.post(review.as_bytes()).await;
        let answer: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!((reply.status, &answer["response"]["allowed"]), (200, &true.into()), "{answer}");
        assert_eq!(answer["response"]["patchType"], "JSONPatch", "{answer}");
        assert!(reply.body.len() < 4 << 10, "the patch holds what is new, and nothing of the pod");
        let metrics = server.metrics().await;
        assert!(metrics.contains("podgraft_requests_total{outcome=\"patched\",queue=\"gpu\"} 1\n"), "{metrics}");
    });
}

#[test]
fn a_review_beyond_the_memory_budget_is_answered_before_its_deadline() {
    let gate = Arc::new(Gate::default());
    let of_thread = Arc::clone(&gate);
    let reviewer = Arc::new(Fake::new(move |_, execution| match execution {
        Execution::Inline => Verdict::NeedsPool("m".to_owned()),
        Execution::Pooled(_) => {
            of_thread.pass();
            done("read")
        }
    }));
    // nine bodies of 7 MiB are 63 of the 64 MiB that all may take
    let limits = Limits { threads: 9, threads_per_module: 9, queue: 9, queue_per_module: 9 };
    run(Fixture { reviewer, limits, ..Fixture::new() }, async |server| {
        let large = vec![b'x'; 7 * MIB];
        let mut holders = Vec::new();
        for number in 1..=9 {
            let mut holder = server.connect().await;
            holder.send_post(&large).await;
            gate.wait_for(number).await;
            holders.push(holder);
        }
        let mut late = server.connect().await;
        late.send_post_to("/mutate?timeout=150ms", &large[..=MIB]).await;
        let reply = late.reply().await;
        assert_eq!((reply.status, reply.body.as_str()), (503, "overloaded: too many large AdmissionReviews at once"));
        assert!(server.metrics().await.contains("podgraft_requests_shed_total{reason=\"memory\"} 1\n"));
        gate.open();
        for holder in &mut holders {
            assert_eq!(holder.reply().await.body, "read");
        }
        assert_eq!(server.connect().await.post(&large).await.body, "read", "the memory is free again");
    });
}
