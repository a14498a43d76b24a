//! Valid input and its decoded values.

use serde_json::json;

use super::*;
use crate::merge::layer::Conflict;
use crate::model::snapshot::{OnError, UnknownQueue};
use crate::model::system::SystemKind;

#[test]
fn both_forms_give_the_same_fragment() {
    let built = valid(
        "queues:\n  flat:\n    templateOverrides:\n      labels: {a: '1'}\n      annotations: {b: any text}\n      \
         volumes: [{name: v, emptyDir: {sizeLimit: 1e9}}]\n      volumeMounts: [{name: v, mountPath: /v}]\n      \
         env: [{name: X, value: '1'}]\n      resources: {limits: {cpu: 0.5, nvidia.com/gpu: 1, memory: 1Gi}}\n      \
         nodeSelector: {gpu: 'true'}\n      tolerations: [{key: gpu, operator: Exists, effect: NoSchedule}]\n      \
         initContainers: [{name: i, image: busybox, ports: [{containerPort: 80}]}]\n  \
         full:\n    podTemplate:\n      primaryContainerName: main\n      metadata: {labels: {a: '1'}, annotations: {b: any text}}\n      \
         spec:\n        volumes: [{name: v, emptyDir: {sizeLimit: 1000000000}}]\n        nodeSelector: {gpu: 'true'}\n        \
         tolerations: [{key: gpu, operator: Exists, effect: NoSchedule}]\n        \
         initContainers: [{name: i, image: busybox, ports: [{containerPort: 80}]}]\n        \
         containers:\n        - name: main\n          env: [{name: X, value: '1'}]\n          \
         volumeMounts: [{name: v, mountPath: /v}]\n          resources: {limits: {cpu: 500m, nvidia.com/gpu: '1', memory: 1Gi}}\n",
    );
    let expected = json!({
        "metadata": {"labels": {"a": "1"}, "annotations": {"b": "any text"}},
        "spec": {
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1000000000"}}],
            "nodeSelector": {"gpu": "true"},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "initContainers": [{"name": "i", "image": "busybox", "ports": [{"containerPort": 80}]}],
            "containers": [{
                "name": "primary",
                "env": [{"name": "X", "value": "1"}],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                "resources": {"limits": {"cpu": "500m", "nvidia.com/gpu": "1", "memory": "1Gi"}},
            }],
        },
    });
    assert_eq!(fragments(&built, "flat"), fragments(&built, "full"));
    assert_eq!(fragments(&built, "full"), [expected]);
}

#[test]
fn layers_have_their_conflict_rule_and_line() {
    let built = valid(
        "basePodTemplate: {env: [{name: A, value: a}]}\nqueues:\n  q:\n    podTemplate: {metadata: {labels: {a: b}}}\n    \
         templateOverrides: {labels: {a: c}}\n  written:\n    conflict: Keep\n    templateOverrides: {labels: {a: c}}\n  \
         other:\n    podTemplate:\n      spec: {containers: [{name: helper, env: [{name: B, value: b}]}]}\n",
    );
    let base = built.snapshot.base.as_ref().unwrap().last_valid.as_ref().unwrap();
    assert_eq!((base.layers[0].conflict, base.layers[0].explicit), (Conflict::Keep, false));
    assert_eq!((&*base.layers[0].file, base.layers[0].line), ("c.yaml", 3));
    let rules = |label: &str| -> Vec<_> {
        let queue = queue(&built, label).last_valid.as_ref().unwrap();
        queue.spec.layers.iter().map(|layer| (layer.conflict, layer.explicit, layer.line)).collect()
    };
    assert_eq!(rules("q"), [(Conflict::Keep, false, 6), (Conflict::Override, false, 7)]);
    assert_eq!(rules("written"), [(Conflict::Keep, true, 10)]);
    assert_eq!(
        fragments(&built, "other"),
        [json!({"spec": {"containers": [{"name": "helper", "env": [{"name": "B", "value": "b"}]}]}})]
    );
}

#[test]
fn a_queues_base_lacks_the_keys_that_it_replaces() {
    let built = valid(
        "basePodTemplate:\n  labels: {a: b}\n  env: [{name: A, value: a}]\n  volumes: [{name: v, emptyDir: {}}]\n  nodeSelector: {n: m}\n\
         queues:\n  none: {}\n  empty: {templateOverrides: {env: [], labels: {}, nodeSelector: }}\n  \
         some: {templateOverrides: {env: [{name: B, value: b}], labels: {c: d}}}\n  \
         all:\n    templateOverrides:\n      labels: {c: d}\n      env: [{name: B, value: b}]\n      \
         volumes: [{name: w, emptyDir: {}}]\n      nodeSelector: {x: z}\n  \
         both: {merge: Strategic, templateOverrides: {env: [{name: B, value: b}]}}\n  \
         full: {podTemplate: {metadata: {labels: {c: d}}}}\n  \
         fullReplace: {merge: Replace, podTemplate: {metadata: {labels: {c: d}}}}\n  \
         claim:\n    claims: [{volume: data, type: Existing, name: shared}]\n    templateOverrides: {labels: {c: d}}\n",
    );
    let whole = json!({"metadata": {"labels": {"a": "b"}}, "spec": {
        "containers": [{"name": "primary", "env": [{"name": "A", "value": "a"}]}],
        "volumes": [{"name": "v", "emptyDir": {}}], "nodeSelector": {"n": "m"}}});
    let base = |label: &str| {
        let queue = queue(&built, label).last_valid.as_ref().unwrap();
        queue.base.as_ref().map(|layer| layer.fragment.clone())
    };
    let spec_only = whole["spec"].clone();
    for label in ["none", "empty", "both", "full"] {
        assert_eq!(base(label), Some(whole.clone()), "{label}");
    }
    let rest = json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}], "nodeSelector": {"n": "m"}}});
    assert_eq!(base("some"), Some(rest));
    assert_eq!(base("all"), None);
    assert_eq!(base("fullreplace"), Some(json!({"spec": spec_only})));
    // a claim adds its volume to the base's
    assert_eq!(base("claim"), Some(json!({"spec": spec_only})));
}

#[test]
fn claims_set_the_source_of_volumes() {
    let built = valid(
        "queues:\n  seed:\n    claims:\n    - {volume: task-pvc, type: Ephemeral, labels: {team: a}, spec: {accessModes: [ReadWriteOnce],\n        \
         storageClassName: standard, resources: {requests: {storage: 5Gi}}}}\n    templateOverrides:\n      \
         volumes: [{name: other, emptyDir: {}}, {name: task-pvc, persistentVolumeClaim: {claimName: PVC_NAME}}]\n      \
         volumeMounts: [{name: task-pvc, mountPath: /tmp/task/}]\n  \
         alone:\n    claims: [{volume: data, type: Existing, name: shared.data}]\n  \
         added:\n    claims: [{volume: data, type: Existing, name: shared}]\n    templateOverrides: {volumeMounts: [{name: data, mountPath: /d}]}\n",
    );
    let template = json!({"metadata": {"labels": {"team": "a"}}, "spec": {"accessModes": ["ReadWriteOnce"],
        "storageClassName": "standard", "resources": {"requests": {"storage": "5Gi"}}}});
    let seed = &fragments(&built, "seed")[0]["spec"];
    assert_eq!(
        seed["volumes"],
        json!([{"name": "other", "emptyDir": {}}, {"name": "task-pvc", "ephemeral": {"volumeClaimTemplate": template}}])
    );
    let alone = json!({"name": "data", "persistentVolumeClaim": {"claimName": "shared.data"}});
    assert_eq!(fragments(&built, "alone"), [json!({"spec": {"volumes": [alone]}})]);
    let added = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "shared"}}]);
    assert_eq!(fragments(&built, "added")[0]["spec"]["volumes"], added);
}

#[test]
fn modules_systems_and_vaults_are_decoded() {
    let built = valid(
        "systems:\n  ours: {type: ClearML, namespaces: [ml], podNamePrefix: t-, submitters: [u]}\nmodules:\n  m:\n    wasm: ok.wasm\n    \
         sha256: 2689367B205C16CE32ED4200942B8B8B1E262DFC70D9BC9FBC77C49699A4F1DF\n    when: has(task_config.nfs)\n    \
         params: {text: '${HOME}', n: 1}\n    mayRemove: true\n    onError: Ignore\n    budget: {time: 1s, memory: 16Mi}\n  plain: {wasm: ok.wasm}\n\
         environments:\n  late: {priority: 5, match: {namespaces: [a], podLabels: {tier: prod}}, modules: [m]}\n  early: {priority: -1}\n  b: {}\n\
         queues: {q: {id: q-7, system: ours, match: {namespaces: [x]}, mode: Enforce, modules: [plain, m]}}\n\
         taskConfig: [{match: {user: u}, config: {k: user}}, {config: {k: global}}, {match: {queue: A_B}, config: {k: queue}},\n  \
         {match: {namespaces: [ns]}, config: {k: namespace}}]\nprovidersInfo: [{info: {role: r}}]\nunknownQueue: Deny\n",
    );
    let snapshot = &built.snapshot;
    let names: Vec<_> = snapshot.systems.iter().map(|system| (system.name.as_str(), system.kind)).collect();
    assert_eq!(names, [("generic", SystemKind::Generic), ("ours", SystemKind::ClearML)]);
    assert_eq!(snapshot.systems[1].pod_name_prefix, "t-");
    let order: Vec<_> = snapshot.environments.iter().map(|unit| unit.source.to_string()).collect();
    assert_eq!(order, ["environment/early", "environment/b", "environment/late"]);
    let late = snapshot.environments[2].last_valid.as_ref().unwrap();
    assert_eq!(late.matches.namespaces, ["a"]);
    let module = &late.spec.modules[0];
    assert_eq!((module.may_remove, module.on_error), (true, OnError::Ignore));
    assert_eq!((module.budget.time.as_millis(), module.budget.memory), (1000, 16 << 20));
    assert_eq!(module.params, json!({"text": "${HOME}", "n": 1}));
    let by_id = snapshot.queues.by_id["q-7"].last_valid.as_ref().unwrap();
    assert_eq!((by_id.name.as_str(), by_id.system.as_deref()), ("q", Some("ours")));
    let ran: Vec<_> = by_id.spec.modules.iter().map(|module| module.name.as_str()).collect();
    assert_eq!(ran, ["plain", "m"]);
    let vaults: Vec<_> = snapshot.task_config.iter().map(|vault| vault.config["k"].clone()).collect();
    assert_eq!(vaults, ["global", "namespace", "queue", "user"]);
    assert_eq!(snapshot.task_config[2].queue.as_deref(), Some("a-b"));
    assert_eq!(snapshot.providers_info[0].config, json!({"role": "r"}).into());
    assert_eq!(snapshot.unknown_queue, UnknownQueue::Deny);
}

#[test]
fn without_systems_there_are_default_ones() {
    let built = Builder::default().build(&Input::default(), &compile);
    let systems = &built.snapshot.systems;
    assert_eq!(systems[0].name, "clearml");
    assert_eq!(systems[0].pod_name_prefix, "clearml-id-");
    assert_eq!(systems[0].submitters, ["system:serviceaccount:clearml:clearml-agent-sa"]);
    assert_eq!(systems[1].name, "generic");
    assert!(built.parsed && built.files == 0 && built.snapshot.generation == 1);
}

#[test]
fn queues_are_found_by_id_and_label() {
    let id = "0123456789abcdef0123456789abcdef";
    let built =
        valid(&format!("queues:\n  {id}: {{}}\n  GPU_1: {{id: a}}\n  очередь gpu 1: {{id: b}}\n  学習: {{id: c}}\n"));
    let queues = &built.snapshot.queues;
    assert_eq!(queues.by_id.keys().collect::<Vec<_>>(), [id, "a", "b", "c"]);
    // `gpu-1` is ambiguous: two queues have this label
    assert_eq!(queues.by_name.keys().collect::<Vec<_>>(), [id]);
}

#[test]
fn a_configmap_manifest_is_read_like_a_configmap_of_the_cluster() {
    let manifest = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: graft}}\ndata:\n  notes.txt: podgraft.io/\n  queue.yaml: |\n    {}    queues: {{q: {{modules: [m]}}}}\n    \
         modules: {{m: {{wasm: packed.wasm}}}}\n  typo.yaml: |\n    {}    queue: {{}}\nbinaryData:\n  packed.wasm: b2s=\n  broken.wasm: '*'\n",
        HEAD.replace('\n', "\n    ").trim_end().to_owned() + "\n",
        HEAD.replace('\n', "\n    ").trim_end().to_owned() + "\n",
    );
    let files = vec![
        File { name: "configmap.yaml".into(), text: manifest },
        File { name: "other.yaml".into(), text: "a: [".into() },
        File { name: "deployment.yaml".into(), text: "apiVersion: apps/v1\nkind: Deployment\n---\na: 1\n".into() },
    ];
    let built = Builder::default().build(&Input { files, ..Input::default() }, &compile);
    assert_eq!(
        error_texts(&built),
        [
            "configmap.yaml:17:16: binaryData['broken.wasm']: is not base64",
            "graft/typo.yaml:3:1: queue: unknown key; did you mean queues?",
        ]
    );
    assert_eq!(queue(&built, "q").last_valid.as_ref().unwrap().spec.modules[0].name, "m");
    assert_eq!(built.files, 2);
}

#[test]
fn the_digest_covers_names_and_texts() {
    let digest = |files: &[(&str, &str)]| Builder::default().build(&input(files), &compile).snapshot.digest.clone();
    let one = digest(&[("a.yaml", "queues: {q: }"), ("b.yaml", "")]);
    assert_eq!(one.len(), 12);
    assert_eq!(one, digest(&[("b.yaml", ""), ("a.yaml", "queues: {q: }")]));
    assert_ne!(one, digest(&[("a.yaml", "queues: {r: }"), ("b.yaml", "")]));
    let mut more = input(&[("a.yaml", "queues: {q: }"), ("b.yaml", "")]);
    more.files.push(File { name: "kube-root-ca.crt".into(), text: "x".into() });
    assert_eq!(one, Builder::default().build(&more, &compile).snapshot.digest);
    more.wasm.push(wasm("new.wasm", "new"));
    assert_ne!(one, Builder::default().build(&more, &compile).snapshot.digest);
}

#[test]
fn the_sample_of_every_key_is_valid() {
    let files = vec![File { name: "sample.yaml".into(), text: include_str!("sample.yaml").into() }];
    let built =
        Builder::default().build(&Input { files, wasm: vec![wasm("ok.wasm", "ok")], ..Input::default() }, &compile);
    assert_eq!(error_texts(&built), Vec::<String>::new());
    assert_eq!(built.snapshot.queues.by_id.len(), 1);
    assert_eq!(built.snapshot.environments.len(), 1);
}
