//! Reads the manifests that are given with `-f`, and makes an AdmissionReview of each.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::explain::simulate::{self, Document, EXPECTED, Sender};
use crate::k8s::pod_security::Policy;
use crate::model::snapshot::Snapshot;

/// The flags of every verb that reads manifests.
#[derive(Debug, clap::Args)]
pub(super) struct Manifests {
    /// Pods or Jobs (YAML or JSON, also several documents in one file) or an AdmissionReview (JSON); `-` is standard input
    #[arg(short, long, value_name = "POD|JOB|REVIEW", required = true)]
    pub(super) filename: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) sender: SendArgs,
    /// Pod Security level of the pod's namespace (its `warn` label): privileged, baseline or restricted, with an
    /// optional version, such as `restricted:v1.30`
    #[arg(long, value_name = "LEVEL")]
    pod_security: Option<Policy>,
}

/// The flags for the sender of a manifest.
#[derive(Debug, clap::Args)]
pub(super) struct SendArgs {
    /// The pod's namespace; default: the manifest's, otherwise `default`
    #[arg(short, long)]
    namespace: Option<String>,
    /// The user who creates the pod; default: a configured submitter of its task system; for a Job the Job controller
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
}

/// A manifest as an AdmissionReview.
pub(super) struct Manifest {
    /// the file, with line and number of the document if it has several
    pub(super) label: String,
    /// the AdmissionReview, JSON
    pub(super) body: Vec<u8>,
}

impl SendArgs {
    fn sender(&self) -> Sender<'_> {
        Sender { namespace: self.namespace.as_deref(), user: self.user.as_deref() }
    }
}

impl Manifests {
    /// Reads the manifests, and sets the given Pod Security level for all namespaces of the snapshot.
    ///
    /// # Errors
    /// A file cannot be read, or holds no Pod, Job or AdmissionReview.
    pub(super) fn read(&self, snapshot: &Snapshot) -> anyhow::Result<Vec<Manifest>> {
        snapshot.pod_security.set_everywhere(self.pod_security);
        read(&self.filename, &self.sender, snapshot)
    }
}

/// Reads the manifests of all files. Other objects in a file of several documents (a Service, a ConfigMap) are named on
/// stderr and ignored.
///
/// # Errors
/// A file cannot be read, or holds no Pod, Job or AdmissionReview.
pub(super) fn read(files: &[PathBuf], sender: &SendArgs, snapshot: &Snapshot) -> anyhow::Result<Vec<Manifest>> {
    let mut found = Vec::new();
    for file in files {
        found.extend(read_one(file, sender, snapshot)?);
    }
    Ok(found)
}

fn read_one(file: &Path, sender: &SendArgs, snapshot: &Snapshot) -> anyhow::Result<Vec<Manifest>> {
    let name = file.display().to_string();
    let text = read_text(file)?;
    let documents = simulate::documents(&name, &text).map_err(anyhow::Error::msg)?;
    if let [only] = documents.as_slice() {
        let body = review_body(only, &text, sender, snapshot).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
        return Ok(vec![Manifest { label: name, body }]);
    }
    let mut found = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let label = format!("{name}:{} (document {})", document.line, index + 1);
        match review_body(document, "", sender, snapshot) {
            Ok(body) => found.push(Manifest { label, body }),
            Err(error) if !is_supported(document) => errln!("{label}: {error}; ignored"),
            Err(error) => bail!("{label}: {error}"),
        }
    }
    if found.is_empty() {
        bail!("{name}: it holds {}; {EXPECTED}", if documents.is_empty() { "no document" } else { "none of these" });
    }
    Ok(found)
}

fn is_supported(document: &Document) -> bool {
    matches!(document.object["kind"].as_str(), Some("Pod" | "Job" | "AdmissionReview"))
}

fn read_text(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        return std::io::read_to_string(std::io::stdin()).context("standard input cannot be read");
    }
    if file.is_dir() {
        bail!("{} is a folder; a file is expected", file.display());
    }
    std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
}

/// Returns the AdmissionReview of a document, JSON.
fn review_body(document: &Document, text: &str, sender: &SendArgs, snapshot: &Snapshot) -> Result<Vec<u8>, String> {
    let sender = sender.sender();
    let is_review = document.object["kind"] == "AdmissionReview";
    let is_json = || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if is_review && sender.namespace.is_none() && sender.user.is_none() && is_json() {
        return Ok(text.as_bytes().to_vec()); // byte for byte, as the webhook received it
    }
    let review: Value = simulate::review(document.object.clone(), sender, snapshot)?;
    Ok(review.to_string().into_bytes())
}
