//! `podgraft certs` against the real API server.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::registration::until_required;
use podgraft_testkit::Outcome;
use podgraft_testkit::client;
use podgraft_testkit::expect::{expect, same, says};
use podgraft_testkit::installation::{Place, World};
use podgraft_testkit::mounted_secret::mount as mount_secret;
use podgraft_testkit::pod::{applied, task_pod};
use podgraft_testkit::process::{PATIENCE, wait_until};

/// The name of a Secret that no other trial looks at.
const SECRET: &str = "certs-trial";

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// `podgraft certs` as the administrator.
fn certs(world: &World, arguments: &[&str]) -> Outcome<Ran> {
    let mut command = Command::new(podgraft_testkit::program());
    command.arg("certs").args(arguments).env("KUBECONFIG", world.cluster.kubeconfig());
    let output = command.output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ran { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

/// The same, which must succeed; its stdout.
fn done(world: &World, arguments: &[&str]) -> Outcome<String> {
    let ran = certs(world, arguments)?;
    expect(ran.code == Some(0), || format!("{arguments:?}: {:?}\n{}{}", ran.code, ran.stdout, ran.stderr))?;
    Ok(ran.stdout)
}

/// What `certs check` finds: reasons and places.
fn found(world: &World, arguments: &[&str]) -> Outcome<Vec<String>> {
    let ran = certs(world, &[&["check", "-o", "json"], arguments].concat())?;
    let report: Value = serde_json::from_str(&ran.stdout).map_err(|error| format!("{error}: {}", ran.stderr))?;
    let findings = report["findings"].as_array().cloned().unwrap_or_default();
    same("the exit code", ran.code, Some(i32::from(!findings.is_empty())))?;
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    Ok(findings.iter().map(|finding| format!("{}: {}", text(finding, "reason"), text(finding, "place"))).collect())
}

pub(crate) fn what_is_wrong_in_the_cluster_is_said(world: &World) -> Outcome {
    let folder = world.cluster.dir().join("certs-check");
    let folder = folder.to_string_lossy();
    done(world, &["make", "--dir", &folder])?;
    same("the folder", found(world, &["--dir", &folder])?, vec![])?;

    // The registration trusts the trials' own authority, and not this one.
    let findings = found(world, &["--dir", &folder, "--webhook", "podgraft"])?;
    let entry = |name: &str| format!("BundleDiffers: MutatingWebhookConfiguration podgraft, entry {name}.podgraft.io");
    same("the registration", findings, vec![entry("optional"), entry("required")])?;

    let secret = ["--secret", "podgraft/certs-check"];
    let ran = certs(world, &[&["check"], &secret[..]].concat())?;
    same("a Secret that is not there", ran.code, Some(2))?;
    says(&ran.stderr, "there is no Secret podgraft/certs-check")?;

    let mut command = Command::new(podgraft_testkit::program());
    command.args(["certs", "check"]).args(secret).env("KUBECONFIG", world.kubeconfig());
    let output = command.output().map_err(|error| error.to_string())?;
    same("somebody without the right", output.status.code(), Some(2))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    says(
        &said,
        "podgraft: the Secret podgraft/certs-check cannot be read: secrets \"certs-check\" is forbidden: User",
    )?;
    expect(said.lines().count() == 1, || said.clone())?;

    let authority = fs::read_to_string(format!("{folder}/ca.crt")).map_err(|error| error.to_string())?;
    let data = json!({"tls.crt": BASE64_STANDARD.encode(&authority), "ca.crt": BASE64_STANDARD.encode(&authority)});
    world.put("Secret", "certs-check", &json!({"data": data}))?;
    let findings = found(world, &secret)?;
    same(
        "an authority's certificate in its place",
        findings,
        vec!["Missing: tls.key".into(), "WrongName: tls.crt".into()],
    )?;

    let ran = certs(world, &["install", "--dir", &folder, "--webhook", "nobody"])?;
    same("a registration that is not there", ran.code, Some(2))?;
    says(&ran.stderr, "there is no MutatingWebhookConfiguration nobody")?;
    let ran = certs(world, &["install", "--dir", &folder, "--service", "other"])?;
    same("a Service that the certificate is not for", ran.code, Some(2))?;
    says(&ran.stderr, "nothing was changed: tls.crt is for podgraft.podgraft.svc")
}

pub(crate) fn an_installed_certificate_and_its_successors_serve_without_a_failed_call(world: &World) -> Outcome {
    let place = world.place("certs", "queues: {certs: {}}")?;
    world.cluster.kubectl_ok(&["label", "namespace", place.name, "podgraft.io/required="]);
    until_required(&place)?;
    let trials = world.certificate().ca_pem();
    let ran = rotations(world, &place);
    // and back to what the other trials serve and trust
    world.certificate().rotate()?;
    world.trust(&trials)?;
    ran?;
    until_required(&place)
}

fn rotations(world: &World, place: &Place<'_>) -> Outcome {
    let folder = world.cluster.dir().join("certs-install");
    let dir = folder.to_string_lossy();
    let install =
        |arguments: &[&str]| done(world, &[&["install", "--dir", &dir, "--secret", SECRET], arguments].concat());
    let check = ["--secret", &format!("podgraft/{SECRET}"), "--webhook", "podgraft"];
    done(world, &["make", "--dir", &dir])?;

    let dry = install(&["--dry-run"])?;
    says(&dry, &format!("Secret podgraft/{SECRET}: created (dry run)"))?;
    let there = world.cluster.kubectl(&["get", "secret", "-n", "podgraft", SECRET]);
    expect(!there.success(), || "a dry run stored the Secret".into())?;

    // the first time; whoever still shows the certificate of before is believed
    anew(place, "one", || says(&install(&[])?, "caBundle changed"))?;
    mount(world, &folder)?;
    same("what is wrong", found(world, &check)?, vec![])?;
    let again = install(&[])?;
    same("changes", again.lines().filter(|line| !line.ends_with(": unchanged")).collect::<Vec<_>>(), vec![])?;

    // a new authority, while the first one's certificate is served, and then its own
    done(world, &["make", "--dir", &dir, "--new-ca"])?;
    anew(place, "two", || install(&[]).map(drop))?;
    mount(world, &folder)?;
    same("what is wrong", found(world, &check)?, vec![])?;

    // and the old ones are forgotten when that is said
    anew(place, "three", || install(&["--drop-old-ca"]).map(drop))?;
    let ca = fs::read_to_string(folder.join("ca.crt")).map_err(|error| error.to_string())?;
    same("authorities in ca.crt", ca.matches("BEGIN").count(), 2)?;
    let registration = world.cluster.get_json(&["mutatingwebhookconfiguration", "podgraft"]);
    for entry in registration["webhooks"].as_array().into_iter().flatten() {
        let bundle = entry["clientConfig"]["caBundle"].as_str().unwrap_or_default();
        let bundle = BASE64_STANDARD.decode(bundle).map_err(|error| error.to_string())?;
        let bundle = String::from_utf8_lossy(&bundle).into_owned();
        expect(ca.starts_with(&bundle) && bundle.matches("BEGIN").count() == 1, || bundle.clone())?;
        same("the rest of the entry", &entry["timeoutSeconds"], &json!(2))?;
    }
    Ok(())
}

/// Mounts the Secret where podgraft reads its certificate, as a kubelet does, and looks who is served then.
fn mount(world: &World, folder: &Path) -> Outcome {
    let secret = world.cluster.get_json(&["secret", "-n", "podgraft", SECRET]);
    let mut files = Vec::new();
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        let text = BASE64_STANDARD.decode(secret["data"][name].as_str().unwrap_or_default());
        let text = String::from_utf8(text.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
        let made = fs::read_to_string(folder.join(name)).map_err(|error| error.to_string())?;
        expect(text == made, || format!("{name} of the Secret is not the one that was made"))?;
        files.push((name, text));
    }
    mount_secret(&world.tls(), &files).map_err(|error| error.to_string())?;
    let newest = files[2].1.split_inclusive("-----END CERTIFICATE-----").next().unwrap_or_default();
    let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {"uid": "probe"}});
    same("the status", client::post(world.port, newest, review.to_string().as_bytes())?.status, 200)
}

/// Changes what the API server trusts, for which it makes a connection of its own, and creates a pod. Dry runs come
/// before it until that connection is there; none may fail.
fn anew(place: &Place<'_>, name: &str, change: impl FnOnce() -> Outcome) -> Outcome {
    let connections = || place.world.podgraft(|podgraft| podgraft.metric("podgraft_connections"));
    let before = connections()?;
    change()?;
    let dry = task_pod(name, "certs").to_string();
    wait_until("a new connection", PATIENCE, || {
        let output = place.kubectl(&["create", "--dry-run=server", "-f", "-"], &dry);
        Ok(if output.success() { (connections()? > before).then_some(Ok(())) } else { Some(Err(output.stderr)) })
    })??;
    same("a pod", applied(&place.create_in("certs", name)?), "base")
}
