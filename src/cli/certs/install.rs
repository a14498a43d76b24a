//! `podgraft certs install`: a set into the Secret, and its authorities into the registration.
//!
//! Who trusts comes before what must be trusted: the caBundle first gets the new authorities beside those that it has,
//! then the Secret changes, so that the API server knows whoever answers, an old replica or a new one. Only where
//! there is no Secret yet, and so no replica, the Secret comes first.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::cluster::{Cluster, Registration, decoded, of_secret, webhooks, why};
use super::set::{CA, CERTIFICATE, CertificateSet, KEY, bundle, certificates, parsed};
use super::verify::{Expected, verify};
use super::{Service, now};

/// Whose fields these are, for server-side apply.
const MANAGER: &str = "podgraft-certs";

/// Put a certificate into the cluster: the Secret, and the registration's caBundle.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Uses your kubeconfig. Replicas take the new certificate by themselves, within a minute or two.
The caBundle keeps the authorities that it has, until they end, so that replicas with the old
certificate are still believed; --drop-old-ca, some minutes later, leaves the newest one only.
Running it twice changes nothing.

Examples:
  podgraft certs install --dir ~/podgraft-certs
  podgraft certs install --dir ~/podgraft-certs --dry-run
  podgraft certs install --dir ~/podgraft-certs --drop-old-ca

Exit codes: 0 installed, 2 wrong usage, a set that is not sound, or the cluster refused.")]
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
    /// Trust only the newest authority of ca.crt from now on
    #[arg(long)]
    drop_old_ca: bool,
    /// Let the API server check everything and store nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let set = CertificateSet::read_folder(&args.dir)?;
    check_before_install(args, &set)?;
    let cluster = Cluster::connect()?;
    let registrations = cluster.registrations(&args.webhook)?;
    let before = cluster.secret(&args.service.namespace, &args.secret)?;
    let annotations = before.as_ref().and_then(|secret| secret.metadata.annotations.as_ref());
    if annotations.is_some_and(|all| all.contains_key("cert-manager.io/certificate-name")) {
        bail!("the Secret {}/{} is cert-manager's, which would undo this", args.service.namespace, args.secret);
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

/// Refuses a set with which the API server could not call podgraft.
fn check_before_install(args: &Args, set: &CertificateSet) -> anyhow::Result<()> {
    let (host, dir) = (args.service.host(), args.dir.display());
    let make = format!("podgraft certs make --dir {dir}");
    let expected = Expected { host: &host, now: now(), warn_days: 0, bundles: &[], make: &make, install: "this again" };
    match verify(set, &expected).first() {
        Some(finding) => bail!("nothing was changed: {} {}\n  {}", finding.place, finding.message, finding.remedy),
        None => Ok(()),
    }
}

impl Cluster {
    fn params(args: &Args) -> PatchParams {
        // force: whoever set the fields before (an older way of installing) gives them up
        let params = PatchParams::apply(MANAGER).force();
        if args.dry_run { params.dry_run() } else { params }
    }

    fn put_secret(&self, args: &Args, set: &CertificateSet, before: Option<&Secret>) -> anyhow::Result<()> {
        let (namespace, name) = (&args.service.namespace, &args.secret);
        let what = format!("Secret {namespace}/{name}");
        if before.is_some_and(|secret| same(&of_secret(secret), set)) {
            return said(args, &what, "unchanged");
        }
        let text = |text: &Option<String>| ByteString(text.clone().unwrap_or_default().into_bytes());
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/name": "podgraft"}},
            "data": {CA: text(&set.authorities), CERTIFICATE: text(&set.chain), KEY: text(&set.key)},
        });
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let done = self.runtime.block_on(api.patch(name, &Self::params(args), &Patch::Apply(&secret)));
        done.map_err(|error| anyhow!("the {what} cannot be written: {}", why(&error)))?;
        said(args, &what, if before.is_some() { "changed" } else { "created" })
    }

    /// Sets the caBundle of every entry that calls podgraft's Service.
    fn trust(&self, args: &Args, set: &CertificateSet, registration: &Registration) -> anyhow::Result<()> {
        let Registration { kind, object } = registration;
        let what = format!("{kind} {}", args.webhook);
        let mut entries = Vec::new();
        let mut changed = false;
        for entry in webhooks(object).filter(|entry| calls(entry, &args.service)) {
            let has = entry["clientConfig"]["caBundle"].as_str().unwrap_or_default();
            let wants = BASE64_STANDARD.encode(wanted(args, set, has));
            changed |= has != wants;
            entries.push(json!({"name": entry["name"], "clientConfig": {"caBundle": wants}}));
        }
        if entries.is_empty() {
            bail!("no entry of the {what} calls the Service {}/{}", args.service.namespace, args.service.service);
        }
        if !changed {
            return said(args, &what, "unchanged");
        }
        let patch = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": args.webhook}, "webhooks": entries,
        });
        let api = self.configurations(kind);
        let done = self.runtime.block_on(api.patch(&args.webhook, &Self::params(args), &Patch::Apply(&patch)));
        done.map_err(|error| anyhow!("the {what} cannot be written: {}", why(&error)))?;
        said(args, &what, "caBundle changed")
    }
}

fn said(args: &Args, what: &str, done: &str) -> anyhow::Result<()> {
    say!("{what}: {done}{}", if args.dry_run { " (dry run)" } else { "" });
    Ok(())
}

/// The bundle that an entry is to have: the set's authorities, and those it has that still last.
fn wanted(args: &Args, set: &CertificateSet, has: &str) -> String {
    let set = certificates(set.authorities.as_deref().unwrap_or_default()).unwrap_or_default();
    if args.drop_old_ca {
        return bundle(set.first());
    }
    let has = certificates(&decoded(has)).unwrap_or_default();
    let lasts =
        |der: &&_| parsed(std::slice::from_ref(*der)).iter().all(|one| one.validity().not_after.timestamp() > now());
    bundle(set.iter().chain(has.iter().filter(lasts)))
}

/// Whether nothing of the set differs.
fn same(a: &CertificateSet, b: &CertificateSet) -> bool {
    (&a.authorities, &a.chain, &a.key) == (&b.authorities, &b.chain, &b.key)
}

/// Whether an entry calls this Service.
fn calls(entry: &Value, service: &Service) -> bool {
    let called = &entry["clientConfig"]["service"];
    called["name"] == service.service.as_str() && called["namespace"] == service.namespace.as_str()
}
