//! The configuration changes while podgraft runs: a valid edit shows at once, an invalid one takes nothing down.

use podgraft_testkit::Outcome;
use podgraft_testkit::expect::{expect, same, says};
use podgraft_testkit::fixtures::graft_config;
use podgraft_testkit::installation::Installation;
use podgraft_testkit::pod::{env, task_pod};
use podgraft_testkit::process::{PATIENCE, wait_until};
use podgraft_testkit::server::Podgraft;

fn queue(name: &str, key: &str, value: &str) -> String {
    format!("  {name}: {{templateOverrides: {{{key}: [{{name: EDIT, value: {value}}}]}}}}\n")
}

pub(crate) fn a_valid_edit_shows_and_an_invalid_one_takes_nothing_down(installation: &Installation) -> Outcome {
    let ns = installation.create_namespace("edits", &format!("queues:\n{}", queue("edited", "env", "one")))?;
    ns.until_webhook_says("edited", "one")?;
    same("before the edit", env(&ns.create_in("edited", "before")?, "EDIT"), "one")?;
    let both = queue("edited", "env", "two") + &queue("beside", "env", "one");
    ns.configure(&format!("queues:\n{both}"))?;
    ns.until_webhook_says("edited", "two")?;
    same("after the edit", env(&ns.create_in("edited", "after")?, "EDIT"), "two")?;

    // one queue becomes invalid, one changes, and a new one is invalid from the start
    let edit = queue("edited", "envs", "three") + &queue("beside", "env", "three") + &queue("never-valid", "envs", "x");
    ns.configure(&format!("queues:\n{edit}"))?;
    ns.until_webhook_says("beside", "three")?;
    installation
        .logged("edits/podgraft.yaml:5:32: queues.edited.templateOverrides.envs: unknown key; did you mean env?")?;
    same("the last valid version", env(&ns.create_in("edited", "last-valid")?, "EDIT"), "two")?;
    is_denied(installation, &ns)?;

    // a malformed file
    ns.configure("queues: {edited: {templateOverrides: {env: [{name: EDIT, value: malformed")?;
    installation.logged("edits/podgraft.yaml:4:")?;
    same("despite a malformed file", env(&ns.create_in("edited", "malformed")?, "EDIT"), "two")?;
    same("despite a malformed file", env(&ns.create_in("beside", "malformed-beside")?, "EDIT"), "three")?;
    is_denied(installation, &ns)?;
    same("readiness", installation.podgraft(|podgraft| podgraft.get("/readyz"))?.0, 200)?;

    ns.configure(&format!("queues:\n{}", queue("edited", "env", "four") + &queue("never-valid", "env", "corrected")))?;
    ns.until_webhook_says("never-valid", "corrected")?;
    same("after the correction", env(&ns.create_in("edited", "mended")?, "EDIT"), "four")?;
    same("a queue that is gone", env(&ns.create_in("beside", "gone")?, "EDIT"), "absent")?;

    installation.cluster.kubectl_ok(&["delete", "configmap", ns.name, "-n", "podgraft"]);
    ns.until_webhook_says("edited", "nothing")
}

fn is_denied(installation: &Installation, ns: &podgraft_testkit::installation::TestNamespace<'_>) -> Outcome {
    let denial = ns.expect_denial(&task_pod("denied", "never-valid"))?;
    let expected = "Error from server (ConfigInvalid): error when creating \"STDIN\": \
                    admission webhook \"optional.podgraft.io\" denied the request: \
                    queue/never-valid has no valid configuration: edits/podgraft.yaml:";
    expect(denial.starts_with(expected), || denial.clone())?;
    says(&installation.webhook_says(ns.name, "never-valid")?, "queue/never-valid has no valid configuration")
}

pub(crate) fn podgraft_is_ready_without_any_configuration(installation: &Installation) -> Outcome {
    let log = installation.cluster.dir().join("podgraft-of-nothing.log");
    let administrator = installation.cluster.kubeconfig();
    // not even the ConfigMap that Kubernetes puts into every namespace
    let podgraft = Podgraft::start(&installation.tls(), &log, Some(&administrator), &["--namespace", "nothing-yet"])?;
    says(&installation.webhook_says_on(podgraft.port, "anywhere", "anything")?, "nothing")?;

    installation.cluster.kubectl_ok(&["create", "namespace", "nothing-yet"]);
    let text = graft_config("basePodTemplate: {env: [{name: FIRST, value: words}]}");
    let arguments = ["create", "configmap", "any-name", "-n", "nothing-yet", "--from-file=podgraft.yaml=/dev/stdin"];
    let created = installation.cluster.kubectl_stdin(&arguments, &text);
    expect(created.success(), || created.stderr.clone())?;
    wait_until("the first configuration", PATIENCE, || {
        let said = installation.webhook_says_on(podgraft.port, "anywhere", "anything")?;
        if said.contains("words") { Ok(Some(())) } else { Err(said) }
    })?;
    let status = podgraft.terminate()?;
    expect(status.success(), || format!("podgraft ended with {status}"))
}
