//! A client by hand, which sees every byte.

#![allow(dead_code, reason = "several binaries include this file and each uses a part")]

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const MIB: usize = 1 << 20;

pub(crate) struct Client<S> {
    pub(crate) stream: S,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) closes: bool,
    pub(crate) body: String,
}

/// The status of a review's reply, where the server lets this client in.
pub(crate) async fn admitted(address: std::net::SocketAddr, config: &Arc<ClientConfig>) -> Option<u16> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("podgraft.podgraft.svc").unwrap();
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await.ok()?;
    // with TLS 1.3 a client hears of its refusal when it reads
    let mut client = Client { stream };
    client
        .try_send(b"POST /mutate HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        .await
        .ok()?;
    let status = client.receive("HTTP/1.1 200".len()).await.ok()?;
    String::from_utf8(status).unwrap().strip_prefix("HTTP/1.1 ")?.parse().ok()
}

pub(crate) async fn connect(address: std::net::SocketAddr, config: &Arc<ClientConfig>) -> Client<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("podgraft.podgraft.svc").unwrap();
    Client { stream: TlsConnector::from(Arc::clone(config)).connect(name, stream).await.unwrap() }
}

pub(crate) async fn get(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    let mut client = Client { stream: TcpStream::connect(address).await.unwrap() };
    client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).await;
    let reply = client.reply().await;
    (reply.status, reply.body)
}

impl Client<TlsStream<TcpStream>> {
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) async fn post(&mut self, body: &[u8]) -> Reply {
        self.send_post(body).await;
        self.reply().await
    }

    pub(crate) async fn send_post(&mut self, body: &[u8]) {
        self.send_post_to("/mutate?timeout=30s", body).await;
    }

    pub(crate) async fn send_post_to(&mut self, path: &str, body: &[u8]) {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        self.send(&[head.as_bytes(), body].concat()).await;
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.unwrap();
    }

    pub(crate) async fn try_send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = poll_fn(|context| Pin::new(&mut self.stream).poll_write(context, bytes)).await?;
            bytes = &bytes[sent..];
        }
        poll_fn(|context| Pin::new(&mut self.stream).poll_flush(context)).await
    }

    /// What has come, at most `limit` bytes; nothing at the end.
    pub(crate) async fn receive(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; limit];
        let mut buffer = ReadBuf::new(&mut bytes);
        poll_fn(|context| Pin::new(&mut self.stream).poll_read(context, &mut buffer)).await?;
        Ok(buffer.filled().to_vec())
    }

    /// One reply, by its Content-Length.
    pub(crate) async fn reply(&mut self) -> Reply {
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
    pub(crate) async fn closed(&mut self) {
        let last = self.receive(1).await.unwrap_or_default();
        assert_eq!(last, b"");
    }
}

pub(crate) fn any_client() -> Arc<ClientConfig> {
    client_config(rustls::ALL_VERSIONS)
}

pub(crate) fn client_config(versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    client_config_with(versions, None)
}

/// A client that shows a certificate, if it has one: PEM, with its key.
pub(crate) fn client_config_with(
    versions: &[&'static SupportedProtocolVersion],
    shows: Option<(&str, &str)>,
) -> Arc<ClientConfig> {
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
    let config = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(provider)));
    let mut config = match shows {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            config.with_client_auth_cert(vec![super::secret::der(certificate)], key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

pub(crate) fn review(version: &str) -> String {
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

/// A review of a task pod in this queue.
pub(crate) fn task_review(queue: &str) -> String {
    let mut review: serde_json::Value = serde_json::from_str(&review("admission.k8s.io/v1")).unwrap();
    review["request"]["uid"] = "uid".into();
    review["request"]["object"]["metadata"]["labels"] = serde_json::json!({"podgraft.io/queue": queue});
    review.to_string()
}
