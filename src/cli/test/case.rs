//! Runs one case folder: a manifest and its expected result.
//!
//! ```text
//! pod.yaml | review.json      the manifest: a Pod, a Job or an AdmissionReview
//! config.yaml | config/       the configuration; default: the suite's
//! as.txt                      the user who creates the pod; default: a submitter of its task system
//! pod-security.txt            the Pod Security level of its namespace, such as `restricted`; default: none
//! expected.yaml               the expected pod, or:
//! denial.txt                  the expected denial, such as `422 ModuleFailed: module nfs denied the pod: …`
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bumpalo::Bump;
use serde_json::Value;

use crate::cli::diff::{self, Side};
use crate::cli::load::load;
use crate::explain::simulate::{self, Sender, Simulation};
use crate::explain::yaml;
use crate::json::Json;
use crate::k8s::pod_security::Policy;
use crate::model::denial::Denial;
use crate::model::snapshot::Snapshot;
use crate::mutate::provenance::Change;

const POD: &str = "pod.yaml";
const REVIEW: &str = "review.json";
const EXPECTED: &str = "expected.yaml";
const DENIAL: &str = "denial.txt";
const POD_SECURITY: &str = "pod-security.txt";

/// A case folder.
#[derive(Debug)]
pub struct Case {
    /// the path below the searched folder
    pub name: String,
    folder: PathBuf,
}

/// The settings of all cases of a run.
#[derive(Debug, Default)]
pub struct Suite {
    /// the configuration of cases without their own
    pub config: Option<Arc<Snapshot>>,
    /// the folder with the template modules
    pub policies: Option<PathBuf>,
    /// true to write the results as expected results
    pub update: bool,
}

/// The verdict on a case.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// the result was as expected
    Passed,
    /// the result was written as the expected one
    Updated,
    /// the difference, with terminal colours
    Failed(String),
}

/// Finds all cases in a folder and its subfolders, in the order of their names. A folder with one of a case's files is a
/// case.
///
/// # Errors
/// A folder cannot be read.
pub fn find(root: &Path) -> anyhow::Result<Vec<Case>> {
    let mut found = Vec::new();
    search(root, "", &mut found)?;
    Ok(found)
}

fn search(folder: &Path, name: &str, found: &mut Vec<Case>) -> anyhow::Result<()> {
    if [POD, REVIEW, EXPECTED, DENIAL].iter().any(|file| folder.join(file).is_file()) {
        // `.` has a name only as an absolute path
        let whole = || folder.canonicalize().unwrap_or_default();
        let own = || whole().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = if name.is_empty() { own() } else { name.to_owned() };
        found.push(Case { name, folder: folder.to_owned() });
        return Ok(());
    }
    let entries = fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let own = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !own.starts_with('.') {
            let name = if name.is_empty() { own } else { format!("{name}/{own}") };
            search(&entry.path(), &name, found)?;
        }
    }
    Ok(())
}

impl Case {
    /// Runs the case.
    ///
    /// # Errors
    /// A file of the case is missing or malformed, or its configuration has errors.
    pub fn run(&self, suite: &Suite) -> anyhow::Result<Verdict> {
        let snapshot = self.config(suite)?;
        let user = fs::read_to_string(self.folder.join("as.txt")).ok();
        let sender = Sender { namespace: None, user: user.as_deref().map(str::trim) };
        snapshot.pod_security.set_everywhere(self.pod_security()?);
        let review = simulate::review(self.input()?, sender, &snapshot).map_err(anyhow::Error::msg)?;
        let outcome = simulate::simulate(&review, &snapshot).map_err(anyhow::Error::msg)?;
        if let Some(reason) = unstable(&outcome) {
            return Ok(Verdict::Failed(reason));
        }
        let submitted = &review["request"]["object"];
        let failed = match (self.expectation(suite.update)?, &outcome.result) {
            (Some(Expectation::Pod(expected)), Ok(pod)) if expected == *pod => None,
            (Some(Expectation::Pod(expected)), Ok(pod)) => Some(format!(
                "{EXPECTED} (-) and the result (+) differ:\n{}",
                differences(&expected, pod, &outcome.changes)
            )),
            (Some(Expectation::Pod(_)), Err(denial)) => {
                Some(format!("{EXPECTED} holds a pod, but the pod is denied:\n{}\n", denial_text(denial)))
            }
            (Some(Expectation::Denial(expected)), Err(denial)) if expected == denial_text(denial) => None,
            (Some(Expectation::Denial(expected)), Err(denial)) => {
                Some(format!("{DENIAL} (-) and the denial (+) differ:\n- {expected}\n+ {}\n", denial_text(denial)))
            }
            (Some(Expectation::Denial(expected)), Ok(pod)) => {
                let changes = differences(submitted, pod, &outcome.changes);
                Some(format!("the pod should be denied ({expected}), but it is created with these changes:\n{changes}"))
            }
            (None, _) if suite.update => Some(String::new()),
            (None, result) => {
                bail!("neither {EXPECTED} nor {DENIAL} exists; --update writes the result: {}", result_text(result))
            }
        };
        match failed {
            None => Ok(Verdict::Passed),
            Some(_) if suite.update => self.write(&outcome.result).map(|()| Verdict::Updated),
            Some(reason) => Ok(Verdict::Failed(reason)),
        }
    }

    fn config(&self, suite: &Suite) -> anyhow::Result<Arc<Snapshot>> {
        for own in ["config.yaml", "config"] {
            let path = self.folder.join(own);
            if path.exists() {
                return load(&path, suite.policies.as_deref());
            }
        }
        let shared = suite.config.as_ref().map(Arc::clone);
        shared.context("the case has neither config.yaml nor a folder config, and --config is not given")
    }

    fn pod_security(&self) -> anyhow::Result<Option<Policy>> {
        if !self.folder.join(POD_SECURITY).exists() {
            return Ok(None);
        }
        let policy = self.read(POD_SECURITY)?.trim().parse();
        policy.map(Some).map_err(|error| anyhow::anyhow!("{POD_SECURITY}: {error}"))
    }

    fn input(&self) -> anyhow::Result<Value> {
        let name = match (self.folder.join(POD).is_file(), self.folder.join(REVIEW).is_file()) {
            (true, false) => POD,
            (false, true) => REVIEW,
            (true, true) => bail!("{POD} and {REVIEW} both exist; a case needs one of them"),
            (false, false) => bail!("neither {POD} nor {REVIEW} exists; a case needs one of them"),
        };
        let mut documents = simulate::documents(name, &self.read(name)?).map_err(anyhow::Error::msg)?;
        match (documents.pop(), documents.len()) {
            (Some(only), 0) => Ok(only.object),
            (_, more) => {
                bail!("{name} holds {} documents; a case has one pod", if more == 0 { 0 } else { more + 1 })
            }
        }
    }

    /// Reads the expected result. An empty file expects nothing yet: a new case may begin with one.
    fn expectation(&self, update: bool) -> anyhow::Result<Option<Expectation>> {
        match (self.folder.join(EXPECTED).is_file(), self.folder.join(DENIAL).is_file()) {
            (true, true) => bail!("{EXPECTED} and {DENIAL} both exist; a case has one expected result"),
            (false, false) => Ok(None),
            (false, true) => Ok(Some(Expectation::Denial(self.read(DENIAL)?.trim().to_owned()))),
            (true, false) => {
                let mut documents = simulate::documents(EXPECTED, &self.read(EXPECTED)?).map_err(anyhow::Error::msg)?;
                match (documents.pop(), documents.is_empty()) {
                    (Some(only), true) => Ok(Some(Expectation::Pod(only.object))),
                    (None, _) if update => Ok(None),
                    (None, _) => bail!("{EXPECTED} is empty; --update writes the result"),
                    (Some(_), false) => bail!("{EXPECTED} must hold one pod"),
                }
            }
        }
    }

    fn read(&self, name: &str) -> anyhow::Result<String> {
        fs::read_to_string(self.folder.join(name)).with_context(|| format!("{name} cannot be read"))
    }

    fn write(&self, result: &Result<Value, Denial>) -> anyhow::Result<()> {
        let (name, other, text) = match result {
            Ok(pod) => {
                let arena = Bump::new();
                (EXPECTED, DENIAL, yaml::text(Json::borrowed(pod, &arena)))
            }
            Err(denial) => (DENIAL, EXPECTED, denial_text(denial) + "\n"),
        };
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        match fs::remove_file(self.folder.join(other)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{other} cannot be removed"))
            }
            _ => Ok(()),
        }
    }
}

/// The expected result of a case.
enum Expectation {
    Pod(Value),
    Denial(String),
}

/// Formats a denial for `denial.txt`.
fn denial_text(denial: &Denial) -> String {
    format!("{} {}: {}", denial.reason.code(), denial.reason.name(), denial.message)
}

fn result_text(result: &Result<Value, Denial>) -> String {
    result.as_ref().map_or_else(denial_text, |_| "a pod".to_owned())
}

/// Describes the changes of the second run, if there are any.
fn unstable(outcome: &Simulation) -> Option<String> {
    match &outcome.second_run {
        Ok(changes) if changes.is_empty() => None,
        Ok(changes) => {
            let lines: Vec<_> =
                changes.iter().map(|change| format!("  {} by {}", change.path, change.source)).collect();
            Some(format!("sent a second time, the result changes again:\n{}\n", lines.join("\n")))
        }
        Err(denial) => Some(format!("sent a second time, the result is denied:\n  {}\n", denial_text(denial))),
    }
}

fn differences(before: &Value, after: &Value, changes: &[Change]) -> String {
    let arena = Bump::new();
    let side = |pod| Side::whole(Json::borrowed(pod, &arena), &arena);
    diff::text(&side(before), &side(after), changes, "")
}
