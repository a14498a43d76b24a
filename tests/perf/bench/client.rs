//! A client for what wrk does not do: looking at replies.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// One keep-alive connection.
pub(crate) struct Client(StreamOwned<ClientConnection, TcpStream>);

impl Client {
    /// Connects to a server with the certificate in `folder`.
    pub(crate) fn connect(address: SocketAddr, folder: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(folder.join("tls.crt")).unwrap()).unwrap();
        let config = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
        let connection = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(StreamOwned::new(connection, stream))
    }

    /// Posts a review; the status and the body of the reply.
    pub(crate) fn post(&mut self, body: &[u8]) -> (u16, Vec<u8>) {
        let head = format!(
            "POST /mutate?timeout=10s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.write_all(&[head.as_bytes(), body].concat()).unwrap();
        self.0.flush().unwrap();
        let mut reply = Vec::new();
        loop {
            if let Some((head, rest)) = split(&reply) {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                if rest.len() == length.parse::<usize>().unwrap() {
                    return (head["HTTP/1.1 ".len()..][..3].parse().unwrap(), rest.to_vec());
                }
            }
            let mut part = [0; 16 << 10];
            let count = self.0.read(&mut part).unwrap();
            assert!(count > 0, "the server closed the connection");
            reply.extend_from_slice(&part[..count]);
        }
    }
}

/// Head and body, once the head is there.
fn split(reply: &[u8]) -> Option<(&str, &[u8])> {
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((std::str::from_utf8(&reply[..end]).unwrap(), &reply[end + 4..]))
}
