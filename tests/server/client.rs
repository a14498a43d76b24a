//! An asynchronous HTTPS client that sends and reads single bytes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
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
    // with TLS 1.3 a client sees the server's alert only when it reads
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

    /// Receives at most `limit` bytes; none at the end.
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
