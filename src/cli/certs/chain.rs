//! Who signed whom: whether a chain leads to one of some authorities.

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;

use super::set::parsed;

/// Where a chain leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chain {
    /// to the authority of this number
    To(usize),
    /// to nobody: who should have signed last, and whether an authority of that very name has another key
    Nowhere { issuer: String, namesake: bool },
}

/// Follows a chain, the server's own certificate first and the others in any order, to one of the authorities.
pub(super) fn verify_chain(chain: &[CertificateDer<'static>], authorities: &[CertificateDer<'static>]) -> Chain {
    let (certificates, roots) = (parsed(chain), parsed(authorities));
    let Some(mut at) = certificates.first() else {
        return Chain::Nowhere { issuer: String::new(), namesake: false };
    };
    // each step takes another certificate of the chain, so it ends
    for _ in 0..certificates.len() {
        let root = authorities.iter().position(|root| root.as_ref() == at.as_raw());
        if let Some(number) = root.or_else(|| roots.iter().position(|root| signed(at, root))) {
            return Chain::To(number);
        }
        match certificates.iter().find(|other| other.as_raw() != at.as_raw() && signed(at, other)) {
            Some(other) => at = other,
            None => break,
        }
    }
    let namesake = roots.iter().any(|root| root.subject() == at.issuer());
    Chain::Nowhere { issuer: at.issuer().to_string(), namesake }
}

/// Whether one certificate was signed with the key of another one, which says so itself.
fn signed(certificate: &X509Certificate<'_>, by: &X509Certificate<'_>) -> bool {
    certificate.issuer() == by.subject() && certificate.verify_signature(Some(by.public_key())).is_ok()
}
