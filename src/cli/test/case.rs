//! One case folder: what goes in, what must come out.
//!
//! ```text
//! pod.yaml | review.json      what is sent: a Pod, a Job or an AdmissionReview
//! config.yaml | config/       the configuration; without it, the one of the whole suite
//! as.txt                      who sends it; without it a submitter of its task system
//! pod-security.txt            the Pod Security level of its namespace, as `restricted`; without it there is none
//! expected.yaml               the pod that must come back, or:
//! denial.txt                  the denial, as `422 ModuleFailed: module nfs denied the pod: …`
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

/// A folder with one case.
#[derive(Debug)]
pub struct Case {
    /// its path below the folder that was searched
    pub name: String,
    folder: PathBuf,
}

/// What holds for all cases of a run.
#[derive(Debug, Default)]
pub struct Suite {
    /// for cases that bring no configuration
    pub config: Option<Arc<Snapshot>>,
    /// where the template modules are
    pub policies: Option<PathBuf>,
    /// whether what comes out is written down as what is expected
    pub update: bool,
}

/// How a case ended that could be run.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// what was expected came out
    Passed,
    /// what came out was written down
    Updated,
    /// why not, as a terminal shows it (with colours)
    Failed(String),
}

/// All cases in a folder and its subfolders, by name. A folder is a case when one of a case's files is in it.
///
/// # Errors
/// A folder cannot be read.
pub fn find(root: &Path) -> anyhow::Result<Vec<Case>> {
    let mut found = Vec::new();
    look_into(root, "", &mut found)?;
    Ok(found)
}

fn look_into(folder: &Path, name: &str, found: &mut Vec<Case>) -> anyhow::Result<()> {
    if [POD, REVIEW, EXPECTED, DENIAL].iter().any(|file| folder.join(file).is_file()) {
        // `.` has a name, too
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
            look_into(&entry.path(), &name, found)?;
        }
    }
    Ok(())
}

impl Case {
    /// Runs it.
    ///
    /// # Errors
    /// It is not complete, or its configuration is wrong: one text that says what to mend.
    pub fn run(&self, suite: &Suite) -> anyhow::Result<Verdict> {
        let snapshot = self.config(suite)?;
        let user = fs::read_to_string(self.folder.join("as.txt")).ok();
        let sender = Sender { namespace: None, user: user.as_deref().map(str::trim) };
        snapshot.pod_security.set_everywhere(self.pod_security()?);
        let review = simulate::review(self.input()?, sender, &snapshot).map_err(anyhow::Error::msg)?;
        let outcome = simulate::simulate(&review, &snapshot).map_err(anyhow::Error::msg)?;
        if let Some(why) = unstable(&outcome) {
            return Ok(Verdict::Failed(why));
        }
        let submitted = &review["request"]["object"];
        let failed = match (self.expectation(suite.update)?, &outcome.result) {
            (Some(Expectation::Pod(wanted)), Ok(pod)) if wanted == *pod => None,
            (Some(Expectation::Pod(wanted)), Ok(pod)) => Some(format!(
                "{EXPECTED} (-) and what comes out (+) differ:\n{}",
                differences(&wanted, pod, &outcome.changes)
            )),
            (Some(Expectation::Pod(_)), Err(rejection)) => {
                Some(format!("{EXPECTED} holds a pod, but it is refused:\n{}\n", refusal(rejection)))
            }
            (Some(Expectation::Refusal(wanted)), Err(rejection)) if wanted == refusal(rejection) => None,
            (Some(Expectation::Refusal(wanted)), Err(rejection)) => {
                Some(format!("{DENIAL} (-) and the refusal (+) differ:\n- {wanted}\n+ {}\n", refusal(rejection)))
            }
            (Some(Expectation::Refusal(wanted)), Ok(pod)) => {
                let changes = differences(submitted, pod, &outcome.changes);
                Some(format!("it should be refused ({wanted}), but it goes through, changed so:\n{changes}"))
            }
            (None, _) if suite.update => Some(String::new()),
            (None, result) => {
                bail!("neither {EXPECTED} nor {DENIAL} is there; --update writes what comes out: {}", told(result))
            }
        };
        match failed {
            None => Ok(Verdict::Passed),
            Some(_) if suite.update => self.write(&outcome.result).map(|()| Verdict::Updated),
            Some(why) => Ok(Verdict::Failed(why)),
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
        shared.context("the case has neither config.yaml nor a folder config, and --config names none for all")
    }

    fn pod_security(&self) -> anyhow::Result<Option<Policy>> {
        if !self.folder.join(POD_SECURITY).exists() {
            return Ok(None);
        }
        let policy = self.read(POD_SECURITY)?.trim().parse();
        policy.map(Some).map_err(|why| anyhow::anyhow!("{POD_SECURITY}: {why}"))
    }

    fn input(&self) -> anyhow::Result<Value> {
        let name = match (self.folder.join(POD).is_file(), self.folder.join(REVIEW).is_file()) {
            (true, false) => POD,
            (false, true) => REVIEW,
            (true, true) => bail!("{POD} and {REVIEW} are both there: one of them is what is sent"),
            (false, false) => bail!("neither {POD} nor {REVIEW} is there: one of them is what is sent"),
        };
        let mut documents = simulate::documents(name, &self.read(name)?).map_err(anyhow::Error::msg)?;
        match (documents.pop(), documents.len()) {
            (Some(only), 0) => Ok(only.object),
            (_, more) => {
                bail!("{name} holds {} documents; a case is about one pod", if more == 0 { 0 } else { more + 1 })
            }
        }
    }

    /// An empty file expects nothing yet: it is the first thing that somebody makes of a new case.
    fn expectation(&self, update: bool) -> anyhow::Result<Option<Expectation>> {
        match (self.folder.join(EXPECTED).is_file(), self.folder.join(DENIAL).is_file()) {
            (true, true) => bail!("{EXPECTED} and {DENIAL} are both there: only one of them can come true"),
            (false, false) => Ok(None),
            (false, true) => Ok(Some(Expectation::Refusal(self.read(DENIAL)?.trim().to_owned()))),
            (true, false) => {
                let mut documents = simulate::documents(EXPECTED, &self.read(EXPECTED)?).map_err(anyhow::Error::msg)?;
                match (documents.pop(), documents.is_empty()) {
                    (Some(only), true) => Ok(Some(Expectation::Pod(only.object))),
                    (None, _) if update => Ok(None),
                    (None, _) => bail!("{EXPECTED} is empty; --update writes what comes out"),
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
            Err(rejection) => (DENIAL, EXPECTED, refusal(rejection) + "\n"),
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

/// What a case says must come out.
enum Expectation {
    Pod(Value),
    Refusal(String),
}

/// A refusal as `denial.txt` holds it.
fn refusal(rejection: &Denial) -> String {
    format!("{} {}: {}", rejection.reason.code(), rejection.reason.name(), rejection.message)
}

fn told(result: &Result<Value, Denial>) -> String {
    result.as_ref().map_or_else(refusal, |_| "a pod".to_owned())
}

/// Whatever comes out must stay as it is when it is sent again.
fn unstable(outcome: &Simulation) -> Option<String> {
    match &outcome.second_run {
        Ok(touches) if touches.is_empty() => None,
        Ok(touches) => {
            let lines: Vec<_> = touches.iter().map(|touch| format!("  {} by {}", touch.path, touch.source)).collect();
            Some(format!("sent again, the result is changed once more:\n{}\n", lines.join("\n")))
        }
        Err(rejection) => Some(format!("sent again, the result is refused:\n  {}\n", refusal(rejection))),
    }
}

fn differences(before: &Value, after: &Value, touches: &[Change]) -> String {
    let arena = Bump::new();
    let side = |pod| Side::whole(Json::borrowed(pod, &arena), &arena);
    diff::text(&side(before), &side(after), touches, "")
}
