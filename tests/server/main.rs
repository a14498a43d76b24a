//! The server as the API server meets it: real sockets and real TLS.
//!
//! * [`admin`] reads probes and metrics from the plain port.
//! * [`certificates`] rotates the serving certificate, also to invalid ones.
//! * [`clients`] checks which clients are accepted, and with which TLS.
//! * [`connections`] opens more connections than the limit.
//! * [`drain`] shuts the server down while requests are in flight.
//! * [`limits`] sends reviews up to and beyond the limits of size and time.
//! * [`modules`] runs modules that are slow or panic.
//! * [`program`] starts the program itself: signals, exit codes, errors at the start.
//! * [`secrets_and_metrics`] sends everything that can happen to a webhook to the program, and checks that no secret is
//!   repeated and that every metric moves.
//! * [`timeouts`] has clients that are slow, silent or gone.
//! * [`fixture`] is the server inside the test, with a reviewer that does what the test needs.
//! * [`client`] is an asynchronous HTTPS client that sends and reads single bytes.
//!
//! Nothing sleeps: tests wait for what they expect, and a watchdog ends a test that waits in vain.
#![expect(clippy::unwrap_used, reason = "in a test they are assertions")]

mod admin;
mod certificates;
mod client;
mod clients;
mod connections;
mod drain;
mod fixture;
mod limits;
mod modules;
mod program;
mod secrets_and_metrics;
mod timeouts;
