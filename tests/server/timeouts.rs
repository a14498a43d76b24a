//! Clients that are slow, silent or gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::client::{Client, MIB};
use super::fixture::{Fake, Fixture, done, run};

#[test]
fn a_slow_client_times_out_while_an_idle_keep_alive_stays_open() {
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
        assert!(server.metrics().await.contains("podgraft_connections_timed_out_total{phase=\"receiving\"} 5\n"));
    });
}

#[test]
fn a_trickling_body_times_out_in_spite_of_its_progress() {
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
fn an_idle_connection_is_closed_at_last() {
    let mut fixture = Fixture::new();
    fixture.timeouts.idle = Duration::from_millis(50);
    run(fixture, async |server| {
        server.connect().await.closed().await;
    });
}

#[test]
fn a_handshake_that_never_comes_times_out() {
    let mut fixture = Fixture::new();
    fixture.timeouts.handshake = Duration::from_millis(50);
    run(fixture, async |server| {
        let mut client = Client { stream: TcpStream::connect(server.app.address).await.unwrap() };
        client.closed().await;
        let mut client = Client { stream: TcpStream::connect(server.app.address).await.unwrap() };
        client.send(b"\x16\x03\x01\x02").await;
        client.closed().await;
        assert!(server.metrics().await.contains("podgraft_connections_timed_out_total{phase=\"handshake\"} 2\n"));
    });
}

#[test]
fn a_client_that_does_not_read_its_reply_times_out() {
    let mut fixture = Fixture::new();
    fixture.timeouts.reply = Duration::from_millis(50);
    fixture.reviewer = Arc::new(Fake::new(|_, _| done("x".repeat(64 * MIB)))); // more than the sockets hold
    run(fixture, async |server| {
        let mut client = server.connect().await;
        client.send_post(b"{}").await;
        server.until_metrics_say("podgraft_connections_timed_out_total{phase=\"replying\"} 1\n").await;
    });
}
