//! The server's certificate and its settings for TLS; the certificate is read again whenever its files are not the
//! ones that were read last.
//!
//! There is no watcher: each handshake asks the file system what the two paths lead to now (two `stat` calls, a few
//! microseconds on the tmpfs of a mounted Secret). So any way of replacing them is noticed, the kubelet's swap of the
//! `..data` symlink included, and as often as it happens.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig, SupportedProtocolVersion};
use tracing::{error, info};

use self::client_verifier::ClientVerifier;
use crate::http::metrics::Metrics;

pub mod client_verifier;

/// Where the certificate chain and its key are.
#[derive(Debug, Clone)]
pub struct CertificatePaths {
    /// PEM, the server's own certificate first
    pub certificate: PathBuf,
    /// PEM: PKCS #8, SEC 1 or PKCS #1
    pub key: PathBuf,
}

/// Why a pair cannot be served; names the flag and the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// a file cannot be read
    #[error("{flag} {}: cannot be read", path.display())]
    Read {
        /// the flag that named it
        flag: &'static str,
        /// the file
        path: PathBuf,
        /// what the system says
        source: io::Error,
    },
    /// a file does not hold what it should
    #[error("{flag} {}: {problem}", path.display())]
    Content {
        /// the flag that named it
        flag: &'static str,
        /// the file
        path: PathBuf,
        /// what is wrong with it
        problem: String,
    },
    /// each is sound, but not together
    #[error("--tls-key {} is not the key of --tls-cert {}", key.display(), certificate.display())]
    Mismatch {
        /// the certificate's file
        certificate: PathBuf,
        /// the key's file
        key: PathBuf,
    },
    /// the TLS library refuses its own settings
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// The oldest version of TLS that is spoken. Its cipher suites are rustls' own, all of them with forward secrecy and
/// authenticated encryption, so there is nothing to choose; renegotiation and resumption do not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MinTlsVersion {
    /// 1.2, the API server's own oldest by default
    #[default]
    Tls12,
    /// 1.3
    Tls13,
}

static VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

const CERTIFICATE_FLAG: &str = "--tls-cert";
const KEY_FLAG: &str = "--tls-key";

/// The newest sound pair, as the TLS library asks for it.
#[derive(Debug)]
pub struct Certificates {
    files: CertificatePaths,
    provider: Arc<CryptoProvider>,
    metrics: Arc<Metrics>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    /// what was read last, sound or not: the same bad pair is not read, nor complained of, twice
    seen: [Option<FileFingerprint>; 2],
    pair: Arc<CertifiedKey>,
}

/// What tells one version of a file from the next, through any number of symlinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileFingerprint {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

// === impl Certificates ===

impl Certificates {
    /// Reads the first pair; unlike a later one it must be sound.
    pub fn load(files: CertificatePaths, metrics: Arc<Metrics>) -> Result<Arc<Self>, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let seen = files.fingerprints();
        let pair = files.read(&provider)?;
        metrics.certificate_loaded(not_after(&pair));
        Ok(Arc::new(Self { files, provider, metrics, current: Mutex::new(Current { seen, pair }) }))
    }

    /// The settings of every handshake; with `clients` only those are let in.
    pub fn server_config(
        self: &Arc<Self>,
        oldest: MinTlsVersion,
        clients: Option<&Arc<ClientVerifier>>,
    ) -> Result<Arc<ServerConfig>, Error> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(oldest.versions())
            .map_err(Error::Setup)?;
        let builder = match clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients) as _),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed session keeps the certificate it began with; without resumption a rotated one shows at once.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0; // nobody could redeem them
        Ok(Arc::new(config))
    }

    /// The pair to serve now. A pair that cannot be served leaves the one before in place.
    ///
    /// The files are judged by what they were *before* they were read: one that is replaced meanwhile differs from
    /// that at the next call and is read again, so a pair torn by a swap never stays.
    pub fn refresh(&self) -> Arc<CertifiedKey> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.files.fingerprints();
        if found != current.seen {
            current.seen = found;
            match self.files.read(&self.provider) {
                Ok(pair) => {
                    info!(certificate = %self.files.certificate.display(), "certificate reloaded");
                    self.metrics.certificate_loaded(not_after(&pair));
                    current.pair = pair;
                }
                Err(error) => {
                    let error = anyhow::Error::from(error); // prints its source too
                    error!(error = format!("{error:#}"), "certificate not reloaded, the one before goes on serving");
                    self.metrics.certificate_failed();
                }
            }
        }
        Arc::clone(&current.pair)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.refresh())
    }
}

// === impl Oldest, Files ===

impl MinTlsVersion {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            MinTlsVersion::Tls12 => VERSIONS,
            MinTlsVersion::Tls13 => &VERSIONS[..1],
        }
    }
}

impl CertificatePaths {
    fn fingerprints(&self) -> [Option<FileFingerprint>; 2] {
        [&self.certificate, &self.key].map(|path| FileFingerprint::of_file(path))
    }

    fn read(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, Error> {
        let chain = chain(CERTIFICATE_FLAG, &self.certificate)?;
        x509_parser::parse_x509_certificate(&chain[0])
            .map_err(|error| content(CERTIFICATE_FLAG, &self.certificate, format!("is no certificate: {error}")))?;
        let key = PrivateKeyDer::from_pem_slice(&read(KEY_FLAG, &self.key)?).map_err(|error| {
            // the PEM reader's errors quote lines, and the lines of this file are a secret
            let problem = if matches!(error, pem::Error::NoItemsFound) { "holds no private key" } else { "is not PEM" };
            content(KEY_FLAG, &self.key, problem)
        })?;
        let pair = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                Error::Mismatch { certificate: self.certificate.clone(), key: self.key.clone() }
            }
            rustls::Error::InvalidCertificate(error) => {
                content(CERTIFICATE_FLAG, &self.certificate, format!("is no certificate: {error}"))
            }
            error => content(KEY_FLAG, &self.key, format!("is no usable key: {error}")),
        })?;
        Ok(Arc::new(pair))
    }
}

/// The certificates of a PEM file, one at least.
fn chain(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_slice_iter(&read(flag, path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| content(flag, path, format!("is not PEM: {error}")))?;
    if chain.is_empty() { Err(content(flag, path, "holds no certificate")) } else { Ok(chain) }
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { flag, path: path.to_owned(), source })
}

fn content(flag: &'static str, path: &Path, problem: impl Into<String>) -> Error {
    Error::Content { flag, path: path.to_owned(), problem: problem.into() }
}

/// When the server's own certificate expires, in seconds since 1970.
fn not_after(pair: &CertifiedKey) -> Option<i64> {
    let (_, leaf) = x509_parser::parse_x509_certificate(pair.cert.first()?).ok()?;
    Some(leaf.validity().not_after.timestamp())
}

// === impl Identity ===

impl FileFingerprint {
    /// Of what the path leads to now; nothing where that cannot be asked.
    fn of_file(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            length: metadata.len(),
        })
    }
}
