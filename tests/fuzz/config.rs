//! Any text as a configuration: no panic, errors with a position, and each unit's last valid version serves on.
#![no_main]

mod common;
mod mutator;

use std::sync::{LazyLock, Mutex, PoisonError};

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use podgraft::config::{Builder, Built};

const VALID: &str = include_str!("rich.yaml");
const OTHER: &str =
    "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\nqueues: {other: {templateOverrides: {labels: {a: b}}}}\n";
const REVIEW: &[u8] = include_bytes!("../fixtures/reviews/bare-apply-clearml.json");

static BUILDER: LazyLock<Mutex<Builder>> = LazyLock::new(Mutex::default);

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutator::mutate(0, data, size, max_size, seed)
});

fuzz_target!(|text: &str| {
    // one builder for all inputs, as each input ends with the valid text again
    let mut builder = BUILDER.lock().unwrap_or_else(PoisonError::into_inner);
    let valid = builder.build(&common::input(&[("podgraft.yaml", VALID), ("other.yaml", OTHER)]), &common::compile);
    assert!(valid.errors.is_empty(), "{:#?}", valid.errors);

    let fuzzed = common::input(&[("podgraft.yaml", text), ("other.yaml", OTHER)]);
    let built = builder.build(&fuzzed, &common::compile);
    check_positions(&built, text);
    check_last_valid(&valid, &built);
    let answer = common::answer(REVIEW, &built.snapshot);
    common::check(REVIEW, &answer);
    assert!(!builder.build(&fuzzed, &common::compile).changed, "the same text twice is a change");

    let back = builder.build(&common::input(&[("podgraft.yaml", VALID), ("other.yaml", OTHER)]), &common::compile);
    assert_eq!(back.snapshot.digest, valid.snapshot.digest);
    assert!(back.errors.is_empty(), "the valid text is invalid now: {:#?}", back.errors);

    // and without a valid text before it
    let alone = Builder::default().build(&common::input(&[("podgraft.yaml", text)]), &common::compile);
    check_positions(&alone, text);
    let answer = common::answer(REVIEW, &alone.snapshot);
    common::check(REVIEW, &answer);
});

/// Checks that every error has a message, and a position that exists.
fn check_positions(built: &Built, text: &str) {
    let lines = u32::try_from(text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count()).unwrap_or(u32::MAX);
    for error in &built.errors {
        assert!(!error.message.is_empty(), "{error:?}");
        // a file in a ConfigMap of this text has lines of its own
        assert!(&*error.file != "podgraft.yaml" || error.line <= lines + 1, "{lines} lines: {error:?}");
        assert_eq!(error.line == 0, error.column == 0, "{error:?}");
    }
}

/// Checks that another file's queue keeps serving, and that every unit does if this file is malformed.
fn check_last_valid(valid: &Built, built: &Built) {
    let queues = &built.snapshot.queues;
    let other = queues.by_name.get("other").expect("the other file's queue");
    if other.error.is_none() {
        assert!(other.last_valid.is_some());
    }
    // a manifest of ConfigMaps holds files of other names, of which this check knows nothing
    if built.parsed || built.errors.iter().any(|error| &*error.file != "podgraft.yaml") {
        return;
    }
    for (name, unit) in &valid.snapshot.queues.by_name {
        let now = queues.by_name.get(name).unwrap_or_else(|| panic!("queue {name} is gone with a malformed file"));
        assert_eq!(unit.last_valid.is_some(), now.last_valid.is_some(), "queue {name}");
    }
    assert_eq!(valid.snapshot.base.is_some(), built.snapshot.base.is_some(), "the base");
}
