//! `podgraft certs check`: lists the errors of a certificate set, in a folder or in the cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;

use super::cluster::{Cluster, bundles, from_secret};
use super::set::{CertificateSet, certificates, parsed};
use super::verify::{Bundle, CertificateError, Expected, day, verify};
use super::{Service, now};
use crate::cli::Output;

/// List the errors of a certificate, its key and its authority, and of the caBundle.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  podgraft certs check --dir ~/podgraft-certs
  podgraft certs check --secret podgraft/podgraft-tls --webhook podgraft
  podgraft certs check --secret podgraft/podgraft-tls --warn-days 14 -o json

Exit codes: 0 valid, 1 errors, 2 wrong usage, or the certificate cannot be read.")]
pub(super) struct Args {
    #[command(flatten)]
    location: SetLocation,
    /// Also check the caBundle of the webhook configurations with this name
    #[arg(long, value_name = "NAME")]
    webhook: Option<String>,
    /// The Service that the webhook configuration names
    #[arg(long, value_name = "NAME", default_value = "podgraft")]
    service: String,
    /// podgraft's own namespace; default: the Secret's, otherwise `podgraft`
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// Report a certificate that expires within this number of days
    #[arg(long, value_name = "N", default_value_t = 30)]
    warn_days: u32,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The flags for the location of the set.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct SetLocation {
    /// Check ca.crt, tls.crt and tls.key in this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Check the keys ca.crt, tls.crt and tls.key of this Secret
    #[arg(long, value_name = "NS/NAME", value_parser = secret_name)]
    secret: Option<(String, String)>,
}

fn secret_name(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok((namespace.into(), name.into())),
        _ => Err("must be namespace/name, such as podgraft/podgraft-tls".to_owned()),
    }
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (set, bundles) = read(args)?;
    let namespace =
        args.namespace.as_deref().or(args.location.secret.as_ref().map(|(namespace, _)| namespace.as_str()));
    let service = Service { service: args.service.clone(), namespace: namespace.unwrap_or("podgraft").to_owned() };
    let (make, install) = commands(args, &service);
    let host = service.host();
    let (now, warn_days) = (now(), args.warn_days);
    let expected = Expected { host: &host, now, warn_days, bundles: &bundles, make: &make, install: &install };
    let errors = verify(&set, &expected);
    print(args.output, &errors, &host, &set)?;
    Ok(ExitCode::from(u8::from(!errors.is_empty())))
}

/// Reads the set and the bundles of the webhook configurations.
fn read(args: &Args) -> anyhow::Result<(CertificateSet, Vec<Bundle>)> {
    let mut cluster = None;
    if args.location.secret.is_some() || args.webhook.is_some() {
        cluster = Some(Cluster::connect()?);
    }
    let set = match (&args.location.dir, &args.location.secret, &cluster) {
        (Some(folder), _, _) => CertificateSet::read_folder(folder)?,
        (None, Some((namespace, name)), Some(cluster)) => {
            let secret = cluster.secret(namespace, name)?;
            from_secret(&secret.with_context(|| format!("there is no Secret {namespace}/{name}"))?)
        }
        _ => CertificateSet::default(), // clap requires one of them
    };
    let bundles = match (&args.webhook, &cluster) {
        (Some(name), Some(cluster)) => bundles(&cluster.registrations(name)?),
        _ => Vec::new(),
    };
    Ok((set, bundles))
}

/// Returns the commands that make and install a set, with the flags of this call.
fn commands(args: &Args, service: &Service) -> (String, String) {
    let dir = args.location.dir.as_ref().map_or_else(|| "DIR".to_owned(), |dir| dir.display().to_string());
    let option = |flag: &str, value: &str, default: &str| {
        if value == default { String::new() } else { format!(" {flag} {value}") }
    };
    let secret = args.location.secret.as_ref().map_or("podgraft-tls", |(_, name)| name);
    let options =
        option("--service", &service.service, "podgraft") + &option("--namespace", &service.namespace, "podgraft");
    let target = option("--secret", secret, "podgraft-tls")
        + &option("--webhook", args.webhook.as_deref().unwrap_or("podgraft"), "podgraft");
    (
        format!("podgraft certs make --dir {dir}{options}"),
        format!("podgraft certs install --dir {dir}{options}{target}"),
    )
}

fn print(output: Output, errors: &[CertificateError], host: &str, set: &CertificateSet) -> anyhow::Result<()> {
    let until = set.chain.as_deref().and_then(|text| certificates(text).ok());
    let until = until.and_then(|chain| parsed(&chain).first().map(|leaf| day(leaf.validity().not_after.timestamp())));
    if output == Output::Json {
        let report = json!({"valid": errors.is_empty(), "host": host, "until": until, "errors": errors});
        outln!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    for error in errors {
        outln!("{}: {} ({:?})\n  {}", error.place, error.message, error.reason, error.remedy);
    }
    if errors.is_empty() {
        outln!("valid: {host} until {}", until.unwrap_or_default());
    }
    Ok(())
}
