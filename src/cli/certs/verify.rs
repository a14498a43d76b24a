//! Verifies a certificate set at a given time, and returns its errors with their remedies. No input or output.

use rustls::InconsistentKeys;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::Serialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

use super::DAY;
use super::chain::{Chain, verify_chain};
use super::set::{CA, CERTIFICATE, CertificateSet, KEY, certificates, parsed};

/// An error of a certificate set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct CertificateError {
    /// the kind of error
    pub(super) reason: Reason,
    /// the file, key of the Secret, or entry of a webhook configuration
    pub(super) place: String,
    /// a predicate that follows the place
    pub(super) message: String,
    /// the command or action that corrects the error
    pub(super) remedy: String,
}

/// The kinds of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Reason {
    /// a part of the set is missing
    Missing,
    /// a text is no PEM, or holds no certificate or key
    Unreadable,
    /// the server's own certificate is not the first one
    Order,
    /// the key belongs to another certificate
    KeyMismatch,
    /// other users may read the key
    KeyIsOpen,
    /// the name that the API server expects is not among the alternative names
    WrongName,
    /// the name is the common name only, which TLS clients ignore
    CommonNameOnly,
    /// the certificate has expired
    Expired,
    /// the certificate is not valid yet
    NotYetValid,
    /// the certificate expires soon
    ExpiresSoon,
    /// the signature uses SHA-1 or MD5, which the API server does not accept
    WeakSignature,
    /// the certificate is not for servers
    WrongUsage,
    /// no authority of the set signed the certificate
    UnknownAuthority,
    /// the caBundle is missing, or lacks the authority that signed the certificate
    BundleDiffers,
}

/// The caBundle of an entry of a webhook configuration.
#[derive(Debug, Clone)]
pub(super) struct Bundle {
    /// `MutatingWebhookConfiguration podgraft, entry optional.podgraft.io`
    pub(super) place: String,
    /// the PEM text; absent without a caBundle
    pub(super) text: Option<String>,
}

/// The expectations of a set.
pub(super) struct Expected<'e> {
    /// the DNS name that the API server expects
    pub(super) host: &'e str,
    /// the current time, in seconds since 1970
    pub(super) now: i64,
    /// the number of days before its expiry in which a certificate is an error
    pub(super) warn_days: u32,
    /// the caBundles to check
    pub(super) bundles: &'e [Bundle],
    /// the command that makes a new set
    pub(super) make: &'e str,
    /// the command that installs a set
    pub(super) install: &'e str,
}

/// Verifies a set, and returns all of its errors.
pub(super) fn verify(set: &CertificateSet, expected: &Expected<'_>) -> Vec<CertificateError> {
    let mut verifier = Verifier { expected, errors: Vec::new() };
    let chain = verifier.certificates(CERTIFICATE, set.chain.as_deref());
    let authorities = verifier.authorities(set.authorities.as_deref());
    verifier.key(set, &chain);
    if let Some(leaf) = parsed(&chain).first() {
        verifier.dates(CERTIFICATE, "a certificate", leaf);
        verifier.name(leaf);
        verifier.usage(leaf);
        verifier.signatures(&parsed(&chain));
    }
    if !chain.is_empty() {
        verifier.chain(&chain, &authorities);
        for bundle in expected.bundles {
            verifier.bundle(bundle, &chain, authorities.first());
        }
    }
    verifier.errors
}

/// Formats the day of a time: `2027-01-15`.
pub(super) fn day(seconds: i64) -> String {
    let date = ASN1Time::from_timestamp(seconds).map(|time| time.to_datetime());
    date.map_or_else(|_| seconds.to_string(), |date| date.date().to_string())
}

struct Verifier<'e> {
    expected: &'e Expected<'e>,
    errors: Vec<CertificateError>,
}

impl Verifier<'_> {
    fn report(&mut self, reason: Reason, place: &str, message: impl Into<String>, remedy: impl Into<String>) {
        let (message, remedy) = (message.into(), remedy.into());
        self.errors.push(CertificateError { reason, place: place.to_owned(), message, remedy });
    }

    /// Reports an error that a new set corrects.
    fn report_renewable(&mut self, reason: Reason, place: &str, message: impl Into<String>) {
        let remedy = format!("make a new one and install it: {} && {}", self.expected.make, self.expected.install);
        self.report(reason, place, message, remedy);
    }

    fn certificates(&mut self, place: &str, text: Option<&str>) -> Vec<CertificateDer<'static>> {
        let Some(text) = text else {
            self.report_renewable(Reason::Missing, place, "is missing");
            return Vec::new();
        };
        certificates(text).unwrap_or_else(|error| {
            self.report_renewable(Reason::Unreadable, place, error);
            Vec::new()
        })
    }

    /// Returns the set's authorities, or those of the caBundles for a set without any.
    fn authorities(&mut self, text: Option<&str>) -> Vec<CertificateDer<'static>> {
        if text.is_some() {
            return self.certificates(CA, text);
        }
        let bundled = self.expected.bundles.iter().filter_map(|bundle| bundle.text.as_deref());
        let bundled: Vec<_> = bundled.filter_map(|text| certificates(text).ok()).flatten().collect();
        if bundled.is_empty() {
            let remedy = "add the authority's certificate as ca.crt, or name the webhook configuration with --webhook";
            self.report(Reason::Missing, CA, "is missing, so the chain cannot be verified", remedy);
        }
        bundled
    }

    fn key(&mut self, set: &CertificateSet, chain: &[CertificateDer<'static>]) {
        let Some(text) = set.key.as_deref() else {
            return self.report_renewable(Reason::Missing, KEY, "is missing");
        };
        if set.key_is_open {
            self.report(
                Reason::KeyIsOpen,
                KEY,
                "is readable by all users of this machine",
                "run chmod 600 on the file",
            );
        }
        // the errors of the PEM reader quote lines, which are secret here
        let Ok(key) = PrivateKeyDer::from_pem_slice(text.as_bytes()) else {
            let error = if text.contains("BEGIN ENCRYPTED PRIVATE KEY") {
                "is encrypted, but podgraft needs an unencrypted key"
            } else {
                "holds no private key in PEM"
            };
            return self.report_renewable(Reason::Unreadable, KEY, error);
        };
        let position = chain.iter().position(|certificate| is_key_of(&key, certificate));
        match position {
            _ if chain.is_empty() => {}
            Some(0) => {}
            Some(index) => self.report(
                Reason::Order,
                CERTIFICATE,
                format!(
                    "has the server's certificate as number {} of {}, but it must be the first",
                    index + 1,
                    chain.len()
                ),
                "put the certificate of tls.key first, then its issuer, and so on",
            ),
            None => {
                self.report_renewable(
                    Reason::KeyMismatch,
                    KEY,
                    format!("is not the key of any certificate in {CERTIFICATE}"),
                );
            }
        }
    }

    /// Checks the validity of a certificate; `subject` says in the message which one it is.
    fn dates(&mut self, place: &str, subject: &str, certificate: &X509Certificate<'_>) {
        let validity = certificate.validity();
        let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        let now = self.expected.now;
        if now < from {
            let message = format!("holds {subject} that is not valid before {} ({})", day(from), in_days(from - now));
            let remedy =
                "wait, or compare the clock of this machine with that of the machine that made the certificate";
            self.report(Reason::NotYetValid, place, message, remedy);
        } else if now > to {
            self.report_renewable(Reason::Expired, place, format!("holds {subject} that expired on {}", day(to)));
        } else if to - now < i64::from(self.expected.warn_days) * DAY {
            self.report_renewable(
                Reason::ExpiresSoon,
                place,
                format!("holds {subject} that expires on {} ({})", day(to), in_days(to - now)),
            );
        }
    }

    fn name(&mut self, leaf: &X509Certificate<'_>) {
        let host = self.expected.host;
        let alternatives = leaf.subject_alternative_name().ok().flatten();
        let names: Vec<&str> =
            alternatives.iter().flat_map(|names| &names.value.general_names).filter_map(dns).collect();
        if names.iter().any(|name| covers(name, host)) {
            return;
        }
        let common = leaf.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        let (reason, message) = if common.into_iter().any(|name| covers(name, host)) {
            let others = if names.is_empty() { "has no alternative names".to_owned() } else { named(&names) };
            (
                Reason::CommonNameOnly,
                format!("has {host} as its common name only, which the API server ignores; it {others}"),
            )
        } else if names.is_empty() {
            (Reason::WrongName, format!("has no alternative names, but the API server expects {host}"))
        } else {
            (Reason::WrongName, format!("{}, but the API server expects {host}", named(&names)))
        };
        self.report_renewable(reason, CERTIFICATE, message);
    }

    fn usage(&mut self, leaf: &X509Certificate<'_>) {
        let usage = leaf.extended_key_usage().ok().flatten();
        if usage.is_some_and(|usage| !usage.value.server_auth && !usage.value.any) {
            let message = "lacks `server auth` in its extended key usage, so clients do not accept it from a server";
            self.report_renewable(Reason::WrongUsage, CERTIFICATE, message);
        }
    }

    /// Checks the signatures, but not those of self-signed certificates, which clients do not verify.
    fn signatures(&mut self, chain: &[X509Certificate<'_>]) {
        let mut signed = chain.iter().filter(|certificate| certificate.issuer() != certificate.subject());
        let weak = signed.find_map(|certificate| weak_hash(&certificate.signature_algorithm.algorithm.to_id_string()));
        if let Some(hash) = weak {
            self.report_renewable(
                Reason::WeakSignature,
                CERTIFICATE,
                format!("is signed with {hash}, which the API server does not accept"),
            );
        }
    }

    fn chain(&mut self, chain: &[CertificateDer<'static>], authorities: &[CertificateDer<'static>]) {
        if authorities.is_empty() || self.errors.iter().any(|error| error.reason == Reason::Order) {
            return; // reported already, and the chain would fail because of it
        }
        match verify_chain(chain, authorities) {
            Chain::To(number) => {
                if let Some(authority) = parsed(&authorities[number..=number]).first() {
                    self.dates(CA, "an authority", authority);
                }
            }
            Chain::Nowhere { issuer, namesake: true } => {
                let message = format!("was signed by another `{issuer}` than the one in {CA}: equal name, other key");
                self.report_renewable(Reason::UnknownAuthority, CERTIFICATE, message);
            }
            Chain::Nowhere { issuer, namesake: false } => {
                let message = format!("was signed by `{issuer}`, which is not in {CA}");
                let remedy = format!(
                    "add that authority to {CA} (or, if it is no root, to {CERTIFICATE} after the certificate); or make a new set: {}",
                    self.expected.make
                );
                self.report(Reason::UnknownAuthority, CERTIFICATE, message, remedy);
            }
        }
    }

    fn bundle(&mut self, bundle: &Bundle, chain: &[CertificateDer<'static>], newest: Option<&CertificateDer<'static>>) {
        let remedy = format!("{} (or annotate it for cert-manager: certs/README.md)", self.expected.install);
        let place = &bundle.place;
        let Some(text) = bundle.text.as_deref().filter(|text| !text.trim().is_empty()) else {
            let message = "has no caBundle, so the API server trusts no certificate, and every call fails";
            return self.report(Reason::BundleDiffers, place, message, remedy);
        };
        let authorities = match certificates(text) {
            Ok(authorities) => authorities,
            Err(error) => {
                let message = format!("has a caBundle that {error}; every call fails");
                return self.report(Reason::BundleDiffers, place, message, remedy);
            }
        };
        if let Chain::Nowhere { issuer, .. } = verify_chain(chain, &authorities) {
            let message = format!("has a caBundle without `{issuer}`, which signed the certificate; every call fails");
            self.report(Reason::BundleDiffers, place, message, remedy);
        } else if newest.is_some_and(|newest| !authorities.contains(newest)) {
            let message =
                format!("has a caBundle without the newest authority of {CA}; calls fail when that authority signs");
            self.report(Reason::BundleDiffers, place, message, remedy);
        }
    }
}

fn is_key_of(key: &PrivateKeyDer<'static>, certificate: &CertificateDer<'static>) -> bool {
    let pair = CertifiedKey::from_der(vec![certificate.clone()], key.clone_key(), &aws_lc_rs::default_provider());
    !matches!(pair, Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)))
}

fn dns<'n>(name: &'n GeneralName<'n>) -> Option<&'n str> {
    if let GeneralName::DNSName(name) = name { Some(name) } else { None }
}

/// Compares names like TLS clients: case-insensitive, `*` for the whole first label.
fn covers(name: &str, host: &str) -> bool {
    let rest = name.strip_prefix("*.").zip(host.split_once('.')).map(|(name, (_, host))| (name, host));
    let (name, host) = rest.unwrap_or((name, host));
    name.eq_ignore_ascii_case(host)
}

fn named(names: &[&str]) -> String {
    format!("is for {}", names.join(", "))
}

/// Names the hash of a weak signature algorithm.
fn weak_hash(algorithm: &str) -> Option<&'static str> {
    match algorithm {
        "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" | "1.2.840.10040.4.3" => Some("SHA-1"),
        "1.2.840.113549.1.1.4" => Some("MD5"),
        _ => None,
    }
}

fn in_days(seconds: i64) -> String {
    match seconds / DAY {
        0 => "within a day".to_owned(),
        1 => "in 1 day".to_owned(),
        days => format!("in {days} days"),
    }
}
