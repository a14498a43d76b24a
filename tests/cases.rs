//! Every folder under `tests/cases/` is a test: `pod.yaml` (or `review.json`) and `config.yaml` go in, and
//! `expected.yaml` or `rejection.txt` must come out. `UPDATE=1 cargo test --test cases` writes what comes out.
//!
//! An optional `as.txt` names the user who creates the pod; without it a submitter of the pod's system does.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bumpalo::Bump;
use libtest_mimic::{Arguments, Failed, Trial};
use podgraft::cli::load::load;
use podgraft::mutate::{Mutation, Stop, mutate};
use podgraft::offline::{self, Sender};
use podgraft::render::Pace;
use podgraft::review::Review;
use podgraft::snapshot::Snapshot;
use podgraft::yaml;
use serde_json::Value;

fn main() {
    let arguments = Arguments::from_args();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = fs::read_dir(root.join("tests/cases"))
        .expect("tests/cases exists")
        .map(|entry| entry.expect("tests/cases can be listed").path())
        .collect();
    folders.sort();
    let trials = folders.into_iter().map(|folder| {
        let name = folder.file_name().expect("a folder has a name").to_string_lossy().into_owned();
        let policies = root.join("policies");
        Trial::test(name, move || case(&folder, &policies))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn case(folder: &Path, policies: &Path) -> Result<(), Failed> {
    let snapshot = load(&folder.join("config.yaml"), Some(policies)).map_err(|error| error.to_string())?;
    let user = fs::read_to_string(folder.join("as.txt")).ok();
    let sender = Sender { namespace: None, user: user.as_deref().map(str::trim) };
    let (name, result) = match rendered(&input(folder)?, sender, &snapshot)? {
        Ok(after) => {
            let again =
                rendered(&after, sender, &snapshot)?.map_err(|rejection| format!("the second time: {rejection}"))?;
            if again != after {
                return Err("rendering the result again changes it".into());
            }
            let arena = Bump::new();
            ("expected.yaml", yaml::text(podgraft::json::Json::lift(&after, &arena)))
        }
        Err(rejection) => ("rejection.txt", rejection + "\n"),
    };
    compare(folder, name, &result)
}

fn input(folder: &Path) -> Result<Value, Failed> {
    if let Ok(text) = fs::read_to_string(folder.join("review.json")) {
        return Ok(serde_json::from_str(&text)?);
    }
    let text = fs::read_to_string(folder.join("pod.yaml"))?;
    Ok(serde_saphyr::from_str(&text).map_err(|error| error.to_string())?)
}

/// The pod that comes back (json-patch applies the operations), or the rejection's text.
fn rendered(given: &Value, sender: Sender<'_>, snapshot: &Snapshot) -> Result<Result<Value, String>, Failed> {
    let review = offline::review(given.clone(), sender, snapshot)?;
    let body = serde_json::to_vec(&review)?;
    let arena = Bump::new();
    let parsed = Review::parse(&body, &arena)?;
    let left = || Duration::from_secs(10);
    let mut runs = Vec::new();
    match mutate(&parsed, snapshot, Pace::Patient(&left), &mut runs, &arena) {
        Ok(mutation) => Ok(Ok(patched(&review["request"]["object"], mutation.as_ref())?)),
        Err(Stop::Rejected(why)) => Ok(Err(format!("{} {}: {}", why.reason.code(), why.reason.name(), why.message))),
        Err(Stop::Slow(module)) => Err(format!("{module} did not run").into()),
    }
}

fn patched(pod: &Value, mutation: Option<&Mutation<'_>>) -> Result<Value, Failed> {
    let mut result = pod.clone();
    if let Some(mutation) = mutation {
        let patch: json_patch::Patch = serde_json::from_value(serde_json::to_value(mutation.operations)?)?;
        json_patch::patch(&mut result, &patch)?;
    }
    Ok(result)
}

fn compare(folder: &Path, name: &str, result: &str) -> Result<(), Failed> {
    let other = if name == "expected.yaml" { "rejection.txt" } else { "expected.yaml" };
    if std::env::var_os("UPDATE").is_some() {
        let _ = fs::remove_file(folder.join(other));
        fs::write(folder.join(name), result)?;
    }
    let Ok(expected) = fs::read_to_string(folder.join(name)) else {
        return Err(format!("there is no {name}, but this came out:\n{result}").into());
    };
    if expected == result {
        return Ok(());
    }
    let diff = similar::TextDiff::from_lines(&expected, result);
    Err(format!("{}", diff.unified_diff().header(name, "what came out")).into())
}
