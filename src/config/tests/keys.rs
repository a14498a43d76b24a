//! Every key of both forms, and its field in the fragment.

use std::collections::BTreeSet;

use serde_json::json;

use super::super::decode::ast::{Node, Tree};
use super::super::decode::yaml;
use super::super::keys::{FILE, FLAT, KeyStatus, Keys, Kind};
use super::*;

/// A queue with every key of the flat form.
const ALL: &str = include_str!("all-keys.yaml");

fn spec(built: &Built, label: &str) -> Value {
    fragments(built, label)[0]["spec"].clone()
}

#[test]
fn every_key_of_the_tables_is_in_a_sample() {
    fn visit(node: &Node, keys: &'static Keys, missing: &mut BTreeSet<String>, seen: &mut BTreeSet<String>) {
        for key in keys.all().filter(|key| matches!(key.status, KeyStatus::Optional | KeyStatus::Required)) {
            // a key of a shared group needs to be there once
            let path = format!("{} ({})", key.name, key.description);
            let Some(below) = node.get(key.name) else {
                missing.insert(path);
                continue;
            };
            seen.insert(path);
            match (key.kind, &below.tree) {
                (Kind::One(keys), _) => visit(below, keys, missing, seen),
                (Kind::Named(keys), Tree::Map(entries)) => {
                    for (_, entry) in entries {
                        visit(entry, keys, missing, seen);
                    }
                }
                (Kind::List(keys), Tree::List(items)) => {
                    for item in items {
                        visit(item, keys, missing, seen);
                    }
                }
                _ => {}
            }
        }
    }
    let (mut missing, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for text in [include_str!("sample.yaml"), ALL] {
        visit(&yaml::parse(text).ok().unwrap(), &FILE, &mut missing, &mut seen);
    }
    let absent: Vec<_> = missing.difference(&seen).collect();
    assert!(absent.is_empty(), "{absent:?}");
}

#[test]
fn every_flat_key_sets_its_field() {
    let files = vec![File { name: "all.yaml".into(), text: ALL.into() }];
    let built = Builder::default().build(&Input { files, ..Input::default() }, &compile);
    assert_eq!(error_texts(&built), Vec::<String>::new());
    let fragment = &fragments(&built, "all")[0];
    let primary = &fragment["spec"]["containers"][0];
    assert_eq!(primary["name"], "primary");
    let keys = FLAT.iter().filter_map(|key| match key.kind {
        Kind::Pod(path) => Some((key.name, path)),
        _ => None,
    });
    for (name, path) in keys {
        let field = match path {
            ["metadata", field] => &fragment["metadata"][*field],
            ["spec", field] => &fragment["spec"][*field],
            [.., field] => &primary[*field],
            [] => unreachable!(),
        };
        assert!(!field.is_null(), "{name}: {path:?}");
    }
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    let volumes = names(&fragment["spec"]["volumes"]);
    assert_eq!(volumes[..2], ["scratch", "more"]);
    assert_eq!(volumes.len(), 5, "each file is a volume of its own: {volumes:?}");
    assert_eq!(names(&fragment["spec"]["initContainers"]), ["fetch", "metrics"]);
    assert_eq!(fragment["spec"]["initContainers"][1]["restartPolicy"], "Always");
    assert_eq!(primary["volumeMounts"].as_array().unwrap().len(), 5);
    assert_eq!(fragment["spec"]["securityContext"], json!({"fsGroup": 1000, "runAsNonRoot": true}));
    assert_eq!(primary["securityContext"], json!({"allowPrivilegeEscalation": false}));
}

#[test]
fn a_pod_template_may_have_every_field_of_a_pod() {
    let built = valid(
        "queues:\n  q:\n    podTemplate:\n      spec:\n        hostNetwork: true\n        dnsPolicy: ClusterFirstWithHostNet\n        \
         terminationGracePeriodSeconds: 5\n        shareProcessNamespace: true\n        volumes: []\n        \
         containers:\n        - name: primary\n          ports: [{containerPort: 80, name: http}, {containerPort: 80, protocol: UDP}]\n          \
         livenessProbe: {periodSeconds: 3}\n          lifecycle: {preStop: {exec: {command: [sync]}}}\n        \
         - {name: helper, image: busybox, command: [sleep, '1']}\n",
    );
    assert_eq!(
        spec(&built, "q"),
        json!({
            "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet", "terminationGracePeriodSeconds": 5,
            "shareProcessNamespace": true,
            "containers": [
                {"name": "primary", "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 80, "protocol": "UDP"}],
                 "livenessProbe": {"periodSeconds": 3}, "lifecycle": {"preStop": {"exec": {"command": ["sync"]}}}},
                {"name": "helper", "image": "busybox", "command": ["sleep", "1"]},
            ],
        })
    );
}

#[test]
fn unknown_fields_are_kept_where_they_are_allowed() {
    let text = |allow: bool| {
        format!(
            "queues:\n  flat: {{templateOverrides: {{allowUnknownFields: {allow}, volumes: [{{name: v, emptyDir: {{newer: 1}}}}]}}}}\n  \
             full: {{podTemplate: {{allowUnknownFields: {allow}, spec: {{newest: {{a: b}}}}}}}}\n"
        )
    };
    let built = valid(&text(true));
    assert_eq!(spec(&built, "flat")["volumes"], json!([{"name": "v", "emptyDir": {"newer": 1}}]));
    assert_eq!(spec(&built, "full"), json!({"newest": {"a": "b"}}));
    let layers = |label: &str| queue(&built, label).last_valid.as_ref().unwrap().spec.layers[0].unknown;
    assert!(layers("flat") && layers("full"));
    let errors = error_texts(&build(&text(false)));
    assert_eq!(errors.len(), 2);
    assert!(errors.iter().all(|text| text.ends_with("unknown key")), "{errors:?}");
}

/// Returns the fragment of a queue's base, or null.
fn base_of(built: &Built, label: &str) -> Value {
    let queue = queue(built, label).last_valid.as_ref().unwrap();
    queue.base.as_ref().map_or(Value::Null, |layer| layer.fragment.clone())
}

#[test]
fn a_queue_replaces_each_new_key_of_the_base_and_an_empty_value_does_not() {
    let base = "basePodTemplate:\n  affinity: {nodeAffinity: {}}\n  schedulerName: base\n  priorityClassName: base\n  \
                podSecurityContext: {fsGroup: 1}\n  containerSecurityContext: {runAsUser: 1}\n  hostAliases: [{ip: 10.0.0.1, hostnames: [a]}]\n  \
                imagePullSecrets: [{name: base}]\n  serviceAccountName: base\n  runtimeClassName: base\n  \
                topologySpreadConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: DoNotSchedule, labelSelector: {}}]\n  \
                sidecars: [{name: base, image: i}]\n  fileMounts: [{name: f, folderPath: /b, fileContent: base}]\n  envFrom: [{configMapRef: {name: base}}]\n";
    let one = |key: &str, value: &str| {
        let built = valid(&format!(
            "{base}queues:\n  q: {{match: {{namespaces: [ml]}}, templateOverrides: {{{key}: {value}}}}}\n  \
             none: {{templateOverrides: {{{key}: }}}}\n  both: {{match: {{namespaces: [ml]}}, merge: Strategic, templateOverrides: {{{key}: {value}}}}}\n"
        ));
        (base_of(&built, "q"), base_of(&built, "none"), base_of(&built, "both"))
    };
    for (key, value, pointer) in [
        ("affinity", "{podAffinity: {}}", "/spec/affinity"),
        ("schedulerName", "q", "/spec/schedulerName"),
        ("priorityClassName", "q", "/spec/priorityClassName"),
        ("podSecurityContext", "{runAsUser: 2}", "/spec/securityContext"),
        ("containerSecurityContext", "{runAsGroup: 2}", "/spec/containers/0/securityContext"),
        ("hostAliases", "[{ip: 10.0.0.2}]", "/spec/hostAliases"),
        ("imagePullSecrets", "[{name: q}]", "/spec/imagePullSecrets"),
        ("serviceAccountName", "q", "/spec/serviceAccountName"),
        ("runtimeClassName", "q", "/spec/runtimeClassName"),
        (
            "topologySpreadConstraints",
            "[{maxSkew: 1, topologyKey: b, whenUnsatisfiable: DoNotSchedule, labelSelector: {}}]",
            "/spec/topologySpreadConstraints",
        ),
        ("sidecars", "[{name: q, image: i}]", "/spec/initContainers"),
        ("fileMounts", "[{name: f, folderPath: /q, fileContent: q}]", "/spec/volumes"),
        ("envFrom", "[{configMapRef: {name: q}}]", "/spec/containers/0/envFrom"),
    ] {
        let (replaced, fallen_back, merged) = one(key, value);
        assert!(replaced.pointer(pointer).is_none(), "{key}: {replaced}");
        assert!(fallen_back.pointer(pointer).is_some() && fallen_back == merged, "{key}: {fallen_back}");
    }
}

#[test]
fn extra_volumes_and_mounts_never_replace_the_bases() {
    let base = "basePodTemplate: {volumes: [{name: a, emptyDir: {}}], volumeMounts: [{name: a, mountPath: /a}], \
                extraVolumes: [{name: b, emptyDir: {}}], extraVolumeMounts: [{name: b, mountPath: /b}]}\n";
    let names = |fragment: &Value| -> Vec<String> {
        let list = fragment["spec"]["volumes"].as_array().unwrap();
        list.iter().map(|volume| volume["name"].as_str().unwrap().to_owned()).collect()
    };
    let built = valid(&format!(
        "{base}queues:\n  extra: {{templateOverrides: {{extraVolumes: [{{name: c, emptyDir: {{}}}}], extraVolumeMounts: [{{name: c, mountPath: /c}}]}}}}\n  \
         written: {{merge: Replace, templateOverrides: {{extraVolumes: [{{name: c, emptyDir: {{}}}}]}}}}\n  \
         replace: {{templateOverrides: {{volumes: [{{name: c, emptyDir: {{}}}}], volumeMounts: [{{name: c, mountPath: /c}}]}}}}\n"
    ));
    assert_eq!(names(&base_of(&built, "extra")), ["a", "b"]);
    assert_eq!(names(&base_of(&built, "written")), ["a", "b"]);
    // the base's own extras are beside whatever a queue's `volumes` are
    let rest = base_of(&built, "replace");
    assert_eq!(names(&rest), ["b"]);
    assert_eq!(rest["spec"]["containers"][0]["volumeMounts"], json!([{"name": "b", "mountPath": "/b"}]));
}

#[test]
fn a_key_of_the_clearml_agent_is_a_notice() {
    let built = valid("createQueues: true\nqueues:\n  q: {queueSettings: {maxPods: 3}}\n");
    let notices: Vec<_> = built.notices.iter().map(ToString::to_string).collect();
    assert_eq!(
        notices,
        [
            "c.yaml:3:1: createQueues: is a key of the ClearML agent: podgraft ignores it",
            "c.yaml:5:7: queues.q.queueSettings: is a key of the ClearML agent: podgraft ignores it",
        ]
    );
}

#[test]
fn one_invalid_queue_of_a_thousand_does_not_affect_the_others() {
    let queue_of = |number: u32| {
        let env = if number == 500 { "envs" } else { "env" };
        format!("  q{number}: {{templateOverrides: {{{env}: [{{name: A, value: 'a'}}]}}}}\n")
    };
    let queues: Vec<_> = (0..1000).map(queue_of).collect();
    let text = format!("queues:\n{}", queues.concat());
    let built = build(&text);
    assert_eq!(
        error_texts(&built),
        ["c.yaml:504:30: queues.q500.templateOverrides.envs: unknown key; did you mean env?"]
    );
    let serving = built.snapshot.queues.by_name.values().filter(|unit| unit.last_valid.is_some()).count();
    assert_eq!((serving, built.snapshot.queues.by_name.len()), (999, 1000));
    assert!(queue(&built, "q500").error.as_ref().unwrap().contains("envs"));
}

#[test]
fn an_empty_value_of_the_primary_container_replaces_nothing_of_the_base() {
    let base = "basePodTemplate: {env: [{name: A, value: a}], resources: {limits: {cpu: 1}}}\n";
    let queue = "queues: {q: {merge: Replace, podTemplate: {spec: {containers: [{name: primary, env: [], resources: {}, workingDir: /w}]}}}}\n";
    let built = valid(&format!("{base}{queue}"));
    let left = &queue_base(&built)["spec"]["containers"][0];
    assert_eq!((&left["env"][0]["name"], &left["resources"]["limits"]["cpu"]), (&json!("A"), &json!("1")));
}

/// Returns the fragment of the base of the queue `q`.
fn queue_base(built: &Built) -> Value {
    queue(built, "q").last_valid.as_ref().unwrap().base.as_ref().unwrap().fragment.clone()
}

#[test]
fn null_counts_as_absent_in_unknown_fields_too() {
    let built = valid(
        "queues: {q: {templateOverrides: {allowUnknownFields: true, podSecurityContext: {newField: null, other: {deep: null, kept: 1}}}}}\n",
    );
    assert_eq!(fragments(&built, "q")[0]["spec"]["securityContext"], json!({"other": {"kept": 1}}));
}
