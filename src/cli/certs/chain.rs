//! Verifies that a certificate chain leads to one of several authorities.

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;

use super::set::parsed;

/// The end of a certificate chain.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chain {
    /// the index of the authority that the chain leads to
    To(usize),
    /// no authority: the issuer of the last certificate; `namesake` is true if an authority with that name has another key
    Nowhere { issuer: String, namesake: bool },
}

/// Follows a chain to one of the authorities. The server's certificate is first, the others may be in any order.
pub(super) fn verify_chain(chain: &[CertificateDer<'static>], authorities: &[CertificateDer<'static>]) -> Chain {
    let (certificates, roots) = (parsed(chain), parsed(authorities));
    let Some(mut current) = certificates.first() else {
        return Chain::Nowhere { issuer: String::new(), namesake: false };
    };
    // each step takes another certificate of the chain, so it ends
    for _ in 0..certificates.len() {
        let index = authorities.iter().position(|root| root.as_ref() == current.as_raw());
        if let Some(index) = index.or_else(|| roots.iter().position(|root| is_signed_by(current, root))) {
            return Chain::To(index);
        }
        match certificates.iter().find(|other| other.as_raw() != current.as_raw() && is_signed_by(current, other)) {
            Some(other) => current = other,
            None => break,
        }
    }
    let namesake = roots.iter().any(|root| root.subject() == current.issuer());
    Chain::Nowhere { issuer: current.issuer().to_string(), namesake }
}

/// Returns true if a certificate names an issuer and was signed with the issuer's key.
fn is_signed_by(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    certificate.issuer() == issuer.subject() && certificate.verify_signature(Some(issuer.public_key())).is_ok()
}
