//! A client of the webhook's port, by hand: each request on a connection of its own, whose certificate is checked as
//! the API server checks it.

#![allow(dead_code, reason = "several binaries include this file and each uses a part")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// The name in the certificate.
const NAME: &str = "podgraft.podgraft.svc";

/// What came back.
pub(crate) struct Reply {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Vec<u8>,
    /// The server's certificate.
    pub(crate) certificate: Vec<u8>,
}

/// Posts a review to `/mutate` on this port of loopback, as the API server does.
pub(crate) fn post(port: u16, ca_pem: &str, body: &[u8]) -> Result<Reply, String> {
    let mut stream = connect(port, ca_pem)?;
    let length = body.len();
    let head = format!(
        "POST /mutate?timeout=10s HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    let mut reply = Vec::new();
    stream
        .write_all(&[head.as_bytes(), body].concat())
        .and_then(|()| stream.read_to_end(&mut reply))
        .map_err(|error| format!("POST /mutate: {error}"))?;
    let certificate = stream.conn.peer_certificates().and_then(|chain| chain.first()).ok_or("no certificate")?;
    parse(&reply, certificate.to_vec())
}

fn connect(port: u16, ca_pem: &str) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
    let connection = client(ca_pem).and_then(|config| {
        let name = ServerName::try_from(NAME).map_err(|error| error.to_string())?;
        ClientConnection::new(config, name).map_err(|error| error.to_string())
    })?;
    let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| format!("port {port}: {error}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(|error| error.to_string())?;
    Ok(StreamOwned::new(connection, stream))
}

/// What trusts these authorities.
pub(crate) fn client(ca_pem: &str) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn parse(reply: &[u8], certificate: Vec<u8>) -> Result<Reply, String> {
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n").ok_or("no HTTP reply")?;
    let head = String::from_utf8_lossy(&reply[..end]);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no HTTP status")?;
    Ok(Reply { status, body: reply[end + 4..].to_vec(), certificate })
}
