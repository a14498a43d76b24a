//! `podgraft schema`: the schema for editors.

use std::fs;

use super::{podgraft, root};

#[test]
fn the_printed_schema_is_the_committed_one() {
    let ran = podgraft(&["schema"], "");
    let committed = fs::read_to_string(root().join("deploy/graftconfig.schema.json")).unwrap();
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout == committed, "deploy/graftconfig.schema.json differs");
}
