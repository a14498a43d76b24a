//! The program: signals, exit codes, what it says when it cannot start.

use std::fs;
use std::process::Command;

use podgraft_testkit::client::{self, accepting_any};
use podgraft_testkit::fixtures::review;
use podgraft_testkit::mounted_secret::MountedSecret;
use podgraft_testkit::server::LocalPodgraft;

use super::client::connect;

#[test]
fn sigterm_drains_and_exits_with_0_and_the_log_holds_no_pod() {
    let mut process = LocalPodgraft::start(&["--drain-grace=10ms", "--log-level=trace"]);
    let address = process.address();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reply = runtime.block_on(async {
        let mut client = connect(address, &accepting_any()).await;
        client.post(b"CANARY").await;
        client.post(review("admission.k8s.io/v1").as_bytes()).await
    });
    assert_eq!(reply.status, 200);
    process.signal("TERM").unwrap();
    let (status, log) = process.end().unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains(r#""uid":"a-\"uid\"","namespace":"ns","name":"pod""#), "{log}");
    assert!(!log.contains("CANARY"), "{log}");
}

#[test]
fn bodies_that_are_no_reviews_do_not_flood_the_log() {
    let mut process = LocalPodgraft::start(&["--drain-grace=10ms"]);
    let address = process.address();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = connect(address, &accepting_any()).await;
        for _ in 0..200 {
            assert_eq!(client.post(b"{}").await.status, 400);
        }
    });
    process.signal("TERM").unwrap();
    let (_, log) = process.end().unwrap();
    let lines = log.lines().filter(|line| line.contains("\"outcome\":\"malformed\"")).count();
    assert!((1..100).contains(&lines), "{lines} lines");
}

#[test]
fn a_second_signal_exits_at_once_with_1() {
    let mut process = LocalPodgraft::start(&["--drain-grace=1h"]);
    process.signal("INT").unwrap();
    process.next_line("the drain", |line| line.contains("\"message\":\"draining")).unwrap();
    process.signal("TERM").unwrap();
    assert_eq!(process.end().unwrap().0.code(), Some(1));
}

#[test]
fn an_unreadable_source_shows_in_a_metric_until_it_is_readable() {
    let policies = tempfile::tempdir().unwrap();
    let folder = policies.path().join("policies");
    fs::create_dir(&folder).unwrap();
    let process = LocalPodgraft::start(&["--config-poll=10ms", "--policies", folder.to_str().unwrap()]);
    let admin = process.admin_address();
    let until = |config: u8, policies: u8| {
        let lines = [("config", config), ("policies", policies)]
            .map(|(source, up)| format!("podgraft_config_source_up{{source=\"{source}\"}} {up}\n"));
        // a test that hangs here waits for one of them
        while !lines.iter().all(|line| client::get(admin, "/metrics").unwrap().1.contains(line)) {}
    };
    until(1, 1);
    for (path, config, of_policies) in [(process.config(), 0, 1), (folder.clone(), 1, 0)] {
        let away = path.with_extension("away");
        fs::rename(&path, &away).unwrap();
        until(config, of_policies);
        fs::rename(&away, &path).unwrap();
        until(1, 1);
    }
}

#[test]
fn a_failed_start_prints_one_sentence_and_exits_with_2() {
    let secret = MountedSecret::self_signed();
    let (certificate, key) = (secret.certificate(), secret.key());
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
            &format!("podgraft: --listen {address}: cannot listen: Address already in use (os error 98)\n"),
        ),
    ] {
        let flags = ["serve", "--config=.", "--tls-cert", certificate, "--tls-key", key, "--listen", listen];
        let output = Command::new(podgraft_testkit::program())
            .args(flags)
            .args(["--admin-listen=127.0.0.1:0", "--log-level=off"])
            .output()
            .unwrap();
        assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(2), sentence));
    }
    let usage = Command::new(podgraft_testkit::program()).args(["serve", "--tls-cert=a", "--tls-key=b"]).output();
    assert_eq!(usage.unwrap().status.code(), Some(2), "neither --config nor --namespace");
}
