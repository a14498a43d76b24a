//! The server as the API server meets it: real sockets, real TLS, a client by hand.
//!
//! Nothing sleeps: tests wait for what they expect, and a watchdog ends the one that waits in vain.
#![expect(clippy::unwrap_used, reason = "in a test they are assertions")]

use std::fs;
use std::future::{Future, poll_fn};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bumpalo::Bump;
use podgraft::admission::pool::Limits;
use podgraft::admission::{Mutate, Reviewer};
use podgraft::app::{App, Settings, Source, World};
use podgraft::metrics::Metrics;
use podgraft::mutate::{Answer, Outcome, Rejection, Verdict};
use podgraft::render::Pace;
use podgraft::server::Timeouts;
use podgraft::server::tls::Files;
use podgraft::snapshot::Snapshot;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const MIB: usize = 1 << 20;

// === limits ===

#[test]
fn a_review_of_seven_mebibytes_is_read_and_one_byte_more_is_not() {
    run(Fixture::new(), async |server| {
        let mut client = server.connect().await;
        let reply = client.post(&vec![b'x'; 7 * MIB]).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "7340032 bytes"));

        let reply = server.connect().await.post(&vec![b'x'; 7 * MIB + 1]).await;
        assert_eq!((reply.status, reply.body.as_str()), (413, "the body is longer than 7 MiB"));
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
fn what_is_no_review_gets_one_clear_sentence() {
    run(Fixture::new(), async |server| {
        let json = "Content-Type: application/json\r\n";
        for (line, headers, status, sentence) in [
            ("POST /other", json, 404, "there is nothing here: AdmissionReviews go to /mutate"),
            ("GET /mutate", "", 405, "this path takes AdmissionReviews by POST only"),
            ("POST /mutate", "", 415, "the Content-Type must be application/json"),
            ("POST /mutate", "Content-Type: text/json\r\n", 415, "the Content-Type must be application/json"),
            ("POST /mutate?timeout=soon", json, 400, "the timeout in the query is not a duration such as 2s or 500ms"),
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

// === time-outs ===

#[test]
fn a_slow_client_is_cut_while_an_idle_keep_alive_lives_on() {
    let mut fixture = Fixture::new();
    fixture.timeouts.request = Duration::from_millis(200);
    run(fixture, async |server| {
        let mut idle = server.connect().await;
        assert_eq!(idle.post(b"{}").await.status, 200);
        let mut unused = server.connect().await;

        // each of these takes longer than the request time-out, one after the other, while the others are idle
        for start in [
            "POST /mut",
            "POST /mutate HTTP/1.1\r\nHost: h\r\n",
            "POST /mutate HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
            "POST /mutate HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{",
        ] {
            let mut slow = server.connect().await;
            slow.send(start.as_bytes()).await;
            slow.closed().await;
        }
        // the second request of a connection is timed as the first
        let mut slow = server.connect().await;
        slow.post(b"{}").await;
        slow.send(b"POST /mut").await;
        slow.closed().await;

        assert_eq!(idle.post(b"{}").await.status, 200);
        assert_eq!(unused.post(b"{}").await.status, 200);
        assert!(server.metrics().await.contains("podgraft_connections_cut_total{phase=\"receiving\"} 5\n"));
    });
}

#[test]
fn a_body_that_trickles_is_cut_in_spite_of_its_progress() {
    let mut fixture = Fixture::new();
    fixture.timeouts.request = Duration::from_millis(200);
    run(fixture, async |server| {
        let mut client = server.connect().await;
        let head =
            "POST /mutate HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 9000000\r\n\r\n";
        client.send(head.as_bytes()).await;
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        while client.try_send(b"x").await.is_ok() {
            pace.tick().await;
        }
    });
}

#[test]
fn an_idle_connection_ends_at_last() {
    let mut fixture = Fixture::new();
    fixture.timeouts.idle = Duration::from_millis(50);
    run(fixture, async |server| {
        server.connect().await.closed().await;
    });
}

#[test]
fn a_handshake_that_never_comes_is_cut() {
    let mut fixture = Fixture::new();
    fixture.timeouts.handshake = Duration::from_millis(50);
    run(fixture, async |server| {
        let mut client = Client { stream: TcpStream::connect(server.app.address).await.unwrap() };
        client.closed().await;
        let mut client = Client { stream: TcpStream::connect(server.app.address).await.unwrap() };
        client.send(b"\x16\x03\x01\x02").await;
        client.closed().await;
        assert!(server.metrics().await.contains("podgraft_connections_cut_total{phase=\"handshake\"} 2\n"));
    });
}

#[test]
fn a_client_that_does_not_take_its_reply_is_cut() {
    let mut fixture = Fixture::new();
    fixture.timeouts.reply = Duration::from_millis(50);
    fixture.reviewer = Arc::new(Fake::new(|_, _| done("x".repeat(64 * MIB)))); // more than the sockets hold
    run(fixture, async |server| {
        let mut client = server.connect().await;
        client.send_post(b"{}").await;
        server.until_metrics_say("podgraft_connections_cut_total{phase=\"replying\"} 1\n").await;
    });
}

// === certificates ===

#[test]
fn each_swap_of_the_mounted_secret_shows_in_the_next_handshake() {
    run(Fixture::new(), async |server| {
        let mut kept = server.connect().await;
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            // one client, that would resume its session if it could
            let client = client_config(&[version]);
            for _ in 0..5 {
                let fresh = server.secret.swap();
                let mut connection = connect(server.app.address, &client).await;
                assert_eq!(connection.certificate(), fresh);
                assert_eq!(connection.post(b"{}").await.status, 200);
            }
        }
        assert_eq!(kept.post(b"{}").await.status, 200, "a connection that is open stays open");
    });
}

#[test]
fn a_bad_pair_leaves_the_one_before_and_a_good_one_ends_that() {
    run(Fixture::new(), async |server| {
        let good = server.secret.swap();
        assert_eq!(server.connect().await.certificate(), good);
        let (certificate, key) = pair();
        let bad = [
            (Some("no PEM at all".to_owned()), Some(key.clone())),
            (Some(certificate.clone()), Some(pair().1)),
            (Some(certificate.clone()), Some("-----BEGIN PRIVATE KEY-----\n???".to_owned())),
            (Some(certificate.clone()), None),
            (None, Some(key.clone())),
        ];
        for (number, (certificate, key)) in bad.into_iter().enumerate() {
            server.secret.put(certificate.as_deref(), key.as_deref());
            for _ in 0..3 {
                assert_eq!(server.connect().await.certificate(), good, "pair {number}");
            }
            let failures = format!("podgraft_certificate_reload_failures_total {}\n", number + 1);
            assert!(server.metrics().await.contains(&failures), "each is counted, and complained of, once");
        }
        server.secret.put(Some(&certificate), Some(&key));
        assert_eq!(server.connect().await.certificate(), der(&certificate));
    });
}

#[test]
fn a_bad_pair_at_the_start_is_an_error_that_names_flag_and_file() {
    let (certificate, key) = pair();
    for (certificate, key, problem) in [
        (None, Some(key.as_str()), "--tls-cert DIR/tls.crt: cannot be read: No such file or directory (os error 2)"),
        (Some("text"), Some(key.as_str()), "--tls-cert DIR/tls.crt: holds no certificate"),
        (
            Some(certificate.as_str()),
            None,
            "--tls-key DIR/tls.key: cannot be read: No such file or directory (os error 2)",
        ),
        (Some(certificate.as_str()), Some("text"), "--tls-key DIR/tls.key: holds no private key"),
        (
            Some(certificate.as_str()),
            Some(pair().1.as_str()),
            "--tls-key DIR/tls.key is not the key of --tls-cert DIR/tls.crt",
        ),
    ] {
        let secret = Secret::new();
        secret.put(certificate, key);
        let error = start_error(&secret);
        assert_eq!(error.replace(secret.directory.path().to_str().unwrap(), "DIR"), problem);
    }
}

#[test]
fn the_certificates_expiry_is_a_metric() {
    run(Fixture::new(), async |server| {
        // 4096-01-01, rcgen's default
        assert!(server.metrics().await.contains("podgraft_certificate_not_after_timestamp_seconds 67090118400\n"));
    });
}

// === drain ===

#[test]
fn a_drain_drops_nobody() {
    let mut fixture = Fixture::new();
    let gate = Arc::new(Gate::default());
    fixture.reviewer = gated(&gate);
    run(fixture, async |server| {
        assert_eq!(server.get("/readyz").await, (200, "ok\n".to_owned()));
        let (address, admin_address, client_config) = (server.app.address, server.app.admin_address, any_client());
        let mut slow = server.connect().await;
        slow.send_post(b"slow").await;
        gate.wait_for(1).await;
        let (mut idle, mut half) = (server.connect().await, server.connect().await);
        idle.post(b"{}").await;
        half.post(b"{}").await;
        half.send(b"POST /mutate HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nConte").await;

        // the grace: not ready, but whoever comes is served and told to come elsewhere
        let draining = tokio::spawn(server.app.drain(Duration::from_millis(500)));
        until(async || get(admin_address, "/readyz").await == (503, "not ready: on its way out\n".to_owned())).await;
        let reply = idle.post(b"{}").await;
        assert_eq!((reply.status, reply.closes), (200, true));
        idle.closed().await;
        let reply = connect(address, &client_config).await.post(b"{}").await;
        assert_eq!((reply.status, reply.closes), (200, true));

        // then nobody is accepted, but what is under way is answered
        until(async || TcpStream::connect(address).await.is_err()).await;
        half.send(b"nt-Length: 2\r\n\r\n{}").await;
        let reply = half.reply().await;
        assert_eq!((reply.status, reply.closes), (200, true));
        assert!(!draining.is_finished());
        assert_eq!(get(admin_address, "/healthz").await, (200, "ok\n".to_owned()));
        gate.open();
        let reply = slow.reply().await;
        assert_eq!((reply.status, reply.body.as_str(), reply.closes), (200, "slow", true));
        draining.await.unwrap();
    });
}

#[test]
fn a_rolling_restart_under_load_loses_no_request() {
    run(Fixture::new(), async |server| {
        let next = start(Fixture::new(), &server.secret).await.unwrap();
        let (old, new) = (server.app.address, next.address);
        // the endpoint that new connections get; a Service switches between readiness and the end of the grace
        let endpoint = watch::Sender::new(old);
        let answered = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..8)
            .map(|_| (endpoint.subscribe(), Arc::clone(&answered)))
            .map(|(endpoint, answered)| {
                tokio::spawn(async move {
                    let config = any_client();
                    let mut connection = connect(old, &config).await;
                    let mut on_new = 0;
                    while on_new < 20 {
                        let reply = connection.post(b"{}").await;
                        assert_eq!(reply.status, 200);
                        answered.fetch_add(1, Ordering::SeqCst);
                        let address = *endpoint.borrow();
                        if reply.closes {
                            connection = connect(address, &config).await;
                        }
                        on_new += usize::from(address == new);
                    }
                })
            })
            .collect();
        until(async || answered.load(Ordering::SeqCst) > 100).await;
        let admin_address = server.app.admin_address;
        let drain = tokio::spawn(server.app.drain(Duration::from_secs(2)));
        until(async || get(admin_address, "/readyz").await.0 == 503).await;
        let before = answered.load(Ordering::SeqCst);
        until(async || answered.load(Ordering::SeqCst) > before + 10).await;
        endpoint.send_replace(new);
        for client in clients {
            client.await.unwrap();
        }
        drain.await.unwrap();
    });
}

#[test]
fn a_drain_closes_what_is_idle_only_after_the_grace() {
    run(Fixture::new(), async |server| {
        let mut idle = server.connect().await;
        assert!(!idle.post(b"{}").await.closes);
        let mut unused = server.connect().await;
        server.app.drain(Duration::ZERO).await;
        idle.closed().await;
        unused.closed().await;
    });
}

// === bugs, slow modules ===

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

// === the second port ===

#[test]
fn readiness_waits_for_the_first_configuration() {
    let mut fixture = Fixture::new();
    let (loaded, world) = watch::channel(false);
    fixture.loaded = world;
    run(fixture, async |server| {
        let not_yet =
            "not ready: no configuration that can be read yet; the log says what is wrong with it\n".to_owned();
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
            "podgraft_module_faults_total{module=\"nfs\"} 1\n",
            "podgraft_module_duration_seconds_count{module=\"nfs\"} 1\n",
        ] {
            assert!(metrics.contains(line), "{line} is not in\n{metrics}");
        }
    });
}

// === with the real reviewer ===

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

// === the process ===

#[test]
fn sigterm_drains_and_ends_with_0_and_no_pod_stands_in_the_log() {
    let mut process = Process::start(&["--drain-grace=10ms", "--log-level=trace"]);
    let address = process.address();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reply = runtime.block_on(async {
        let mut client = connect(address, &any_client()).await;
        client.post(b"CANARY").await;
        client.post(review("admission.k8s.io/v1").as_bytes()).await
    });
    assert_eq!(reply.status, 200);
    process.signal("TERM");
    let (code, log) = process.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains(r#""uid":"a-\"uid\"","namespace":"ns","name":"pod""#), "{log}");
    assert!(!log.contains("CANARY"), "{log}");
}

#[test]
fn a_second_signal_ends_at_once_with_1() {
    let mut process = Process::start(&["--drain-grace=1h"]);
    process.address();
    process.signal("INT");
    process.line("draining");
    process.signal("TERM");
    assert_eq!(process.end().0, Some(1));
}

#[test]
fn what_cannot_start_says_why_in_one_sentence_and_ends_with_2() {
    let secret = Secret::new();
    secret.swap();
    let Files { certificate, key } = secret.files();
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (certificate, listen, sentence) in [
        (
            "/nowhere",
            "127.0.0.1:0",
            "podgraft: --tls-cert /nowhere: cannot be read: No such file or directory (os error 2)\n",
        ),
        (
            certificate,
            &address,
            &format!("podgraft: --listen {address}: cannot listen there: Address already in use (os error 98)\n"),
        ),
    ] {
        let flags = ["serve", "--config=.", "--tls-cert", certificate, "--tls-key", key, "--listen", listen];
        let output = Command::new(env!("CARGO_BIN_EXE_podgraft"))
            .args(flags)
            .args(["--admin-listen=127.0.0.1:0", "--log-level=off"])
            .output()
            .unwrap();
        assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(2), sentence));
    }
    let usage = Command::new(env!("CARGO_BIN_EXE_podgraft")).args(["serve", "--tls-cert=a", "--tls-key=b"]).output();
    assert_eq!(usage.unwrap().status.code(), Some(2), "neither --config nor --namespace");
}

fn review(version: &str) -> String {
    serde_json::json!({
        "apiVersion": version,
        "kind": "AdmissionReview",
        "request": {
            "uid": "a-\"uid\"",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "operation": "CREATE",
            "namespace": "ns",
            "name": "pod",
            "userInfo": {"username": "u"},
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "pod", "labels": {"a": "CANARY"}},
                "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "CANARY"}]}]},
            },
        },
    })
    .to_string()
}

/// The program itself.
struct Process {
    child: Child,
    stderr: BufReader<ChildStderr>,
    log: String,
    _secret: Secret,
}

impl Process {
    fn start(flags: &[&str]) -> Self {
        let secret = Secret::new();
        secret.swap();
        let Files { certificate, key } = secret.files();
        let config = secret.directory.path().join("podgraft.yaml");
        fs::write(&config, "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\n").unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_podgraft"))
            .args(["serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json"])
            .args([Path::new("--config"), &config, Path::new("--tls-cert"), &certificate, Path::new("--tls-key"), &key])
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr, log: String::new(), _secret: secret }
    }

    /// The next log line that says this.
    fn line(&mut self, message: &str) -> serde_json::Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.stderr.read_line(&mut line).unwrap(), 0, "it ended: {}", self.log);
            self.log += &line;
            let line: serde_json::Value = serde_json::from_str(&line).expect("each line is an object");
            if line["message"].as_str().is_some_and(|text| text.starts_with(message)) {
                return line;
            }
        }
    }

    fn address(&mut self) -> std::net::SocketAddr {
        self.line("listening")["address"].as_str().unwrap().parse().unwrap()
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    fn end(&mut self) -> (Option<i32>, String) {
        self.stderr.read_to_string(&mut self.log).unwrap();
        (self.child.wait().unwrap().code(), self.log.clone())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// === the reviewers ===

type Judge = dyn Fn(&[u8], Pace<'_>) -> Verdict + Send + Sync;

struct Fake(Box<Judge>);

impl Fake {
    fn new(judge: impl Fn(&[u8], Pace<'_>) -> Verdict + Send + Sync + 'static) -> Self {
        Self(Box::new(judge))
    }
}

impl Reviewer for Fake {
    fn answer(&self, body: &[u8], _: &Snapshot, pace: Pace<'_>, _: &Bump) -> Verdict {
        (self.0)(body, pace)
    }

    fn refuse(&self, _: &[u8], Rejection { reason, message }: Rejection) -> Answer {
        let answer = answer(format!("{} {} {message}", reason.code(), reason.name()));
        Answer { outcome: Outcome::Denied, reason: Some(reason.name()), ..answer }
    }
}

/// `{}` is answered at once; anything else is a module of that name, which waits at the gate.
fn gated(gate: &Arc<Gate>) -> Arc<dyn Reviewer> {
    let gate = Arc::clone(gate);
    Arc::new(Fake::new(move |body, pace| match (body, pace) {
        (b"{}", _) => done("fast"),
        (name, Pace::Inline) => Verdict::Slow(String::from_utf8_lossy(name).into_owned()),
        // no time for any module: this one may not fail
        (name, Pace::Patient(left)) if left().is_zero() => Verdict::Slow(String::from_utf8_lossy(name).into_owned()),
        (name, Pace::Patient(_)) => {
            gate.pass();
            done(String::from_utf8_lossy(name))
        }
    }))
}

fn done(body: impl Into<String>) -> Verdict {
    Verdict::Done(answer(body))
}

fn answer(body: impl Into<String>) -> Answer {
    let run = podgraft::mutate::ModuleRun {
        name: "nfs".to_owned(),
        elapsed: Duration::from_millis(1),
        fault: Some("trapped".to_owned()),
        logs: Vec::new(),
    };
    Answer {
        status: 200,
        body: body.into().into_bytes(),
        outcome: Outcome::Unchanged,
        reason: None,
        message: None,
        queue: Some("gpu".to_owned()),
        uid: "u".to_owned(),
        namespace: "n".to_owned(),
        name: "p".to_owned(),
        operations: 0,
        modules: vec![run],
    }
}

/// Where module threads wait until the test lets them go on.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    came: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        self.came.fetch_add(1, Ordering::SeqCst);
        let closed = self.is_open.lock().unwrap();
        drop(self.opened.wait_while(closed, |is_open| !*is_open).unwrap());
    }

    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn passed(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }

    async fn wait_for(&self, count: usize) {
        until(async || self.passed() >= count).await;
    }
}

// === the server ===

struct Fixture {
    reviewer: Arc<dyn Reviewer>,
    timeouts: Timeouts,
    limits: Limits,
    loaded: watch::Receiver<bool>,
}

impl Fixture {
    fn new() -> Self {
        Self {
            reviewer: Arc::new(Fake::new(|body, _| done(format!("{} bytes", body.len())))),
            timeouts: Timeouts::default(),
            limits: Limits::for_cores(2),
            loaded: watch::channel(true).1,
        }
    }
}

struct Running {
    app: App,
    secret: Secret,
}

/// Runs a test against a server; half a minute is the watchdog's patience.
fn run<F: Future<Output = ()>>(fixture: Fixture, test: impl FnOnce(Running) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let secret = Secret::new();
        secret.swap();
        let app = start(fixture, &secret).await.unwrap();
        let test = test(Running { app, secret });
        tokio::time::timeout(Duration::from_secs(30), test).await.expect("the test waits in vain");
    });
    runtime.shutdown_background();
}

async fn start(fixture: Fixture, secret: &Secret) -> anyhow::Result<App> {
    let settings = Settings {
        listen: ([127, 0, 0, 1], 0).into(),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        files: secret.files(),
        policies: None,
        source: Source::Local("unused".into()),
        drain_grace: Duration::ZERO,
        timeouts: fixture.timeouts,
        limits: fixture.limits,
    };
    let world = World { snapshot: Arc::new(ArcSwap::default()), loaded: fixture.loaded };
    App::start(&settings, world, fixture.reviewer, Arc::new(Metrics::default())).await
}

fn start_error(secret: &Secret) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    format!("{:#}", runtime.block_on(start(Fixture::new(), secret)).unwrap_err())
}

impl Running {
    async fn connect(&self) -> Client<TlsStream<TcpStream>> {
        connect(self.app.address, &any_client()).await
    }

    async fn get(&self, path: &str) -> (u16, String) {
        get(self.app.admin_address, path).await
    }

    async fn metrics(&self) -> String {
        self.get("/metrics").await.1
    }

    async fn until_metrics_say(&self, line: &str) {
        until(async || self.metrics().await.contains(line)).await;
    }
}

/// Asks again and again; the watchdog ends it.
async fn until(condition: impl AsyncFn() -> bool) {
    while !condition().await {
        tokio::task::yield_now().await;
    }
}

// === the mounted Secret ===

/// A directory as the kubelet makes it: `tls.crt -> ..data/tls.crt`, `..data -> ..<version>`.
struct Secret {
    directory: TempDir,
    version: AtomicUsize,
}

impl Secret {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for file in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(file), directory.path().join(file)).unwrap();
        }
        Self { directory, version: AtomicUsize::new(0) }
    }

    fn files(&self) -> Files {
        Files { certificate: self.directory.path().join("tls.crt"), key: self.directory.path().join("tls.key") }
    }

    /// Swaps in a new pair and gives its certificate.
    fn swap(&self) -> CertificateDer<'static> {
        let (certificate, key) = pair();
        self.put(Some(&certificate), Some(&key));
        der(&certificate)
    }

    fn put(&self, certificate: Option<&str>, key: Option<&str>) {
        let number = self.version.fetch_add(1, Ordering::SeqCst);
        let (root, version) = (self.directory.path(), format!("..{number}"));
        fs::create_dir(root.join(&version)).unwrap();
        for (file, text) in [("tls.crt", certificate), ("tls.key", key)] {
            if let Some(text) = text {
                fs::write(root.join(&version).join(file), text).unwrap();
            }
        }
        symlink(&version, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        if let Some(before) = number.checked_sub(1) {
            fs::remove_dir_all(root.join(format!("..{before}"))).unwrap();
        }
    }
}

fn pair() -> (String, String) {
    let pair = rcgen::generate_simple_self_signed(["podgraft.podgraft.svc".to_owned()]).unwrap();
    (pair.cert.pem(), pair.signing_key.serialize_pem())
}

fn der(certificate: &str) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()
}

// === the client ===

struct Client<S> {
    stream: S,
}

#[derive(Debug)]
struct Reply {
    status: u16,
    closes: bool,
    body: String,
}

async fn connect(address: std::net::SocketAddr, config: &Arc<ClientConfig>) -> Client<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("podgraft.podgraft.svc").unwrap();
    Client { stream: TlsConnector::from(Arc::clone(config)).connect(name, stream).await.unwrap() }
}

async fn get(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    let mut client = Client { stream: TcpStream::connect(address).await.unwrap() };
    client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).await;
    let reply = client.reply().await;
    (reply.status, reply.body)
}

impl Client<TlsStream<TcpStream>> {
    fn certificate(&self) -> CertificateDer<'static> {
        self.stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn post(&mut self, body: &[u8]) -> Reply {
        self.send_post(body).await;
        self.reply().await
    }

    async fn send_post(&mut self, body: &[u8]) {
        self.send_post_to("/mutate?timeout=30s", body).await;
    }

    async fn send_post_to(&mut self, path: &str, body: &[u8]) {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        self.send(&[head.as_bytes(), body].concat()).await;
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.unwrap();
    }

    async fn try_send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = poll_fn(|context| Pin::new(&mut self.stream).poll_write(context, bytes)).await?;
            bytes = &bytes[sent..];
        }
        poll_fn(|context| Pin::new(&mut self.stream).poll_flush(context)).await
    }

    /// What has come, at most `limit` bytes; nothing at the end.
    async fn receive(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; limit];
        let mut buffer = ReadBuf::new(&mut bytes);
        poll_fn(|context| Pin::new(&mut self.stream).poll_read(context, &mut buffer)).await?;
        Ok(buffer.filled().to_vec())
    }

    /// One reply, by its Content-Length.
    async fn reply(&mut self) -> Reply {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let next = self.receive(1).await.unwrap();
            assert!(!next.is_empty(), "closed after {:?}", String::from_utf8_lossy(&head));
            head.extend(next);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let length: usize = header("content-length").expect("a length").parse().unwrap();
        let mut body = Vec::new();
        while body.len() < length {
            let next = self.receive(length - body.len()).await.unwrap();
            assert!(!next.is_empty(), "closed within the reply's body");
            body.extend(next);
        }
        Reply {
            status: head["http/1.1 ".len()..][..3].parse().unwrap(),
            closes: header("connection") == Some("close"),
            body: String::from_utf8(body).unwrap(),
        }
    }

    /// Waits until the server closes, with or without a goodbye, and has said nothing before.
    async fn closed(&mut self) {
        let last = self.receive(1).await.unwrap_or_default();
        assert_eq!(last, b"");
    }
}

fn any_client() -> Arc<ClientConfig> {
    client_config(rustls::ALL_VERSIONS)
}

fn client_config(versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, aws_lc_rs};
    use rustls::pki_types::UnixTime;
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    /// Tests look at the certificate themselves; whether it signs the handshake is checked.
    #[derive(Debug)]
    struct Any(CryptoProvider);

    impl ServerCertVerifier for Any {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }

    let provider = aws_lc_rs::default_provider();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}
