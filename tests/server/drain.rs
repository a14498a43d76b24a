//! Requests and connections while the server shuts down.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;

use podgraft_testkit::client::accepting_any;

use super::client::{connect, get};
use super::fixture::{Fixture, Gate, gated, run, start, until};

#[test]
fn a_drain_drops_no_request() {
    let mut fixture = Fixture::new();
    let gate = Arc::new(Gate::default());
    fixture.reviewer = gated(&gate);
    run(fixture, async |server| {
        assert_eq!(server.get("/readyz").await, (200, "ok\n".to_owned()));
        let (address, admin_address, client_config) = (server.app.address, server.app.admin_address, accepting_any());
        let mut slow = server.connect().await;
        slow.send_post(b"slow").await;
        gate.wait_for(1).await;
        let (mut idle, mut half) = (server.connect().await, server.connect().await);
        idle.post(b"{}").await;
        half.post(b"{}").await;
        half.send(b"POST /mutate HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nConte").await;

        // the grace: not ready, but new requests are served, each with `Connection: close`
        let draining = tokio::spawn(server.app.drain(Duration::from_millis(500)));
        until(async || get(admin_address, "/readyz").await == (503, "not ready: shutting down\n".to_owned())).await;
        let reply = idle.post(b"{}").await;
        assert_eq!((reply.status, reply.closes), (200, true));
        idle.closed().await;
        let reply = connect(address, &client_config).await.post(b"{}").await;
        assert_eq!((reply.status, reply.closes), (200, true));

        // then no connection is accepted, but requests in flight are answered
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
                    let config = accepting_any();
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
fn a_drain_closes_idle_connections_only_after_the_grace() {
    run(Fixture::new(), async |server| {
        let mut idle = server.connect().await;
        assert!(!idle.post(b"{}").await.closes);
        let mut unused = server.connect().await;
        server.app.drain(Duration::ZERO).await;
        idle.closed().await;
        unused.closed().await;
    });
}
