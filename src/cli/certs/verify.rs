//! What is wrong with a set, each with what to do about it. Pure: a set and a moment in, findings out.

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

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct CertificateError {
    /// from a closed set
    pub(super) reason: Reason,
    /// the file, key of the Secret, or entry of a registration
    pub(super) place: String,
    /// one sentence about it
    pub(super) message: String,
    /// what to do
    pub(super) remedy: String,
}

/// The closed set of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Reason {
    /// a part of the set is not there
    Missing,
    /// a text is not what it should be
    Unreadable,
    /// the server's own certificate is not the first one
    Order,
    /// the key is another certificate's
    KeyMismatch,
    /// others may read the key
    KeyIsOpen,
    /// the name that the API server asks for is not among the alternative names
    WrongName,
    /// the name stands where nobody looks any more
    CommonNameOnly,
    /// its time is over
    Expired,
    /// its time has not come
    NotYetValid,
    /// its time is nearly over
    ExpiresSoon,
    /// signed with SHA-1 or MD5, which the API server refuses
    WeakSignature,
    /// it is not for servers
    WrongUsage,
    /// no authority of the set signed it
    UnknownAuthority,
    /// the API server trusts nobody, or others than who signed the certificate
    BundleDiffers,
}

/// What a registration gives the API server to check the certificate by.
#[derive(Debug, Clone)]
pub(super) struct Bundle {
    /// `MutatingWebhookConfiguration podgraft, entry optional.podgraft.io`
    pub(super) place: String,
    /// PEM; absent where there is none
    pub(super) text: Option<String>,
}

/// What a set is held against.
pub(super) struct Expected<'e> {
    /// the name that the API server asks for
    pub(super) host: &'e str,
    /// seconds since 1970
    pub(super) now: i64,
    /// how many days before its end a certificate is a finding
    pub(super) warn_days: u32,
    /// the registrations' authorities, where they are looked at
    pub(super) bundles: &'e [Bundle],
    /// the command that makes a set anew
    pub(super) make: &'e str,
    /// the command that installs it
    pub(super) install: &'e str,
}

/// Judges a set.
pub(super) fn verify(set: &CertificateSet, expected: &Expected<'_>) -> Vec<CertificateError> {
    let mut judge = Verifier { expected, findings: Vec::new() };
    let chain = judge.certificates(CERTIFICATE, set.chain.as_deref());
    let authorities = judge.authorities(set.authorities.as_deref());
    judge.key(set, &chain);
    if let Some(leaf) = parsed(&chain).first() {
        judge.dates(CERTIFICATE, "certificate", leaf);
        judge.name(leaf);
        judge.usage(leaf);
        judge.signatures(&parsed(&chain));
    }
    if !chain.is_empty() {
        judge.chain(&chain, &authorities);
        for bundle in expected.bundles {
            judge.bundle(bundle, &chain, authorities.first());
        }
    }
    judge.findings
}

/// A day as people write it.
pub(super) fn day(seconds: i64) -> String {
    let date = ASN1Time::from_timestamp(seconds).map(|time| time.to_datetime());
    date.map_or_else(|_| seconds.to_string(), |date| date.date().to_string())
}

struct Verifier<'e> {
    expected: &'e Expected<'e>,
    findings: Vec<CertificateError>,
}

impl Verifier<'_> {
    fn report(&mut self, reason: Reason, place: &str, message: impl Into<String>, remedy: impl Into<String>) {
        let (message, remedy) = (message.into(), remedy.into());
        self.findings.push(CertificateError { reason, place: place.to_owned(), message, remedy });
    }

    /// A finding that a new set ends.
    fn make_anew(&mut self, reason: Reason, place: &str, message: impl Into<String>) {
        let remedy = format!("make a new one and install it: {} && {}", self.expected.make, self.expected.install);
        self.report(reason, place, message, remedy);
    }

    fn certificates(&mut self, place: &str, text: Option<&str>) -> Vec<CertificateDer<'static>> {
        let Some(text) = text else {
            self.make_anew(Reason::Missing, place, "is not there");
            return Vec::new();
        };
        certificates(text).unwrap_or_else(|problem| {
            self.make_anew(Reason::Unreadable, place, problem);
            Vec::new()
        })
    }

    /// The set's authorities; a set without any is judged by what the registrations hold.
    fn authorities(&mut self, text: Option<&str>) -> Vec<CertificateDer<'static>> {
        if text.is_some() {
            return self.certificates(CA, text);
        }
        let given = self.expected.bundles.iter().filter_map(|bundle| bundle.text.as_deref());
        let given: Vec<_> = given.filter_map(|text| certificates(text).ok()).flatten().collect();
        if given.is_empty() {
            let remedy = "add the authority's certificate as ca.crt, or name the registration with --webhook";
            self.report(Reason::Missing, CA, "is not there, so nobody can say whether the chain leads to it", remedy);
        }
        given
    }

    fn key(&mut self, set: &CertificateSet, chain: &[CertificateDer<'static>]) {
        let Some(text) = set.key.as_deref() else {
            return self.make_anew(Reason::Missing, KEY, "is not there");
        };
        if set.key_is_open {
            self.report(Reason::KeyIsOpen, KEY, "may be read by everybody on this machine", "chmod 600 the file");
        }
        // the PEM reader's own errors quote lines, and the lines of this text are a secret
        let Ok(key) = PrivateKeyDer::from_pem_slice(text.as_bytes()) else {
            let problem = if text.contains("BEGIN ENCRYPTED PRIVATE KEY") {
                "is encrypted, and podgraft knows no password"
            } else {
                "holds no private key in PEM"
            };
            return self.make_anew(Reason::Unreadable, KEY, problem);
        };
        let fits = chain.iter().position(|certificate| is_key_of(&key, certificate));
        match fits {
            _ if chain.is_empty() => {}
            Some(0) => {}
            Some(at) => self.report(
                Reason::Order,
                CERTIFICATE,
                format!(
                    "has the server's own certificate as number {} of {}, and it must be the first",
                    at + 1,
                    chain.len()
                ),
                "put the certificate that belongs to tls.key first, then who signed it, and so on",
            ),
            None => {
                self.make_anew(Reason::KeyMismatch, KEY, format!("is not the key of any certificate in {CERTIFICATE}"));
            }
        }
    }

    fn dates(&mut self, place: &str, what: &str, certificate: &X509Certificate<'_>) {
        let validity = certificate.validity();
        let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        let now = self.expected.now;
        if now < from {
            let message = format!("the {what} begins on {}, {}", day(from), in_days(from - now));
            let remedy = "wait, or compare the clock of the machine that made it with this one's";
            self.report(Reason::NotYetValid, place, message, remedy);
        } else if now > to {
            self.make_anew(Reason::Expired, place, format!("the {what} ended on {}", day(to)));
        } else if to - now < i64::from(self.expected.warn_days) * DAY {
            self.make_anew(
                Reason::ExpiresSoon,
                place,
                format!("the {what} ends on {}, {}", day(to), in_days(to - now)),
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
                format!("{host} is its common name only, which the API server does not look at; it {others}"),
            )
        } else if names.is_empty() {
            (Reason::WrongName, format!("has no alternative names, and the API server asks for {host}"))
        } else {
            (Reason::WrongName, format!("{}, and the API server asks for {host}", named(&names)))
        };
        self.make_anew(reason, CERTIFICATE, message);
    }

    fn usage(&mut self, leaf: &X509Certificate<'_>) {
        let usage = leaf.extended_key_usage().ok().flatten();
        if usage.is_some_and(|usage| !usage.value.server_auth && !usage.value.any) {
            let message = "its extended key usage does not hold `server auth`, so clients refuse it as a server's";
            self.make_anew(Reason::WrongUsage, CERTIFICATE, message);
        }
    }

    /// An authority's signature over itself is looked at by nobody.
    fn signatures(&mut self, chain: &[X509Certificate<'_>]) {
        let mut signed = chain.iter().filter(|certificate| certificate.issuer() != certificate.subject());
        let weak = signed.find_map(|certificate| weak(&certificate.signature_algorithm.algorithm.to_id_string()));
        if let Some(hash) = weak {
            self.make_anew(
                Reason::WeakSignature,
                CERTIFICATE,
                format!("is signed with {hash}, which the API server refuses"),
            );
        }
    }

    fn chain(&mut self, chain: &[CertificateDer<'static>], authorities: &[CertificateDer<'static>]) {
        if authorities.is_empty() || self.findings.iter().any(|finding| finding.reason == Reason::Order) {
            return; // said already, and what would follow from it
        }
        match verify_chain(chain, authorities) {
            Chain::To(number) => {
                if let Some(authority) = parsed(&authorities[number..=number]).first() {
                    self.dates(CA, "authority that signed the certificate", authority);
                }
            }
            Chain::Nowhere { issuer, namesake: true } => {
                let message = format!("was signed by another `{issuer}` than the one in {CA}: same name, other key");
                self.make_anew(Reason::UnknownAuthority, CERTIFICATE, message);
            }
            Chain::Nowhere { issuer, namesake: false } => {
                let message = format!("was signed by `{issuer}`, which is not in {CA}");
                let remedy = format!(
                    "put that authority into {CA} (or, if it is no root, behind the certificate in {CERTIFICATE}); or make a new set: {}",
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
            let message = "has no caBundle, so the API server can trust no certificate and fails every call";
            return self.report(Reason::BundleDiffers, place, message, remedy);
        };
        let authorities = match certificates(text) {
            Ok(authorities) => authorities,
            Err(problem) => {
                let message = format!("its caBundle {problem}; the API server fails every call");
                return self.report(Reason::BundleDiffers, place, message, remedy);
            }
        };
        if let Chain::Nowhere { issuer, .. } = verify_chain(chain, &authorities) {
            let message = format!(
                "its caBundle does not hold `{issuer}`, who signed the certificate; the API server fails every call"
            );
            self.report(Reason::BundleDiffers, place, message, remedy);
        } else if newest.is_some_and(|newest| !authorities.contains(newest)) {
            let message = format!("its caBundle lacks the newest authority of {CA}; calls will fail when that signs");
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

/// As TLS clients compare names: without case, `*` for the whole first label.
fn covers(name: &str, host: &str) -> bool {
    let rest = name.strip_prefix("*.").zip(host.split_once('.')).map(|(name, (_, host))| (name, host));
    let (name, host) = rest.unwrap_or((name, host));
    name.eq_ignore_ascii_case(host)
}

fn named(names: &[&str]) -> String {
    format!("is for {}", names.join(", "))
}

fn weak(algorithm: &str) -> Option<&'static str> {
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
