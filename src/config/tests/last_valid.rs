//! The last valid versions, which serve while the configuration is invalid.

use serde_json::json;

use super::*;
use crate::merge::layer::Source;
use crate::model::snapshot::{Snapshot, UnknownQueue};

/// A builder that loads one configuration after another.
#[derive(Default)]
struct Session(Builder);

impl Session {
    fn load(&mut self, files: &[(&str, &str)]) -> Built {
        self.0.build(&input(files), &compile)
    }
}

/// Returns the label `v` that a queue sets, and true if the queue has an error.
fn label(snapshot: &Snapshot, name: &str) -> (Option<Value>, bool) {
    let unit = &snapshot.queues.by_name[name];
    let layer = unit.last_valid.as_ref().map(|queue| queue.spec.layers[0].fragment["metadata"]["labels"]["v"].clone());
    (layer, unit.error.is_some())
}

fn queues(q: &str, r: &str) -> String {
    format!(
        "queues:\n  q: {{templateOverrides: {{labels: {{v: {q}}}}}}}\n  r: {{templateOverrides: {{labels: {{v: {r}}}}}}}\n"
    )
}

#[test]
fn an_invalid_queue_keeps_its_last_valid_version_and_others_are_updated() {
    let mut session = Session::default();
    assert_eq!(session.load(&[("c.yaml", &queues("a", "a"))]).errors, []);
    let invalid = session.load(&[("c.yaml", &queues("true", "b"))]);
    assert_eq!(label(&invalid.snapshot, "q"), (Some(json!("a")), true));
    assert_eq!(label(&invalid.snapshot, "r"), (Some(json!("b")), false));
    assert_eq!(invalid.snapshot.generation, 2);
    let fixed = session.load(&[("c.yaml", &queues("c", "c"))]);
    assert_eq!(label(&fixed.snapshot, "q"), (Some(json!("c")), false));
    assert_eq!(fixed.snapshot.generation, 3);
}

#[test]
fn a_queue_that_was_never_valid_has_an_error_and_no_version() {
    let built = build(&queues("true", "b"));
    let unit = queue(&built, "q");
    assert!(unit.last_valid.is_none());
    assert_eq!(unit.source, Source::Queue("q".into()));
    let why = "c.yaml:4:39: queues.q.templateOverrides.labels.v: must be a string, but YAML reads a boolean here: put it in quotes";
    assert_eq!(unit.error.as_deref(), Some(why));
    let two = build("queues: {q: {id: x, a: 1, b: 2}}");
    assert!(two.snapshot.queues.by_id["x"].error.as_ref().unwrap().ends_with("unknown key (and 1 more)"));
}

#[test]
fn units_with_an_invalid_module_keep_their_last_valid_version() {
    let with = |wasm: &str, label: &str| {
        format!(
            "modules: {{m: {{wasm: {wasm}}}}}\n{}  u: {{modules: [m], templateOverrides: {{labels: {{v: {label}}}}}}}\nenvironments: {{e: {{modules: [m]}}}}\n",
            queues("a", label)
        )
    };
    let mut session = Session::default();
    assert_eq!(session.load(&[("c.yaml", &with("ok.wasm", "a"))]).errors, []);
    let invalid = session.load(&[("c.yaml", &with("bad.wasm", "b"))]);
    assert_eq!(label(&invalid.snapshot, "u"), (Some(json!("a")), true));
    assert_eq!(label(&invalid.snapshot, "r"), (Some(json!("b")), false));
    let unit = queue(&invalid, "u");
    assert_eq!(unit.last_valid.as_ref().unwrap().spec.modules[0].name, "m");
    assert!(invalid.snapshot.environments[0].last_valid.is_some() && invalid.snapshot.environments[0].error.is_some());
    let fixed = session.load(&[("c.yaml", &with("ok.wasm", "c"))]);
    assert_eq!((label(&fixed.snapshot, "u"), fixed.errors), ((Some(json!("c")), false), vec![]));
}

#[test]
fn queues_use_the_last_valid_version_of_an_invalid_base() {
    let text = |base: &str, label: &str| {
        format!(
            "basePodTemplate: {{labels: {{b: {base}}}, volumes: [{{name: v, emptyDir: {{}}}}]}}\nqueues: {{q: {{podTemplate: {{metadata: {{labels: {{v: {label}}}}}}}, templateOverrides: {{volumeMounts: [{{name: v, mountPath: /v}}]}}}}}}\n"
        )
    };
    let mut session = Session::default();
    session.load(&[("c.yaml", &text("a", "a"))]);
    let invalid = session.load(&[("c.yaml", &text("1", "b"))]);
    assert!(invalid.snapshot.base.as_ref().unwrap().error.is_some());
    let queue = queue(&invalid, "q").last_valid.as_ref().unwrap();
    assert_eq!(queue.base.as_ref().unwrap().fragment["metadata"]["labels"]["b"], "a");
    assert_eq!(label(&invalid.snapshot, "q"), (Some(json!("b")), false));
    // without a valid base its volumes are unknown: the queue has no error
    let never = build(&text("1", "b"));
    assert_eq!(never.errors.len(), 1, "{:?}", error_texts(&never));
    assert!(never.snapshot.base.as_ref().unwrap().last_valid.is_none());
}

#[test]
fn units_of_a_malformed_file_keep_their_last_valid_version() {
    let rest = "environments: {e: {}}\nmodules: {m: {wasm: ok.wasm}}\nbasePodTemplate: {}\nunknownQueue: Deny\ntaskConfig: [{config: {k: v}}]\nsystems: {s: {type: Generic}}\n";
    let whole = format!("{}{rest}", queues("a", "a"));
    for malformed in ["queues: [\n", "queue: {}\n", "queues: []\n", "a: &a {}\nb: *c\n"] {
        let mut session = Session::default();
        assert!(session.load(&[("a.yaml", &whole), ("b.yaml", "queues: {x: {}}")]).parsed);
        let built = session.load(&[("a.yaml", malformed), ("b.yaml", "queues: {y: {modules: [m]}}")]);
        assert!(!built.parsed);
        assert_eq!(label(&built.snapshot, "q"), (Some(json!("a")), true), "{malformed}");
        let snapshot = &built.snapshot;
        assert!(!snapshot.queues.by_name.contains_key("x"), "b.yaml is valid, so x is removed");
        assert!(snapshot.environments[0].last_valid.is_some() && snapshot.base.as_ref().unwrap().last_valid.is_some());
        assert!(snapshot.queues.by_name["y"].error.as_ref().unwrap().contains("module `m` is invalid"));
        assert_eq!(snapshot.unknown_queue, UnknownQueue::Deny);
        assert_eq!(snapshot.task_config.len(), 1);
        assert!(snapshot.systems.iter().any(|system| system.name == "s"));
        // a second malformed version does not remove them
        let again = session.load(&[("a.yaml", &format!("{malformed} ")), ("b.yaml", "")]);
        assert_eq!(label(&again.snapshot, "q"), (Some(json!("a")), true), "{malformed}");
        assert_eq!(again.snapshot.unknown_queue, UnknownQueue::Deny);
        let fixed = session.load(&[("a.yaml", &whole), ("b.yaml", "")]);
        assert_eq!(error_texts(&fixed), Vec::<String>::new());
    }
}

#[test]
fn units_that_are_not_defined_any_more_leave_the_snapshot() {
    let mut session = Session::default();
    let text = "queues: {q: {}, r: {}}\nenvironments: {e: {}}\nbasePodTemplate: {}\nunknownQueue: Deny\n";
    session.load(&[("a.yaml", text), ("b.yaml", "queues: {s: {id: i}}")]);
    let built = session.load(&[("a.yaml", "queues: {q: {}}")]);
    let snapshot = &built.snapshot;
    assert_eq!(snapshot.queues.by_name.keys().collect::<Vec<_>>(), ["q"]);
    assert!(snapshot.queues.by_id.is_empty() && snapshot.environments.is_empty() && snapshot.base.is_none());
    assert_eq!(snapshot.unknown_queue, UnknownQueue::Base);
    let empty = session.load(&[]);
    assert!(empty.snapshot.queues.by_name.is_empty() && empty.errors.is_empty());
}

#[test]
fn invalid_vaults_systems_and_unknown_queue_keep_their_last_valid_version() {
    let mut session = Session::default();
    let valid = "systems: {s: {type: Generic}}\ntaskConfig: [{config: {k: 1}}]\nprovidersInfo: [{info: {r: 1}}]\nunknownQueue: Deny\n";
    let invalid =
        "systems: {s: {}}\ntaskConfig: [{config: {k: 2}}, {config: 3}]\nprovidersInfo: {}\nunknownQueue: Reject\n";
    session.load(&[("c.yaml", valid)]);
    let built = session.load(&[("c.yaml", invalid)]);
    assert_eq!(
        error_texts(&built),
        [
            "c.yaml:3:14: systems.s: key `type` is missing: ClearML or Generic",
            "c.yaml:4:41: taskConfig[1].config: must be a mapping, not a number",
            "c.yaml:5:16: providersInfo: must be a list, not a mapping",
            "c.yaml:6:15: unknownQueue: must be Base or Ignore or Deny",
        ]
    );
    let snapshot = &built.snapshot;
    assert_eq!(snapshot.unknown_queue, UnknownQueue::Deny);
    assert_eq!((snapshot.task_config[0].config["k"].clone(), snapshot.task_config.len()), (json!(1), 1));
    assert_eq!(snapshot.providers_info[0].config, json!({"r": 1}).into());
    assert!(snapshot.systems.iter().any(|system| system.name == "s"));
}

#[test]
fn a_conflicting_queue_does_not_replace_the_valid_one() {
    let gpu = |value: &str| format!("queues: {{GPU: {{templateOverrides: {{labels: {{v: {value}}}}}}}}}\n");
    let clash = ("d.yaml", "queues: {gpu: {}}\n");
    let mut session = Session::default();
    session.load(&[("c.yaml", &gpu("a"))]);
    let both = session.load(&[("c.yaml", &gpu("b")), clash]);
    assert_eq!(both.errors.len(), 2, "{:?}", error_texts(&both));
    assert_eq!(label(&both.snapshot, "gpu"), (Some(json!("a")), true));
    // invalid by itself, and then without the conflict: the last valid version is kept
    let invalid = session.load(&[("c.yaml", &gpu("true")), clash]);
    assert_eq!(label(&invalid.snapshot, "gpu"), (Some(json!("a")), true));
    let alone = session.load(&[("c.yaml", &gpu("true"))]);
    assert_eq!(label(&alone.snapshot, "gpu"), (Some(json!("a")), true));
    // conflicting from the start: neither is valid, and the label is not an unknown queue
    let never = Builder::default().build(&input(&[("c.yaml", &gpu("a")), clash]), &compile);
    assert_eq!(label(&never.snapshot, "gpu"), (None, true));
}

#[test]
fn sections_that_were_never_valid_deny_and_trust_no_submitter() {
    let built = build("systems: {clearml: {type: ClearML, submitters: [], podNamePrefx: x}}\nunknownQueue: Denyy\n");
    assert_eq!(built.errors.len(), 2, "{:?}", error_texts(&built));
    assert_eq!(built.snapshot.unknown_queue, UnknownQueue::Deny);
    let systems = &built.snapshot.systems;
    assert_eq!(systems.iter().map(|system| system.name.as_str()).collect::<Vec<_>>(), ["clearml", "generic"]);
    assert!(systems.iter().all(|system| system.submitters.is_empty()), "{systems:?}");
    // a second invalid version changes nothing; the first valid version is used
    let mut session = Session::default();
    session.load(&[("c.yaml", "systems: {s: {}}\nunknownQueue: Denyy\n")]);
    let again = session.load(&[("c.yaml", "systems: {s: {}}\nunknownQueue: Bas\n")]);
    assert_eq!(again.snapshot.unknown_queue, UnknownQueue::Deny);
    assert!(again.snapshot.systems.iter().all(|system| system.submitters.is_empty()));
    let fixed = session.load(&[("c.yaml", "")]);
    assert_eq!(fixed.snapshot.unknown_queue, UnknownQueue::Base);
    assert!(!fixed.snapshot.systems[0].submitters.is_empty());
}

#[test]
fn modules_do_not_run_without_valid_vaults() {
    for (section, invalid, valid) in
        [("taskConfig", "[{config: 3}]", "[{config: {}}]"), ("providersInfo", "{}", "[{info: {a: b}}]")]
    {
        let text = |vaults: &str| {
            format!(
                "{section}: {vaults}\nmodules: {{m: {{wasm: ok.wasm}}}}\nqueues: {{q: {{modules: [m]}}, r: {{}}}}\n"
            )
        };
        let mut session = Session::default();
        let built = session.load(&[("c.yaml", &text(invalid))]);
        let why = format!("modules.m: may read {section}, which has no valid version: see {section}");
        assert!(error_texts(&built).iter().any(|text| text.ends_with(&why)), "{:?}", error_texts(&built));
        assert!(queue(&built, "q").last_valid.is_none() && queue(&built, "r").last_valid.is_some());
        let fixed = session.load(&[("c.yaml", &text(valid))]);
        assert!(fixed.errors.is_empty() && queue(&fixed, "q").last_valid.is_some());
        // now there is a last valid version
        let again = session.load(&[("c.yaml", &text(invalid))]);
        assert_eq!((again.errors.len(), queue(&again, "q").error.is_some()), (1, false));
    }
}

#[test]
fn a_queue_has_no_error_while_an_environments_volumes_are_unknown() {
    let text = |label: &str, volume: &str| {
        format!(
            "environments: {{e: {{podTemplate: {{metadata: {{labels: {{l: {label}}}}}, spec: {{volumes: [{{name: v, emptyDir: {{}}}}]}}}}}}}}\n\
             queues: {{q: {{templateOverrides: {{volumeMounts: [{{name: {volume}, mountPath: /v}}]}}}}}}\n"
        )
    };
    let built = build(&text("true", "v"));
    assert_eq!(built.errors.len(), 1, "{:?}", error_texts(&built));
    assert!(queue(&built, "q").last_valid.is_some());
    // with a valid environment, a mount of another volume is an error
    assert!(queue(&build(&text("a", "w")), "q").last_valid.is_none());
}

#[test]
fn unchanged_input_keeps_the_generation() {
    let mut session = Session::default();
    let first = session.load(&[("c.yaml", &queues("true", "b"))]);
    let second = session.load(&[("c.yaml", &queues("true", "b"))]);
    assert!(first.changed && !second.changed);
    assert!(Arc::ptr_eq(&first.snapshot, &second.snapshot));
    assert_eq!(first.errors, second.errors);
}

#[test]
fn unchanged_code_is_not_compiled_again() {
    let mut session = Session::default();
    let text = |name: &str| format!("modules: {{m: {{wasm: ok.wasm}}}}\nqueues: {{{name}: {{modules: [m]}}}}\n");
    let first = session.load(&[("c.yaml", &text("a"))]);
    let second = session.load(&[("c.yaml", &text("b"))]);
    let code =
        |built: &Built, name: &str| Arc::clone(&queue(built, name).last_valid.as_ref().unwrap().spec.modules[0].hook);
    assert!(Arc::ptr_eq(&code(&first, "a"), &code(&second, "b")));
}

#[test]
fn an_environment_that_was_never_valid_has_its_claimed_match() {
    let built = build("environments: {e: {match: {namespaces: [ml]}, podTemplate: {sepc: {}}}}");
    let unit = &built.snapshot.environments[0];
    assert!(unit.last_valid.is_none());
    assert_eq!(unit.claimed_match.as_ref().unwrap().namespaces, ["ml"]);
}
