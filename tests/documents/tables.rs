//! Lists of names in the documents, compared with the code: metrics and their labels, log fields, reasons of denials,
//! keys.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{read, root};

#[test]
fn operations_lists_every_metric_and_label_value() {
    let code = source_with("Registry::with_prefix(\"podgraft\")");
    let mut expected = BTreeSet::new();
    for call in code.split(".register(").skip(1) {
        let name = call.split('"').nth(1).unwrap();
        let field = call.split("self.").nth(1).and_then(|rest| rest.split('.').next()).unwrap_or("Info");
        let kind = code.split(&format!("    {field}: ")).nth(1).and_then(|rest| rest.lines().next()).unwrap_or("Info");
        let unit = if kind.contains("Counter") {
            "_total"
        } else if kind == "Info" {
            "_info"
        } else {
            ""
        };
        expected.insert(format!("podgraft_{name}{unit}"));
    }
    assert!(expected.len() > 20, "{expected:?}");
    let document = read("docs/operations.md");
    let listed: BTreeSet<String> = first_cells(&document, "podgraft_").collect();
    assert_eq!(listed, expected, "the metrics of docs/operations.md, left, and of the code");

    let spelled = code.lines().filter_map(|line| line.split("=> \"").nth(1)?.split('"').next());
    let missing: Vec<_> = spelled.filter(|value| !document.contains(&format!("`{value}`"))).collect();
    assert!(missing.is_empty(), "docs/operations.md does not explain the label values {missing:?}");
}

#[test]
fn operations_lists_every_field_of_the_log_of_requests() {
    let code = read("src/http/admission/log.rs");
    let macros = ["debug!(", "info!(", "warn!(", "error!("].into_iter().flat_map(|name| code.split(name).skip(1));
    let expected: BTreeSet<&str> = macros.flat_map(log_fields).collect();
    assert!(expected.len() > 10, "{expected:?}");
    let document = read("docs/operations.md");
    let table = document.split("| field of a request or module |").nth(1).unwrap().split("\n\n").next().unwrap();
    let cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let listed: BTreeSet<&str> =
        cells.flat_map(|cell| cell.split('`').step_by(2)).filter(|name| !name.is_empty()).collect();
    assert_eq!(listed, expected, "the log fields of docs/operations.md, left, and of the code");
}

/// The names of the fields in a call of a log macro, whose text begins behind its parenthesis.
fn log_fields(call: &str) -> impl Iterator<Item = &str> {
    let call = call.trim_start();
    let without_target =
        call.strip_prefix("target: ").and_then(|rest| rest.split_once(',')).map_or(call, |(_, rest)| rest);
    let before_message = without_target.split('"').next().unwrap_or_default();
    let fields = before_message.split(',').filter_map(|field| field.split('=').next());
    fields.map(|name| name.trim().trim_start_matches(['%', '?'])).filter(|name| !name.is_empty())
}

#[test]
fn troubleshooting_lists_every_reason() {
    let code = source_with("pub enum Reason {");
    let expected: BTreeSet<String> =
        code.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect();
    assert!(expected.len() > 10, "{expected:?}");
    let document = read("docs/troubleshooting.md");
    let listed: BTreeSet<String> =
        document.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_owned).collect();
    assert_eq!(listed, expected, "the reasons of docs/troubleshooting.md, left, and of the code");
}

#[test]
fn configuration_explains_every_key() {
    let schema = podgraft::config::json_schema();
    let document = read("docs/configuration.md");
    let own = [
        "BasePodTemplate",
        "Budget",
        "Claim",
        "Environment",
        "EnvironmentMatch",
        "FileMount",
        "FileRef",
        "Module",
        "PodTemplate",
        "ProvidersInfo",
        "Queue",
        "QueueMatch",
        "System",
        "TaskConfig",
        "TemplateOverrides",
        "VaultMatch",
    ];
    let definitions = own.iter().map(|name| &schema["$defs"][*name]).chain([&schema]);
    let mut seen = 0;
    for definition in definitions {
        let properties = definition.get("properties").or_else(|| definition["else"].get("properties"));
        for key in properties.unwrap_or_else(|| panic!("{definition:#}")).as_object().unwrap().keys() {
            assert!(document.contains(&format!("`{key}`")), "docs/configuration.md does not explain `{key}`");
            seen += 1;
        }
    }
    assert!(seen > 80, "only {seen} keys were found");
}

/// The names in backticks in the first cell of each row, of those that begin so.
fn first_cells<'d>(document: &'d str, start: &'d str) -> impl Iterator<Item = String> + 'd {
    let cells = document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    cells.filter(move |cell| cell.starts_with(start)).map(|cell| cell.split('{').next().unwrap().to_owned())
}

/// The one source file that has this text.
fn source_with(text: &str) -> String {
    let mut found = Vec::new();
    collect(&root().join("src"), text, &mut found);
    assert_eq!(found.len(), 1, "files of src/ with {text}");
    found.remove(0)
}

fn collect(folder: &Path, text: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, text, found);
        } else if let Ok(source) = fs::read_to_string(&path)
            && source.contains(text)
        {
            found.push(source);
        }
    }
}
