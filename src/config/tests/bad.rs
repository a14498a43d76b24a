//! Bad input and the full text of what is said about it. Two lines stand in front of each: `apiVersion`, `kind`.

use super::*;

fn check(table: &[(&str, &[&str])]) {
    for (text, expected) in table {
        assert_eq!(texts(&build(text)), *expected, "{text}");
    }
}

/// `queues: {q: {templateOverrides: …}}`, its keys at line 6, column 7.
fn overrides(text: &str) -> String {
    format!("queues:\n  q:\n    templateOverrides:\n      {text}\n")
}

#[test]
fn keys_that_nobody_knows_get_the_nearest_one() {
    let table: &[(&str, &[&str])] = &[
        ("enviroments: {}", &["c.yaml:3:1: enviroments: unknown key; did you mean environments?"]),
        ("gpu: {}", &["c.yaml:3:1: gpu: unknown key"]),
        (
            "queues:\n  pvc-test:\n    templateOverrides:\n      volumeMount: []\n      envs: []\n",
            &[
                "c.yaml:6:7: queues.pvc-test.templateOverrides.volumeMount: unknown key; did you mean volumeMounts?",
                "c.yaml:7:7: queues.pvc-test.templateOverrides.envs: unknown key; did you mean env?",
            ],
        ),
        (
            "environments: {e: {prority: 1, match: {namespace: [a]}}}",
            &[
                "c.yaml:3:20: environments.e.prority: unknown key; did you mean priority?",
                "c.yaml:3:40: environments.e.match.namespace: unknown key; did you mean namespaces?",
            ],
        ),
        (
            "queues: {q: {podTemplate: {spec: {volumes: [{name: v, nfs: {server: s, path: /, readonly: true}}]}}}}",
            &["c.yaml:3:81: queues.q.podTemplate.spec.volumes[0].nfs.readonly: unknown key; did you mean readOnly?"],
        ),
        (
            "taskConfig: [{match: {users: a}, config: {}}]",
            &["c.yaml:3:23: taskConfig[0].match.users: unknown key; did you mean user?"],
        ),
    ];
    check(table);
    for (text, _) in table {
        assert!(!marked(text).is_empty(), "an editor would mark nothing: {text}");
    }
}

#[test]
fn keys_at_the_wrong_place_are_told_where_they_belong() {
    let beside = |key: &str| format!("stands beside `{key}`, not in it");
    let own = "no layer gives it: the image, command and args of the task's container are the task's own";
    let table = [
        ("templateOverrides: {conflict: Override}", 24, "templateOverrides.conflict", beside("templateOverrides")),
        ("templateOverrides: {modules: [a]}", 24, "templateOverrides.modules", beside("templateOverrides")),
        ("podTemplate: {merge: Replace}", 18, "podTemplate.merge", beside("podTemplate")),
        ("templateOverrides: {image: python}", 24, "templateOverrides.image", own.to_owned()),
        ("podTemplate: {command: [a]}", 18, "podTemplate.command", own.to_owned()),
        ("templateOverrides: {conflit: Deny}", 24, "templateOverrides.conflit", "unknown key".to_owned()),
    ];
    for (text, column, path, said) in table {
        let expected = format!("c.yaml:5:{}: queues.q.{path}: {said}", column + 1);
        assert_eq!(texts(&build(&format!("queues:\n  q:\n    {text}\n"))), [expected], "{text}");
    }
    check(&[
        ("basePodTemplate: {image: a}", &[&format!("c.yaml:3:19: basePodTemplate.image: {own}")]),
        (
            "queues: {q: {claims: [{volume: v}]}}",
            &["c.yaml:3:23: queues.q.claims[0]: key `type` is missing: Ephemeral or Existing"],
        ),
    ]);
}

#[test]
fn what_comes_later_is_refused_by_name() {
    check(&[
        ("guards: {}", &["c.yaml:3:1: key `guards` is not supported yet"]),
        ("tasks: {}", &["c.yaml:3:1: key `tasks` is not supported yet"]),
        ("queues: {q: {mode: Observe}}", &["c.yaml:3:20: queues.q.mode: Observe is not supported yet"]),
        (
            "queues: {q: {claims: [{volume: v, type: Managed, name: n}]}}",
            &["c.yaml:3:41: queues.q.claims[0].type: Managed is not supported yet"],
        ),
        (
            "modules: {m: {python: a.py}}",
            &[
                "c.yaml:3:14: modules.m: key `wasm` is missing",
                "c.yaml:3:15: modules.m: key `python` is not supported yet",
            ],
        ),
        ("systems: {f: {type: Flyte}}", &["c.yaml:3:21: systems.f.type: Flyte is not supported yet"]),
        (
            &overrides("env: [{name: ID, value: 'x-${tsk.id}'}, {name: SHELL, value: '${HOME}'}]"),
            &[
                "c.yaml:6:31: queues.q.templateOverrides.env[0].value: the placeholder ${tsk.id} has no root that podgraft knows: tsk; did you mean task?",
            ],
        ),
    ]);
}

#[test]
fn env_and_labels_are_strings() {
    let wrong = "must be a string, but YAML reads a boolean here: put it in quotes";
    check(&[
        (
            &overrides("env: [{name: A, value: yes}, {name: A, value: '1'}, {value: x}, {name: B=C}]"),
            &[
                &format!("c.yaml:6:30: queues.q.templateOverrides.env[0].value: {wrong}"),
                "c.yaml:6:43: queues.q.templateOverrides.env[1].name: name `A` stands twice in this list",
                "c.yaml:6:59: queues.q.templateOverrides.env[2]: key `name` is missing",
                "c.yaml:6:78: queues.q.templateOverrides.env[3].name: must be ASCII without spaces and =",
            ],
        ),
        (
            &overrides("env: [{name: '', value: s}, {name: A, value: s, valueFrom: {}}]"),
            &[
                "c.yaml:6:20: queues.q.templateOverrides.env[0].name: must not be empty",
                "c.yaml:6:66: queues.q.templateOverrides.env[1].valueFrom: must have one source, like secretKeyRef or fieldRef",
                "c.yaml:6:66: queues.q.templateOverrides.env[1].valueFrom: stands beside value; an env variable has one of them",
            ],
        ),
        (
            &overrides("labels: {a.b/c: true, a b: c, d: e f}"),
            &[
                &format!("c.yaml:6:23: queues.q.templateOverrides.labels['a.b/c']: {wrong}"),
                "c.yaml:6:29: queues.q.templateOverrides.labels.a b: is not a key that Kubernetes takes (`name` or `prefix/name`)",
                "c.yaml:6:40: queues.q.templateOverrides.labels.d: is not a label value (at most 63 letters, digits, -, _ and .)",
            ],
        ),
        (&overrides("env: {A: b}"), &["c.yaml:6:12: queues.q.templateOverrides.env: must be a list, not a mapping"]),
    ]);
}

#[test]
fn volumes_and_mounts_fit_together() {
    check(&[
        (
            &overrides(
                "volumes: [{name: initVol, emptyDir: {}}, {name: a, emptyDir: {}}, {name: a, configMap: {name: c}, emptyDir: {}}]",
            ),
            &[
                "c.yaml:6:24: queues.q.templateOverrides.volumes[0].name: `initVol` is not a DNS label (lower-case letters, digits and -, at most 63); for example `init-vol`",
                "c.yaml:6:80: queues.q.templateOverrides.volumes[2].name: name `a` stands twice in this list",
                "c.yaml:6:115: queues.q.templateOverrides.volumes[2].emptyDir: a volume has one source, this one has configMap and emptyDir",
            ],
        ),
        (
            &overrides("volumes: [{name: a}, {name: b, persistentVolumeClaim: {claimName: PVC_NAME}}]"),
            &[
                "c.yaml:6:17: queues.q.templateOverrides.volumes[0]: has no source, like emptyDir: {} or persistentVolumeClaim: {claimName: …}",
                "c.yaml:6:73: queues.q.templateOverrides.volumes[1].persistentVolumeClaim.claimName: is not the name of an object (lower-case letters, digits, - and .)",
            ],
        ),
        (
            &overrides(
                "volumeMounts: [{name: dta, mountPath: /a}, {name: data, mountPath: /a}]\n    claims: [{volume: data, type: Existing, name: x}]",
            ),
            &[
                "c.yaml:6:29: queues.q.templateOverrides.volumeMounts[0].name: volume `dta` is defined neither here nor in what this lies over; did you mean data?",
                "c.yaml:6:74: queues.q.templateOverrides.volumeMounts[1].mountPath: mountPath `/a` stands twice in this list",
            ],
        ),
        (
            "basePodTemplate: {volumes: [{name: v, emptyDir: {}}], volumeMounts: [{name: v, mountPath: /v}]}\nqueues:\n  q: {templateOverrides: {volumes: [{name: w, emptyDir: {}}]}}\n  ok: {templateOverrides: {volumeMounts: [{name: v, mountPath: /w}]}}",
            &[
                "c.yaml:5:6: queues.q: its volumes replace those of basePodTemplate, which still mounts `v`: repeat the volume here, or write merge: Strategic",
            ],
        ),
        (
            "basePodTemplate: {volumeMounts: [{name: v, mountPath: '/v:ro'}]}",
            &[
                "c.yaml:3:41: basePodTemplate.volumeMounts[0].name: volume `v` is defined neither here nor in what this lies over",
                "c.yaml:3:55: basePodTemplate.volumeMounts[0].mountPath: must be a path without :",
            ],
        ),
    ]);
}

#[test]
fn the_schema_is_checked_at_every_depth() {
    check(&[
        (
            &overrides("resources: {limits: {cpu: 1gb, memory: true}, request: {}}"),
            &[
                "c.yaml:6:33: queues.q.templateOverrides.resources.limits.cpu: is not a quantity, like 2, 500m, 16Gi; did you mean 1G or 1Gi?",
                "c.yaml:6:46: queues.q.templateOverrides.resources.limits.memory: is not a quantity, like 2, 500m, 16Gi",
                "c.yaml:6:53: queues.q.templateOverrides.resources.request: unknown key; did you mean requests?",
            ],
        ),
        (
            &overrides(
                "tolerations: [{key: k, operator: Exist, effect: NoExecute, tolerationSeconds: soon}, {operator: Exists, value: x}]",
            ),
            &[
                "c.yaml:6:40: queues.q.templateOverrides.tolerations[0].operator: must be Exists or Equal or Lt or Gt; did you mean Exists?",
                "c.yaml:6:85: queues.q.templateOverrides.tolerations[0].tolerationSeconds: must be a whole number",
                "c.yaml:6:118: queues.q.templateOverrides.tolerations[1].value: operator Exists takes no value",
            ],
        ),
        (
            &overrides("initContainers: [{name: Init, command: ls}]"),
            &[
                "c.yaml:6:24: queues.q.templateOverrides.initContainers[0]: key `image` is missing",
                "c.yaml:6:31: queues.q.templateOverrides.initContainers[0].name: `Init` is not a DNS label (lower-case letters, digits and -, at most 63); for example `init`",
                "c.yaml:6:46: queues.q.templateOverrides.initContainers[0].command: must be a list, not a string",
            ],
        ),
        (
            "queues: {q: {claims: [{volume: v, type: Ephemeral, spec: {accessModes: [RWO], storageClass: fast, resources: {}}}]}}",
            &[
                "c.yaml:3:58: queues.q.claims[0].spec: key `resources.requests.storage` is missing",
                "c.yaml:3:73: queues.q.claims[0].spec.accessModes[0]: must be ReadWriteOnce or ReadOnlyMany or ReadWriteMany or ReadWriteOncePod",
                "c.yaml:3:79: queues.q.claims[0].spec.storageClass: unknown key; did you mean storageClassName?",
            ],
        ),
    ]);
}

#[test]
fn the_primary_container_is_the_task_s() {
    check(&[
        (
            "queues: {q: {podTemplate: {primaryContainerName: '', spec: {containers: [{name: a}]}}}}",
            &["c.yaml:3:50: queues.q.podTemplate.primaryContainerName: must not be empty"],
        ),
        (
            "queues: {q: {podTemplate: {primaryContainerName: main, spec: {containers: [{name: mian}]}}}}",
            &["c.yaml:3:50: queues.q.podTemplate.primaryContainerName: no entry of spec.containers is called `main`"],
        ),
        (
            "queues: {q: {podTemplate: {spec: {containers: [{name: primary, image: a, args: []}, {name: b, image: c, args: []}]}}}}",
            &[
                "c.yaml:3:71: queues.q.podTemplate.spec.containers[0].image: the primary container's image, command and args are the task's own",
                "c.yaml:3:80: queues.q.podTemplate.spec.containers[0].args: the primary container's image, command and args are the task's own",
            ],
        ),
        (
            "queues: {q: {podTemplate: {primaryContainerName: a, spec: {containers: [{name: a}, {name: primary}, {name: default}]}}}}",
            &[
                "c.yaml:3:91: queues.q.podTemplate.spec.containers[1].name: `primary` means the pod's primary container, which is `a` here",
                "c.yaml:3:108: queues.q.podTemplate.spec.containers[2].name: container entry `default` is not supported yet",
            ],
        ),
    ]);
}

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
fn what_podgraft_reads_no_layer_sets() {
    let at = |path: &str| format!("queues.q.templateOverrides.{path}");
    let moves = "podgraft reads this key to choose what a pod gets, so no layer may set it";
    check(&[
        (
            &overrides("labels: {podgraft.io/environment: e}"),
            &[&format!("c.yaml:6:16: {}: {moves}", at("labels['podgraft.io/environment']"))],
        ),
        (
            &overrides(
                "annotations: {podgraft.io/user: u, kubectl.kubernetes.io/default-container: c, kubernetes.io/config.mirror: x}",
            ),
            &[
                &format!("c.yaml:6:21: {}: {moves}", at("annotations['podgraft.io/user']")),
                &format!("c.yaml:6:42: {}: {moves}", at("annotations['kubectl.kubernetes.io/default-container']")),
                &format!("c.yaml:6:86: {}: {moves}", at("annotations['kubernetes.io/config.mirror']")),
            ],
        ),
        (
            "environments: {e: {match: {podLabels: {tier: prod}}}}\nbasePodTemplate: {labels: {tier: prod}, annotations: {tier: x}}\n",
            &["c.yaml:4:28: basePodTemplate.labels.tier: environments.e matches pods by this label: set by a layer, \
                 the pod would get something else when it is admitted again"],
        ),
        (
            "queues:\n  a: {match: {podLabels: {l: v}}}\n  q: {podTemplate: {metadata: {labels: {l: v}}}}\n",
            &[
                "c.yaml:5:41: queues.q.podTemplate.metadata.labels.l: queues.a matches pods by this label: set by a layer, \
                 the pod would get something else when it is admitted again",
            ],
        ),
        (
            "queues: {q: {claims: [{volume: v, type: Ephemeral, labels: {podgraft.io/queue: x}, spec: {accessModes: \
             [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]}}",
            &[],
        ),
    ]);
}

#[test]
fn directives_take_away_what_can_be_taken_away() {
    for text in [
        "volumes: [{name: v, $patch: delete}]",
        "volumes: [{$patch: replace}, {name: w, emptyDir: {}}]",
        "env: [{name: A, $patch: delete}]",
        "volumeMounts: [{mountPath: /a, $patch: delete}]",
        "initContainers: [{name: i, $patch: delete}]",
        "sidecars: [{name: i, $patch: delete}]",
        "tolerations: [{$patch: replace}]",
        "resources: {$patch: replace}",
        "resources: {limits: {$patch: replace}}",
        "nodeSelector: {$patch: replace}",
        "labels: {$patch: replace}",
    ] {
        let built = sound(&overrides(text));
        assert!(fragments(&built, "q")[0].to_string().contains("\"$patch\":"), "{text}");
    }
    let at = "queues.q.templateOverrides";
    let mount = "volumes: [{name: v, $patch: delete}]\n      volumeMounts: [{name: v, mountPath: /v}]";
    check(&[
        (
            &overrides("env: [{$patch: delete}, {name: A, $patch: replace}, {name: B, $patch: remove}]"),
            &[
                &format!("c.yaml:6:13: {at}.env[0]: key `name` is missing"),
                &format!(
                    "c.yaml:6:49: {at}.env[1].$patch: `$patch: replace` stands in an element of its own: it is about the whole list"
                ),
                &format!("c.yaml:6:77: {at}.env[2].$patch: must be delete or replace"),
            ],
        ),
        (
            &overrides("tolerations: [{key: a, $patch: delete}]"),
            &[&format!(
                "c.yaml:6:38: {at}.tolerations[0].$patch: the elements of this list have no name to take one away by: only `$patch: replace` does something"
            )],
        ),
        (
            &overrides(mount),
            &[&format!(
                "c.yaml:7:29: {at}.volumeMounts[0].name: volume `v` is defined neither here nor in what this lies over"
            )],
        ),
        (
            &overrides("$patch: replace"),
            &[&format!(
                "c.yaml:6:7: {at}.$patch: `$patch` takes something of a pod away, and here is nothing of a pod"
            )],
        ),
        (
            "queues: {q: {podTemplate: {spec: {containers: [{name: primary, $patch: delete}, {$patch: replace}]}}}}",
            &[
                "c.yaml:3:72: queues.q.podTemplate.spec.containers[0].$patch: the task's own container cannot be taken away",
                "c.yaml:3:90: queues.q.podTemplate.spec.containers[1].$patch: the task's own container cannot be taken away",
            ],
        ),
        (
            "queues: {q: {conflict: Deny, templateOverrides: {env: [{name: A, $patch: delete}]}}}",
            &[
                "c.yaml:3:66: queues.q.templateOverrides.env[0].$patch: takes something away, which conflict: Deny does not",
            ],
        ),
        (
            "queues: {q: {claims: [{volume: v, type: Ephemeral, spec: {$patch: replace, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]}}",
            &[
                "c.yaml:3:59: queues.q.claims[0].spec.$patch: `$patch` takes something of a pod away, and here is nothing of a pod",
            ],
        ),
    ]);
}

#[test]
fn what_the_api_server_would_refuse_is_refused_at_load() {
    let mounts = |more: &str| {
        format!("volumes: [{{name: v, emptyDir: {{}}}}]\n      volumeMounts: [{{name: v, mountPath: /v, {more}}}]")
    };
    let env = |from: &str| format!("    templateOverrides: {{env: [{{name: A, valueFrom: {from}}}]}}\n");
    let named = |from: &str| format!("queues:\n  q:\n    match: {{namespaces: [ns]}}\n{}", env(from));
    let at = "queues.q.templateOverrides";
    let name = "must be ASCII without spaces and =";
    let path = "must be a relative path without ..";
    check(&[
        (
            &overrides("env: [{name: A B, value: a}, {name: Ä, value: a}, {name: A.b-1, value: a}]"),
            &[&format!("c.yaml:6:20: {at}.env[0].name: {name}"), &format!("c.yaml:6:43: {at}.env[1].name: {name}")],
        ),
        (
            &overrides("resources: {limits: {cpu: -1, memory: -1Gi}, requests: {cpu: 0}}"),
            &[
                &format!("c.yaml:6:33: {at}.resources.limits.cpu: must not be negative"),
                &format!("c.yaml:6:45: {at}.resources.limits.memory: must not be negative"),
            ],
        ),
        (
            &overrides(
                "volumes: [{name: v, configMap: {name: c, defaultMode: 99999999999, items: [{key: k, path: p, mode: 512}]}}]",
            ),
            &[
                &format!(
                    "c.yaml:6:61: {at}.volumes[0].configMap.defaultMode: is not a file mode (0 to 0777, in decimal 511)"
                ),
                &format!(
                    "c.yaml:6:106: {at}.volumes[0].configMap.items[0].mode: is not a file mode (0 to 0777, in decimal 511)"
                ),
            ],
        ),
        (&overrides("volumes: [{name: v, configMap: {name: c, defaultMode: 420}}]"), &[]),
        (&overrides(&mounts("subPath: a/../b")), &[&format!("c.yaml:7:56: {at}.volumeMounts[0].subPath: {path}")]),
        (&overrides(&mounts("subPathExpr: /a")), &[&format!("c.yaml:7:60: {at}.volumeMounts[0].subPathExpr: {path}")]),
        (&overrides(&mounts("subPath: a..b/c")), &[]),
        (
            &named("{secretKeyRef: {key: k}}"),
            &[&format!("c.yaml:6:67: {at}.env[0].valueFrom.secretKeyRef: key `name` is missing")],
        ),
        (
            &named("{configMapKeyRef: {name: '', key: ''}}"),
            &[
                &format!("c.yaml:6:77: {at}.env[0].valueFrom.configMapKeyRef.name: must not be empty"),
                &format!("c.yaml:6:86: {at}.env[0].valueFrom.configMapKeyRef.key: must not be empty"),
            ],
        ),
    ]);
}

#[test]
fn one_thing_stands_in_one_file() {
    let files = [
        ("a.yaml", "queues: {q: {}}\nunknownQueue: Base\nsystems: {s: {type: Generic}}\n"),
        (
            "b.yaml",
            "queues: {q: {}}\nunknownQueue: Deny\nsystems: {s: {type: Generic}}\nbasePodTemplate: {merge: Replace}\n",
        ),
    ];
    let built = Builder::default().build(&input(&files), &compile);
    assert_eq!(
        texts(&built),
        [
            "b.yaml:3:10: queues.q: is also defined in a.yaml:3",
            "b.yaml:4:15: unknownQueue: is also defined in a.yaml:4",
            "b.yaml:5:11: systems.s: is also defined in a.yaml:5",
            "b.yaml:6:26: basePodTemplate.merge: Replace is about a queue and the base; here it has nothing to replace",
        ]
    );
    assert!(queue(&built, "q").good.is_none());
}

#[test]
fn files_that_are_not_ours_are_left_alone_and_ours_are_not() {
    let files = [
        ("broken.yaml", "queues: [\n"),
        ("twice.yaml", "queues: {}\nqueues: {}\n"),
        ("two.yaml", "queues: {}\n---\nqueues: {}\n"),
    ];
    let mut all = input(&files);
    let texts_of = [
        ("old.yaml", "apiVersion: podgraft.io/v1\nkind: GraftConfig\n"),
        ("other.yaml", "a: ["),
        ("list.yaml", "- 1"),
        ("kustomization.yaml", "resources: []"),
    ];
    all.files.extend(texts_of.map(|(name, text)| File { name: name.into(), text: text.into() }));
    let built = Builder::default().build(&all, &compile);
    assert_eq!(
        texts(&built),
        [
            "broken.yaml:3:9: a bracket ([ or {) is opened and not closed before this",
            "old.yaml:1:13: apiVersion: must be podgraft.io/v1alpha1",
            "twice.yaml:4:1: `queues` stands twice, the first time in line 3: only one of them can count",
            "two.yaml:5:1: a second YAML document: one file holds one GraftConfig",
        ]
    );
    assert!(!built.readable);
}

#[test]
fn secrets_do_not_show_in_errors() {
    let built = build(
        "taskConfig: hunter2\nprovidersInfo: [{info: hunter2}, hunter2]\nbasePodTemplate: {env: [{name: A, value: [hunter2]}, hunter2]}\n\
         modules: {m: {wasm: ok.wasm, params: hunter2}}\nqueues: {q: {templateOverrides: {env: hunter2, annotations: [hunter2]}}}\n",
    );
    assert!(built.problems.len() >= 7, "{:?}", texts(&built));
    assert!(texts(&built).iter().all(|text| !text.contains("hunter2")), "{:?}", texts(&built));
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
