//! Errors of malformed YAML, misspelled `apiVersion` and `kind`, and invalid conditions.

use super::*;

/// Returns the errors of files to which no head lines are added.
fn bare(files: &[(&str, &str)]) -> Vec<String> {
    let files = files.iter().map(|(name, text)| File { name: (*name).into(), text: (*text).into() }).collect();
    error_texts(&Builder::default().build(&Input { files, ..Input::default() }, &compile))
}

#[test]
fn yaml_errors_are_in_plain_words() {
    let bracket = "unclosed bracket ([ or {) before this position";
    let quote = "unclosed quote (' or \") before this position";
    let indent = "the indentation matches no line above";
    for (text, line, column, message) in [
        ("queues: [x\nb: 1\n", 4, 2, bracket),
        ("queues: {x: 1\nb: 2\n", 4, 2, bracket),
        ("queues: 'x\n", 4, 1, quote),
        ("queues:\n\tq: {}\n", 4, 2, "a tab is not allowed here: indent with spaces"),
        (
            "queues: b: c\n",
            3,
            10,
            "a second `:` in this line, or the line is indented too far: quote a text that contains `: `",
        ),
        ("queues:\n  a: 1\n b: 2\n", 5, 2, indent),
        ("queues: *nope\n", 3, 9, "`*name` needs an `&name` above it"),
        ("queues: @x\n", 3, 9, "a text cannot begin with this character: quote the text"),
        ("queues: ]\n", 3, 9, "unexpected ] or }: no bracket is open"),
        ("queues: {}\n---\nqueues: {}\n", 5, 1, "a second YAML document: one file holds one GraftConfig"),
        ("[a]: 1\n", 3, 1, "a key must be a string"),
    ] {
        assert_eq!(error_texts(&build(text)), [format!("c.yaml:{line}:{column}: {message}")], "{text}");
    }
}

#[test]
fn a_file_with_a_misspelled_head_is_still_a_configuration() {
    assert_eq!(
        bare(&[
            ("a.yaml", "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfg\nqueues: {}\n"),
            ("b.yaml", "apiVersion: podgraft.io/v1alpha2\nkind: GraftConfig\n"),
            ("c.yaml", "apiversion: podgraft.io/v1alpha1\nkind: GraftConfig\n"),
            ("d.yaml", "kind: GraftConfig\n"),
            ("e.yaml", "apiVersion: podgraf.io/v1alpha1\nkind: graftconfig\n"),
            ("f.yaml", "apiVersion: v1\nkind: Secret\n"),
        ]),
        [
            "a.yaml:2:7: kind: must be GraftConfig",
            "b.yaml:1:13: apiVersion: must be podgraft.io/v1alpha1",
            "c.yaml:1:1: apiversion: unknown key; did you mean apiVersion?",
            "d.yaml:1:1: apiVersion: podgraft.io/v1alpha1 is missing",
            "e.yaml:1:13: apiVersion: must be podgraft.io/v1alpha1",
            "e.yaml:2:7: kind: must be GraftConfig",
        ]
    );
}

#[test]
fn a_condition_must_work_for_a_task_without_data() {
    let when = |text: &str| format!("modules: {{m: {{wasm: ok.wasm, params: {{on: true}}, when: \"{text}\"}}}}");
    let nothing = "fails for a task of which nothing is known:";
    for (text, message) in [
        ("task_config.nfs.server == 'x'", format!("{nothing} there is no key `nfs`: test it with has() first")),
        ("providers_info['ad-role'] == 'x'", format!("{nothing} there is no key `ad-role`: test it with has() first")),
        ("queue", format!("{nothing} returns string instead of true or false")),
        ("queue ==", "is not a CEL condition: at character 9, something is missing".to_owned()),
    ] {
        let found = error_texts(&build(&when(text)));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].ends_with(&format!(" modules.m.when: {message}")), "{}", found[0]);
    }
    for valid_condition in
        ["has(task_config.nfs) && task_config.nfs.server == 'x'", "params.on", "queue == '' || user != 'x'"]
    {
        valid(&when(valid_condition));
    }
}

#[test]
fn a_duration_without_a_unit_gets_units_suggested() {
    let file = "modules: {m: {wasm: ok.wasm, budget: {time: 5}}}";
    assert_eq!(
        error_texts(&build(file)),
        ["c.yaml:3:45: modules.m.budget.time: is a number without a unit: write 5ms or 5s"]
    );
}

#[test]
fn no_layer_may_set_the_applied_annotation() {
    let file = "queues: {q: {templateOverrides: {annotations: {podgraft.io/applied: x}}}}";
    assert_eq!(
        error_texts(&build(file)),
        [
            "c.yaml:3:48: queues.q.templateOverrides.annotations['podgraft.io/applied']: podgraft writes this annotation itself, so no layer may set it"
        ]
    );
}
