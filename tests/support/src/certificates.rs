//! Certificates: an authority that signs, and self-signed ones.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// The name that the API server asks the webhook's certificate for.
pub const WEBHOOK_NAME: &str = "podgraft.podgraft.svc";

/// A new key.
pub fn new_key() -> Result<KeyPair, String> {
    KeyPair::generate().map_err(|error| format!("key: {error}"))
}

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new authority of this common name.
    pub fn new(name: &str) -> Result<Self, String> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        CertifiedIssuer::self_signed(params, new_key()?).map(Self).map_err(|error| format!("authority {name}: {error}"))
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A client's certificate with this common name and these DNS names, and its key, both PEM.
    pub fn issue_to_client(&self, name: &str, dns: &[&str]) -> Result<(String, String), String> {
        let key = new_key()?;
        let dns: Vec<String> = dns.iter().map(|&name| name.into()).collect();
        CertificateParams::new(dns)
            .and_then(|mut params| {
                params.distinguished_name.push(DnType::CommonName, name);
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                params.signed_by(&key, &self.0)
            })
            .map(|certificate| (certificate.pem(), key.serialize_pem()))
            .map_err(|error| format!("certificate: {error}"))
    }

    /// A serving certificate for names and addresses, and its key, both PEM.
    pub fn issue(&self, names: &[&str]) -> Result<(String, String), String> {
        let key = new_key()?;
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        CertificateParams::new(names)
            .and_then(|mut params| {
                params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                params.signed_by(&key, &self.0)
            })
            .map(|certificate| (certificate.pem(), key.serialize_pem()))
            .map_err(|error| format!("certificate: {error}"))
    }
}

/// A self-signed certificate of the webhook, and its key, both PEM.
pub fn self_signed() -> (String, String) {
    let pair = rcgen::generate_simple_self_signed([WEBHOOK_NAME.to_owned()]).expect("a certificate can be made");
    (pair.cert.pem(), pair.signing_key.serialize_pem())
}

/// The first certificate of a PEM text, decoded.
pub fn der(certificate: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(certificate.as_bytes()).expect("the text holds a certificate")
}
