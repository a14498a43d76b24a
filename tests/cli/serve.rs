//! `podgraft serve` with invalid arguments.

use super::podgraft;

const CONFIG: &str = "tests/cases/readme/config.yaml";

#[test]
fn an_unknown_log_level_is_an_error() {
    for level in ["loud", "info,=x=y", ""] {
        let ran =
            podgraft(&["serve", "--config", CONFIG, "--tls-cert", "x", "--tls-key", "x", "--log-level", level], "");
        assert_eq!(ran.code, 2, "{level}: {}", ran.stderr);
        assert!(ran.stderr.contains("must be error, warn, info, debug or trace"), "{level}: {}", ran.stderr);
    }
}

#[test]
fn a_path_that_does_not_exist_ends_serve_at_once() {
    for (flag, arguments) in [
        ("--config", ["--config", "confg", "--policies", "policies"]),
        ("--policies", ["--config", CONFIG, "--policies", "polices"]),
    ] {
        let ran = podgraft(&[&["serve", "--tls-cert", "x", "--tls-key", "x"][..], &arguments].concat(), "");
        assert_eq!(ran.code, 2, "{flag}: {}", ran.stderr);
        let expected = format!("podgraft: {flag} ");
        assert!(
            ran.stderr.contains(&expected) && ran.stderr.contains("cannot be read: No such file"),
            "{}",
            ran.stderr
        );
    }
}
