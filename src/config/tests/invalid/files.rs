//! Errors of files: duplicate definitions, malformed files, secrets in error texts.

use super::*;

#[test]
fn a_unit_is_defined_in_one_file() {
    let files = [
        ("a.yaml", "queues: {q: {}}\nunknownQueue: Base\nsystems: {s: {type: Generic}}\n"),
        (
            "b.yaml",
            "queues: {q: {}}\nunknownQueue: Deny\nsystems: {s: {type: Generic}}\nbasePodTemplate: {merge: Replace}\n",
        ),
    ];
    let built = Builder::default().build(&input(&files), &compile);
    assert_eq!(
        error_texts(&built),
        [
            "b.yaml:3:10: queues.q: is also defined in a.yaml:3",
            "b.yaml:4:15: unknownQueue: is also defined in a.yaml:4",
            "b.yaml:5:11: systems.s: is also defined in a.yaml:5",
            "b.yaml:6:26: basePodTemplate.merge: Replace is allowed in queues only: it replaces keys of basePodTemplate",
        ]
    );
    assert!(queue(&built, "q").last_valid.is_none());
}

#[test]
fn malformed_files_are_errors_and_other_files_are_ignored() {
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
        error_texts(&built),
        [
            "broken.yaml:3:9: unclosed bracket ([ or {) before this position",
            "old.yaml:1:13: apiVersion: must be podgraft.io/v1alpha1",
            "twice.yaml:4:1: duplicate key `queues`, first defined in line 3",
            "two.yaml:5:1: a second YAML document: one file holds one GraftConfig",
        ]
    );
    assert!(!built.parsed);
}

#[test]
fn secrets_do_not_show_in_errors() {
    let built = build(
        "taskConfig: hunter2\nprovidersInfo: [{info: hunter2}, hunter2]\nbasePodTemplate: {env: [{name: A, value: [hunter2]}, hunter2]}\n\
         modules: {m: {wasm: ok.wasm, params: hunter2}}\nqueues: {q: {templateOverrides: {env: hunter2, annotations: [hunter2]}}}\n",
    );
    assert!(built.errors.len() >= 7, "{:?}", error_texts(&built));
    assert!(error_texts(&built).iter().all(|text| !text.contains("hunter2")), "{:?}", error_texts(&built));
}
