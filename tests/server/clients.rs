//! Client certificates and TLS versions that the server accepts, and others that it does not.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use podgraft::http::server::tls::MinTlsVersion;
use podgraft::http::server::tls::client_verifier::ClientAuth;
use podgraft_testkit::certificates::Authority;
use podgraft_testkit::client::{accepting_any, accepting_any_with};
use tempfile::TempDir;

use super::client::admitted;
use super::fixture::{Fixture, run, start_error_of, until};

/// An authority for clients.
fn authority() -> Authority {
    Authority::new("clients").unwrap()
}

/// A fixture that lets only clients of these authorities in.
fn trusting(pem: &str, names: &[&str]) -> (Fixture, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let authorities = folder.path().join("clients.crt");
    fs::write(&authorities, pem).unwrap();
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    (Fixture { client_auth: Some(ClientAuth { authorities, names }), ..Fixture::new() }, folder)
}

#[test]
fn only_a_client_with_a_certificate_of_the_authority_is_let_in() {
    let (ours, others) = (authority(), authority());
    let (fixture, _folder) = trusting(&ours.pem(), &[]);
    run(fixture, async |server| {
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let versions = &[version];
            let attempt = async |shows: Option<&(String, String)>| {
                let shows = shows.map(|(certificate, key)| (certificate.as_str(), key.as_str()));
                admitted(server.app.address, &accepting_any_with(versions, shows)).await
            };
            assert_eq!(attempt(Some(&ours.issue_to_client("kube-apiserver", &["a"]).unwrap())).await, Some(200));
            assert_eq!(attempt(Some(&others.issue_to_client("kube-apiserver", &["a"]).unwrap())).await, None);
            assert_eq!(attempt(None).await, None);
        }
        server.until_metrics_say("podgraft_tls_handshake_errors_total{reason=\"untrusted\"} 2\n").await;
        server.until_metrics_say("podgraft_tls_handshake_errors_total{reason=\"no_certificate\"} 2\n").await;
        assert_eq!(server.get("/readyz").await.0, 200, "probes have no certificate");
    });
}

#[test]
fn a_clients_name_is_its_common_name_or_one_of_its_dns_names() {
    let authority = authority();
    let (fixture, _folder) = trusting(&authority.pem(), &["kube-apiserver", "api.example.com"]);
    run(fixture, async |server| {
        for (common, dns, expected) in [
            ("kube-apiserver", "elsewhere", Some(200)),
            ("other-client", "api.example.com", Some(200)),
            ("other-client", "kube-apiserver.example.com", None),
        ] {
            let (certificate, key) = authority.issue_to_client(common, &[dns]).unwrap();
            let client = accepting_any_with(rustls::ALL_VERSIONS, Some((&certificate, &key)));
            assert_eq!(admitted(server.app.address, &client).await, expected, "{common} {dns}");
        }
        server.until_metrics_say("podgraft_tls_handshake_errors_total{reason=\"other_name\"} 1\n").await;
    });
}

#[test]
fn the_client_authority_is_reloaded_and_an_invalid_one_keeps_the_previous_one() {
    let (old, new) = (authority(), authority());
    let (fixture, folder) = trusting(&old.pem(), &[]);
    run(fixture, async |server| {
        let client = |authority: &Authority| {
            let (certificate, key) = authority.issue_to_client("kube-apiserver", &["a"]).unwrap();
            accepting_any_with(rustls::ALL_VERSIONS, Some((&certificate, &key)))
        };
        let (of_old, of_new) = (client(&old), client(&new));
        let let_in = async || {
            let address = server.app.address;
            (admitted(address, &of_old).await.is_some(), admitted(address, &of_new).await.is_some())
        };
        let put = |text: &str| {
            fs::write(folder.path().join("next"), text).unwrap();
            fs::rename(folder.path().join("next"), folder.path().join("clients.crt")).unwrap();
        };
        assert_eq!(let_in().await, (true, false));
        put(&(old.pem() + &new.pem()));
        assert_eq!(let_in().await, (true, true));
        put("no PEM at all");
        assert_eq!(let_in().await, (true, true));
        assert!(server.metrics().await.contains("podgraft_certificate_reload_failures_total 1\n"));
        put(&new.pem());
        assert_eq!(let_in().await, (false, true));
    });
}

#[test]
fn an_invalid_client_authority_at_the_start_is_an_error_that_names_flag_and_file() {
    let (fixture, folder) = trusting("text", &[]);
    let error = start_error_of(fixture).replace(folder.path().to_str().unwrap(), "DIR");
    assert_eq!(error, "--client-ca DIR/clients.crt: holds no certificate");
}

#[test]
fn tls_1_2_is_accepted_unless_the_minimum_is_1_3() {
    for (oldest, expected) in [(MinTlsVersion::Tls12, Some(200)), (MinTlsVersion::Tls13, None)] {
        let fixture = Fixture { min_tls_version: oldest, ..Fixture::new() };
        run(fixture, async |server| {
            let with = async |version| admitted(server.app.address, &accepting_any_with(&[version], None)).await;
            assert_eq!(with(&rustls::version::TLS12).await, expected, "{oldest:?}");
            assert_eq!(with(&rustls::version::TLS13).await, Some(200), "{oldest:?}");
            if expected.is_none() {
                server.until_metrics_say("podgraft_tls_handshake_errors_total{reason=\"protocol\"} 1\n").await;
            }
        });
    }
}

#[test]
fn a_client_that_renegotiates_disturbs_no_other() {
    run(Fixture::new(), async |server| {
        let mut beside = server.connect().await;
        assert_eq!(beside.post(b"{}").await.status, 200);
        let mut openssl = Command::new("openssl")
            .args(["s_client", "-tls1_2", "-legacy_server_connect", "-connect", &server.app.address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl, as certs/make.sh needs it");
        let mut stdin = openssl.stdin.take().unwrap();
        until(async || server.metrics().await.contains("podgraft_connections 2\n")).await;
        // a line that begins with R renegotiates
        stdin.write_all(b"R\n").unwrap();
        let output = tokio::task::spawn_blocking(move || openssl.wait_with_output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("RENEGOTIATING"), "{said}");
        assert!(!output.status.success() && said.contains("error"), "{said}");
        drop(stdin);
        assert_eq!(beside.post(b"{}").await.status, 200);
        assert_eq!(admitted(server.app.address, &accepting_any()).await, Some(200));
    });
}
