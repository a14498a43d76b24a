//! `podgraft certs install`: writes a certificate set into the Secret, and its authorities into the caBundle.
//!
//! The caBundle changes before the Secret: it first gets the new authorities in addition to its own, so the API server
//! trusts both old and new replicas while they change over. Without a Secret there are no replicas yet, and the Secret
//! is written first.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::cluster::{Cluster, Registration, decoded, error_text, from_secret, webhooks};
use super::set::{CA, CERTIFICATE, CertificateSet, KEY, bundle, certificates, parsed};
use super::verify::{Expected, verify};
use super::{Service, now};

/// The field manager for server-side apply.
const MANAGER: &str = "podgraft-certs";

/// Write a certificate into the Secret, and its authorities into the caBundle of the webhook configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Uses your kubeconfig. Replicas load the new certificate without a restart, within two minutes.
The caBundle keeps its authorities until they expire, so that the API server also trusts
replicas with the old certificate; --drop-old-ca, some minutes later, keeps only the newest.
Running it twice changes nothing.

Examples:
  podgraft certs install --dir ~/podgraft-certs
  podgraft certs install --dir ~/podgraft-certs --dry-run
  podgraft certs install --dir ~/podgraft-certs --drop-old-ca

Exit codes: 0 installed, 2 wrong usage, an invalid set, or the API server denied the change.")]
pub(super) struct Args {
    /// The folder with ca.crt, tls.crt and tls.key
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    service: Service,
    /// The Secret that the Deployment mounts
    #[arg(long, value_name = "NAME", default_value = "podgraft-tls")]
    secret: String,
    /// The webhook configurations that call podgraft
    #[arg(long, value_name = "NAME", default_value = "podgraft")]
    webhook: String,
    /// Remove all authorities but the newest of ca.crt from the caBundle
    #[arg(long)]
    drop_old_ca: bool,
    /// Let the API server check all changes without storing them
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let set = CertificateSet::read_folder(&args.dir)?;
    check_before_install(args, &set)?;
    let cluster = Cluster::connect()?;
    let registrations = cluster.registrations(&args.webhook)?;
    let before = cluster.secret(&args.service.namespace, &args.secret)?;
    let annotations = before.as_ref().and_then(|secret| secret.metadata.annotations.as_ref());
    if annotations.is_some_and(|all| all.contains_key("cert-manager.io/certificate-name")) {
        bail!(
            "the Secret {}/{} belongs to cert-manager, which would undo the change",
            args.service.namespace,
            args.secret
        );
    }
    if before.is_none() {
        cluster.put_secret(args, &set, None)?;
    }
    for registration in &registrations {
        cluster.trust(args, &set, registration)?;
    }
    if before.is_some() {
        cluster.put_secret(args, &set, before.as_ref())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails for a set with which the API server could not call podgraft.
fn check_before_install(args: &Args, set: &CertificateSet) -> anyhow::Result<()> {
    let (host, dir) = (args.service.host(), args.dir.display());
    let make = format!("podgraft certs make --dir {dir}");
    let expected =
        Expected { host: &host, now: now(), warn_days: 0, bundles: &[], make: &make, install: "this command again" };
    match verify(set, &expected).first() {
        Some(error) => bail!("nothing was changed: {} {}\n  {}", error.place, error.message, error.remedy),
        None => Ok(()),
    }
}

impl Cluster {
    fn params(args: &Args) -> PatchParams {
        // force: takes the fields over from another field manager (an older installation)
        let params = PatchParams::apply(MANAGER).force();
        if args.dry_run { params.dry_run() } else { params }
    }

    fn put_secret(&self, args: &Args, set: &CertificateSet, before: Option<&Secret>) -> anyhow::Result<()> {
        let (namespace, name) = (&args.service.namespace, &args.secret);
        let label = format!("Secret {namespace}/{name}");
        if before.is_some_and(|secret| is_equal(&from_secret(secret), set)) {
            return report(args, &label, "unchanged");
        }
        let text = |text: &Option<String>| ByteString(text.clone().unwrap_or_default().into_bytes());
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/name": "podgraft"}},
            "data": {CA: text(&set.authorities), CERTIFICATE: text(&set.chain), KEY: text(&set.key)},
        });
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let done = self.runtime.block_on(api.patch(name, &Self::params(args), &Patch::Apply(&secret)));
        done.map_err(|error| anyhow!("the {label} cannot be written: {}", error_text(&error)))?;
        report(args, &label, if before.is_some() { "changed" } else { "created" })
    }

    /// Sets the caBundle of every entry that calls podgraft's Service.
    fn trust(&self, args: &Args, set: &CertificateSet, registration: &Registration) -> anyhow::Result<()> {
        let Registration { kind, object } = registration;
        let label = format!("{kind} {}", args.webhook);
        let mut entries = Vec::new();
        let mut changed = false;
        for entry in webhooks(object).filter(|entry| calls(entry, &args.service)) {
            let current = entry["clientConfig"]["caBundle"].as_str().unwrap_or_default();
            let wanted = BASE64_STANDARD.encode(wanted_bundle(args, set, current));
            changed |= current != wanted;
            entries.push(json!({"name": entry["name"], "clientConfig": {"caBundle": wanted}}));
        }
        if entries.is_empty() {
            bail!("no entry of the {label} calls the Service {}/{}", args.service.namespace, args.service.service);
        }
        if !changed {
            return report(args, &label, "unchanged");
        }
        let patch = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": args.webhook}, "webhooks": entries,
        });
        let api = self.configurations(kind);
        let done = self.runtime.block_on(api.patch(&args.webhook, &Self::params(args), &Patch::Apply(&patch)));
        done.map_err(|error| anyhow!("the {label} cannot be written: {}", error_text(&error)))?;
        report(args, &label, "caBundle changed")
    }
}

/// Writes the change of an object to stdout.
fn report(args: &Args, label: &str, change: &str) -> anyhow::Result<()> {
    outln!("{label}: {change}{}", if args.dry_run { " (dry run)" } else { "" });
    Ok(())
}

/// Returns the wanted bundle of an entry: the set's authorities, then the entry's own that have not expired.
fn wanted_bundle(args: &Args, set: &CertificateSet, current: &str) -> String {
    let set = certificates(set.authorities.as_deref().unwrap_or_default()).unwrap_or_default();
    if args.drop_old_ca {
        return bundle(set.first());
    }
    let current = certificates(&decoded(current)).unwrap_or_default();
    let is_valid = |der: &&_| {
        parsed(std::slice::from_ref(*der))
            .iter()
            .all(|certificate| certificate.validity().not_after.timestamp() > now())
    };
    bundle(set.iter().chain(current.iter().filter(is_valid)))
}

/// Returns true if two sets hold equal texts.
fn is_equal(a: &CertificateSet, b: &CertificateSet) -> bool {
    (&a.authorities, &a.chain, &a.key) == (&b.authorities, &b.chain, &b.key)
}

/// Returns true if an entry calls this Service.
fn calls(entry: &Value, service: &Service) -> bool {
    let called = &entry["clientConfig"]["service"];
    called["name"] == service.service.as_str() && called["namespace"] == service.namespace.as_str()
}
