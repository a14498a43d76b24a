//! How the API server calls podgraft: registration, certificates, rights, and what it tells people and the audit log.

use std::process::Command;

use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use podgraft_testkit::client;
use podgraft_testkit::expect::{expect, same, says};
use podgraft_testkit::install;
use podgraft_testkit::installation::{Place, World};
use podgraft_testkit::pod::{applied, env, task_pod};
use podgraft_testkit::process::{PATIENCE, wait_until};
use podgraft_testkit::{Outcome, root};

pub(crate) fn a_denial_names_webhook_reason_and_cause(world: &World) -> Outcome {
    let place = world.place("denials", "queues: {denials: {}}")?;
    place.until_says("denials", "base")?;
    let mut pod = task_pod("denied", "denials");
    pod["metadata"]["labels"]["podgraft.io/environment"] = "nowhere".into();
    let denied = "admission webhook \"optional.podgraft.io\" denied the request: \
                  environment 'nowhere' does not exist or is not for this pod";
    let creating = format!("Error from server (UnknownEnvironment): error when creating \"STDIN\": {denied}");
    same("kubectl create", place.refusal(&pod)?, creating.clone())?;
    let apply = place.kubectl(&["apply", "-f", "-"], &pod.to_string());
    same("kubectl apply", apply.stderr.trim(), &creating)?;
    let apply = place.kubectl(&["apply", "--server-side", "-f", "-"], &pod.to_string());
    same(
        "kubectl apply --server-side",
        apply.stderr.trim(),
        &format!("Error from server (UnknownEnvironment): {denied}"),
    )?;

    let status = &world.audited(place.name, "denied")?["responseStatus"];
    same("the status code", &status["code"], &json!(422))?;
    same("the status reason", &status["reason"], &json!("UnknownEnvironment"))?;

    let mut pod = task_pod("clearml-id-one", "denials");
    pod["spec"]["containers"][1]["env"] =
        json!([{"name": "CLEARML_WORKER_ID", "value": format!("w:{}", "a".repeat(32))}]);
    let refusal = place.refusal(&pod)?;
    says(&refusal, "(IdentityContradiction)")?;
    says(&refusal, "CLEARML_WORKER_ID names another task than the pod's name does")
}

pub(crate) fn the_audit_log_says_what_was_applied(world: &World) -> Outcome {
    let place = world.place("audit", "queues: {audit: {templateOverrides: {labels: {audited: 'yes'}}}}")?;
    place.until_says("audit", "queue/audit")?;
    let pod = place.create_in("audit", "one")?;
    let annotations = &world.audited(place.name, "one")?["annotations"];
    same("applied", &annotations["optional.podgraft.io/applied"], &json!(applied(&pod)))?;
    let config = annotations["optional.podgraft.io/config"].as_str().unwrap_or_default();
    let is_digest = config.len() == 12 && config.bytes().all(|byte| byte.is_ascii_hexdigit());
    expect(is_digest, || format!("config: {config:?}"))?;

    let rounds = rounds(annotations);
    same(
        "the calls",
        rounds,
        vec![
            "mutation.webhook.admission.k8s.io/round_0_index_0".to_owned(),
            "patch.webhook.admission.k8s.io/round_0_index_0".to_owned(),
        ],
    )?;
    let patch = annotations["patch.webhook.admission.k8s.io/round_0_index_0"].as_str().unwrap_or_default();
    let patch: Value = serde_json::from_str(patch).map_err(|error| error.to_string())?;
    let label = json!({"op": "add", "path": "/metadata/labels/audited", "value": "yes"});
    expect(patch["patch"].as_array().is_some_and(|operations| operations.contains(&label)), || patch.to_string())?;

    world.cluster.kubectl_ok(&["label", "namespace", place.name, "podgraft.io/required="]);
    let annotations = wait_until("the other entry", PATIENCE, || {
        let output = place.kubectl(&["create", "--dry-run=server", "-f", "-"], &task_pod("two", "audit").to_string());
        expect(output.success(), || output.stderr.clone())?;
        let annotations = world.audited(place.name, "two")?["annotations"].clone();
        Ok(annotations["required.podgraft.io/applied"].is_string().then_some(annotations))
    })?;
    let only = |key: &String| key.ends_with("round_0_index_1");
    expect(self::rounds(&annotations).iter().all(only), || annotations.to_string())
}

/// The keys by which the API server notes its calls.
fn rounds(annotations: &Value) -> Vec<String> {
    let keys = annotations.as_object().into_iter().flatten().map(|(key, _)| key.clone());
    keys.filter(|key| key.contains("webhook.admission.k8s.io/")).collect()
}

/// The README's way in, word for word; what would change the cluster under the other trials is a dry run of the server.
pub(crate) fn the_readmes_install_commands_work(world: &World) -> Outcome {
    let readme = std::fs::read_to_string(root().join("README.md")).map_err(|error| error.to_string())?;
    let install = readme.split("## Install").nth(1).and_then(|rest| rest.split("```").nth(1)).unwrap_or("");
    let folder = world.cluster.dir().join("readme-certs");
    let folder = folder.to_string_lossy();
    let mut ran = 0_usize;
    for line in install.lines().skip(1) {
        let command = line.split('#').next().unwrap_or("").trim().replace("target/certs", &folder);
        if let Some(arguments) = command.strip_prefix("kubectl ") {
            let arguments: Vec<&str> = arguments.split_whitespace().chain(["--dry-run=server"]).collect();
            let output = world.cluster.kubectl(&arguments);
            expect(output.success(), || format!("{command}: {}", output.stderr))?;
        } else if let Some(arguments) = command.strip_prefix("podgraft ") {
            let dry = if arguments.starts_with("certs install") { " --dry-run" } else { "" };
            let mut command = Command::new(podgraft_testkit::program());
            command.args(format!("{arguments}{dry}").split_whitespace()).env("KUBECONFIG", world.cluster.kubeconfig());
            let output = command.current_dir(root()).output().map_err(|error| error.to_string())?;
            expect(output.status.success(), || format!("{arguments}: {}", String::from_utf8_lossy(&output.stderr)))?;
        }
        ran += usize::from(!command.is_empty());
    }
    same("commands", ran, 3)
}

pub(crate) fn podgraft_may_read_its_own_configmaps_all_namespaces_and_nothing_else(world: &World) -> Outcome {
    for (verb, resource, namespace, expected) in [
        ("list", "configmaps", "podgraft", "yes"),
        ("watch", "configmaps", "podgraft", "yes"),
        ("update", "configmaps", "podgraft", "no"),
        ("list", "configmaps", "default", "no"),
        ("list", "namespaces", "podgraft", "yes"),
        ("watch", "namespaces", "podgraft", "yes"),
        ("update", "namespaces", "podgraft", "no"),
        ("get", "secrets", "podgraft", "no"),
        ("list", "pods", "podgraft", "no"),
        ("create", "pods", "default", "no"),
        ("patch", "mutatingwebhookconfigurations.admissionregistration.k8s.io", "podgraft", "no"),
    ] {
        let output = world.cluster.kubectl_as(world.kubeconfig(), &["auth", "can-i", verb, resource, "-n", namespace]);
        same(&format!("{verb} {resource} in {namespace}"), output.stdout.trim(), expected)?;
    }
    Ok(())
}

pub(crate) fn without_podgraft_a_pod_is_created_as_it_is_or_refused(world: &World) -> Outcome {
    let optional = world.place("optional", "queues: {optional: {}}")?;
    let required = world.place("required", "queues: {required: {}}")?;
    world.cluster.kubectl_ok(&["label", "namespace", required.name, "podgraft.io/required="]);
    until_required(&required)?;

    world.stop_podgraft()?;
    let meanwhile = without_podgraft(&optional, &required);
    world.start_podgraft()?;
    meanwhile?;
    for place in [&optional, &required] {
        let pod = place.create_in(place.name, "two")?;
        same("a pod after the restart", applied(&pod), "base")?;
    }
    Ok(())
}

fn without_podgraft(optional: &Place<'_>, required: &Place<'_>) -> Outcome {
    let pod = optional.create_in("optional", "one")?;
    same("a pod of an optional namespace", applied(&pod), "nothing")?;
    let annotations = &optional.world.audited(optional.name, "one")?["annotations"];
    let failed_open = &annotations["failed-open.mutation.webhook.admission.k8s.io/round_0_index_0"];
    same("the audit's word", failed_open, &json!("optional.podgraft.io"))?;
    let refusal = required.refusal(&task_pod("one", "required"))?;
    says(&refusal, "failed calling webhook \"required.podgraft.io\"")?;
    let mut other = task_pod("other", "required");
    other["metadata"]["labels"] = json!({"app": "web"});
    required.create(&other).map(drop)
}

pub(crate) fn the_registration_deleted_is_a_way_out_of_every_pods_way(world: &World) -> Outcome {
    let place = world.place("way-out", "queues: {way-out: {}}")?;
    world.cluster.kubectl_ok(&["label", "namespace", place.name, "podgraft.io/required="]);
    until_required(&place)?;

    world.stop_podgraft()?;
    let meanwhile = out_of_the_way(&place);
    let ca_pem = world.certificate().ca_pem();
    // whatever has failed, the other trials need both
    let (registered, started) = (world.trust(&ca_pem), world.start_podgraft());
    meanwhile.and(registered).and(started)?;
    until_required(&place)?;
    same("a pod after the way back", applied(&place.create_in("way-out", "three")?), "base")
}

fn out_of_the_way(place: &Place<'_>) -> Outcome {
    let refusal = place.refusal(&task_pod("one", "way-out"))?;
    says(&refusal, "failed calling webhook \"required.podgraft.io\"")?;
    let deleted = place.world.cluster.kubectl(&["delete", "mutatingwebhookconfiguration", "podgraft"]);
    expect(deleted.success(), || deleted.stderr.clone())?;
    let dry = task_pod("two", "way-out").to_string();
    wait_until("the API server's forgetting", PATIENCE, || {
        Ok(place.kubectl(&["create", "--dry-run=server", "-f", "-"], &dry).success().then_some(()))
    })?;
    let pod = place.create_in("way-out", "two")?;
    same("a pod without the registration", (applied(&pod), env(&pod, "FROM_BASE")), ("nothing", "absent"))
}

/// Waits until the API server knows of the namespace's label.
pub(crate) fn until_required(place: &Place<'_>) -> Outcome {
    wait_until("the entry with Fail", PATIENCE, || {
        let pod = task_pod("probe", place.name).to_string();
        let output = place.kubectl(&["create", "--dry-run=server", "-f", "-"], &pod);
        expect(output.success(), || output.stderr.clone())?;
        let annotations = &place.world.audited(place.name, "probe")?["annotations"];
        Ok(annotations["required.podgraft.io/config"].is_string().then_some(()))
    })
}

pub(crate) fn certificate_and_authority_are_rotated_without_a_failed_call(world: &World) -> Outcome {
    let place = world.place("rotation", "queues: {rotation: {}}")?;
    world.cluster.kubectl_ok(&["label", "namespace", place.name, "podgraft.io/required="]);
    until_required(&place)?;
    let first = served(world)?;

    // another certificate of the same authority, by a swap of the Secret's link
    world.certificate().rotate()?;
    let second = served(world)?;
    expect(second != first, || "the old certificate is served".into())?;
    same("a pod", applied(&place.create_in("rotation", "one")?), "base")?;

    // another authority: first both are trusted, then the certificate changes, then the old one is not any more
    let old = world.certificate().ca_pem();
    let next = install::new_authority()?;
    let new = next.pem();
    connect_anew(&place, &format!("{old}{new}"), "two")?;
    world.certificate().rotate_authority(next)?;
    let third = served(world)?;
    expect(third != second, || "the old authority's certificate is served".into())?;
    same("a pod", applied(&place.create_in("rotation", "three")?), "base")?;
    connect_anew(&place, &new, "four")?;

    // and it matters: who trusts another one gets no answer (the old one still has its connection)
    world.trust(&install::new_authority()?.pem())?;
    let refused = wait_until("a refusal", PATIENCE, || {
        let pod = task_pod("five", "rotation").to_string();
        let output = place.kubectl(&["create", "--dry-run=server", "-f", "-"], &pod);
        Ok(output.stderr.contains("certificate signed by unknown authority").then_some(()))
    });
    world.trust(&new)?;
    refused?;
    until_required(&place)?;
    same("a pod", applied(&place.create_in("rotation", "six")?), "base")
}

/// The certificate that a new connection is shown.
fn served(world: &World) -> Outcome<CertificateDer<'static>> {
    client::served_certificate(world.port, &world.certificate().ca_pem())
}

/// Lets the API server trust these authorities, for which it makes a connection of its own, and creates a pod. Dry
/// runs come before it until that connection is there; none may fail.
fn connect_anew(place: &Place<'_>, ca_pem: &str, name: &str) -> Outcome {
    let connections = || place.world.podgraft(|podgraft| podgraft.metric("podgraft_connections"));
    let before = connections()?;
    place.world.trust(ca_pem)?;
    let dry = task_pod(name, "rotation").to_string();
    wait_until("a new connection", PATIENCE, || {
        let output = place.kubectl(&["create", "--dry-run=server", "-f", "-"], &dry);
        Ok(if output.success() { (connections()? > before).then_some(Ok(())) } else { Some(Err(output.stderr)) })
    })??;
    same("a pod", applied(&place.create_in("rotation", name)?), "base")
}

pub(crate) fn podgraft_answers_the_api_server_by_its_certificate_and_nobody_else(world: &World) -> Outcome {
    let place = world.place("clients", "queues: {clients: {}}")?;
    place.until_says("clients", "base")?;
    world.cluster.kubectl_ok(&["label", "namespace", place.name, "podgraft.io/required="]);
    until_required(&place)?;
    let authority = world.cluster.webhook_clients_file();
    let authority = authority.to_str().ok_or("a path that is not UTF-8")?;
    world.stop_podgraft()?;
    let with_name = |name: &str| world.start_podgraft_with(&["--client-ca", authority, "--client-name", name]);
    with_name("kube-apiserver")?;
    let meanwhile = only_the_api_server(world, &place);
    world.stop_podgraft()?;
    with_name("somebody-else")?;
    let other_name = place.refusal(&task_pod("two", "clients"));
    world.stop_podgraft()?;
    world.start_podgraft()?;
    meanwhile?;
    says(&other_name?, "failed calling webhook \"required.podgraft.io\"")
}

fn only_the_api_server(world: &World, place: &Place<'_>) -> Outcome {
    same("a pod", applied(&place.create_in("clients", "one")?), "base")?;
    let stranger = world.post(b"{}").err().ok_or("a client without a certificate was answered")?;
    expect(stranger.contains("POST /mutate"), || stranger.clone())?;
    wait_until("the refusal in the metrics", PATIENCE, || {
        let name = "podgraft_handshakes_failed_total{reason=\"no_certificate\"}";
        let refused = world.podgraft(|podgraft| podgraft.metric(name))?;
        Ok((refused > 0.0).then_some(()))
    })?;
    world.logged("TLS handshake failed")
}
