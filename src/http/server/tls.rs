//! The serving certificate, reloaded when its files change, and the settings of TLS.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig, SupportedProtocolVersion};

use self::client_verifier::ClientVerifier;
use self::reloading::Reloading;
use crate::http::metrics::Metrics;

pub mod client_verifier;
mod pem_file;
mod reloading;

pub use self::pem_file::Error;
use self::pem_file::{chain, content, read};

/// Paths of the certificate chain and its key.
#[derive(Debug, Clone)]
pub struct CertificatePaths {
    /// PEM, the server's own certificate first
    pub certificate: PathBuf,
    /// PEM: PKCS #8, SEC 1 or PKCS #1
    pub key: PathBuf,
}

/// The lowest TLS version that is accepted. The cipher suites are rustls' own, all of them with forward secrecy and
/// authenticated encryption, so there is nothing to choose; there is no renegotiation and no resumption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MinTlsVersion {
    /// TLS 1.2, which is also the API server's own default
    #[default]
    Tls12,
    /// TLS 1.3
    Tls13,
}

static VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

const CERTIFICATE_FLAG: &str = "--tls-cert";
const KEY_FLAG: &str = "--tls-key";

/// The last valid serving certificate and its key.
#[derive(Debug)]
pub struct Certificates {
    provider: Arc<CryptoProvider>,
    pair: Reloading<CertifiedKey>,
}

// === impl Certificates ===

impl Certificates {
    /// Reads the first certificate and key.
    ///
    /// # Errors
    /// A file cannot be read or is invalid, or the key does not belong to the certificate.
    pub fn load(files: CertificatePaths, metrics: Arc<Metrics>) -> Result<Arc<Self>, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let paths = vec![files.certificate.clone(), files.key.clone()];
        let (key_provider, expiry) = (Arc::clone(&provider), Arc::clone(&metrics));
        let pair = Reloading::load("certificate", paths, metrics, move || {
            let pair = files.read(&key_provider)?;
            expiry.certificate_loaded(not_after(&pair));
            Ok(pair)
        })?;
        Ok(Arc::new(Self { provider, pair }))
    }

    /// Returns the settings of every handshake. With `clients`, a client must have a certificate that they accept.
    ///
    /// # Errors
    /// The TLS library does not accept the settings.
    pub fn server_config(
        self: &Arc<Self>,
        min_version: MinTlsVersion,
        clients: Option<&Arc<ClientVerifier>>,
    ) -> Result<Arc<ServerConfig>, Error> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(min_version.versions())
            .map_err(Error::Setup)?;
        let builder = match clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients) as _),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed session keeps the certificate it began with; without resumption a rotated one is used at once.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0; // no session is kept that a ticket could resume
        Ok(Arc::new(config))
    }

    /// Returns the last valid certificate and key, read again if their files have changed.
    pub fn refresh(&self) -> Arc<CertifiedKey> {
        self.pair.get()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.refresh())
    }
}

// === impl MinTlsVersion, CertificatePaths ===

impl MinTlsVersion {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            MinTlsVersion::Tls12 => VERSIONS,
            MinTlsVersion::Tls13 => &VERSIONS[..1],
        }
    }
}

impl CertificatePaths {
    fn read(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, Error> {
        let chain = chain(CERTIFICATE_FLAG, &self.certificate)?;
        x509_parser::parse_x509_certificate(&chain[0])
            .map_err(|error| content(CERTIFICATE_FLAG, &self.certificate, format!("is not a certificate: {error}")))?;
        let key = PrivateKeyDer::from_pem_slice(&read(KEY_FLAG, &self.key)?).map_err(|error| {
            // the PEM reader's errors quote lines, and the lines of this file are a secret
            let message = if matches!(error, pem::Error::NoItemsFound) { "holds no private key" } else { "is not PEM" };
            content(KEY_FLAG, &self.key, message)
        })?;
        let pair = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                Error::Mismatch { certificate: self.certificate.clone(), key: self.key.clone() }
            }
            rustls::Error::InvalidCertificate(error) => {
                content(CERTIFICATE_FLAG, &self.certificate, format!("is not a certificate: {error}"))
            }
            error => content(KEY_FLAG, &self.key, format!("is not a usable key: {error}")),
        })?;
        Ok(Arc::new(pair))
    }
}

/// Returns the expiry of the server's own certificate, in seconds since 1970.
fn not_after(pair: &CertifiedKey) -> Option<i64> {
    let (_, leaf) = x509_parser::parse_x509_certificate(pair.cert.first()?).ok()?;
    Some(leaf.validity().not_after.timestamp())
}
