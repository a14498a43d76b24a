//! `podgraft certs` against the real API server.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::registration::create_on_a_new_connection;
use podgraft_testkit::Outcome;
use podgraft_testkit::client;
use podgraft_testkit::expect::{expect, same, says};
use podgraft_testkit::installation::{Installation, TestNamespace};
use podgraft_testkit::mounted_secret::mount as mount_secret;

/// The name of a Secret that no other test uses.
const SECRET: &str = "certs-test";

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs `podgraft certs` as the administrator.
fn certs(installation: &Installation, arguments: &[&str]) -> Outcome<Ran> {
    let mut command = Command::new(podgraft_testkit::program());
    command.arg("certs").args(arguments).env("KUBECONFIG", installation.cluster.kubeconfig());
    let output = command.output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ran { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

/// Runs `podgraft certs` as the administrator, which must succeed, and returns its stdout.
fn done(installation: &Installation, arguments: &[&str]) -> Outcome<String> {
    let ran = certs(installation, arguments)?;
    expect(ran.code == Some(0), || format!("{arguments:?}: {:?}\n{}{}", ran.code, ran.stdout, ran.stderr))?;
    Ok(ran.stdout)
}

/// Runs `certs check` and returns the reasons and places of its errors.
fn found(installation: &Installation, arguments: &[&str]) -> Outcome<Vec<String>> {
    let ran = certs(installation, &[&["check", "-o", "json"], arguments].concat())?;
    let report: Value = serde_json::from_str(&ran.stdout).map_err(|error| format!("{error}: {}", ran.stderr))?;
    let errors = report["errors"].as_array().cloned().unwrap_or_default();
    same("the exit code", ran.code, Some(i32::from(!errors.is_empty())))?;
    let text = |error: &Value, key: &str| error[key].as_str().unwrap_or_default().to_owned();
    Ok(errors.iter().map(|error| format!("{}: {}", text(error, "reason"), text(error, "place"))).collect())
}

pub(crate) fn certs_check_finds_errors_in_the_cluster(installation: &Installation) -> Outcome {
    let folder = installation.cluster.dir().join("certs-check");
    let folder = folder.to_string_lossy();
    done(installation, &["make", "--dir", &folder])?;
    same("the folder", found(installation, &["--dir", &folder])?, vec![])?;

    // The registration trusts the tests' own authority, not this one.
    let errors = found(installation, &["--dir", &folder, "--webhook", "podgraft"])?;
    let entry = |name: &str| format!("BundleDiffers: MutatingWebhookConfiguration podgraft, entry {name}.podgraft.io");
    same("the registration", errors, vec![entry("optional"), entry("required")])?;

    let secret = ["--secret", "podgraft/certs-check"];
    let ran = certs(installation, &[&["check"], &secret[..]].concat())?;
    same("a Secret that is not there", ran.code, Some(2))?;
    says(&ran.stderr, "there is no Secret podgraft/certs-check")?;

    let mut command = Command::new(podgraft_testkit::program());
    command.args(["certs", "check"]).args(secret).env("KUBECONFIG", installation.kubeconfig());
    let output = command.output().map_err(|error| error.to_string())?;
    same("a user without the right", output.status.code(), Some(2))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    says(
        &said,
        "podgraft: the Secret podgraft/certs-check cannot be read: secrets \"certs-check\" is forbidden: User",
    )?;
    expect(said.lines().count() == 1, || said.clone())?;

    let authority = fs::read_to_string(format!("{folder}/ca.crt")).map_err(|error| error.to_string())?;
    let data = json!({"tls.crt": BASE64_STANDARD.encode(&authority), "ca.crt": BASE64_STANDARD.encode(&authority)});
    installation.put("Secret", "certs-check", &json!({"data": data}))?;
    let errors = found(installation, &secret)?;
    same(
        "an authority's certificate in its place",
        errors,
        vec!["Missing: tls.key".into(), "WrongName: tls.crt".into()],
    )?;

    let ran = certs(installation, &["install", "--dir", &folder, "--webhook", "absent"])?;
    same("a registration that is not there", ran.code, Some(2))?;
    says(&ran.stderr, "there is no MutatingWebhookConfiguration absent")?;
    let ran = certs(installation, &["install", "--dir", &folder, "--service", "other"])?;
    same("a Service that the certificate is not for", ran.code, Some(2))?;
    says(&ran.stderr, "nothing was changed: tls.crt is for podgraft.podgraft.svc")
}

pub(crate) fn an_installed_certificate_and_its_successors_serve_without_a_failed_call(
    installation: &Installation,
) -> Outcome {
    let ns = installation.create_namespace("certs", "queues: {certs: {}}")?;
    ns.require_podgraft()?;
    let ca_pem = installation.certificate().ca_pem();
    let ran = rotations(installation, &ns);
    // back to the certificate and authority of the other tests
    installation.certificate().rotate()?;
    installation.trust(&ca_pem)?;
    ran?;
    ns.until_required()
}

fn rotations(installation: &Installation, ns: &TestNamespace<'_>) -> Outcome {
    let folder = installation.cluster.dir().join("certs-install");
    let dir = folder.to_string_lossy();
    let install =
        |arguments: &[&str]| done(installation, &[&["install", "--dir", &dir, "--secret", SECRET], arguments].concat());
    let check = ["--secret", &format!("podgraft/{SECRET}"), "--webhook", "podgraft"];
    done(installation, &["make", "--dir", &dir])?;

    let dry = install(&["--dry-run"])?;
    says(&dry, &format!("Secret podgraft/{SECRET}: created (dry run)"))?;
    let there = installation.cluster.kubectl(&["get", "secret", "-n", "podgraft", SECRET]);
    expect(!there.success(), || "a dry run stored the Secret".into())?;

    // the first time; the previous certificate stays trusted
    create_on_a_new_connection(ns, "one", || says(&install(&[])?, "caBundle changed"))?;
    mount(installation, &folder)?;
    same("errors", found(installation, &check)?, vec![])?;
    let again = install(&[])?;
    same("changes", again.lines().filter(|line| !line.ends_with(": unchanged")).collect::<Vec<_>>(), vec![])?;

    // a new authority, while the first one's certificate is served, and then its own
    done(installation, &["make", "--dir", &dir, "--new-ca"])?;
    create_on_a_new_connection(ns, "two", || install(&[]).map(drop))?;
    mount(installation, &folder)?;
    same("errors", found(installation, &check)?, vec![])?;

    // and the old ones are forgotten when that is said
    create_on_a_new_connection(ns, "three", || install(&["--drop-old-ca"]).map(drop))?;
    let ca = fs::read_to_string(folder.join("ca.crt")).map_err(|error| error.to_string())?;
    same("authorities in ca.crt", ca.matches("BEGIN").count(), 2)?;
    let registration = installation.cluster.get_json(&["mutatingwebhookconfiguration", "podgraft"]);
    for entry in registration["webhooks"].as_array().into_iter().flatten() {
        let bundle = entry["clientConfig"]["caBundle"].as_str().unwrap_or_default();
        let bundle = BASE64_STANDARD.decode(bundle).map_err(|error| error.to_string())?;
        let bundle = String::from_utf8_lossy(&bundle).into_owned();
        expect(ca.starts_with(&bundle) && bundle.matches("BEGIN").count() == 1, || bundle.clone())?;
        same("the rest of the entry", &entry["timeoutSeconds"], &json!(2))?;
    }
    Ok(())
}

/// Mounts the Secret where podgraft reads its certificate, as a kubelet does, and checks the served certificate.
fn mount(installation: &Installation, folder: &Path) -> Outcome {
    let secret = installation.cluster.get_json(&["secret", "-n", "podgraft", SECRET]);
    let mut files = Vec::new();
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        let text = BASE64_STANDARD.decode(secret["data"][name].as_str().unwrap_or_default());
        let text = String::from_utf8(text.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
        let made = fs::read_to_string(folder.join(name)).map_err(|error| error.to_string())?;
        expect(text == made, || format!("{name} of the Secret is not the one that was made"))?;
        files.push((name, text));
    }
    mount_secret(&installation.tls(), &files).map_err(|error| error.to_string())?;
    let newest = files[2].1.split_inclusive("-----END CERTIFICATE-----").next().unwrap_or_default();
    let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {"uid": "probe"}});
    same("the status", client::post(installation.port, newest, review.to_string().as_bytes())?.status, 200)
}
