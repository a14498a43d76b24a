//! What serves while something is wrong.

use serde_json::json;

use super::*;
use crate::merge::layer::Source;
use crate::model::snapshot::{Snapshot, UnknownQueue};

/// A builder that is fed one configuration after the other.
#[derive(Default)]
struct Life(Builder);

impl Life {
    fn load(&mut self, files: &[(&str, &str)]) -> Built {
        self.0.build(&input(files), &compile)
    }
}

/// What the queue `q` sets, and whether something is wrong with it.
fn label(snapshot: &Snapshot, name: &str) -> (Option<Value>, bool) {
    let unit = &snapshot.queues.by_name[name];
    let layer = unit.last_valid.as_ref().map(|queue| queue.graft.layers[0].fragment["metadata"]["labels"]["v"].clone());
    (layer, unit.error.is_some())
}

fn queues(q: &str, r: &str) -> String {
    format!(
        "queues:\n  q: {{templateOverrides: {{labels: {{v: {q}}}}}}}\n  r: {{templateOverrides: {{labels: {{v: {r}}}}}}}\n"
    )
}

#[test]
fn a_bad_queue_stays_and_the_others_move_on() {
    let mut life = Life::default();
    assert_eq!(life.load(&[("c.yaml", &queues("a", "a"))]).problems, []);
    let bad = life.load(&[("c.yaml", &queues("true", "b"))]);
    assert_eq!(label(&bad.snapshot, "q"), (Some(json!("a")), true));
    assert_eq!(label(&bad.snapshot, "r"), (Some(json!("b")), false));
    assert_eq!(bad.snapshot.generation, 2);
    let good = life.load(&[("c.yaml", &queues("c", "c"))]);
    assert_eq!(label(&good.snapshot, "q"), (Some(json!("c")), false));
    assert_eq!(good.snapshot.generation, 3);
}

#[test]
fn what_was_never_good_has_no_version_and_says_why() {
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
fn a_bad_module_keeps_its_users_at_their_last_good() {
    let with = |wasm: &str, label: &str| {
        format!(
            "modules: {{m: {{wasm: {wasm}}}}}\n{}  u: {{modules: [m], templateOverrides: {{labels: {{v: {label}}}}}}}\nenvironments: {{e: {{modules: [m]}}}}\n",
            queues("a", label)
        )
    };
    let mut life = Life::default();
    assert_eq!(life.load(&[("c.yaml", &with("ok.wasm", "a"))]).problems, []);
    let bad = life.load(&[("c.yaml", &with("bad.wasm", "b"))]);
    assert_eq!(label(&bad.snapshot, "u"), (Some(json!("a")), true));
    assert_eq!(label(&bad.snapshot, "r"), (Some(json!("b")), false));
    let unit = queue(&bad, "u");
    assert_eq!(unit.last_valid.as_ref().unwrap().graft.modules[0].name, "m");
    assert!(bad.snapshot.environments[0].last_valid.is_some() && bad.snapshot.environments[0].error.is_some());
    let good = life.load(&[("c.yaml", &with("ok.wasm", "c"))]);
    assert_eq!((label(&good.snapshot, "u"), good.problems), ((Some(json!("c")), false), vec![]));
}

#[test]
fn a_bad_base_stays_and_queues_are_laid_over_it() {
    let text = |base: &str, label: &str| {
        format!(
            "basePodTemplate: {{labels: {{b: {base}}}, volumes: [{{name: v, emptyDir: {{}}}}]}}\nqueues: {{q: {{podTemplate: {{metadata: {{labels: {{v: {label}}}}}}}, templateOverrides: {{volumeMounts: [{{name: v, mountPath: /v}}]}}}}}}\n"
        )
    };
    let mut life = Life::default();
    life.load(&[("c.yaml", &text("a", "a"))]);
    let bad = life.load(&[("c.yaml", &text("1", "b"))]);
    assert!(bad.snapshot.base.as_ref().unwrap().error.is_some());
    let queue = queue(&bad, "q").last_valid.as_ref().unwrap();
    assert_eq!(queue.base.as_ref().unwrap().fragment["metadata"]["labels"]["b"], "a");
    assert_eq!(label(&bad.snapshot, "q"), (Some(json!("b")), false));
    // without any good base its volumes are unknown: the queue is not to blame
    let never = build(&text("1", "b"));
    assert_eq!(never.problems.len(), 1, "{:?}", texts(&never));
    assert!(never.snapshot.base.as_ref().unwrap().last_valid.is_none());
}

#[test]
fn a_torn_file_keeps_what_was_in_it() {
    let rest = "environments: {e: {}}\nmodules: {m: {wasm: ok.wasm}}\nbasePodTemplate: {}\nunknownQueue: Deny\ntaskConfig: [{config: {k: v}}]\nsystems: {s: {type: Generic}}\n";
    let whole = format!("{}{rest}", queues("a", "a"));
    for torn in ["queues: [\n", "queue: {}\n", "queues: []\n", "a: &a {}\nb: *c\n"] {
        let mut life = Life::default();
        assert!(life.load(&[("a.yaml", &whole), ("b.yaml", "queues: {x: {}}")]).parsed);
        let built = life.load(&[("a.yaml", torn), ("b.yaml", "queues: {y: {modules: [m]}}")]);
        assert!(!built.parsed);
        assert_eq!(label(&built.snapshot, "q"), (Some(json!("a")), true), "{torn}");
        let snapshot = &built.snapshot;
        assert!(!snapshot.queues.by_name.contains_key("x"), "b.yaml is whole, so x is really gone");
        assert!(snapshot.environments[0].last_valid.is_some() && snapshot.base.as_ref().unwrap().last_valid.is_some());
        assert!(snapshot.queues.by_name["y"].error.as_ref().unwrap().contains("module `m` is broken"));
        assert_eq!(snapshot.unknown_queue, UnknownQueue::Deny);
        assert_eq!(snapshot.task_config.len(), 1);
        assert!(snapshot.systems.iter().any(|system| system.name == "s"));
        // torn twice is not forgotten
        let again = life.load(&[("a.yaml", &format!("{torn} ")), ("b.yaml", "")]);
        assert_eq!(label(&again.snapshot, "q"), (Some(json!("a")), true), "{torn}");
        assert_eq!(again.snapshot.unknown_queue, UnknownQueue::Deny);
        let mended = life.load(&[("a.yaml", &whole), ("b.yaml", "")]);
        assert_eq!(texts(&mended), Vec::<String>::new());
    }
}

#[test]
fn what_is_removed_is_gone() {
    let mut life = Life::default();
    let text = "queues: {q: {}, r: {}}\nenvironments: {e: {}}\nbasePodTemplate: {}\nunknownQueue: Deny\n";
    life.load(&[("a.yaml", text), ("b.yaml", "queues: {s: {id: i}}")]);
    let built = life.load(&[("a.yaml", "queues: {q: {}}")]);
    let snapshot = &built.snapshot;
    assert_eq!(snapshot.queues.by_name.keys().collect::<Vec<_>>(), ["q"]);
    assert!(snapshot.queues.by_id.is_empty() && snapshot.environments.is_empty() && snapshot.base.is_none());
    assert_eq!(snapshot.unknown_queue, UnknownQueue::Base);
    let empty = life.load(&[]);
    assert!(empty.snapshot.queues.by_name.is_empty() && empty.problems.is_empty());
}

#[test]
fn bad_vaults_systems_and_words_stay() {
    let mut life = Life::default();
    let good = "systems: {s: {type: Generic}}\ntaskConfig: [{config: {k: 1}}]\nprovidersInfo: [{info: {r: 1}}]\nunknownQueue: Deny\n";
    let bad =
        "systems: {s: {}}\ntaskConfig: [{config: {k: 2}}, {config: 3}]\nprovidersInfo: {}\nunknownQueue: Refuse\n";
    life.load(&[("c.yaml", good)]);
    let built = life.load(&[("c.yaml", bad)]);
    assert_eq!(
        texts(&built),
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
fn a_queue_that_clashes_does_not_take_the_good_one_away() {
    let gpu = |value: &str| format!("queues: {{GPU: {{templateOverrides: {{labels: {{v: {value}}}}}}}}}\n");
    let clash = ("d.yaml", "queues: {gpu: {}}\n");
    let mut life = Life::default();
    life.load(&[("c.yaml", &gpu("a"))]);
    let both = life.load(&[("c.yaml", &gpu("b")), clash]);
    assert_eq!(both.problems.len(), 2, "{:?}", texts(&both));
    assert_eq!(label(&both.snapshot, "gpu"), (Some(json!("a")), true));
    // broken in its own right, and then alone again: what was good is not forgotten
    let broken = life.load(&[("c.yaml", &gpu("true")), clash]);
    assert_eq!(label(&broken.snapshot, "gpu"), (Some(json!("a")), true));
    let alone = life.load(&[("c.yaml", &gpu("true"))]);
    assert_eq!(label(&alone.snapshot, "gpu"), (Some(json!("a")), true));
    // from the start: nobody knows which, so its pods are refused and are not an unknown queue's
    let never = Builder::default().build(&input(&[("c.yaml", &gpu("a")), clash]), &compile);
    assert_eq!(label(&never.snapshot, "gpu"), (None, true));
}

#[test]
fn what_was_never_good_lets_nobody_through() {
    let built = build("systems: {clearml: {type: ClearML, submitters: [], podNamePrefx: x}}\nunknownQueue: Denyy\n");
    assert_eq!(built.problems.len(), 2, "{:?}", texts(&built));
    assert_eq!(built.snapshot.unknown_queue, UnknownQueue::Deny);
    let systems = &built.snapshot.systems;
    assert_eq!(systems.iter().map(|system| system.name.as_str()).collect::<Vec<_>>(), ["clearml", "generic"]);
    assert!(systems.iter().all(|system| system.submitters.is_empty()), "{systems:?}");
    // a second mistake finds nothing better, and the first sound version is taken
    let mut life = Life::default();
    life.load(&[("c.yaml", "systems: {s: {}}\nunknownQueue: Denyy\n")]);
    let again = life.load(&[("c.yaml", "systems: {s: {}}\nunknownQueue: Bas\n")]);
    assert_eq!(again.snapshot.unknown_queue, UnknownQueue::Deny);
    assert!(again.snapshot.systems.iter().all(|system| system.submitters.is_empty()));
    let mended = life.load(&[("c.yaml", "")]);
    assert_eq!(mended.snapshot.unknown_queue, UnknownQueue::Base);
    assert!(!mended.snapshot.systems[0].submitters.is_empty());
}

#[test]
fn modules_do_not_run_without_what_they_read() {
    for (section, bad, good) in
        [("taskConfig", "[{config: 3}]", "[{config: {}}]"), ("providersInfo", "{}", "[{info: {a: b}}]")]
    {
        let text = |vaults: &str| {
            format!(
                "{section}: {vaults}\nmodules: {{m: {{wasm: ok.wasm}}}}\nqueues: {{q: {{modules: [m]}}, r: {{}}}}\n"
            )
        };
        let mut life = Life::default();
        let built = life.load(&[("c.yaml", &text(bad))]);
        let why = format!("modules.m: may read {section}, which has no valid version: see {section}");
        assert!(texts(&built).iter().any(|text| text.ends_with(&why)), "{:?}", texts(&built));
        assert!(queue(&built, "q").last_valid.is_none() && queue(&built, "r").last_valid.is_some());
        let mended = life.load(&[("c.yaml", &text(good))]);
        assert!(mended.problems.is_empty() && queue(&mended, "q").last_valid.is_some());
        // now there is a version to stay at
        let again = life.load(&[("c.yaml", &text(bad))]);
        assert_eq!((again.problems.len(), queue(&again, "q").error.is_some()), (1, false));
    }
}

#[test]
fn a_queue_is_not_to_blame_for_an_environment_whose_volumes_nobody_knows() {
    let text = |label: &str, volume: &str| {
        format!(
            "environments: {{e: {{podTemplate: {{metadata: {{labels: {{l: {label}}}}}, spec: {{volumes: [{{name: v, emptyDir: {{}}}}]}}}}}}}}\n\
             queues: {{q: {{templateOverrides: {{volumeMounts: [{{name: {volume}, mountPath: /v}}]}}}}}}\n"
        )
    };
    let built = build(&text("true", "v"));
    assert_eq!(built.problems.len(), 1, "{:?}", texts(&built));
    assert!(queue(&built, "q").last_valid.is_some());
    // of one that is known, a mount of another volume is wrong as before
    assert!(queue(&build(&text("a", "w")), "q").last_valid.is_none());
}

#[test]
fn nothing_new_is_no_new_generation() {
    let mut life = Life::default();
    let first = life.load(&[("c.yaml", &queues("true", "b"))]);
    let second = life.load(&[("c.yaml", &queues("true", "b"))]);
    assert!(first.changed && !second.changed);
    assert!(Arc::ptr_eq(&first.snapshot, &second.snapshot));
    assert_eq!(first.problems, second.problems);
}

#[test]
fn code_that_did_not_change_is_not_compiled_again() {
    let mut life = Life::default();
    let text = |name: &str| format!("modules: {{m: {{wasm: ok.wasm}}}}\nqueues: {{{name}: {{modules: [m]}}}}\n");
    let first = life.load(&[("c.yaml", &text("a"))]);
    let second = life.load(&[("c.yaml", &text("b"))]);
    let code =
        |built: &Built, name: &str| Arc::clone(&queue(built, name).last_valid.as_ref().unwrap().graft.modules[0].hook);
    assert!(Arc::ptr_eq(&code(&first, "a"), &code(&second, "b")));
}

#[test]
fn an_environment_that_was_never_sound_says_whom_it_was_for() {
    let built = build("environments: {e: {match: {namespaces: [ml]}, podTemplate: {sepc: {}}}}");
    let unit = &built.snapshot.environments[0];
    assert!(unit.last_valid.is_none());
    assert_eq!(unit.claimed_match.as_ref().unwrap().namespaces, ["ml"]);
}
