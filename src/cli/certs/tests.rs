//! A wrong set for every finding, each made here.

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

/// A set of this authority's, with a certificate as the test wants it.
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

fn sound(authority: &Authority) -> CertificateSet {
    set(authority, &params(&[HOST], -1, 365))
}

fn judged_with(set: &CertificateSet, bundles: &[Bundle]) -> Vec<CertificateError> {
    let (make, install) = ("podgraft certs make --dir D", "podgraft certs install --dir D");
    verify(set, &Expected { host: HOST, now: NOW, warn_days: 30, bundles, make, install })
}

/// The only finding: its reason, and the sentence with its place in front.
#[track_caller]
fn only(findings: &[CertificateError]) -> (Reason, String) {
    let [finding] = findings else { panic!("{findings:#?}") };
    assert!(!finding.remedy.is_empty());
    (finding.reason, format!("{} {}", finding.place, finding.message))
}

#[track_caller]
fn judged(set: &CertificateSet) -> (Reason, String) {
    only(&judged_with(set, &[]))
}

#[track_caller]
fn judged_leaf(params: &CertificateParams) -> (Reason, String) {
    judged(&set(&authority("CA"), params))
}

fn bundle(text: Option<String>) -> Vec<Bundle> {
    vec![Bundle { place: "webhooks".into(), text }]
}

#[test]
fn nothing_is_wrong_with_a_sound_set() {
    let authority = authority("CA");
    let set = sound(&authority);
    assert_eq!(judged_with(&set, &bundle(Some(authority.pem()))), []);
    let wildcard = self::set(&authority, &params(&["*.podgraft.svc"], -1, 365));
    assert_eq!(judged_with(&wildcard, &[]), []);
}

#[test]
fn a_missing_part_is_named() {
    let sound = sound(&authority("CA"));
    let missing = [
        (
            CertificateSet { authorities: None, ..sound.clone() },
            "ca.crt is not there, so nobody can say whether the chain leads to it",
        ),
        (CertificateSet { chain: None, ..sound.clone() }, "tls.crt is not there"),
        (CertificateSet { key: None, ..sound }, "tls.key is not there"),
    ];
    for (set, message) in missing {
        assert_eq!(judged(&set), (Reason::Missing, message.to_owned()));
    }
}

#[test]
fn what_is_no_pem_is_said_without_quoting_it() {
    let sound = sound(&authority("CA"));
    let secret = "c2VjcmV0LWNhbmFyeQ";
    let bad_key = CertificateSet { key: Some(format!("-----BEGIN PRIVATE KEY-----\n{secret}\n")), ..sound.clone() };
    assert_eq!(judged(&bad_key), (Reason::Unreadable, "tls.key holds no private key in PEM".into()));
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted = CertificateSet { key: Some(encrypted.into()), ..sound.clone() };
    assert_eq!(judged(&encrypted), (Reason::Unreadable, "tls.key is encrypted, and podgraft knows no password".into()));
    let key_as_certificate = CertificateSet { chain: sound.key.clone(), ..sound.clone() };
    let (reason, message) = judged(&key_as_certificate);
    assert_eq!(
        (reason, message.as_str()),
        (Reason::Unreadable, "tls.crt holds no certificate (no `-----BEGIN CERTIFICATE-----`)")
    );
    let torn = CertificateSet { chain: sound.chain.as_ref().map(|text| text[..200].to_owned()), ..sound };
    assert_eq!(judged(&torn).0, Reason::Unreadable);
}

#[test]
fn another_name_than_the_services_is_told_from_the_one_that_is_asked_for() {
    assert_eq!(
        judged_leaf(&params(&["podgraft.other.svc", "podgraft.other.svc.cluster.local"], -1, 365)),
        (
            Reason::WrongName,
            "tls.crt is for podgraft.other.svc, podgraft.other.svc.cluster.local, and the API server asks for podgraft.podgraft.svc".into()
        )
    );
    // a wildcard is for one label
    assert_eq!(judged_leaf(&params(&["*.svc"], -1, 365)).0, Reason::WrongName);
}

#[test]
fn a_name_that_is_a_common_name_only_is_said_to_count_for_nothing() {
    let mut only_common = params(&[], -1, 365);
    only_common.distinguished_name.push(DnType::CommonName, HOST);
    assert_eq!(
        judged_leaf(&only_common),
        (
            Reason::CommonNameOnly,
            "tls.crt podgraft.podgraft.svc is its common name only, which the API server does not look at; it has no alternative names".into()
        )
    );
}

#[test]
fn a_certificate_outside_of_its_time_says_since_when() {
    let dated = |from, to| judged_leaf(&params(&[HOST], from, to));
    assert_eq!(dated(-30, -3), (Reason::Expired, "tls.crt the certificate ended on 2027-01-12".into()));
    assert_eq!(dated(2, 300), (Reason::NotYetValid, "tls.crt the certificate begins on 2027-01-17, in 2 days".into()));
    assert_eq!(dated(-300, 12), (Reason::ExpiresSoon, "tls.crt the certificate ends on 2027-01-27, in 12 days".into()));
    assert_eq!(judged_with(&set(&authority("CA"), &params(&[HOST], -1, 31)), &[]), []);
}

#[test]
fn an_authority_that_ended_is_a_finding_only_where_it_signed() {
    let (old, new) = (authority_until("old", -2), authority("new"));
    assert_eq!(judged(&sound(&old)).0, Reason::Expired);
    let both = CertificateSet { authorities: Some(new.pem() + &old.pem()), ..sound(&new) };
    assert_eq!(judged_with(&both, &[]), []);
}

#[test]
fn a_chain_that_leads_elsewhere_names_who_signed() {
    let (authority, stranger) = (authority("CA"), self::authority("stranger"));
    let set = CertificateSet { authorities: Some(authority.pem()), ..sound(&stranger) };
    assert_eq!(
        judged(&set),
        (Reason::UnknownAuthority, "tls.crt was signed by `CN=stranger`, which is not in ca.crt".into())
    );
    let namesake = CertificateSet { authorities: Some(self::authority("CA").pem()), ..sound(&authority) };
    let (reason, message) = judged(&namesake);
    assert_eq!(reason, Reason::UnknownAuthority);
    assert!(message.ends_with("same name, other key"), "{message}");
}

#[test]
fn a_chain_with_an_intermediate_leads_to_the_root_only_with_it() {
    let root = authority("root");
    let mut between = params(&[], -1, 365);
    between.distinguished_name.push(DnType::CommonName, "between");
    between.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let between = CertifiedIssuer::signed_by(between, KeyPair::generate().unwrap(), &root).unwrap();
    let leaf = sound(&between);
    let lacks = CertificateSet { authorities: Some(root.pem()), ..leaf.clone() };
    assert_eq!(judged(&lacks).0, Reason::UnknownAuthority);
    let chain = leaf.chain.clone().unwrap();
    let has = CertificateSet { chain: Some(chain.clone() + &between.pem()), ..lacks.clone() };
    assert_eq!(judged_with(&has, &[]), []);
    let turned = CertificateSet { chain: Some(between.pem() + &chain), ..lacks };
    let findings = judged_with(&turned, &[]);
    assert_eq!(findings[0].reason, Reason::Order, "{findings:#?}");
    assert_eq!(findings[0].message, "has the server's own certificate as number 2 of 2, and it must be the first");
}

#[test]
fn the_key_of_another_certificate_is_found() {
    let sound = sound(&authority("CA"));
    for other in [KeyPair::generate().unwrap(), KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap()] {
        let set = CertificateSet { key: Some(other.serialize_pem()), ..sound.clone() };
        assert_eq!(judged(&set), (Reason::KeyMismatch, "tls.key is not the key of any certificate in tls.crt".into()));
    }
}

#[test]
fn a_certificate_for_clients_is_not_for_a_server() {
    let mut client = params(&[HOST], -1, 365);
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    assert_eq!(judged_leaf(&client).0, Reason::WrongUsage);
    client.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    assert_eq!(judged_with(&set(&authority("CA"), &client), &[]), []);
}

/// Signed by openssl, as rcgen makes none; good until 2081.
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
fn a_signature_with_sha_1_is_found() {
    let set = CertificateSet { chain: Some(SHA1.to_owned()), ..sound(&authority("CA")) };
    let findings = judged_with(&set, &[]);
    let weak = findings.iter().find(|finding| finding.reason == Reason::WeakSignature).unwrap();
    assert_eq!(weak.message, "is signed with SHA-1, which the API server refuses");
}

#[test]
fn a_registration_must_trust_who_signed() {
    let (authority, stranger) = (authority("CA"), authority("stranger"));
    let set = sound(&authority);
    let differs = |text: Option<&str>| only(&judged_with(&set, &bundle(text.map(str::to_owned))));
    for nothing in [None, Some(""), Some("\n")] {
        let (reason, message) = differs(nothing);
        assert_eq!(reason, Reason::BundleDiffers);
        assert!(message.starts_with("webhooks has no caBundle"), "{message}");
    }
    assert!(differs(Some("no pem")).1.contains("its caBundle holds no certificate"));
    assert!(differs(Some(&stranger.pem())).1.contains("its caBundle does not hold `CN=CA`"));
    assert_eq!(judged_with(&set, &bundle(Some(stranger.pem() + &authority.pem()))), []);

    // the next authority is in ca.crt before it signs
    let next = CertificateSet { authorities: Some(stranger.pem() + &authority.pem()), ..set };
    let (reason, message) = only(&judged_with(&next, &bundle(Some(authority.pem()))));
    assert_eq!(reason, Reason::BundleDiffers);
    assert!(message.contains("lacks the newest authority"), "{message}");
}

#[test]
fn a_set_without_its_authority_is_held_against_the_registration() {
    let authority = authority("CA");
    let set = CertificateSet { authorities: None, ..sound(&authority) };
    assert_eq!(judged_with(&set, &bundle(Some(authority.pem()))), []);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let set = CertificateSet { key_is_open: true, ..set(&authority("CA"), &params(&["other"], -30, -3)) };
    let reasons: Vec<_> = judged_with(&set, &bundle(None)).into_iter().map(|finding| finding.reason).collect();
    assert_eq!(reasons, [Reason::KeyIsOpen, Reason::Expired, Reason::WrongName, Reason::BundleDiffers]);
}
