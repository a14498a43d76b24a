//! More connections than there is room for.

use std::fs;
use std::net::TcpStream as Plain;
use std::sync::Arc;

use podgraft_testkit::client::{self, accepting_any};
use podgraft_testkit::server::LocalPodgraft;

use super::client::{Client, connect};
use super::fixture::{Fixture, Gate, gated, run, until};

use tokio::net::TcpStream;

#[test]
fn a_new_connection_evicts_one_that_never_sent_a_request() {
    let fixture = Fixture { connections: 3, ..Fixture::new() };
    run(fixture, async |server| {
        let mut served = server.connect().await;
        served.post(b"{}").await;
        let mut silent = Client { stream: TcpStream::connect(server.app.address).await.unwrap() };
        until(async || server.metrics().await.contains("podgraft_connections 2\n")).await;
        let mut unused = server.connect().await;
        // one after the other, the oldest first, and never the one that was served
        let mut third = server.connect().await;
        silent.closed().await;
        let mut fourth = server.connect().await;
        unused.closed().await;
        for client in [&mut served, &mut third, &mut fourth] {
            assert_eq!(client.post(b"{}").await.status, 200);
        }
        // all have been served now: the one that has been idle for the longest goes
        let mut fifth = server.connect().await;
        served.closed().await;
        assert_eq!(fifth.post(b"{}").await.status, 200);
        server.until_metrics_say("podgraft_connections_evicted_total 3\n").await;
    });
}

#[test]
fn a_connection_with_a_request_in_flight_is_never_evicted() {
    let gate = Arc::new(Gate::default());
    let fixture = Fixture { connections: 2, reviewer: gated(&gate), ..Fixture::new() };
    run(fixture, async |server| {
        let (mut one, mut two) = (server.connect().await, server.connect().await);
        one.send_post(b"slow").await;
        two.send_post(b"slow").await;
        gate.wait_for(2).await;
        let address = server.app.address;
        let late = tokio::spawn(async move { connect(address, &accepting_any()).await.post(b"{}").await.status });
        gate.open();
        // both are answered, and one of them makes room when it is idle
        assert_eq!((one.reply().await.body, two.reply().await.body), ("slow".to_owned(), "slow".to_owned()));
        assert_eq!(late.await.unwrap(), 200);
        server.until_metrics_say("podgraft_connections_evicted_total 1\n").await;
    });
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_block_no_new_one() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    assert!(limit.maximum.is_none_or(|most| most > 10_500), "the hard limit of open files is too low for this test");

    let process = LocalPodgraft::start(&[]);
    let (address, admin) = (process.address(), process.admin_address());
    let of = |file: &str| format!("/proc/{}/{file}", process.id());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let config = accepting_any();
        let mut ours = connect(address, &config).await;
        assert_eq!(ours.post(b"{}").await.status, 400);
        // each tenth goes through the handshake, as an idle client of TLS costs the most
        let (mut silent, mut idle) = (Vec::new(), Vec::new());
        for number in 0..10_000 {
            if number % 10 == 0 {
                idle.push(connect(address, &config).await);
            } else {
                silent.push(Plain::connect(address).unwrap());
            }
            if number % 1_000 == 0 {
                assert_eq!(ours.post(b"{}").await.status, 400);
                assert_eq!(connect(address, &config).await.post(b"{}").await.status, 400);
            }
        }
        assert_eq!(ours.post(b"{}").await.status, 400, "who was served keeps its place");
        assert_eq!(connect(address, &config).await.post(b"{}").await.status, 400, "and who comes now has one");
        assert_eq!(client::get(admin, "/readyz").unwrap().0, 200);
        let open = fs::read_dir(of("fd")).unwrap().count();
        let status = fs::read_to_string(of("status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident: usize = resident.trim().trim_end_matches(" kB").parse().unwrap();
        println!("with 10,000 connections: {open} open files, {} MiB", resident >> 10);
        assert!(open < 1_200, "{open} open files");
        assert!(resident < 200 << 10, "{resident} KiB");
    });
}
