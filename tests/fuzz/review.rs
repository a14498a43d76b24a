//! Any bytes as a review: no panic, a patch that applies, and nothing left to do for the pod that comes back.
#![no_main]

mod common;
mod mutator;

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use podgraft::model::snapshot::Snapshot;

static SNAPSHOT: LazyLock<Arc<Snapshot>> = LazyLock::new(|| common::snapshot(include_str!("rich.yaml")));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutator::mutate(0, data, size, max_size, seed)
});

fuzz_target!(|body: &[u8]| common::twice(body, &SNAPSHOT));
