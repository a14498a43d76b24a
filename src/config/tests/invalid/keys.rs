//! Errors of unknown, misplaced and unsupported keys.

use super::*;

#[test]
fn an_unknown_key_gets_the_nearest_one_suggested() {
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
        assert!(!editor_errors(text).is_empty(), "an editor would report no error: {text}");
    }
}

#[test]
fn the_error_of_a_misplaced_key_names_its_place() {
    let beside = |key: &str| format!("belongs beside `{key}`, not into it");
    let own = "no layer may set it: the task sets the image, command and args of the primary container";
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
        assert_eq!(error_texts(&build(&format!("queues:\n  q:\n    {text}\n"))), [expected], "{text}");
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
fn an_unsupported_key_is_an_error_with_its_name() {
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
                "c.yaml:6:31: queues.q.templateOverrides.env[0].value: the placeholder ${tsk.id} has an unknown root: tsk; did you mean task?",
            ],
        ),
    ]);
}
