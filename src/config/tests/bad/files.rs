//! Files: whose they are, what stands in two of them, what is said of their text.

use super::*;

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
    assert!(queue(&built, "q").last_valid.is_none());
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
    assert!(!built.parsed);
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
