//! Clients of podgraft's two ports, by hand: HTTPS for reviews, plain HTTP for metrics and probes.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
};

use crate::certificates::{WEBHOOK_NAME, der};

/// The time limit for a reply.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A reply of the webhook's port.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// True if the server closes the connection after it.
    pub closes: bool,
    /// The body.
    pub body: Vec<u8>,
}

/// A connection to the webhook's port, for one request after another.
pub struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
    requests: u64,
}

impl Connection {
    /// Opens a connection; the handshake takes place with the first request.
    pub fn open(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(READ_TIMEOUT))?;
        let name = ServerName::try_from(WEBHOOK_NAME).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Self { stream: StreamOwned::new(connection, socket), requests: 0 })
    }

    /// Counts the requests so far.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// True if the server has sent something since its last reply, which can only be the end.
    pub fn was_closed(&self) -> bool {
        let socket = &self.stream.sock;
        let looked = socket.set_nonblocking(true).and_then(|()| socket.peek(&mut [0]));
        let _ = socket.set_nonblocking(false);
        !looked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Completes the handshake and returns the server's certificate.
    pub fn certificate(&mut self) -> io::Result<CertificateDer<'static>> {
        while self.stream.conn.is_handshaking() {
            self.stream.conn.complete_io(&mut self.stream.sock)?;
        }
        let chain = self.stream.conn.peer_certificates().unwrap_or_default();
        chain.first().map(|first| first.clone().into_owned()).ok_or_else(|| io::Error::other("no certificate"))
    }

    /// Posts a review to `/mutate` as the API server does.
    pub fn post(&mut self, review: &[u8]) -> io::Result<Reply> {
        self.post_with("", review)
    }

    /// Posts a review with further header lines, each with its line end.
    fn post_with(&mut self, headers: &str, review: &[u8]) -> io::Result<Reply> {
        self.requests += 1;
        let length = review.len();
        let head = format!(
            "POST /mutate?timeout=10s HTTP/1.1\r\nHost: {WEBHOOK_NAME}\r\nContent-Type: application/json\r\n\
             {headers}Content-Length: {length}\r\n\r\n"
        );
        self.stream.write_all(&[head.as_bytes(), review].concat())?;
        self.stream.flush()?;
        let mut reply = Vec::new();
        loop {
            let mut part = [0; 16 << 10];
            let read = self.stream.read(&mut part)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            reply.extend_from_slice(&part[..read]);
            let Some(end) = reply.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&reply[..end]).to_ascii_lowercase();
            let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            let length: usize = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
            if reply.len() - end - 4 >= length {
                let closes = header("connection") == Some("close");
                return Ok(Reply { status: status_of(&head), closes, body: reply[end + 4..].to_vec() });
            }
        }
    }
}

/// Posts a review on a connection of its own; these authorities must have signed the server's certificate.
pub fn post(port: u16, ca_pem: &str, review: &[u8]) -> Result<Reply, String> {
    let mut connection = open(port, ca_pem)?;
    let reply = connection.post_with("Connection: close\r\n", review);
    let reply = reply.map_err(|error| format!("POST /mutate: {error}"))?;
    // The connection is over when the server says so, which its metric of open connections knows, too.
    let _ = connection.stream.read_to_end(&mut Vec::new());
    Ok(reply)
}

/// Returns the certificate that a new connection is shown; these authorities must have signed it.
pub fn served_certificate(port: u16, ca_pem: &str) -> Result<CertificateDer<'static>, String> {
    open(port, ca_pem)?.certificate().map_err(|error| error.to_string())
}

fn open(port: u16, ca_pem: &str) -> Result<Connection, String> {
    let address = (Ipv4Addr::LOCALHOST, port).into();
    Connection::open(address, &trusting(ca_pem)?).map_err(|error| format!("port {port}: {error}"))
}

/// Gets a path of the plain port: status and body.
pub fn get(admin: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: podgraft\r\nConnection: close\r\n\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let (head, body) = reply.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    Ok((status_of(head), body.to_owned()))
}

/// Reads the value of a metric without labels, or with exactly these (`name{label="x"}`).
pub fn metric(admin: SocketAddr, series: &str) -> Result<f64, String> {
    let (_, text) = get(admin, "/metrics").map_err(|error| error.to_string())?;
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    value.ok_or_else(|| format!("no metric {series}"))
}

fn status_of(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

// === TLS ===

/// A client that checks the server's certificate against these authorities.
pub fn trusting(ca_pem: &str) -> Result<Arc<ClientConfig>, String> {
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

/// A client that accepts any server certificate.
pub fn accepting_any() -> Arc<ClientConfig> {
    accepting_any_with(rustls::ALL_VERSIONS, None)
}

/// A client that accepts any server certificate, speaks these versions of TLS, and presents a certificate with its key,
/// if it has one (PEM).
pub fn accepting_any_with(
    versions: &[&'static SupportedProtocolVersion],
    presents: Option<(&str, &str)>,
) -> Arc<ClientConfig> {
    let provider = aws_lc_rs::default_provider();
    let config = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_protocol_versions(versions)
        .expect("rustls has these versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)));
    let mut config = match presents {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
            config.with_client_auth_cert(vec![der(certificate)], key).expect("a certificate of that key")
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Accepts any certificate, as tests compare it themselves; the handshake's signature is verified.
#[derive(Debug)]
struct AcceptAny(CryptoProvider);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
