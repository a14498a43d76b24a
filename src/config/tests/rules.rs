//! Values that the API server would deny or warn about, and the full texts of their errors.

use super::*;

const AT: &str = "queues.q.templateOverrides";

/// Column, path, message.
type Expected<'a> = (u32, &'a str, &'a str);

/// Checks the errors of `templateOverrides: {<text>}`, whose keys begin at line 7, column 7.
fn flat(table: &[(&str, &[Expected<'_>])]) {
    for (text, expected) in table {
        let file = format!("queues:\n  q:\n    match: {{namespaces: [ml]}}\n    templateOverrides:\n      {text}\n");
        let expected: Vec<_> =
            expected.iter().map(|(column, path, text)| format!("c.yaml:7:{column}: {AT}.{path}: {text}")).collect();
        assert_eq!(error_texts(&build(&file)), expected, "{text}");
    }
}

const KEY: &str = "is not a valid key (`name` or `prefix/name`)";
const NAME: &str = "is not a valid object name (lower-case letters, digits, - and .)";
const CAUSES_WARNING: &str = "the API server warns about it, and the ClearML agent fails a task at any warning";

#[test]
fn invalid_names_of_objects_ports_and_keys_are_errors() {
    flat(&[
        ("priorityClassName: High Priority", &[(26, "priorityClassName", NAME)]),
        ("serviceAccountName: My_Account", &[(27, "serviceAccountName", NAME)]),
        ("runtimeClassName: Nvidia", &[(25, "runtimeClassName", NAME)]),
        ("imagePullSecrets: [{name: ''}]", &[(33, "imagePullSecrets[0].name", "must not be empty")]),
        ("imagePullSecrets: [registry]", &[(26, "imagePullSecrets[0]", "must be a mapping, not a string")]),
        (
            "imagePullSecrets: [{name: a}, {name: a}]",
            &[(44, "imagePullSecrets[1].name", "duplicate name `a` in this list")],
        ),
        ("envFrom: [{configMapRef: {name: A B}}]", &[(39, "envFrom[0].configMapRef.name", NAME)]),
        ("envFrom: [{}]", &[(17, "envFrom[0]", "must have one source: configMapRef or secretRef")]),
        ("tolerations: [{key: a b, operator: Exists}]", &[(27, "tolerations[0].key", KEY)]),
        ("tolerations: [{operator: Equal}]", &[(21, "tolerations[0]", "without a key, operator must be Exists")]),
        (
            "tolerations: [{key: a, operator: Exists, effect: NoSchedule, tolerationSeconds: 3}]",
            &[(87, "tolerations[0].tolerationSeconds", "is allowed with effect NoExecute only")],
        ),
        (
            "nodeSelector: {a: b c}",
            &[(25, "nodeSelector.a", "is not a valid label value (at most 63 letters, digits, -, _ and .)")],
        ),
        (
            "hostAliases: [{ip: 10.0.0, hostnames: [A_b]}, {ip: '::1'}, {ip: '::1'}]",
            &[
                (26, "hostAliases[0].ip", "is not an IP address"),
                (46, "hostAliases[0].hostnames[0]", NAME),
                (71, "hostAliases[2].ip", "duplicate ip `::1` in this list"),
            ],
        ),
    ]);
}

#[test]
fn numbers_have_their_range() {
    let port = "must be a whole number from 1 to 65535";
    let sidecar = |more: &str| format!("sidecars: [{{name: s, image: i, {more}}}]");
    flat(&[
        (&sidecar("ports: [{containerPort: 0}]"), &[(62, "sidecars[0].ports[0].containerPort", port)]),
        (&sidecar("ports: [{containerPort: 80, hostPort: 70000}]"), &[(76, "sidecars[0].ports[0].hostPort", port)]),
        (
            &sidecar("ports: [{containerPort: 80, name: HTTP}]"),
            &[(
                72,
                "sidecars[0].ports[0].name",
                "is not a valid port name (at most 15 lower-case letters, digits and -, at least one letter)",
            )],
        ),
        (
            &sidecar("ports: [{containerPort: 80}, {containerPort: 80, protocol: TCP}]"),
            &[(67, "sidecars[0].ports[1]", "duplicate containerPort `80` with protocol `TCP` in this list")],
        ),
        (&sidecar("ports: [{containerPort: 80}, {containerPort: 80, protocol: UDP}]"), &[]),
        (&sidecar("livenessProbe: {httpGet: {port: 70000}}"), &[(70, "sidecars[0].livenessProbe.httpGet.port", port)]),
        (
            &sidecar("livenessProbe: {exec: {}, tcpSocket: {port: http}}"),
            &[(
                53,
                "sidecars[0].livenessProbe",
                "has two handlers: only one of exec, grpc, httpGet, sleep, tcpSocket is allowed",
            )],
        ),
        (
            "podSecurityContext: {runAsUser: -1, fsGroup: 5000000000}",
            &[
                (39, "podSecurityContext.runAsUser", "must be a whole number from 0 to 2147483647"),
                (52, "podSecurityContext.fsGroup", "must be a whole number from 0 to 2147483647"),
            ],
        ),
        (
            "topologySpreadConstraints: [{maxSkew: 0, topologyKey: k, whenUnsatisfiable: Never, labelSelector: {}}]",
            &[
                (45, "topologySpreadConstraints[0].maxSkew", "must be a whole number from 1 to 2147483647"),
                (83, "topologySpreadConstraints[0].whenUnsatisfiable", "must be DoNotSchedule or ScheduleAnyway"),
            ],
        ),
        (
            "affinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 0, podAffinityTerm: {topologyKey: k, labelSelector: {}}}]}}",
            &[(
                91,
                "affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight",
                "must be a whole number from 1 to 100",
            )],
        ),
        (
            "volumes: [{name: v, emptyDir: {mode: 99999999999}}]",
            &[(44, "volumes[0].emptyDir.mode", "must be a whole number of 32 bits (-2147483648 to 2147483647)")],
        ),
    ]);
}

#[test]
fn resource_names_and_amounts_are_checked() {
    let no =
        "is not a resource: cpu, memory, ephemeral-storage, hugepages-<size>, or with a domain, like nvidia.com/gpu";
    let hint = format!("{no}; did you mean memory?");
    let fraction = format!("is a fraction of a byte (m is a thousandth, M a million): {CAUSES_WARNING}");
    flat(&[
        (
            "resources: {limits: {gpu: 1, memroy: 1Gi, cpu: 2}}",
            &[(33, "resources.limits.gpu", no), (44, "resources.limits.memroy", &hint)],
        ),
        (
            "resources: {limits: {nvidia.com/gpu: 0.5, memory: 500m}}",
            &[
                (44, "resources.limits['nvidia.com/gpu']", "must be a whole number: a device cannot be divided"),
                (57, "resources.limits.memory", &fraction),
            ],
        ),
        (
            "resources: {limits: {cpu: 1, nvidia.com/gpu: 2, memory: 1Gi}, requests: {cpu: 1500m, nvidia.com/gpu: 1, memory: 1024Mi}}",
            &[
                (85, "resources.requests.cpu", "is more than the limit"),
                (
                    108,
                    "resources.requests['nvidia.com/gpu']",
                    "must be equal to the limit: nvidia.com/gpu cannot be overcommitted",
                ),
            ],
        ),
    ]);
}

#[test]
fn values_with_an_api_server_warning_are_errors() {
    let old = |said: &str, new: &str| format!("is {said}; use {new} instead: {CAUSES_WARNING}");
    let zone = old("deprecated since v1.17", "\"topology.kubernetes.io/zone\"");
    let arch = old("deprecated since v1.14", "\"kubernetes.io/arch\"");
    let seccomp = old("non-functional in v1.27+", "the \"seccompProfile\" field");
    let apparmor = old("deprecated since v1.30", "the \"appArmorProfile\" field");
    let master = format!("is deprecated; use \"node-role.kubernetes.io/control-plane\" instead: {CAUSES_WARNING}");
    let about = format!("matches no pod without a labelSelector: {CAUSES_WARNING}");
    let git = format!("is deprecated in v1.11, and disabled by default in v1.33+: {CAUSES_WARNING}");
    flat(&[
        ("nodeSelector: {beta.kubernetes.io/arch: amd64}", &[(22, "nodeSelector['beta.kubernetes.io/arch']", &arch)]),
        (
            "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: failure-domain.beta.kubernetes.io/zone, operator: Exists}]}]}}}",
            &[(
                128,
                "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key",
                &zone,
            )],
        ),
        (
            "annotations: {seccomp.security.alpha.kubernetes.io/pod: runtime/default}",
            &[(21, "annotations['seccomp.security.alpha.kubernetes.io/pod']", &seccomp)],
        ),
        (
            "annotations: {container.apparmor.security.beta.kubernetes.io/main: unconfined}",
            &[(21, "annotations['container.apparmor.security.beta.kubernetes.io/main']", &apparmor)],
        ),
        (
            "nodeSelector: {node-role.kubernetes.io/master: ''}",
            &[(22, "nodeSelector['node-role.kubernetes.io/master']", &master)],
        ),
        (
            "topologySpreadConstraints: [{maxSkew: 1, topologyKey: k, whenUnsatisfiable: DoNotSchedule}]",
            &[(35, "topologySpreadConstraints[0]", &about)],
        ),
        ("volumes: [{name: v, gitRepo: {repository: r}}]", &[(36, "volumes[0].gitRepo", &git)]),
    ]);
}

#[test]
fn selectors_have_the_values_that_their_operators_need() {
    let term = |text: &str| {
        format!(
            "affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{{matchExpressions: [{text}]}}]}}}}}}"
        )
    };
    let at =
        "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0]";
    flat(&[
        (&term("{key: k, operator: In}"), &[(122, at, "key `values` is missing: In and NotIn need at least one")]),
        (
            &term("{key: k, operator: Exists, values: [a]}"),
            &[(157, &format!("{at}.values"), "operator Exists takes no values")],
        ),
        (
            &term("{key: k, operator: Gt, values: ['1', '2']}"),
            &[(122, at, "Gt and Lt need one value, a whole number in quotes")],
        ),
        (
            &term("{key: k, operator: Equals, values: [a]}"),
            &[(141, &format!("{at}.operator"), "must be In or NotIn or Exists or DoesNotExist or Gt or Lt")],
        ),
    ]);
}

#[test]
fn volumes_mounts_and_containers_of_several_keys_have_unique_names() {
    let file = "queues:\n  q:\n    templateOverrides:\n      volumes: [{name: a, emptyDir: {}}]\n      extraVolumes: [{name: a, emptyDir: {}}]\n      \
                volumeMounts: [{name: a, mountPath: /a}]\n      extraVolumeMounts: [{name: a, mountPath: /a}, {name: b, mountPath: /f/x}]\n      \
                initContainers: [{name: i, image: i, livenessProbe: {periodSeconds: 1}}]\n      sidecars: [{name: i}, {name: s, image: s, restartPolicy: Never}]\n      \
                fileMounts: [{name: x, folderPath: /f, fileContent: ''}]\n";
    assert_eq!(
        error_texts(&build(file)),
        [
            "c.yaml:7:29: queues.q.templateOverrides.extraVolumes[0].name: duplicate name `a`: also in volumes",
            "c.yaml:9:48: queues.q.templateOverrides.extraVolumeMounts[0].mountPath: duplicate mountPath `/a`: also in volumeMounts",
            "c.yaml:9:60: queues.q.templateOverrides.extraVolumeMounts[1].name: volume `b` is not defined here or in a lower layer",
            "c.yaml:10:59: queues.q.templateOverrides.initContainers[0].livenessProbe: an init container may have it only as a sidecar (restartPolicy: Always)",
            "c.yaml:11:18: queues.q.templateOverrides.sidecars[0]: key `image` is missing",
            "c.yaml:11:25: queues.q.templateOverrides.sidecars[0].name: duplicate name `i`: also in initContainers",
            "c.yaml:11:64: queues.q.templateOverrides.sidecars[1].restartPolicy: the restartPolicy of a sidecar must be Always",
            "c.yaml:12:20: queues.q.templateOverrides.fileMounts[0]: `/f/x` is mounted twice",
        ]
    );
}

#[test]
fn no_layer_may_set_reserved_fields() {
    let text = "queues:\n  q:\n    podTemplate:\n      metadata: {name: a, label: {a: b}}\n      spec: {nodeName: a, priority: 1, serviceAccount: a, hostIpc: true}\n";
    let at = "queues.q.podTemplate";
    assert_eq!(
        error_texts(&build(text)),
        [
            format!("c.yaml:6:18: {at}.metadata.name: a layer may set labels and annotations only"),
            format!("c.yaml:6:27: {at}.metadata.label: unknown key; did you mean labels?"),
            format!(
                "c.yaml:7:24: {at}.spec.nodeName: no layer may set it: the scheduler sets it; use nodeSelector or affinity"
            ),
            format!("c.yaml:7:37: {at}.spec.priority: no layer may set it: it follows from priorityClassName"),
            format!(
                "c.yaml:7:56: {at}.spec.serviceAccount: no layer may set it: it is the deprecated name of serviceAccountName"
            ),
            format!("c.yaml:7:59: {at}.spec.hostIpc: unknown key; did you mean hostIPC?"),
        ]
    );
}

#[test]
fn claims_are_checked_against_their_volumes() {
    let claim = |more: &str| {
        format!(
            "queues:\n  q:\n    claims: [{{volume: v, type: Ephemeral, {more}}}]\n    templateOverrides: {{volumes: [{{name: v, emptyDir: {{}}}}]}}\n"
        )
    };
    let spec = "spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}";
    let source = "c.yaml:6:55: queues.q.templateOverrides.volumes[0].emptyDir: `claims` sets the source of this volume: remove emptyDir";
    assert_eq!(error_texts(&build(&claim(spec))), [source]);
    let odd = "spec: {accessModes: [ReadWriteOncePod, ReadOnlyMany], storageClassName: A B, resources: {requests: {storage: 0}}}, name: a";
    assert_eq!(
        error_texts(&build(&claim(odd))),
        [
            "c.yaml:5:64: queues.q.claims[0].spec.accessModes[0]: ReadWriteOncePod is not allowed with other access modes",
            "c.yaml:5:115: queues.q.claims[0].spec.storageClassName: is not a valid object name (lower-case letters, digits, - and .)",
            "c.yaml:5:152: queues.q.claims[0].spec.resources.requests.storage: must be more than 0",
            "c.yaml:5:158: queues.q.claims[0].name: is not allowed with the other keys here",
            source,
        ]
    );
    let none = "queues: {q: {claims: [{volume: v, type: Ephemeral, spec: {storageClassName: '', accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]}}";
    valid(none);
    let twice = "queues: {q: {claims: [{volume: v, type: Existing, name: a}, {volume: v, type: Existing, name: B_}]}}";
    assert_eq!(
        error_texts(&build(twice)),
        [
            "c.yaml:3:61: queues.q.claims[1]: volume `v` has two claims",
            "c.yaml:3:95: queues.q.claims[1].name: is not a valid object name (lower-case letters, digits, - and .)",
        ]
    );
}

#[test]
fn files_have_one_source_and_a_size_limit() {
    let at = "queues.q.templateOverrides.fileMounts";
    let file = |text: &str| format!("queues:\n  q:\n    templateOverrides:\n      fileMounts: [{text}]\n");
    let large = "x".repeat(65_537);
    for (text, expected) in [
        (
            "{name: a/b, folderPath: etc, fileContent: x, configMapRef: {name: c}}".to_owned(),
            vec![
                format!("c.yaml:6:20: {at}[0]: must have one source: fileContent, configMapRef or secretRef"),
                format!("c.yaml:6:27: {at}[0].name: is not a file name (no / and :): the folder is set by folderPath"),
                format!("c.yaml:6:44: {at}[0].folderPath: must be a path from the root (/) without .. and :"),
            ],
        ),
        (
            "{name: a, folderPath: /e}, {name: b, folderPath: /e, fileContnt: x}".to_owned(),
            vec![
                format!("c.yaml:6:20: {at}[0]: must have one source: fileContent, configMapRef or secretRef"),
                format!("c.yaml:6:47: {at}[1]: must have one source: fileContent, configMapRef or secretRef"),
                format!("c.yaml:6:73: {at}[1].fileContnt: unknown key; did you mean fileContent?"),
            ],
        ),
        (
            format!("{{name: a, folderPath: /e, fileContent: {large}}}"),
            vec![format!(
                "c.yaml:6:59: {at}[0].fileContent: has 65537 bytes, more than 65536: put it into a ConfigMap and use configMapRef"
            )],
        ),
        (
            "{name: a, folderPath: /e, fileContent: x}, {name: a, folderPath: /e/, fileContent: z}".to_owned(),
            vec![format!("c.yaml:6:63: {at}[1]: `/e/a` is mounted twice")],
        ),
        (
            "{name: '${tsk.id}', folderPath: 'e/${pod.nam}', fileContent: '$${x} ${task.nam} ${HOME}'}".to_owned(),
            vec![
                format!(
                    "c.yaml:6:27: {at}[0].name: the placeholder ${{tsk.id}} has an unknown root: tsk; did you mean task?"
                ),
                format!(
                    "c.yaml:6:52: {at}[0].folderPath: the placeholder ${{pod.nam}} has an unknown field: nam; did you mean name?"
                ),
                format!(
                    "c.yaml:6:81: {at}[0].fileContent: the placeholder ${{task.nam}} exists in ClearML's API only, which podgraft does not query; for a literal `${{` write `$${{`"
                ),
            ],
        ),
        ("{name: '${task.id}', folderPath: '/${queue.name}', fileContent: '$${x} ${task.id}'}".to_owned(), vec![]),
    ] {
        assert_eq!(error_texts(&build(&file(&text))), expected, "{}", &text[..text.len().min(100)]);
    }
    let secret = "{name: a, folderPath: /e, secretRef: {name: s}}";
    assert_eq!(
        error_texts(&build(&file(secret))),
        ["c.yaml:5:5: queues.q: gives pods a secret, and any pod can name this queue: set match.namespaces"]
    );
}

#[test]
fn annotations_of_a_pod_have_a_size_limit() {
    let text = "x".repeat(60_000);
    let files = |names: &[&str]| -> String {
        let all = names.iter().map(|name| format!("{{name: {name}, folderPath: /e, fileContent: {text}}}, "));
        all.collect::<Vec<_>>().concat()
    };
    let one = format!("queues:\n  q: {{templateOverrides: {{fileMounts: [{}]}}}}\n", files(&["a", "b", "c", "d", "e"]));
    let built = build(&one);
    assert_eq!(built.errors.len(), 1);
    assert!(built.errors[0].message.starts_with("sets 300"), "{}", built.errors[0].message);
    let both = format!(
        "basePodTemplate: {{fileMounts: [{}]}}\nqueues:\n  q: {{merge: Strategic, templateOverrides: {{fileMounts: [{}]}}}}\n  ok: {{templateOverrides: {{fileMounts: [{}]}}}}\n",
        files(&["a", "b", "c"]),
        files(&["d", "e"]),
        files(&["d", "e"]),
    );
    let built = build(&both);
    assert_eq!(built.errors.len(), 1, "{:?}", error_texts(&built));
    let message = &built.errors[0].message;
    assert!(message.starts_with("together with basePodTemplate sets 300"), "{message}");
}

#[test]
fn a_file_has_one_volume_name_in_all_layers() {
    let built = valid(
        "basePodTemplate: {fileMounts: [{name: custom_code.py, folderPath: /root/, fileContent: base}]}\n\
         queues:\n  q: {merge: Strategic, templateOverrides: {fileMounts: [{name: custom_code.py, folderPath: /root, fileContent: queue}]}}\n",
    );
    let queue = queue(&built, "q").last_valid.as_ref().unwrap();
    let (base, own) = (&queue.base.as_ref().unwrap().fragment, &queue.spec.layers[0].fragment);
    assert_eq!(base["spec"], own["spec"]);
    let annotations = own["metadata"]["annotations"].as_object().unwrap();
    let (key, value) = annotations.iter().next().unwrap();
    assert!(key.starts_with("file.podgraft.io/custom_code.py-") && value == "queue", "{key}");
    let volume = &own["spec"]["volumes"][0];
    let field = &volume["downwardAPI"]["items"][0]["fieldRef"]["fieldPath"];
    assert_eq!(field, &format!("metadata.annotations['{key}']"));
    assert_eq!(
        own["spec"]["containers"][0]["volumeMounts"],
        serde_json::json!([{"name": volume["name"], "mountPath": "/root/custom_code.py", "subPath": "file", "readOnly": true}])
    );
}

#[test]
fn privileged_keys_need_match_namespaces_in_environments_too() {
    let unit = |kind: &str, template: &str, matches: &str| {
        format!("{kind}:\n  q: {{{matches}podTemplate: {{spec: {{{template}}}}}}}\n")
    };
    for (field, template) in [
        ("serviceAccountName", "serviceAccountName: a"),
        ("priorityClassName", "priorityClassName: a"),
        ("runtimeClassName", "runtimeClassName: a"),
        ("hostPath", "volumes: [{name: v, hostPath: {path: /d}}]"),
        ("secret", "volumes: [{name: v, projected: {sources: [{secret: {name: s}}]}}]"),
        ("secretRef", "containers: [{name: primary, envFrom: [{secretRef: {name: s}}]}]"),
    ] {
        for (kind, noun) in [("queues", "queue"), ("environments", "environment")] {
            let expected = format!(
                "c.yaml:4:6: {kind}.q: gives pods a {field}, and any pod can name this {noun}: set match.namespaces"
            );
            assert_eq!(error_texts(&build(&unit(kind, template, ""))), [expected]);
            valid(&unit(kind, template, "match: {namespaces: [ml]}, "));
        }
    }
    valid(&unit("queues", "imagePullSecrets: [{name: s}]", ""));
    // empty values set nothing
    valid(&unit("queues", "serviceAccountName: '', priorityClassName: ''", ""));
}
