//! Any text as a module's result, template or fragment: no panic, a patch that applies, or a denial with a reason.
#![no_main]

mod common;
mod mutator;

use std::sync::{Arc, LazyLock, PoisonError};

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use podgraft::model::hook::HookOutput;
use podgraft::model::snapshot::Snapshot;

/// Returns a configuration with one module. `mayRemove` and `onError` are two bits of the input.
fn snapshot(number: u8) -> Arc<Snapshot> {
    let (remove, on_error) = (number & 1 == 1, if number & 2 == 2 { "Ignore" } else { "Fail" });
    common::snapshot(&format!(
        "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\n\
         modules: {{returns: {{wasm: returns.wasm, mayRemove: {remove}, onError: {on_error}}}}}\n\
         basePodTemplate: {{modules: [returns], env: [{{name: A, value: base}}]}}\n"
    ))
}

static SNAPSHOTS: LazyLock<[Arc<Snapshot>; 4]> = LazyLock::new(|| [0, 1, 2, 3].map(snapshot));

const REVIEWS: [&[u8]; 2] = [
    include_bytes!("../fixtures/reviews/bare-apply-clearml.json"),
    include_bytes!("../fixtures/reviews/limitrange-priority-clearml.json"),
];

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutator::mutate(1, data, size, max_size, seed)
});

fuzz_target!(|data: &[u8]| {
    let Some((&kind, text)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(text).into_owned();
    let returned = if kind & 4 == 4 { HookOutput::Template(text) } else { HookOutput::Fragment(text) };
    *common::RETURNED.lock().unwrap_or_else(PoisonError::into_inner) = Some(returned);
    let (snapshot, review) = (&SNAPSHOTS[usize::from(kind & 3)], REVIEWS[usize::from(kind >> 3 & 1)]);
    let answer = common::answer(review, snapshot);
    common::check(review, &answer);
});
