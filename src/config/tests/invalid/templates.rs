//! Errors of templates.

use super::*;

#[test]
fn env_and_labels_are_strings() {
    let wrong = "must be a string, but YAML reads a boolean here: put it in quotes";
    check(&[
        (
            &overrides("env: [{name: A, value: yes}, {name: A, value: '1'}, {value: x}, {name: B=C}]"),
            &[
                &format!("c.yaml:6:30: queues.q.templateOverrides.env[0].value: {wrong}"),
                "c.yaml:6:43: queues.q.templateOverrides.env[1].name: duplicate name `A` in this list",
                "c.yaml:6:59: queues.q.templateOverrides.env[2]: key `name` is missing",
                "c.yaml:6:78: queues.q.templateOverrides.env[3].name: must be ASCII without spaces and =",
            ],
        ),
        (
            &overrides("env: [{name: '', value: s}, {name: A, value: s, valueFrom: {}}]"),
            &[
                "c.yaml:6:20: queues.q.templateOverrides.env[0].name: must not be empty",
                "c.yaml:6:66: queues.q.templateOverrides.env[1].valueFrom: must have one source, like secretKeyRef or fieldRef",
                "c.yaml:6:66: queues.q.templateOverrides.env[1].valueFrom: is set together with value: an env variable has one of them",
            ],
        ),
        (
            &overrides("labels: {a.b/c: true, a b: c, d: e f}"),
            &[
                &format!("c.yaml:6:23: queues.q.templateOverrides.labels['a.b/c']: {wrong}"),
                "c.yaml:6:29: queues.q.templateOverrides.labels.a b: is not a valid key (`name` or `prefix/name`)",
                "c.yaml:6:40: queues.q.templateOverrides.labels.d: is not a valid label value (at most 63 letters, digits, -, _ and .)",
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
                "c.yaml:6:80: queues.q.templateOverrides.volumes[2].name: duplicate name `a` in this list",
                "c.yaml:6:115: queues.q.templateOverrides.volumes[2].emptyDir: a volume has one source, this one has configMap and emptyDir",
            ],
        ),
        (
            &overrides("volumes: [{name: a}, {name: b, persistentVolumeClaim: {claimName: PVC_NAME}}]"),
            &[
                "c.yaml:6:17: queues.q.templateOverrides.volumes[0]: has no source, like emptyDir: {} or persistentVolumeClaim: {claimName: …}",
                "c.yaml:6:73: queues.q.templateOverrides.volumes[1].persistentVolumeClaim.claimName: is not a valid object name (lower-case letters, digits, - and .)",
            ],
        ),
        (
            &overrides(
                "volumeMounts: [{name: dta, mountPath: /a}, {name: data, mountPath: /a}]\n    claims: [{volume: data, type: Existing, name: x}]",
            ),
            &[
                "c.yaml:6:29: queues.q.templateOverrides.volumeMounts[0].name: volume `dta` is not defined here or in a lower layer; did you mean data?",
                "c.yaml:6:74: queues.q.templateOverrides.volumeMounts[1].mountPath: duplicate mountPath `/a` in this list",
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
                "c.yaml:3:41: basePodTemplate.volumeMounts[0].name: volume `v` is not defined here or in a lower layer",
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
fn layers_may_not_change_the_primary_containers_image_and_command() {
    check(&[
        (
            "queues: {q: {podTemplate: {primaryContainerName: '', spec: {containers: [{name: a}]}}}}",
            &["c.yaml:3:50: queues.q.podTemplate.primaryContainerName: must not be empty"],
        ),
        (
            "queues: {q: {podTemplate: {primaryContainerName: main, spec: {containers: [{name: mian}]}}}}",
            &["c.yaml:3:50: queues.q.podTemplate.primaryContainerName: no entry of spec.containers is named `main`"],
        ),
        (
            "queues: {q: {podTemplate: {spec: {containers: [{name: primary, image: a, args: []}, {name: b, image: c, args: []}]}}}}",
            &[
                "c.yaml:3:71: queues.q.podTemplate.spec.containers[0].image: the task sets the image, command and args of the primary container",
                "c.yaml:3:80: queues.q.podTemplate.spec.containers[0].args: the task sets the image, command and args of the primary container",
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
fn no_layer_may_set_a_key_that_selects_layers() {
    let at = |path: &str| format!("queues.q.templateOverrides.{path}");
    let moves = "podgraft selects layers by this key, so no layer may set it";
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
            &[
                "c.yaml:4:28: basePodTemplate.labels.tier: environments.e matches pods by this label, so no layer may set it: \
                 the pod would get other layers when it is admitted again",
            ],
        ),
        (
            "queues:\n  a: {match: {podLabels: {l: v}}}\n  q: {podTemplate: {metadata: {labels: {l: v}}}}\n",
            &[
                "c.yaml:5:41: queues.q.podTemplate.metadata.labels.l: queues.a matches pods by this label, so no layer may set it: \
                 the pod would get other layers when it is admitted again",
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
fn directives_are_allowed_where_they_can_remove_something() {
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
        let built = valid(&overrides(text));
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
                    "c.yaml:6:49: {at}.env[1].$patch: `$patch: replace` must be an element of its own: it replaces the whole list"
                ),
                &format!("c.yaml:6:77: {at}.env[2].$patch: must be delete or replace"),
            ],
        ),
        (
            &overrides("tolerations: [{key: a, $patch: delete}]"),
            &[&format!(
                "c.yaml:6:38: {at}.tolerations[0].$patch: the elements of this list have no key to delete one by: only `$patch: replace` is allowed"
            )],
        ),
        (
            &overrides(mount),
            &[&format!("c.yaml:7:29: {at}.volumeMounts[0].name: volume `v` is not defined here or in a lower layer")],
        ),
        (
            &overrides("$patch: replace"),
            &[&format!("c.yaml:6:7: {at}.$patch: `$patch` is allowed in pod templates only")],
        ),
        (
            "queues: {q: {podTemplate: {spec: {containers: [{name: primary, $patch: delete}, {$patch: replace}]}}}}",
            &[
                "c.yaml:3:72: queues.q.podTemplate.spec.containers[0].$patch: the primary container cannot be removed",
                "c.yaml:3:90: queues.q.podTemplate.spec.containers[1].$patch: the primary container cannot be removed",
            ],
        ),
        (
            "queues: {q: {conflict: Deny, templateOverrides: {env: [{name: A, $patch: delete}]}}}",
            &[
                "c.yaml:3:66: queues.q.templateOverrides.env[0].$patch: removes something, which `conflict: Deny` does not allow",
            ],
        ),
        (
            "queues: {q: {claims: [{volume: v, type: Ephemeral, spec: {$patch: replace, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]}}",
            &["c.yaml:3:59: queues.q.claims[0].spec.$patch: `$patch` is allowed in pod templates only"],
        ),
    ]);
}

#[test]
fn values_that_the_api_server_denies_are_errors_at_load() {
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
