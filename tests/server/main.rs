//! The server as the API server meets it: real sockets, real TLS, a client by hand.
//!
//! Nothing sleeps: tests wait for what they expect, and a watchdog ends the one that waits in vain.
#![expect(clippy::unwrap_used, reason = "in a test they are assertions")]

#[path = "server/admin.rs"]
mod admin;
#[path = "server/certificates.rs"]
mod certificates;
#[path = "server/client.rs"]
mod client;
#[path = "server/drain.rs"]
mod drain;
#[path = "server/fixture.rs"]
mod fixture;
#[path = "server/limits.rs"]
mod limits;
#[path = "server/modules.rs"]
mod modules;
#[path = "server/process.rs"]
mod process;
#[path = "server/program.rs"]
mod program;
#[path = "server/secret.rs"]
mod secret;
#[path = "server/timeouts.rs"]
mod timeouts;

#[path = "server/clients.rs"]
mod clients;
#[path = "server/connections.rs"]
mod connections;
#[path = "server/story.rs"]
mod story;
