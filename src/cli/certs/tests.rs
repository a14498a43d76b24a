//! Makes an invalid set for every kind of error.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ECDSA_P384_SHA384,
};

use super::DAY;
use super::set::CertificateSet;
use super::verify::{Bundle, CertificateError, Expected, Reason, verify};

const NOW: i64 = 1_800_000_000; // 15 January 2027
const HOST: &str = "podgraft.podgraft.svc";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn params(names: &[&str], from: i64, to: i64) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
    let at = |days: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs((NOW + days * DAY).unsigned_abs());
    (params.not_before, params.not_after) = (at(from), at(to));
    params
}

fn authority_until(name: &str, days: i64) -> Authority {
    let mut params = params(&[], -400, days);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn authority(name: &str) -> Authority {
    authority_until(name, 4000)
}

/// Makes a set with a certificate of this authority.
fn set(authority: &Authority, params: &CertificateParams) -> CertificateSet {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    CertificateSet {
        authorities: Some(authority.pem()),
        chain: Some(certificate.pem()),
        key: Some(key.serialize_pem()),
        key_is_open: false,
    }
}

fn valid_set(authority: &Authority) -> CertificateSet {
    set(authority, &params(&[HOST], -1, 365))
}

fn verify_with(set: &CertificateSet, bundles: &[Bundle]) -> Vec<CertificateError> {
    let (make, install) = ("podgraft certs make --dir D", "podgraft certs install --dir D");
    verify(set, &Expected { host: HOST, now: NOW, warn_days: 30, bundles, make, install })
}

/// Returns the only error: its reason, and its message after its place.
#[track_caller]
fn only(errors: &[CertificateError]) -> (Reason, String) {
    let [error] = errors else { panic!("{errors:#?}") };
    assert!(!error.remedy.is_empty());
    (error.reason, format!("{} {}", error.place, error.message))
}

#[track_caller]
fn verify_alone(set: &CertificateSet) -> (Reason, String) {
    only(&verify_with(set, &[]))
}

#[track_caller]
fn verify_leaf(params: &CertificateParams) -> (Reason, String) {
    verify_alone(&set(&authority("CA"), params))
}

fn bundle(text: Option<String>) -> Vec<Bundle> {
    vec![Bundle { place: "webhooks".into(), text }]
}

#[test]
fn a_valid_set_has_no_errors() {
    let authority = authority("CA");
    let set = valid_set(&authority);
    assert_eq!(verify_with(&set, &bundle(Some(authority.pem()))), []);
    let wildcard = self::set(&authority, &params(&["*.podgraft.svc"], -1, 365));
    assert_eq!(verify_with(&wildcard, &[]), []);
}

#[test]
fn a_missing_part_is_named() {
    let valid = valid_set(&authority("CA"));
    let missing = [
        (CertificateSet { authorities: None, ..valid.clone() }, "ca.crt is missing, so the chain cannot be verified"),
        (CertificateSet { chain: None, ..valid.clone() }, "tls.crt is missing"),
        (CertificateSet { key: None, ..valid }, "tls.key is missing"),
    ];
    for (set, message) in missing {
        assert_eq!(verify_alone(&set), (Reason::Missing, message.to_owned()));
    }
}

#[test]
fn a_text_that_is_no_pem_is_reported_without_quoting_it() {
    let valid = valid_set(&authority("CA"));
    let secret = "c2VjcmV0LWNhbmFyeQ";
    let damaged_key = CertificateSet { key: Some(format!("-----BEGIN PRIVATE KEY-----\n{secret}\n")), ..valid.clone() };
    assert_eq!(verify_alone(&damaged_key), (Reason::Unreadable, "tls.key holds no private key in PEM".into()));
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted = CertificateSet { key: Some(encrypted.into()), ..valid.clone() };
    assert_eq!(
        verify_alone(&encrypted),
        (Reason::Unreadable, "tls.key is encrypted, but podgraft needs an unencrypted key".into())
    );
    let key_as_certificate = CertificateSet { chain: valid.key.clone(), ..valid.clone() };
    let (reason, message) = verify_alone(&key_as_certificate);
    assert_eq!(
        (reason, message.as_str()),
        (Reason::Unreadable, "tls.crt holds no certificate (no `-----BEGIN CERTIFICATE-----`)")
    );
    let truncated = CertificateSet { chain: valid.chain.as_ref().map(|text| text[..200].to_owned()), ..valid };
    assert_eq!(verify_alone(&truncated).0, Reason::Unreadable);
}

#[test]
fn a_certificate_for_another_name_is_reported_with_the_expected_name() {
    assert_eq!(
        verify_leaf(&params(&["podgraft.other.svc", "podgraft.other.svc.cluster.local"], -1, 365)),
        (
            Reason::WrongName,
            "tls.crt is for podgraft.other.svc, podgraft.other.svc.cluster.local, but the API server expects podgraft.podgraft.svc".into()
        )
    );
    // a wildcard covers one label
    assert_eq!(verify_leaf(&params(&["*.svc"], -1, 365)).0, Reason::WrongName);
}

#[test]
fn a_name_that_is_the_common_name_only_is_reported_as_ignored() {
    let mut only_common = params(&[], -1, 365);
    only_common.distinguished_name.push(DnType::CommonName, HOST);
    assert_eq!(
        verify_leaf(&only_common),
        (
            Reason::CommonNameOnly,
            "tls.crt has podgraft.podgraft.svc as its common name only, which the API server ignores; it has no alternative names".into()
        )
    );
}

#[test]
fn a_certificate_outside_of_its_validity_is_reported_with_the_day() {
    let dated = |from, to| verify_leaf(&params(&[HOST], from, to));
    assert_eq!(dated(-30, -3), (Reason::Expired, "tls.crt holds a certificate that expired on 2027-01-12".into()));
    assert_eq!(
        dated(2, 300),
        (Reason::NotYetValid, "tls.crt holds a certificate that is not valid before 2027-01-17 (in 2 days)".into())
    );
    assert_eq!(
        dated(-300, 12),
        (Reason::ExpiresSoon, "tls.crt holds a certificate that expires on 2027-01-27 (in 12 days)".into())
    );
    assert_eq!(verify_with(&set(&authority("CA"), &params(&[HOST], -1, 31)), &[]), []);
}

#[test]
fn an_expired_authority_is_an_error_only_if_it_signed_the_certificate() {
    let (old, new) = (authority_until("old", -2), authority("new"));
    assert_eq!(verify_alone(&valid_set(&old)).0, Reason::Expired);
    let both = CertificateSet { authorities: Some(new.pem() + &old.pem()), ..valid_set(&new) };
    assert_eq!(verify_with(&both, &[]), []);
}

#[test]
fn a_chain_to_another_authority_is_reported_with_its_issuer() {
    let (authority, other) = (authority("CA"), self::authority("other"));
    let set = CertificateSet { authorities: Some(authority.pem()), ..valid_set(&other) };
    assert_eq!(
        verify_alone(&set),
        (Reason::UnknownAuthority, "tls.crt was signed by `CN=other`, which is not in ca.crt".into())
    );
    let namesake = CertificateSet { authorities: Some(self::authority("CA").pem()), ..valid_set(&authority) };
    let (reason, message) = verify_alone(&namesake);
    assert_eq!(reason, Reason::UnknownAuthority);
    assert!(message.ends_with("equal name, other key"), "{message}");
}

#[test]
fn a_chain_needs_its_intermediate_certificate() {
    let root = authority("root");
    let mut between = params(&[], -1, 365);
    between.distinguished_name.push(DnType::CommonName, "between");
    between.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let between = CertifiedIssuer::signed_by(between, KeyPair::generate().unwrap(), &root).unwrap();
    let leaf = valid_set(&between);
    let without = CertificateSet { authorities: Some(root.pem()), ..leaf.clone() };
    assert_eq!(verify_alone(&without).0, Reason::UnknownAuthority);
    let chain = leaf.chain.clone().unwrap();
    let with = CertificateSet { chain: Some(chain.clone() + &between.pem()), ..without.clone() };
    assert_eq!(verify_with(&with, &[]), []);
    let reversed = CertificateSet { chain: Some(between.pem() + &chain), ..without };
    let errors = verify_with(&reversed, &[]);
    assert_eq!(errors[0].reason, Reason::Order, "{errors:#?}");
    assert_eq!(errors[0].message, "has the server's certificate as number 2 of 2, but it must be the first");
}

#[test]
fn the_key_of_another_certificate_is_reported() {
    let valid = valid_set(&authority("CA"));
    for other in [KeyPair::generate().unwrap(), KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap()] {
        let set = CertificateSet { key: Some(other.serialize_pem()), ..valid.clone() };
        assert_eq!(
            verify_alone(&set),
            (Reason::KeyMismatch, "tls.key is not the key of any certificate in tls.crt".into())
        );
    }
}

#[test]
fn a_certificate_for_clients_only_is_reported() {
    let mut client = params(&[HOST], -1, 365);
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    assert_eq!(verify_leaf(&client).0, Reason::WrongUsage);
    client.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    assert_eq!(verify_with(&set(&authority("CA"), &client), &[]), []);
}

/// A certificate signed with SHA-1 by openssl, because rcgen cannot; valid until 2081.
const SHA1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBcDCCARegAwIBAgIBBzAJBgcqhkjOPQQBMBExDzANBgNVBAMMBm9sZCBDQTAg
Fw0yNjExMjEwNzAxNDFaGA8yMDgxMDgyNDA3MDE0MVowDDEKMAgGA1UEAwwBeDBZ
MBMGByqGSM49AgEGCCqGSM49AwEHA0IABOKbSR2reFwrriGoswy4OLwmm+p/y+nb
I7pi6cLUX+cUT+SPvi0WwCbFCt9WTJR+hX3JsXpVvkk6B8rVsAmRPaejZDBiMCAG
A1UdEQQZMBeCFXBvZGdyYWZ0LnBvZGdyYWZ0LnN2YzAdBgNVHQ4EFgQUlDLHwl5z
KLGlkGH6XJZmdrsmh14wHwYDVR0jBBgwFoAU/JxRjV3PED/wx+/Ahuu3N0zF6LIw
CQYHKoZIzj0EAQNIADBFAiEAieIYRmmKyfQG7NGnVALRF+bCtiyH+DUWBvsiGjC3
hgICIECeaHUcIeuMpRSdc+h8cvJy9GKbTJVYyhnXBW4nw6ky
-----END CERTIFICATE-----
";

#[test]
fn a_signature_with_sha_1_is_reported() {
    let set = CertificateSet { chain: Some(SHA1.to_owned()), ..valid_set(&authority("CA")) };
    let errors = verify_with(&set, &[]);
    let weak = errors.iter().find(|error| error.reason == Reason::WeakSignature).unwrap();
    assert_eq!(weak.message, "is signed with SHA-1, which the API server does not accept");
}

#[test]
fn a_bundle_must_hold_the_authority_that_signed() {
    let (authority, other) = (authority("CA"), authority("other"));
    let set = valid_set(&authority);
    let only_error = |text: Option<&str>| only(&verify_with(&set, &bundle(text.map(str::to_owned))));
    for nothing in [None, Some(""), Some("\n")] {
        let (reason, message) = only_error(nothing);
        assert_eq!(reason, Reason::BundleDiffers);
        assert!(message.starts_with("webhooks has no caBundle"), "{message}");
    }
    assert!(only_error(Some("no pem")).1.contains("has a caBundle that holds no certificate"));
    assert!(only_error(Some(&other.pem())).1.contains("has a caBundle without `CN=CA`"));
    assert_eq!(verify_with(&set, &bundle(Some(other.pem() + &authority.pem()))), []);

    // the next authority is in ca.crt before it signs
    let next = CertificateSet { authorities: Some(other.pem() + &authority.pem()), ..set };
    let (reason, message) = only(&verify_with(&next, &bundle(Some(authority.pem()))));
    assert_eq!(reason, Reason::BundleDiffers);
    assert!(message.contains("has a caBundle without the newest authority"), "{message}");
}

#[test]
fn a_set_without_its_authority_is_verified_with_the_bundle() {
    let authority = authority("CA");
    let set = CertificateSet { authorities: None, ..valid_set(&authority) };
    assert_eq!(verify_with(&set, &bundle(Some(authority.pem()))), []);
}

#[test]
fn all_errors_are_reported_at_once() {
    let set = CertificateSet { key_is_open: true, ..set(&authority("CA"), &params(&["other"], -30, -3)) };
    let reasons: Vec<_> = verify_with(&set, &bundle(None)).into_iter().map(|error| error.reason).collect();
    assert_eq!(reasons, [Reason::KeyIsOpen, Reason::Expired, Reason::WrongName, Reason::BundleDiffers]);
}
