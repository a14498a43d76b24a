//! The server's certificate, swapped, broken and mended.

use podgraft_testkit::certificates::{der, self_signed};
use podgraft_testkit::client::accepting_any_with;
use podgraft_testkit::mounted_secret::MountedSecret;

use super::client::connect;
use super::fixture::{Fixture, run, start_error};

#[test]
fn each_swap_of_the_mounted_secret_shows_in_the_next_handshake() {
    run(Fixture::new(), async |server| {
        let mut kept = server.connect().await;
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            // one client, that would resume its session if it could
            let client = accepting_any_with(&[version], None);
            for _ in 0..5 {
                let fresh = server.secret.rotate();
                let mut connection = connect(server.app.address, &client).await;
                assert_eq!(connection.certificate(), fresh);
                assert_eq!(connection.post(b"{}").await.status, 200);
            }
        }
        assert_eq!(kept.post(b"{}").await.status, 200, "a connection that is open stays open");
    });
}

#[test]
fn invalid_certificate_keeps_the_previous_one() {
    run(Fixture::new(), async |server| {
        let valid = server.secret.rotate();
        assert_eq!(server.connect().await.certificate(), valid);
        let (certificate, key) = self_signed();
        let invalid = [
            (Some("no PEM at all".to_owned()), Some(key.clone())),
            (Some(certificate.clone()), Some(self_signed().1)),
            (Some(certificate.clone()), Some("-----BEGIN PRIVATE KEY-----\n???".to_owned())),
            (Some(certificate.clone()), None),
            (None, Some(key.clone())),
        ];
        for (number, (certificate, key)) in invalid.into_iter().enumerate() {
            server.secret.put(certificate.as_deref(), key.as_deref());
            for _ in 0..3 {
                assert_eq!(server.connect().await.certificate(), valid, "pair {number}");
            }
            let failures = format!("podgraft_certificate_reload_failures_total {}\n", number + 1);
            assert!(server.metrics().await.contains(&failures), "each is counted once");
        }
        server.secret.put(Some(&certificate), Some(&key));
        assert_eq!(server.connect().await.certificate(), der(&certificate));
    });
}

#[test]
fn an_invalid_certificate_at_the_start_is_an_error_that_names_flag_and_file() {
    let (certificate, key) = self_signed();
    for (certificate, key, expected) in [
        (None, Some(key.as_str()), "--tls-cert DIR/tls.crt: cannot be read: No such file or directory (os error 2)"),
        (Some("text"), Some(key.as_str()), "--tls-cert DIR/tls.crt: holds no certificate"),
        (
            Some(certificate.as_str()),
            None,
            "--tls-key DIR/tls.key: cannot be read: No such file or directory (os error 2)",
        ),
        (Some(certificate.as_str()), Some("text"), "--tls-key DIR/tls.key: holds no private key"),
        (
            Some(certificate.as_str()),
            Some(self_signed().1.as_str()),
            "--tls-key DIR/tls.key is not the key of --tls-cert DIR/tls.crt",
        ),
    ] {
        let secret = MountedSecret::empty();
        secret.put(certificate, key);
        let error = start_error(&secret);
        assert_eq!(error.replace(secret.directory.path().to_str().unwrap(), "DIR"), expected);
    }
}

#[test]
fn the_certificates_expiry_is_a_metric() {
    run(Fixture::new(), async |server| {
        // 4096-01-01, rcgen's default
        assert!(server.metrics().await.contains("podgraft_certificate_not_after_timestamp_seconds 67090118400\n"));
    });
}
