//! The verification of client certificates. The API server has one if its `AdmissionConfiguration` gives it a
//! kubeconfig for webhooks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use x509_parser::extensions::GeneralName;

use super::pem_file::{Error, chain, content};
use super::reloading::Reloading;
use crate::http::metrics::Metrics;

const FLAG: &str = "--client-ca";

/// Requirements on client certificates.
#[derive(Debug, Clone)]
pub struct ClientAuth {
    /// PEM: the client CA, one or several certificates, one of which must have signed
    pub authorities: PathBuf,
    /// allowed names; a certificate has one of them as common name or DNS name; empty allows all
    pub names: Vec<String>,
}

/// The verifier of client certificates, with the last valid client CA.
#[derive(Debug)]
pub struct ClientVerifier {
    names: Vec<String>,
    provider: Arc<CryptoProvider>,
    authorities: Reloading<dyn ClientCertVerifier>,
}

// === impl ClientVerifier ===

impl ClientVerifier {
    /// Reads the first client CA.
    ///
    /// # Errors
    /// The file cannot be read or is invalid.
    pub fn load(auth: ClientAuth, metrics: Arc<Metrics>) -> Result<Arc<Self>, Error> {
        let ClientAuth { authorities: path, names } = auth;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let signatures = Arc::clone(&provider);
        let authorities =
            Reloading::load("client CA", vec![path.clone()], metrics, move || read_authorities(&path, &signatures))?;
        Ok(Arc::new(Self { names, provider, authorities }))
    }

    /// Returns the verifier of the last valid client CA, read again if its file has changed.
    pub fn refresh(&self) -> Arc<dyn ClientCertVerifier> {
        self.authorities.get()
    }

    fn has_allowed_name(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else { return false };
        let is_allowed = |name: &str| self.names.iter().any(|allowed| allowed == name);
        let mut common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        let alternative = certificate.subject_alternative_name().ok().flatten();
        let mut alternative = alternative.iter().flat_map(|names| &names.value.general_names);
        common.any(is_allowed) || alternative.any(|name| matches!(name, GeneralName::DNSName(name) if is_allowed(name)))
    }
}

impl ClientCertVerifier for ClientVerifier {
    /// Returns no hint: it would name the authorities of one moment, and clients send their certificate without one.
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
        if self.names.is_empty() || self.has_allowed_name(end_entity) {
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

fn read_authorities(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let invalid = |message: String| content(FLAG, path, message);
    let mut roots = RootCertStore::empty();
    for certificate in chain(FLAG, path)? {
        roots.add(certificate).map_err(|error| invalid(format!("holds an invalid certificate: {error}")))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| invalid(format!("cannot be used: {error}")))
}
