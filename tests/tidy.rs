//! Rules for the tree that no other test checks: its layers, its targets, its cases and its committed modules.

#![allow(
    clippy::unwrap_used,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a test that cannot read fails"
)]

use std::fs;
use std::path::{Path, PathBuf};

use podgraft_testkit::root;

/// The core's folders of src/, from the bottom: a folder uses only those before it. Cargo holds the dependencies (`make
/// check` builds the core without the feature `webhook`), this file what the standard library has.
const CORE: &[&str] = &["json", "k8s", "merge", "model", "config", "mutate", "explain"];

/// The shell's folders, from the bottom.
const SHELL: &[&str] = &["wasm", "watch", "http", "cli"];

/// Modules of `std` that compile for wasm32 and do I/O.
const FORBIDDEN_MODULES: &[&str] = &["fs", "net", "env", "process", "thread", "io"];

/// Types and macros of `std` that compile for wasm32 and do I/O or tell the time.
const FORBIDDEN_NAMES: &[&str] = &["Instant", "SystemTime", "println!"];

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

/// A file's code to its end, without test items and without comments, which may speak of anything.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = without_test_items(&text);
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Leaves out each item under `#[cfg(test)]`. The tree is formatted, so that an item ends in its first line, or in the
/// first one that closes a brace at its own indentation.
fn without_test_items(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let code = line.trim_start();
        if code != "#[cfg(test)]" {
            kept = kept + line + "\n";
            continue;
        }
        let indentation = &line[..line.len() - code.len()];
        let item = lines.find(|line| !line.trim_start().starts_with("#[")).unwrap_or_default();
        if !item.ends_with(';') && !item.ends_with('}') {
            let end = format!("{indentation}}}");
            assert!(lines.any(|line| line.starts_with(&end)), "the end of `{item}`");
        }
    }
    kept
}

#[test]
fn test_items_are_left_out_and_nothing_else() {
    let text = "use a;\n\
                #[cfg(test)]\nmod tests;\n\
                fn b() {}\n\
                #[cfg(test)]\n#[allow(dead_code)]\nmod more {\n    fn c() {\n    }\n}\n\
                impl D {\n    #[cfg(test)]\n    fn e() {\n        f();\n    }\n    fn g() {}\n}\n";
    assert_eq!(without_test_items(text), "use a;\nfn b() {}\nimpl D {\n    fn g() {}\n}\n");
}

/// True if the code names the module `root::module`, in a path or in a tree such as `root::{module, other}`.
fn names(code: &str, root: &str, module: &str) -> bool {
    code.split(&format!("{root}::")).skip(1).any(|rest| first_names(rest).contains(&module))
}

/// The names directly behind a `::`: one, or all of a tree in braces without those that are nested in it.
fn first_names(rest: &str) -> Vec<&str> {
    let Some(tree) = rest.strip_prefix('{') else { return vec![identifier(rest)] };
    let mut found = vec![identifier(tree)];
    let mut depth = 0;
    for (index, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => found.push(identifier(&tree[index + 1..])),
            _ => {}
        }
    }
    found
}

/// The identifier at the beginning of a text.
fn identifier(text: &str) -> &str {
    let text = text.trim_start();
    &text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())]
}

#[test]
fn modules_are_found_in_paths_and_in_use_trees() {
    let code = "use std::{\n    collections::{BTreeMap, net},\n    env as e,\n    fs::{self, File},\n};\n\
                let a = std::io::stdin();";
    for (module, expected) in
        [("env", true), ("fs", true), ("io", true), ("net", false), ("process", false), ("collection", false)]
    {
        assert_eq!(names(code, "std", module), expected, "{module}");
    }
    assert!(names("use crate::http;", "crate", "http") && names("use crate::{json, http::server};", "crate", "http"));
}

/// The Rust files of one folder of src/, with the file of its name.
fn sources(folder: &str) -> Vec<PathBuf> {
    let src = root().join("src");
    let mut found = files(&src.join(folder), ".rs");
    found.push(src.join(folder).with_extension("rs"));
    found
}

#[test]
fn the_core_does_no_io() {
    let is_test =
        |path: &PathBuf| path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
    for source in CORE.iter().flat_map(|folder| sources(folder)).filter(|source| !is_test(source)) {
        let code = code(&source);
        let modules = FORBIDDEN_MODULES.iter().filter(|module| names(&code, "std", module));
        let named: Vec<_> = modules.chain(FORBIDDEN_NAMES.iter().filter(|name| code.contains(**name))).collect();
        assert!(named.is_empty(), "{} names {named:?}", source.display());
    }
}

#[test]
fn every_folder_uses_only_those_below_it() {
    let order: Vec<&str> = CORE.iter().chain(SHELL).copied().collect();
    for (index, folder) in order.iter().enumerate() {
        for source in sources(folder) {
            let code = code(&source);
            for above in &order[index + 1..] {
                assert!(!names(&code, "crate", above), "{} uses {above}", source.display());
            }
        }
    }
}

#[test]
fn every_source_is_core_or_shell() {
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let folder = name.strip_suffix(".rs").unwrap_or(&name);
        assert!(
            CORE.contains(&folder) || SHELL.contains(&folder) || ["lib", "main"].contains(&folder),
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
        assert!(has("expected.yaml") ^ has("denial.txt"), "{} lacks its outcome", folder.display());
    }
}

/// The root files of all targets under `tests/`, and of what they share.
fn test_roots() -> Vec<PathBuf> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let paths = manifest.lines().filter_map(|line| line.strip_prefix("path = \"")?.strip_suffix('"'));
    let roots = paths.filter(|path| path.starts_with("tests/") && path.ends_with(".rs"));
    roots.chain(["tests/support/src/lib.rs"]).map(|path| root().join(path)).collect()
}

#[test]
fn every_test_file_is_a_target() {
    let roots = test_roots();
    for path in files(&root().join("tests"), ".rs") {
        let is_root = path.parent() == Some(&root().join("tests")) || path.ends_with("main.rs");
        assert!(!is_root || roots.contains(&path), "{} is not in Cargo.toml", path.display());
    }
}

#[test]
fn every_test_root_begins_with_a_table_of_its_modules() {
    for path in test_roots() {
        let text = fs::read_to_string(&path).unwrap();
        let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let names =
            text.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'));
        let missing: Vec<_> = names.filter(|name| !head.contains(&format!("[`{name}`]"))).collect();
        assert!(missing.is_empty() && !head.is_empty(), "the head of {} does not name {missing:?}", path.display());
    }
}

#[test]
fn no_test_names_the_path_of_a_module() {
    for path in files(&root().join("tests"), ".rs") {
        let text = fs::read_to_string(&path).unwrap();
        let line = text.lines().position(|line| line.trim_start().starts_with("#[path"));
        assert_eq!(line, None, "{}: a module lies where its name says", path.display());
    }
}

#[test]
fn the_registration_selects_by_the_same_labels_as_the_task_table() {
    let path = root().join("deploy/kustomize/base/mutatingwebhookconfiguration.yaml");
    let text = fs::read_to_string(path).unwrap();
    for label in podgraft::model::task_systems::selecting_labels() {
        assert_eq!(text.matches(&format!("'{label}' in object.metadata.labels")).count(), 2, "{label}");
    }
    let selected = text.matches(" in object.metadata.labels").count();
    assert_eq!(selected, 2 * podgraft::model::task_systems::selecting_labels().count());
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
