//! The YAML of the documents.
//!
//! A block without `kind` is a part of a GraftConfig. Every GraftConfig, also one inside a ConfigMap, loads without an
//! error and fits the JSON schema for editors. Other YAML only has to be YAML.

use std::fs;

use serde_json::Value;

use super::{blocks, documents, read, root};

const HEAD: &str = "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\n";

#[test]
fn every_configuration_loads_and_fits_the_schema() {
    let validator = jsonschema::validator_for(&podgraft::config::json_schema()).unwrap();
    let mut seen = 0;
    for name in documents() {
        for block in blocks::of(&name, &read(&name)).iter().filter(|block| block.language == "yaml") {
            let at = format!("{name}:{}", block.line);
            for text in block.text.split("\n---\n").flat_map(|text| configurations(text, &at)) {
                let value: Value = serde_saphyr::from_str(&text).unwrap();
                let errors: Vec<_> =
                    validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
                assert!(errors.is_empty(), "{at}: {errors:#?}");
                load(&text, &at);
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "only {seen} configurations were found");
}

/// The configurations that a YAML document is or holds.
fn configurations(text: &str, at: &str) -> Vec<String> {
    let value: Value = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{at}: {error}"));
    match value["kind"].as_str() {
        None => vec![format!("{HEAD}{text}")],
        Some("GraftConfig") => vec![text.to_owned()],
        Some("ConfigMap") => {
            let data = value["data"].as_object().into_iter().flatten();
            let texts = data.filter(|(key, _)| key.ends_with(".yaml")).filter_map(|(_, text)| text.as_str());
            texts.map(str::to_owned).collect()
        }
        Some(_) => Vec::new(),
    }
}

fn load(text: &str, at: &str) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("podgraft.yaml");
    fs::write(&config, text).unwrap();
    let loaded = podgraft::cli::load::load(&config, Some(&root().join("policies")));
    assert!(loaded.is_ok(), "{at}: {}", loaded.unwrap_err());
}
