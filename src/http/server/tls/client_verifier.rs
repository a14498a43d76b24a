//! Who may connect: clients with a certificate of one authority, as the API server has one when its
//! `AdmissionConfiguration` gives it a kubeconfig for webhooks.
//!
//! The authority's file is read again as the server's own certificate is: at a handshake, when it is another file.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use tracing::{error, info};
use x509_parser::extensions::GeneralName;

use super::{Error, FileFingerprint, chain, content};
use crate::http::metrics::Metrics;

const FLAG: &str = "--client-ca";

/// Whose certificates let a client in.
#[derive(Debug, Clone)]
pub struct ClientAuth {
    /// PEM: the authorities, any of which may have signed
    pub authorities: PathBuf,
    /// a certificate must have one of these as its common name or among its DNS names; empty is any
    pub names: Vec<String>,
}

/// The check of every client's certificate.
#[derive(Debug)]
pub struct ClientVerifier {
    trust: ClientAuth,
    provider: Arc<CryptoProvider>,
    metrics: Arc<Metrics>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    /// what was read last, sound or not
    seen: Option<FileFingerprint>,
    check: Arc<dyn ClientCertVerifier>,
}

// === impl Clients ===

impl ClientVerifier {
    /// Reads the first authorities; unlike later ones they must be sound.
    pub fn load(trust: ClientAuth, metrics: Arc<Metrics>) -> Result<Arc<Self>, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let seen = FileFingerprint::of_file(&trust.authorities);
        let check = trust.read(&provider)?;
        Ok(Arc::new(Self { trust, provider, metrics, current: Mutex::new(Current { seen, check }) }))
    }

    /// The check of now. A file that cannot be used leaves the one before in place.
    pub fn refresh(&self) -> Arc<dyn ClientCertVerifier> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let found = FileFingerprint::of_file(&self.trust.authorities);
        if found != current.seen {
            current.seen = found;
            match self.trust.read(&self.provider) {
                Ok(check) => {
                    info!(authorities = %self.trust.authorities.display(), "client authorities reloaded");
                    current.check = check;
                }
                Err(error) => {
                    let error = anyhow::Error::from(error); // prints its source too
                    error!(error = format!("{error:#}"), "client authorities not reloaded, those before go on");
                    self.metrics.certificate_failed();
                }
            }
        }
        Arc::clone(&current.check)
    }
}

impl ClientCertVerifier for ClientVerifier {
    /// None: a hint would be the authorities of the moment when it was made, and a client may send what it has
    /// without one.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.refresh().verify_client_cert(end_entity, intermediates, now)?;
        if self.trust.names.is_empty() || self.trust.has_name(end_entity) {
            return Ok(verified);
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

// === impl Trust ===

impl ClientAuth {
    fn read(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let wrong = |problem: String| content(FLAG, &self.authorities, problem);
        let mut roots = RootCertStore::empty();
        for certificate in chain(FLAG, &self.authorities)? {
            roots.add(certificate).map_err(|error| wrong(format!("holds what is no certificate: {error}")))?;
        }
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map_err(|error| wrong(format!("cannot be used: {error}")))
    }

    fn has_name(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else { return false };
        let is_one = |name: &str| self.names.iter().any(|allowed| allowed == name);
        let mut common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        let alternative = certificate.subject_alternative_name().ok().flatten();
        let mut alternative = alternative.iter().flat_map(|names| &names.value.general_names);
        common.any(is_one) || alternative.any(|name| matches!(name, GeneralName::DNSName(name) if is_one(name)))
    }
}
