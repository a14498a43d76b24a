//! The links of the documents: each leads to a file of the repository and, behind `#`, to a heading in it.

use std::path::{Component, Path, PathBuf};

use super::{blocks, documents, read, root};

/// A path in backticks that begins so is one below the root.
const FOLDERS: [&str; 5] = ["src/", "tests/", "deploy/", "policies/", "certs/"];

#[test]
fn every_link_leads_somewhere() {
    for name in documents() {
        let prose = blocks::prose(&name, &read(&name));
        for target in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, heading) =
                target.split_once('#').map_or((target, None), |(path, heading)| (path, Some(heading)));
            let file = if path.is_empty() { PathBuf::from(&name) } else { beside(&name, path) };
            assert!(root().join(&file).exists(), "{name} links to {target}, which is not there");
            if let Some(heading) = heading {
                let headings = headings(file.to_str().unwrap());
                assert!(
                    headings.iter().any(|known| known == heading),
                    "{name} links to {target}; there is {headings:?}"
                );
            }
        }
    }
}

#[test]
fn the_readme_names_every_document() {
    let readme = read("README.md");
    for name in documents().iter().filter(|name| name.starts_with("docs/")) {
        assert!(readme.contains(&format!("]({name})")), "README.md does not link to {name}");
    }
}

#[test]
fn every_path_in_backticks_exists() {
    let mut missing = Vec::new();
    for name in documents().iter().filter(|name| *name != "CHANGELOG.md") {
        let prose = blocks::prose(name, &read(name));
        for path in
            prose.split('`').skip(1).step_by(2).filter(|span| FOLDERS.iter().any(|folder| span.starts_with(folder)))
        {
            let is_pattern = path.contains(['<', '*', ' ', '{']);
            if !is_pattern && !root().join(path).exists() {
                missing.push(format!("{name}: {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "paths that are not there: {missing:#?}");
}

/// A path relative to a document, as one below the root.
fn beside(document: &str, path: &str) -> PathBuf {
    let mut found = PathBuf::new();
    for part in Path::new(document).parent().unwrap().join(path).components() {
        match part {
            Component::ParentDir => assert!(found.pop(), "{document} links out of the repository: {path}"),
            part => found.push(part),
        }
    }
    found
}

/// The anchors of a document's headings, as GitHub makes them.
fn headings(document: &str) -> Vec<String> {
    let prose = blocks::prose(document, &read(document));
    let titles = prose.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    titles
        .map(|title| {
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        })
        .collect()
}
