//! Errors of modules, queues, environments, systems and vaults.

use super::*;

#[test]
fn modules_are_checked_against_their_files() {
    check(&[
        (
            "modules: {m: {wasm: okk.wasm, when: 'task_confg.x', budget: {time: 200, memory: 1.5}, onError: Retry}}",
            &[
                "c.yaml:3:21: modules.m.wasm: there is no file `okk.wasm`; did you mean ok.wasm?",
                "c.yaml:3:37: modules.m.when: there is no variable `task_confg`; there are environment, params, pod, providers_info, queue, queue_name, task, task_config, user",
                "c.yaml:3:68: modules.m.budget.time: is a number without a unit: write 200ms or 200s",
                "c.yaml:3:81: modules.m.budget.memory: is not an amount of memory, like 64Mi",
                "c.yaml:3:96: modules.m.onError: must be Fail or Ignore",
            ],
        ),
        (
            "modules: {m: {wasm: ok.wasm, sha256: ABCDEF0123450000000000000000000000000000000000000000000000000000, params: []}}\nqueues: {q: {modules: [m, k]}}",
            &[
                "c.yaml:3:38: modules.m.sha256: does not match the file, whose sha256 is 2689367b205c16ce32ed4200942b8b8b1e262dfc70d9bc9fbc77c49699a4f1df",
                "c.yaml:3:112: modules.m.params: must be a mapping, not a list",
                "c.yaml:4:24: queues.q.modules[0]: module `m` is invalid: see modules.m",
                "c.yaml:4:27: queues.q.modules[1]: module `k` is not defined",
            ],
        ),
        ("modules: {m: {wasm: bad.wasm}}", &["c.yaml:3:21: modules.m.wasm: is no component"]),
        (
            "queues: {q: {match: {namespaces: [Ml_Prod]}}}",
            &[
                "c.yaml:3:35: queues.q.match.namespaces[0]: `Ml_Prod` is not a DNS label (lower-case letters, digits and -, at most 63); for example `ml-prod`",
            ],
        ),
        ("queues:\n  q: {id: \"x}", &["c.yaml:4:11: unclosed quote (' or \")"]),
        (
            "modules: {m: {wasm: ok.wasm, sha256: 3f}}",
            &["c.yaml:3:38: modules.m.sha256: must be 64 hexadecimal digits"],
        ),
    ]);
    let mut twice = input(&[("c.yaml", "modules: {m: {wasm: ok.wasm}}")]);
    twice.wasm.push(Wasm { origin: "ConfigMap graft".into(), ..wasm("ok.wasm", "other") });
    let built = Builder::default().build(&twice, &compile);
    assert_eq!(
        error_texts(&built),
        ["c.yaml:3:21: modules.m.wasm: `ok.wasm` exists more than once: in policies and in ConfigMap graft"]
    );
}

#[test]
fn queues_that_pods_cannot_distinguish_are_errors() {
    check(&[
        (
            "queues:\n  очередь gpu 1: {}\n  GPU_1: {id: a}\n",
            &[
                "c.yaml:4:18: queues.очередь gpu 1: has the same pod label `gpu-1` as queues.GPU_1: set the id of both",
                "c.yaml:5:10: queues.GPU_1: has the same pod label `gpu-1` as queues.очередь gpu 1: set the id of both",
            ],
        ),
        (
            "queues: {a: {id: x}, b: {id: x}, 学習: {}, c: {system: clearmI}}",
            &[
                "c.yaml:3:13: queues.a: has the same id `x` as queues.b",
                "c.yaml:3:25: queues.b: has the same id `x` as queues.a",
                "c.yaml:3:38: queues.学習: this name cannot be written as a pod label: use the queue's id",
                "c.yaml:3:54: queues.c.system: there is no system `clearmI`; did you mean clearml?",
            ],
        ),
    ]);
}

#[test]
fn the_pod_name_prefix_may_not_be_empty() {
    check(&[(
        "systems: {c: {type: ClearML, podNamePrefix: ''}}",
        &["c.yaml:3:45: systems.c.podNamePrefix: must not be empty"],
    )]);
}

#[test]
fn a_vaults_queue_must_have_a_label_form() {
    check(&[(
        "taskConfig: [{match: {queue: 学習キュー}, config: {}}, {match: {queue: очередь 1}, config: {}}]",
        &["c.yaml:3:30: taskConfig[0].match.queue: this name cannot be written as a pod label: use the queue's id"],
    )]);
}

#[test]
fn environments_of_equal_priority_may_not_set_a_field_differently() {
    let two = |a: &str, b: &str| format!("environments:\n  a: {a}\n  b: {b}\n");
    let labels = |matches: &str, value: &str| {
        format!("{{match: {{{matches}}}, podTemplate: {{metadata: {{labels: {{tier: {value}}}}}}}}}")
    };
    let conflict = "environments.b: sets metadata.labels.tier to another value than environments.a, for the same pods and with \
                 the same priority 0: set different priorities";
    check(&[
        (
            &two(&labels("namespaces: [ours]", "one"), &labels("podLabels: {l: v}", "two")),
            &[&format!("c.yaml:5:6: {conflict}")],
        ),
        (&two(&labels("namespaces: [ours]", "one"), &labels("namespaces: [theirs]", "two")), &[]),
        (&two(&labels("podLabels: {l: v}", "one"), &labels("podLabels: {l: w}", "two")), &[]),
        (&two(&labels("namespaces: [ours]", "one"), &labels("namespaces: [ours]", "one")), &[]),
        (
            &two(
                &labels("namespaces: [ours]", "one"),
                &labels("namespaces: [x]", "two").replace("{match", "{priority: 1, match"),
            ),
            &[],
        ),
    ]);
}

#[test]
fn privileged_keys_need_match_namespaces() {
    let queue = |more: &str, template: &str| format!("queues:\n  q: {{{more}templateOverrides: {{{template}}}}}\n");
    let error = |key: &str| {
        format!("c.yaml:4:6: queues.q: gives pods a {key}, and any pod can name this queue: set match.namespaces")
    };
    let host_path = "volumes: [{name: v, hostPath: {path: /mnt}}]";
    check(&[
        (&queue("", host_path), &[&error("hostPath")]),
        (&queue("", "volumes: [{name: v, secret: {secretName: s}}]"), &[&error("secret")]),
        (&queue("", "env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]"), &[&error("secretKeyRef")]),
        (&queue("match: {namespaces: [ml]}, ", host_path), &[]),
        (&queue("", "labels: {hostPath: x}"), &[]),
    ]);
}
