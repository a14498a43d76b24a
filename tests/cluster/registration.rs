//! The API server's calls of podgraft: registration, certificates, rights, denials, the audit log.

use std::process::Command;

use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use podgraft_testkit::client;
use podgraft_testkit::expect::{expect, same, says};
use podgraft_testkit::install;
use podgraft_testkit::installation::{Installation, TestNamespace};
use podgraft_testkit::pod::{applied, env, task_pod};
use podgraft_testkit::process::{PATIENCE, wait_until};
use podgraft_testkit::{Outcome, root};

pub(crate) fn a_denial_names_webhook_reason_and_cause(installation: &Installation) -> Outcome {
    let ns = installation.create_namespace("denials", "queues: {denials: {}}")?;
    ns.until_webhook_says("denials", "base")?;
    let mut pod = task_pod("denied", "denials");
    pod["metadata"]["labels"]["podgraft.io/environment"] = "nowhere".into();
    let denied = "admission webhook \"optional.podgraft.io\" denied the request: \
                  environment 'nowhere' does not exist or does not match this pod";
    let creating = format!("Error from server (UnknownEnvironment): error when creating \"STDIN\": {denied}");
    same("kubectl create", ns.expect_denial(&pod)?, creating.clone())?;
    let apply = ns.kubectl(&["apply", "-f", "-"], &pod.to_string());
    same("kubectl apply", apply.stderr.trim(), &creating)?;
    let apply = ns.kubectl(&["apply", "--server-side", "-f", "-"], &pod.to_string());
    same(
        "kubectl apply --server-side",
        apply.stderr.trim(),
        &format!("Error from server (UnknownEnvironment): {denied}"),
    )?;

    let status = &installation.audited(ns.name, "denied")?["responseStatus"];
    same("the status code", &status["code"], &json!(422))?;
    same("the status reason", &status["reason"], &json!("UnknownEnvironment"))?;

    let mut pod = task_pod("clearml-id-one", "denials");
    pod["spec"]["containers"][1]["env"] =
        json!([{"name": "CLEARML_WORKER_ID", "value": format!("w:{}", "a".repeat(32))}]);
    let denial = ns.expect_denial(&pod)?;
    says(&denial, "(IdentityContradiction)")?;
    says(&denial, "CLEARML_WORKER_ID names another task than the pod's name does")
}

pub(crate) fn the_audit_log_says_what_was_applied(installation: &Installation) -> Outcome {
    let ns =
        installation.create_namespace("audit", "queues: {audit: {templateOverrides: {labels: {audited: 'yes'}}}}")?;
    ns.until_webhook_says("audit", "queue/audit")?;
    let pod = ns.create_in("audit", "one")?;
    let annotations = &installation.audited(ns.name, "one")?["annotations"];
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

    installation.cluster.kubectl_ok(&["label", "namespace", ns.name, "podgraft.io/required="]);
    let annotations = wait_until("the other entry", PATIENCE, || {
        let output = ns.dry_run(&task_pod("two", "audit"));
        expect(output.success(), || output.stderr.clone())?;
        let annotations = installation.audited(ns.name, "two")?["annotations"].clone();
        Ok(annotations["required.podgraft.io/applied"].is_string().then_some(annotations))
    })?;
    let only = |key: &String| key.ends_with("round_0_index_1");
    expect(self::rounds(&annotations).iter().all(only), || annotations.to_string())
}

/// Returns the annotation keys of the API server's calls.
fn rounds(annotations: &Value) -> Vec<String> {
    let keys = annotations.as_object().into_iter().flatten().map(|(key, _)| key.clone());
    keys.filter(|key| key.contains("webhook.admission.k8s.io/")).collect()
}

/// The README's quick start, word for word. What would change the cluster under the other tests is a dry run of the
/// server.
pub(crate) fn the_readmes_install_commands_work(installation: &Installation) -> Outcome {
    let readme = std::fs::read_to_string(root().join("README.md")).map_err(|error| error.to_string())?;
    let section = readme.split("## Quick start on a cluster").nth(1).unwrap_or("");
    let install = section.split("```sh\n").nth(1).unwrap_or("");
    let folder = installation.cluster.dir().join("readme-certs");
    let folder = folder.to_string_lossy();
    let mut ran = 0_usize;
    for line in install.split("```").next().unwrap_or("").lines() {
        let command = line.split("  #").next().unwrap_or("").trim().replace("target/certs", &folder);
        // the image and the program are built; without a kubelet the Deployment is never ready
        let is_preparation = ["docker ", "cargo ", "export "].iter().any(|program| command.starts_with(program));
        if is_preparation || command.contains(" rollout status ") {
            continue;
        }
        if let Some(arguments) = command.strip_prefix("kubectl ") {
            let mut arguments: Vec<&str> = arguments.split_whitespace().chain(["--dry-run=server"]).collect();
            if arguments.contains(&"--server-side") {
                arguments.push("--force-conflicts"); // the tests have applied the same manifests with other ports
            }
            let output = installation.cluster.kubectl(&arguments);
            expect(output.success(), || format!("{command}: {}", output.stderr))?;
        } else if let Some(arguments) = command.strip_prefix("podgraft ") {
            let dry = if arguments.starts_with("certs install") { " --dry-run" } else { "" };
            let mut command = Command::new(podgraft_testkit::program());
            command
                .args(format!("{arguments}{dry}").split_whitespace())
                .env("KUBECONFIG", installation.cluster.kubeconfig());
            let output = command.current_dir(root()).output().map_err(|error| error.to_string())?;
            expect(output.status.success(), || format!("{arguments}: {}", String::from_utf8_lossy(&output.stderr)))?;
        }
        ran += 1;
    }
    same("commands", ran, 5)
}

pub(crate) fn podgraft_may_read_its_own_configmaps_all_namespaces_and_nothing_else(
    installation: &Installation,
) -> Outcome {
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
        let output = installation
            .cluster
            .kubectl_as(installation.kubeconfig(), &["auth", "can-i", verb, resource, "-n", namespace]);
        same(&format!("{verb} {resource} in {namespace}"), output.stdout.trim(), expected)?;
    }
    Ok(())
}

pub(crate) fn without_podgraft_a_pod_is_created_unchanged_or_denied(installation: &Installation) -> Outcome {
    let optional = installation.create_namespace("optional", "queues: {optional: {}}")?;
    let required = installation.create_namespace("required", "queues: {required: {}}")?;
    required.require_podgraft()?;

    installation.stop_podgraft()?;
    let meanwhile = without_podgraft(&optional, &required);
    installation.start_podgraft()?;
    meanwhile?;
    for ns in [&optional, &required] {
        let pod = ns.create_in(ns.name, "two")?;
        same("a pod after the restart", applied(&pod), "base")?;
    }
    Ok(())
}

fn without_podgraft(optional: &TestNamespace<'_>, required: &TestNamespace<'_>) -> Outcome {
    let pod = optional.create_in("optional", "one")?;
    same("a pod of an optional namespace", applied(&pod), "nothing")?;
    let annotations = &optional.installation.audited(optional.name, "one")?["annotations"];
    let failed_open = &annotations["failed-open.mutation.webhook.admission.k8s.io/round_0_index_0"];
    same("the audit's word", failed_open, &json!("optional.podgraft.io"))?;
    let denial = required.expect_denial(&task_pod("one", "required"))?;
    says(&denial, "failed calling webhook \"required.podgraft.io\"")?;
    let mut other = task_pod("other", "required");
    other["metadata"]["labels"] = json!({"app": "web"});
    required.create(&other).map(drop)
}

pub(crate) fn deleting_the_webhook_configuration_disables_podgraft(installation: &Installation) -> Outcome {
    let ns = installation.create_namespace("way-out", "queues: {way-out: {}}")?;
    ns.require_podgraft()?;

    installation.stop_podgraft()?;
    let meanwhile = without_registration(&ns);
    let ca_pem = installation.certificate().ca_pem();
    // the other tests need both, even after a failure
    let (registered, started) = (installation.trust(&ca_pem), installation.start_podgraft());
    meanwhile.and(registered).and(started)?;
    ns.until_required()?;
    same("a pod after the restart", applied(&ns.create_in("way-out", "three")?), "base")
}

fn without_registration(ns: &TestNamespace<'_>) -> Outcome {
    let denial = ns.expect_denial(&task_pod("one", "way-out"))?;
    says(&denial, "failed calling webhook \"required.podgraft.io\"")?;
    let deleted = ns.installation.cluster.kubectl(&["delete", "mutatingwebhookconfiguration", "podgraft"]);
    expect(deleted.success(), || deleted.stderr.clone())?;
    let dry = task_pod("two", "way-out");
    wait_until("the removal in the API server", PATIENCE, || Ok(ns.dry_run(&dry).success().then_some(())))?;
    let pod = ns.create_in("way-out", "two")?;
    same("a pod without the registration", (applied(&pod), env(&pod, "FROM_BASE")), ("nothing", "absent"))
}

pub(crate) fn certificate_and_authority_are_rotated_without_a_failed_call(installation: &Installation) -> Outcome {
    let ns = installation.create_namespace("rotation", "queues: {rotation: {}}")?;
    ns.require_podgraft()?;
    let first = served(installation)?;

    // another certificate of the same authority, mounted by a swap of the Secret's link
    installation.certificate().rotate()?;
    let second = served(installation)?;
    expect(second != first, || "the old certificate is served".into())?;
    same("a pod", applied(&ns.create_in("rotation", "one")?), "base")?;

    // another authority: both are trusted, then the certificate changes, then only the new one is trusted
    let old = installation.certificate().ca_pem();
    let next = install::new_authority()?;
    let new = next.pem();
    create_on_a_new_connection(&ns, "two", || installation.trust(&format!("{old}{new}")))?;
    installation.certificate().rotate_authority(next)?;
    let third = served(installation)?;
    expect(third != second, || "the old authority's certificate is served".into())?;
    same("a pod", applied(&ns.create_in("rotation", "three")?), "base")?;
    create_on_a_new_connection(&ns, "four", || installation.trust(&new))?;

    // with another trusted authority the call fails, once the old connection is closed
    installation.trust(&install::new_authority()?.pem())?;
    let failed = wait_until("a failed call", PATIENCE, || {
        let pod = task_pod("five", "rotation");
        let output = ns.dry_run(&pod);
        Ok(output.stderr.contains("certificate signed by unknown authority").then_some(()))
    });
    installation.trust(&new)?;
    failed?;
    ns.until_required()?;
    same("a pod", applied(&ns.create_in("rotation", "six")?), "base")
}

/// Returns the certificate that a new connection is served.
fn served(installation: &Installation) -> Outcome<CertificateDer<'static>> {
    client::served_certificate(installation.port, &installation.certificate().ca_pem())
}

/// Changes the authorities that the API server trusts, for which it opens a new connection, and creates a pod. Dry runs
/// are sent until that connection exists; none may fail.
pub(crate) fn create_on_a_new_connection(
    ns: &TestNamespace<'_>,
    name: &str,
    change: impl FnOnce() -> Outcome,
) -> Outcome {
    let connections = || ns.installation.podgraft(|podgraft| podgraft.metric("podgraft_connections"));
    let before = connections()?;
    change()?;
    let pod = task_pod(name, ns.name);
    wait_until("a new connection", PATIENCE, || {
        let output = ns.dry_run(&pod);
        Ok(if output.success() { (connections()? > before).then_some(Ok(())) } else { Some(Err(output.stderr)) })
    })??;
    same("a pod", applied(&ns.create(&pod)?), "base")
}

pub(crate) fn podgraft_answers_only_the_api_servers_certificate(installation: &Installation) -> Outcome {
    let ns = installation.create_namespace("clients", "queues: {clients: {}}")?;
    ns.until_webhook_says("clients", "base")?;
    ns.require_podgraft()?;
    let authority = installation.cluster.webhook_clients_file();
    let authority = authority.to_str().ok_or("a path that is not UTF-8")?;
    installation.stop_podgraft()?;
    let with_name = |name: &str| installation.start_podgraft_with(&["--client-ca", authority, "--client-name", name]);
    with_name("kube-apiserver")?;
    let meanwhile = only_the_api_server(installation, &ns);
    installation.stop_podgraft()?;
    with_name("another-client")?;
    let other_name = ns.expect_denial(&task_pod("two", "clients"));
    installation.stop_podgraft()?;
    installation.start_podgraft()?;
    meanwhile?;
    says(&other_name?, "failed calling webhook \"required.podgraft.io\"")
}

fn only_the_api_server(installation: &Installation, ns: &TestNamespace<'_>) -> Outcome {
    same("a pod", applied(&ns.create_in("clients", "one")?), "base")?;
    let stranger = installation.post(b"{}").err().ok_or("a client without a certificate was answered")?;
    expect(stranger.contains("POST /mutate"), || stranger.clone())?;
    wait_until("the failed handshake in the metrics", PATIENCE, || {
        let name = "podgraft_tls_handshake_errors_total{reason=\"no_certificate\"}";
        let failed = installation.podgraft(|podgraft| podgraft.metric(name))?;
        Ok((failed > 0.0).then_some(()))
    })?;
    installation.logged("TLS handshake failed")
}
