//! Holds the lines that nothing else would hold.

#![allow(
    clippy::unwrap_used,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a test that cannot read fails"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// The core: pure and synchronous. Everything else under `src/` is shell.
const CORE: &[&str] = &[
    "account",
    "account.rs",
    "config",
    "config.rs",
    "guards",
    "guards.rs",
    "json.rs",
    "json",
    "layers.rs",
    "merge",
    "merge.rs",
    "mutate.rs",
    "mutate",
    "normalize.rs",
    "offline",
    "normalize",
    "offline.rs",
    "owners.rs",
    "patch",
    "patch.rs",
    "placeholder",
    "placeholder.rs",
    "pod_security",
    "pod_security.rs",
    "provenance.rs",
    "quantity.rs",
    "redact.rs",
    "render.rs",
    "review.rs",
    "schema.rs",
    "schema",
    "sidecars.rs",
    "snapshot.rs",
    "sound.rs",
    "sound",
    "task.rs",
    "task",
    "template.rs",
    "warnings",
    "warnings.rs",
    "yaml.rs",
];

/// What the core may not name: I/O, time, and those who do I/O.
const FORBIDDEN: &[&str] = &[
    "tokio",
    "axum",
    "hyper",
    "kube::",
    "wasmtime",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "Instant",
    "SystemTime",
    "println!",
    "tracing",
];

const SHELL: &[&str] = &[
    "admin.rs",
    "admission.rs",
    "admission",
    "app.rs",
    "cli.rs",
    "cli",
    "lib.rs",
    "main.rs",
    "metrics.rs",
    "module.rs",
    "module",
    "seldom.rs",
    "server.rs",
    "server",
    "watch.rs",
    "watch",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().unwrap() != "target" {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found
}

/// A file's text without its unit tests and without comments, which may speak of anything.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_core_does_no_io() {
    for name in CORE {
        let path = root().join("src").join(name);
        let sources = if path.is_dir() { files(&path, ".rs") } else { vec![path] };
        for source in sources.iter().filter(|source| !source.ends_with("tests.rs")) {
            let code = code(source);
            let named: Vec<_> = FORBIDDEN.iter().filter(|word| code.contains(**word)).collect();
            assert!(named.is_empty(), "{} names {named:?}", source.display());
        }
    }
}

#[test]
fn every_source_is_core_or_shell() {
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            CORE.contains(&name.as_str()) || SHELL.contains(&name.as_str()),
            "src/{name} is in neither list of tests/tidy.rs"
        );
    }
}

#[test]
fn every_case_folder_is_complete() {
    let cases = root().join("tests/cases");
    for entry in fs::read_dir(cases).unwrap() {
        let folder = entry.unwrap().path();
        let has = |name: &str| folder.join(name).is_file();
        assert!(has("config.yaml") && (has("pod.yaml") ^ has("review.json")), "{} lacks its input", folder.display());
        assert!(has("expected.yaml") ^ has("rejection.txt"), "{} lacks its outcome", folder.display());
    }
}

#[test]
fn every_fixture_is_used() {
    let tests: String =
        files(&root().join("tests"), ".rs").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    for folder in ["clearml", "reviews"] {
        for entry in fs::read_dir(root().join("tests/fixtures").join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let is_fixture = name.ends_with(".yaml") || name.ends_with(".json");
            assert!(
                !is_fixture || tests.contains(&format!("fixtures/{folder}")),
                "tests/fixtures/{folder}/{name} is in no test"
            );
        }
    }
}

#[test]
fn every_test_file_is_a_target() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for entry in fs::read_dir(root().join("tests")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_test = name.ends_with(".rs");
        assert!(
            !is_test || manifest.contains(&format!("path = \"tests/{name}\"")),
            "tests/{name} is not in Cargo.toml"
        );
    }
}

#[test]
fn every_make_target_of_the_documents_exists() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    for document in ["README.md", "ARCHITECTURE.md", "policies/README.md", "certs/README.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for (_, rest) in text.match_indices("make ").map(|(at, found)| text.split_at(at + found.len())) {
            let target: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            let before = &text[..text.len() - rest.len()];
            let is_command = before.ends_with("`make ") || before.ends_with("\nmake ") || before.ends_with("$ make ");
            assert!(!is_command || makefile.contains(&format!("\n{target}:")), "{document} speaks of `make {target}`");
        }
    }
}

#[test]
fn the_registration_selects_by_the_same_labels_as_the_task_table() {
    let path = root().join("deploy/kustomize/base/mutatingwebhookconfiguration.yaml");
    let text = fs::read_to_string(path).unwrap();
    for label in podgraft::model::task::selecting_labels() {
        assert_eq!(text.matches(&format!("'{label}' in object.metadata.labels")).count(), 2, "{label}");
    }
    let selected = text.matches(" in object.metadata.labels").count();
    assert_eq!(selected, 2 * podgraft::model::task::selecting_labels().count());
}

#[test]
fn committed_modules_carry_no_paths_of_their_builder() {
    for module in
        files(&root().join("policies"), ".wasm").iter().filter(|path| path.parent() == Some(&root().join("policies")))
    {
        let bytes = fs::read(module).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for path in ["/home/", "/Users/", ".cargo/registry", ".rustup/toolchains"] {
            assert!(!text.contains(path), "{} holds {path}", module.display());
        }
    }
}
