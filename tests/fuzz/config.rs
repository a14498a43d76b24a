//! Any text as a configuration: no panic, problems that have a place, and what served before serves on.
#![no_main]

mod common;
mod mutator;

use std::sync::{LazyLock, Mutex, PoisonError};

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use podgraft::config::{Builder, Built};

const GOOD: &str = include_str!("rich.yaml");
const OTHER: &str =
    "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\nqueues: {untouched: {templateOverrides: {labels: {a: b}}}}\n";
const REVIEW: &[u8] = include_bytes!("../fixtures/reviews/bare-apply-clearml.json");

static BUILDER: LazyLock<Mutex<Builder>> = LazyLock::new(Mutex::default);

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutator::mutate(0, data, size, max_size, seed)
});

fuzz_target!(|text: &str| {
    // one builder for all inputs, as each ends where it began: at the good text
    let mut builder = BUILDER.lock().unwrap_or_else(PoisonError::into_inner);
    let good = builder.build(&common::input(&[("podgraft.yaml", GOOD), ("other.yaml", OTHER)]), &common::compile);
    assert!(good.errors.is_empty(), "{:#?}", good.errors);

    let fuzzed = common::input(&[("podgraft.yaml", text), ("other.yaml", OTHER)]);
    let built = builder.build(&fuzzed, &common::compile);
    places(&built, text);
    last_good(&good, &built);
    let answer = common::answer(REVIEW, &built.snapshot);
    common::check(REVIEW, &answer);
    assert!(!builder.build(&fuzzed, &common::compile).changed, "the same text twice is a change");

    let back = builder.build(&common::input(&[("podgraft.yaml", GOOD), ("other.yaml", OTHER)]), &common::compile);
    assert_eq!(back.snapshot.digest, good.snapshot.digest);
    assert!(back.errors.is_empty(), "the good text is not good any more: {:#?}", back.errors);

    // and without anything good before it
    let alone = Builder::default().build(&common::input(&[("podgraft.yaml", text)]), &common::compile);
    places(&alone, text);
    let answer = common::answer(REVIEW, &alone.snapshot);
    common::check(REVIEW, &answer);
});

/// Every problem has a sentence, and a place that exists.
fn places(built: &Built, text: &str) {
    let lines = u32::try_from(text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count()).unwrap_or(u32::MAX);
    for problem in &built.errors {
        assert!(!problem.message.is_empty(), "{problem:?}");
        // a file in a ConfigMap of this text has lines of its own
        assert!(&*problem.file != "podgraft.yaml" || problem.line <= lines + 1, "{lines} lines: {problem:?}");
        assert_eq!(problem.line == 0, problem.column == 0, "{problem:?}");
    }
}

/// A queue of another file stays whatever this one holds; where this one cannot be read, all of it stays.
fn last_good(good: &Built, built: &Built) {
    let queues = &built.snapshot.queues;
    let untouched = queues.by_name.get("untouched").expect("the other file's queue");
    if untouched.error.is_none() {
        assert!(untouched.last_valid.is_some());
    }
    // a manifest of ConfigMaps holds files of other names, of which this one knows nothing
    if built.parsed || built.errors.iter().any(|problem| &*problem.file != "podgraft.yaml") {
        return;
    }
    for (name, unit) in &good.snapshot.queues.by_name {
        let now = queues.by_name.get(name).unwrap_or_else(|| panic!("queue {name} is gone with an unreadable file"));
        assert_eq!(unit.last_valid.is_some(), now.last_valid.is_some(), "queue {name}");
    }
    assert_eq!(good.snapshot.base.is_some(), built.snapshot.base.is_some(), "the base");
}
