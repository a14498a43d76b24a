//! Template modules that come from ConfigMaps: how they arrive, change and fail.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use podgraft_testkit::Outcome;
use podgraft_testkit::expect::{same, says};
use podgraft_testkit::fixtures::{committed, misbehaving, returning};
use podgraft_testkit::installation::{Installation, binary};
use podgraft_testkit::pod::{env, named, primary};

/// A module with a placeholder `PIN` for its digest, in a queue with a variable.
const LIVE: &str = "
queues:
  live-module:
    modules: [live-module]
    templateOverrides: {env: [{name: EDIT, value: EDIT_OF_THE_QUEUE}]}
modules: {live-module: {wasm: live-module.wasm, PIN when: has(task_config.nfs)}}
taskConfig:
- match: {namespaces: [NAMESPACE]}
  config: {nfs: {server: {ip: 10.0.0.7, path: /export}, mountPath: /mnt/nfs}}
";

pub(crate) fn a_modules_bytes_are_pinned_and_replaced_while_podgraft_runs(installation: &Installation) -> Outcome {
    let config = |edit: &str, pin: &str| LIVE.replace("EDIT_OF_THE_QUEUE", edit).replace("PIN", pin);
    let put = |bytes: &[u8]| {
        installation.put("ConfigMap", "live-module-bytes", &binary(&[("live-module.wasm", bytes.to_vec())]))
    };
    let first = committed("inject-nfs.wasm")?;
    let second = returning(&json!({"metadata": {"annotations": {"example.com/version": "2"}}}))?;

    put(&first)?;
    let ns = installation.create_namespace("live-module", &config("one", &format!("sha256: {},", digest(&first))))?;
    let applied_first = format!("module/live-module@{}", &digest(&first)[..12]);
    ns.until_webhook_says("live-module", &applied_first)?;
    let pod = ns.create_in("live-module", "pinned")?;
    let volume = json!({"name": "custom-mount", "nfs": {"server": "10.0.0.7", "path": "/export"}});
    same("the volume", named(&pod["spec"]["volumes"], "custom-mount"), &volume)?;
    let mount = json!({"name": "custom-mount", "mountPath": "/mnt/nfs"});
    same("the mount", named(&primary(&pod)["volumeMounts"], "custom-mount"), &mount)?;

    // with a wrong digest, the whole queue stays at its last valid version
    ns.configure(&config("two", &format!("sha256: {},", "ab".repeat(32))))?;
    installation
        .logged(&format!("modules.live-module.sha256: does not match the file, whose sha256 is {}", digest(&first)))?;
    let pod = ns.create_in("live-module", "wrongly-pinned")?;
    same("the queue's edit", env(&pod, "EDIT"), "one")?;
    says(podgraft_testkit::pod::applied(&pod), &applied_first)?;

    ns.configure(&config("three", ""))?;
    ns.until_webhook_says("live-module", "three")?;
    put(&second)?;
    ns.until_webhook_says("live-module", &format!("module/live-module@{}", &digest(&second)[..12]))?;
    let pod = ns.create_in("live-module", "replaced")?;
    same("the annotation", &pod["metadata"]["annotations"]["example.com/version"], &json!("2"))?;
    same("the volume", named(&pod["spec"]["volumes"], "custom-mount"), &Value::Null)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// A guest, the reason of the denial, and the message after the name of the module.
const HOSTILE: &[(&str, &str, &str)] = &[
    ("loop", "ModuleUnavailable", "exceeded its time budget of 100 ms"),
    ("memory", "ModuleFailed", "exceeded its memory budget of 8 MiB"),
    ("stack", "ModuleFailed", "exhausted its stack"),
    ("trap", "ModuleFailed", "trapped: wasm `unreachable` instruction executed"),
    ("not-json", "ModuleFailed", "returned a fragment that is not a JSON object"),
    ("output", "ModuleFailed", "returned more than the limit of 1024 KiB"),
];

pub(crate) fn a_hostile_modules_own_pods_are_denied_by_name(installation: &Installation) -> Outcome {
    let all = |text: &str| HOSTILE.iter().map(|(name, ..)| text.replace("NAME", name)).collect::<String>();
    let config = format!(
        "modules:\n{}queues:\n  harmless: {{templateOverrides: {{labels: {{harmless: 'yes'}}}}}}\n{}",
        all("  hostile-NAME: {wasm: hostile-NAME.wasm, budget: {time: 100ms, memory: 8Mi}}\n"),
        all("  hostile-NAME: {modules: [hostile-NAME]}\n"),
    );
    let files: Outcome<Vec<_>> =
        HOSTILE.iter().map(|(name, ..)| Ok((format!("hostile-{name}.wasm"), misbehaving(name)?))).collect();
    let files = files?;
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    installation.put("ConfigMap", "hostile-bytes", &binary(&files))?;
    let ns = installation.create_namespace("hostile", &config)?;

    for (number, (name, reason, sentence)) in HOSTILE.iter().enumerate() {
        let queue = format!("hostile-{name}");
        ns.until_webhook_says(&queue, sentence)?;
        let denial = ns.expect_denial(&podgraft_testkit::pod::task_pod("denied", &queue))?;
        let expected = format!(
            "Error from server ({reason}): error when creating \"STDIN\": \
             admission webhook \"optional.podgraft.io\" denied the request: module {queue} {sentence}"
        );
        same(name, denial, expected)?;
        let pod = ns.create_in("harmless", &format!("harmless-{number}"))?;
        same("another queue's pod", &pod["metadata"]["labels"]["harmless"], &json!("yes"))?;
    }
    Ok(())
}
