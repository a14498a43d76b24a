//! What queues, environments, modules and vaults say of themselves and of each other.

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
                "c.yaml:3:38: modules.m.sha256: the file is another: its sha256 is 2689367b205c16ce32ed4200942b8b8b1e262dfc70d9bc9fbc77c49699a4f1df",
                "c.yaml:3:112: modules.m.params: must be a mapping, not a list",
                "c.yaml:4:24: queues.q.modules[0]: module `m` is broken: see modules.m",
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
        ("queues:\n  q: {id: \"x}", &["c.yaml:4:11: a quote (' or \") is opened here and not closed"]),
        (
            "modules: {m: {wasm: ok.wasm, sha256: 3f}}",
            &["c.yaml:3:38: modules.m.sha256: must be 64 hexadecimal digits"],
        ),
    ]);
    let mut twice = input(&[("c.yaml", "modules: {m: {wasm: ok.wasm}}")]);
    twice.wasm.push(Wasm { origin: "ConfigMap graft".into(), ..wasm("ok.wasm", "other") });
    let built = Builder::default().build(&twice, &compile);
    assert_eq!(
        texts(&built),
        ["c.yaml:3:21: modules.m.wasm: `ok.wasm` exists more than once: in policies and in ConfigMap graft"]
    );
}

#[test]
fn queues_must_be_told_apart() {
    check(&[
        (
            "queues:\n  очередь gpu 1: {}\n  GPU_1: {id: a}\n",
            &[
                "c.yaml:4:18: queues.очередь gpu 1: is `gpu-1` in a pod's label, as queues.GPU_1 is: give the id of both",
                "c.yaml:5:10: queues.GPU_1: is `gpu-1` in a pod's label, as queues.очередь gpu 1 is: give the id of both",
            ],
        ),
        (
            "queues: {a: {id: x}, b: {id: x}, 学習: {}, c: {system: clearmI}}",
            &[
                "c.yaml:3:13: queues.a: has the id `x`, as queues.b has",
                "c.yaml:3:25: queues.b: has the id `x`, as queues.a has",
                "c.yaml:3:38: queues.学習: no label can carry this name, so pods do not tell it: give the queue's id",
                "c.yaml:3:54: queues.c.system: there is no system `clearmI`; did you mean clearml?",
            ],
        ),
    ]);
}

#[test]
fn a_clearml_pod_s_name_begins_with_something() {
    check(&[(
        "systems: {c: {type: ClearML, podNamePrefix: ''}}",
        &["c.yaml:3:45: systems.c.podNamePrefix: must not be empty"],
    )]);
}

#[test]
fn a_vault_s_queue_can_be_told_by_pods() {
    check(&[(
        "taskConfig: [{match: {queue: 学習キュー}, config: {}}, {match: {queue: очередь 1}, config: {}}]",
        &[
            "c.yaml:3:30: taskConfig[0].match.queue: no label can carry this name, so pods do not tell it: give the queue's id",
        ],
    )]);
}

#[test]
fn environments_of_one_priority_may_not_fight_over_a_field() {
    let two = |a: &str, b: &str| format!("environments:\n  a: {a}\n  b: {b}\n");
    let labels = |matches: &str, value: &str| {
        format!("{{match: {{{matches}}}, podTemplate: {{metadata: {{labels: {{tier: {value}}}}}}}}}")
    };
    let fight = "environments.b: sets metadata.labels.tier otherwise than environments.a does, for the same pods and with \
                 the same priority 0: give one of them another";
    check(&[
        (
            &two(&labels("namespaces: [ours]", "one"), &labels("podLabels: {l: v}", "two")),
            &[&format!("c.yaml:5:6: {fight}")],
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
fn what_reaches_beyond_the_pod_needs_namespaces() {
    let queue = |more: &str, template: &str| format!("queues:\n  q: {{{more}templateOverrides: {{{template}}}}}\n");
    let says = |key: &str| {
        format!("c.yaml:4:6: queues.q: gives pods a {key}, and any pod can name this queue: say match.namespaces")
    };
    let host_path = "volumes: [{name: v, hostPath: {path: /mnt}}]";
    check(&[
        (&queue("", host_path), &[&says("hostPath")]),
        (&queue("", "volumes: [{name: v, secret: {secretName: s}}]"), &[&says("secret")]),
        (&queue("", "env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]"), &[&says("secretKeyRef")]),
        (&queue("match: {namespaces: [ml]}, ", host_path), &[]),
        (&queue("", "labels: {hostPath: x}"), &[]),
    ]);
}
