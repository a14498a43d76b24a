//! The manifests that are given with `-f`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::explain::simulate::{self, Document, EXPECTED, Sender};
use crate::k8s::pod_security::Policy;
use crate::model::snapshot::Snapshot;

/// Who sends them, and where to: the same flags for every verb.
#[derive(Debug, clap::Args)]
pub(super) struct Manifests {
    /// Pods or Jobs (YAML or JSON, several documents in one file as they come) or an AdmissionReview (JSON); `-` is standard input
    #[arg(short, long, value_name = "POD|JOB|REVIEW", required = true)]
    pub(super) filename: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) sending: SendArgs,
    /// Pod Security level by which the API server warns in the pod's namespace: privileged, baseline or restricted,
    /// with a version if it has one, as `restricted:v1.30`
    #[arg(long, value_name = "LEVEL")]
    pod_security: Option<Policy>,
}

/// Who sends a manifest.
#[derive(Debug, clap::Args)]
pub(super) struct SendArgs {
    /// The pod's namespace; default: the manifest's own, else `default`
    #[arg(short, long)]
    namespace: Option<String>,
    /// Who creates the pod; default: a submitter of its task system, whose word counts; for a Job the Job controller
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
}

/// One manifest, as the webhook would be sent it.
pub(super) struct Manifest {
    /// the file, and where it has several documents, which of them
    pub(super) label: String,
    /// the review
    pub(super) body: Vec<u8>,
}

impl SendArgs {
    fn sender(&self) -> Sender<'_> {
        Sender { namespace: self.namespace.as_deref(), user: self.user.as_deref() }
    }
}

impl Manifests {
    /// As [`read`]. From here on the snapshot holds pods to the level that was given.
    pub(super) fn read(&self, snapshot: &Snapshot) -> anyhow::Result<Vec<Manifest>> {
        snapshot.pod_security.set_everywhere(self.pod_security);
        read(&self.filename, &self.sending, snapshot)
    }
}

/// Reads all of them. Beside pods a stream may hold what belongs to them (a Service, a ConfigMap): those are told and
/// left out.
///
/// # Errors
/// A file cannot be read, or holds nothing that could be rendered.
pub(super) fn read(files: &[PathBuf], sending: &SendArgs, snapshot: &Snapshot) -> anyhow::Result<Vec<Manifest>> {
    let mut found = Vec::new();
    for file in files {
        found.extend(read_one(file, sending, snapshot)?);
    }
    Ok(found)
}

fn read_one(file: &Path, sending: &SendArgs, snapshot: &Snapshot) -> anyhow::Result<Vec<Manifest>> {
    let name = file.display().to_string();
    let text = text_of(file)?;
    let documents = simulate::documents(&name, &text).map_err(anyhow::Error::msg)?;
    if let [only] = documents.as_slice() {
        let body = body(only, &text, sending, snapshot).map_err(|why| anyhow::anyhow!("{name}: {why}"))?;
        return Ok(vec![Manifest { label: name, body }]);
    }
    let mut found = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let label = format!("{name}:{} (document {})", document.line, index + 1);
        match body(document, "", sending, snapshot) {
            Ok(body) => found.push(Manifest { label, body }),
            Err(why) if is_neither(document) => tell!("{label}: {why}; left out"),
            Err(why) => bail!("{label}: {why}"),
        }
    }
    if found.is_empty() {
        bail!("{name}: it holds {}; {EXPECTED}", if documents.is_empty() { "nothing" } else { "none of these" });
    }
    Ok(found)
}

fn is_neither(document: &Document) -> bool {
    !matches!(document.object["kind"].as_str(), Some("Pod" | "Job" | "AdmissionReview"))
}

fn text_of(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        return std::io::read_to_string(std::io::stdin()).context("standard input cannot be read");
    }
    if file.is_dir() {
        bail!("{} is a folder; a file is expected", file.display());
    }
    std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
}

/// The review that the webhook would be sent.
fn body(document: &Document, text: &str, sending: &SendArgs, snapshot: &Snapshot) -> Result<Vec<u8>, String> {
    let sender = sending.sender();
    let is_review = document.object["kind"] == "AdmissionReview";
    let is_json = || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if is_review && sender.namespace.is_none() && sender.user.is_none() && is_json() {
        return Ok(text.as_bytes().to_vec()); // the very bytes that the webhook got
    }
    let review: Value = simulate::review(document.object.clone(), sender, snapshot)?;
    Ok(review.to_string().into_bytes())
}
