//! `podgraft certs` without a cluster: makes, renews and checks certificates.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use podgraft_testkit::command_line::{Ran, podgraft_in};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use tempfile::TempDir;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

fn certs(folder: &Path, arguments: &[&str]) -> Ran {
    podgraft_in(folder, &[&["certs"], arguments].concat(), "")
}

/// Runs `certs make` in a folder, which must succeed.
#[track_caller]
fn make(folder: &TempDir, arguments: &[&str]) -> String {
    let ran = certs(folder.path(), &[&["make", "--dir", "set"], arguments].concat());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
    ran.stdout
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn text(folder: &TempDir, name: &str) -> String {
    fs::read_to_string(folder.path().join("set").join(name)).unwrap()
}

fn authorities(folder: &TempDir) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(text(folder, "ca.crt").as_bytes()).collect::<Result<_, _>>().unwrap()
}

fn check(folder: &TempDir, arguments: &[&str]) -> Ran {
    certs(folder.path(), &[&["check", "--dir", "set"], arguments].concat())
}

#[test]
fn made_certificates_are_valid_and_only_the_owner_reads_the_keys() {
    let folder = folder();
    let said = make(&folder, &[]);
    assert!(said.contains("made a certificate for podgraft.podgraft.svc in set"), "{said}");
    for (name, expected) in [("ca.crt", 0o644), ("ca.key", 0o600), ("tls.crt", 0o644), ("tls.key", 0o600)] {
        let mode = fs::metadata(folder.path().join("set").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, expected, "{name}");
    }
    assert_eq!(fs::read_dir(folder.path().join("set")).unwrap().count(), 4);
    let ran = check(&folder, &[]);
    assert_eq!(ran.code, 0, "{}", ran.stdout);
    assert!(ran.stdout.starts_with("valid: podgraft.podgraft.svc until 2"), "{}", ran.stdout);
}

#[test]
fn the_certificate_is_for_the_given_service_and_further_names() {
    let folder = folder();
    make(
        &folder,
        &["--service", "hook", "--namespace", "ml", "--days", "60", "--san", "a.example", "--san", "10.0.0.7"],
    );
    let chain = CertificateDer::from_pem_slice(text(&folder, "tls.crt").as_bytes()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&chain).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.iter();
    let names: Vec<String> = names.map(ToString::to_string).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    for (name, part) in names.iter().zip(["hook.ml.svc", "hook.ml.svc.cluster.local", "a.example", "0a:00:00:07"]) {
        assert!(name.contains(part), "{names:?}");
    }
    let days = (leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp()) / 86400;
    assert_eq!(days, 60);
    let ran = check(&folder, &[]);
    assert_eq!(ran.code, 1);
    let expected = "tls.crt: is for hook.ml.svc, hook.ml.svc.cluster.local, a.example, but the API server expects podgraft.podgraft.svc (WrongName)\n  \
                    make a new one and install it: podgraft certs make --dir set && podgraft certs install --dir set\n";
    assert_eq!(ran.stdout, expected);
    assert_eq!(check(&folder, &["--service", "hook", "--namespace", "ml"]).code, 0);
}

#[test]
fn renewing_keeps_the_authority_while_it_outlives_the_certificate() {
    let folder = folder();
    make(&folder, &[]);
    let (ca, first) = (text(&folder, "ca.crt"), text(&folder, "tls.crt"));
    let said = make(&folder, &[]);
    assert!(said.contains("signed by the existing authority"), "{said}");
    assert_eq!(text(&folder, "ca.crt"), ca);
    assert_ne!(text(&folder, "tls.crt"), first);
}

#[test]
fn a_new_authority_is_trusted_beside_the_old_one() {
    let folder = folder();
    make(&folder, &[]);
    let old = authorities(&folder);
    let said = make(&folder, &["--new-ca"]);
    assert!(said.contains("ca.crt also holds the previous one"), "{said}");
    let both = authorities(&folder);
    assert_eq!(both.len(), 2);
    assert_eq!(both[1], old[0]);
    assert_eq!(check(&folder, &[]).code, 0);
    // the newest authority also signs the next certificate
    make(&folder, &[]);
    assert_eq!(authorities(&folder), both);
    assert_eq!(check(&folder, &[]).code, 0);
}

#[test]
fn a_given_authority_signs() {
    let (company, folder) = (folder(), folder());
    make(&company, &["--days", "10"]);
    let own = |name: &str| company.path().join("set").join(name).to_str().unwrap().to_owned();
    let (ca, key) = (own("ca.crt"), own("ca.key"));
    make(&folder, &["--ca", &ca, "--ca-key", &key]);
    assert_eq!(text(&folder, "ca.crt"), text(&company, "ca.crt"));
    assert!(!folder.path().join("set/ca.key").exists());
    assert_eq!(check(&folder, &[]).code, 0);

    let failing = |arguments: &[&str]| {
        let ran = certs(folder.path(), &[&["make", "--dir", "other"], arguments].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
        assert!(!folder.path().join("other/tls.crt").exists());
        ran.stderr
    };
    let error = failing(&["--ca", &own("tls.crt"), "--ca-key", &own("tls.key")]);
    assert!(error.contains("holds no certificate of an authority (CA:FALSE)"), "{error}");
    let error = failing(&["--ca", &ca, "--ca-key", &own("tls.key")]);
    assert!(error.starts_with("podgraft: nothing was made: tls.crt was signed by another"), "{error}");
    let error = failing(&["--ca", &ca, "--ca-key", &ca]);
    assert!(error.contains("holds no private key in PEM"), "{error}");
    let error = failing(&["--san", "no name"]);
    assert_eq!(error, "podgraft: --san no name: is neither a DNS name nor an IP address\n");
}

#[test]
fn an_authority_that_expires_first_is_an_error_with_the_days_that_fit() {
    let (company, folder) = (folder(), folder());
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let until = now + std::time::Duration::from_hours(20 * 24 + 1);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + until;
    let path = |name: &str| company.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(path("ca.key"), key.serialize_pem()).unwrap();
    let ran = certs(folder.path(), &["make", "--dir", "set", "--ca", &path("ca.crt"), "--ca-key", &path("ca.key")]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.ends_with("before the certificate: use --days 20 or less\n"), "{}", ran.stderr);
}

#[test]
fn half_an_authority_is_not_overwritten() {
    for (missing, kept) in [("ca.key", "ca.crt"), ("ca.crt", "ca.key")] {
        let folder = folder();
        make(&folder, &[]);
        fs::remove_file(folder.path().join("set").join(missing)).unwrap();
        let before = text(&folder, kept);
        let ran = certs(folder.path(), &["make", "--dir", "set"]);
        assert_eq!(ran.code, 2, "{}", ran.stdout);
        assert!(ran.stderr.contains(&format!("exists without {missing}: choose another folder")), "{}", ran.stderr);
        assert_eq!(text(&folder, kept), before);
    }
}

#[test]
fn keys_are_not_written_into_a_repository_that_does_not_ignore_them() {
    let folder = folder();
    let git = |arguments: &[&str]| {
        assert!(Command::new("git").args(arguments).current_dir(folder.path()).status().unwrap().success());
    };
    git(&["init", "-q"]);
    let ran = certs(folder.path(), &["make", "--dir", "a/b"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("does not ignore ca.key: choose another folder"), "{}", ran.stderr);
    assert!(!folder.path().join("a").exists());
    fs::write(folder.path().join(".gitignore"), "*.key\n").unwrap();
    make(&folder, &[]);
}

#[test]
fn errors_are_available_as_json() {
    let folder = folder();
    make(&folder, &["--days", "7"]);
    fs::set_permissions(folder.path().join("set/tls.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let ran = check(&folder, &["-o", "json"]);
    assert_eq!(ran.code, 1);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&report["valid"], &report["host"]), (&Value::from(false), &Value::from("podgraft.podgraft.svc")));
    let reasons: Vec<&str> =
        report["errors"].as_array().unwrap().iter().map(|error| error["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["KeyIsOpen", "ExpiresSoon"]);
    for error in report["errors"].as_array().unwrap() {
        assert!(error["remedy"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
    }
    fs::set_permissions(folder.path().join("set/tls.key"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(check(&folder, &["--warn-days", "6"]).code, 0);
}

#[test]
fn wrong_arguments_and_unreadable_input_are_exit_code_2() {
    let folder = folder();
    let cases: [(&[&str], &str); 5] = [
        (&["check"], "--dir <DIR>"),
        (&["check", "--dir", "nowhere"], "podgraft: nowhere is not a folder\n"),
        (&["check", "--secret", "podgraft-tls"], "must be namespace/name, such as podgraft/podgraft-tls"),
        (
            &["check", "--secret", "a/b"],
            "podgraft: cannot connect to the API server: KUBECONFIG or ~/.kube/config cannot be used: No such file or directory (os error 2)\n",
        ),
        (&["make", "--dir", "set", "--days", "0"], "0 is not in 1..=3600"),
    ];
    for (arguments, expected) in cases {
        let ran = certs(folder.path(), arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.stdout);
        assert!(ran.stderr.contains(expected), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn an_invalid_certificate_set_is_not_installed() {
    let folder = folder();
    make(&folder, &[]);
    let other = self::folder();
    make(&other, &[]);
    fs::copy(other.path().join("set/tls.key"), folder.path().join("set/tls.key")).unwrap();
    // the set is verified before the connection to the cluster
    let ran = certs(folder.path(), &["install", "--dir", "set"]);
    assert_eq!(ran.code, 2);
    let expected = "podgraft: nothing was changed: tls.key is not the key of any certificate in tls.crt\n  ";
    assert!(ran.stderr.starts_with(expected), "{}", ran.stderr);
}

#[test]
fn every_help_has_an_example() {
    let folder = folder();
    for verb in [&["--help"][..], &["make", "--help"], &["check", "--help"], &["install", "--help"]] {
        let ran = certs(folder.path(), verb);
        let (_, examples) = ran.stdout.split_once("Examples:\n").unwrap();
        assert!(examples.contains("  podgraft certs "), "{verb:?}");
    }
}
