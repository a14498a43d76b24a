//! `podgraft certs check`: what is wrong with a set, in a folder or in the cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::json;

use super::cluster::{Cluster, bundles, of_secret};
use super::set::{CertificateSet, certificates, parsed};
use super::verify::{Bundle, CertificateError, Expected, day, verify};
use super::{Service, now};
use crate::cli::Output;

/// Say what is wrong with a certificate, its key, its authority, and what the API server trusts.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  podgraft certs check --dir ~/podgraft-certs
  podgraft certs check --secret podgraft/podgraft-tls --webhook podgraft
  podgraft certs check --secret podgraft/podgraft-tls --warn-days 14 -o json

Exit codes: 0 nothing is wrong, 1 something is, 2 wrong usage, or it could not be looked at.")]
pub(super) struct Args {
    #[command(flatten)]
    place: SetLocation,
    /// Compare the caBundle of the webhook configurations of this name, too
    #[arg(long, value_name = "NAME")]
    webhook: Option<String>,
    /// The Service that the registration names
    #[arg(long, value_name = "NAME", default_value = "podgraft")]
    service: String,
    /// podgraft's own namespace; default: the Secret's, else `podgraft`
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// How many days before its end a certificate counts as wrong
    #[arg(long, value_name = "N", default_value_t = 30)]
    warn_days: u32,
    /// How the findings are printed
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Where the set is.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct SetLocation {
    /// Look at ca.crt, tls.crt and tls.key in this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Look at the keys ca.crt, tls.crt and tls.key of this Secret
    #[arg(long, value_name = "NS/NAME", value_parser = secret_name)]
    secret: Option<(String, String)>,
}

fn secret_name(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok((namespace.into(), name.into())),
        _ => Err("must be as in podgraft/podgraft-tls: namespace, slash, name".to_owned()),
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (set, bundles) = look(args)?;
    let namespace = args.namespace.as_deref().or(args.place.secret.as_ref().map(|(namespace, _)| namespace.as_str()));
    let service = Service { service: args.service.clone(), namespace: namespace.unwrap_or("podgraft").to_owned() };
    let (make, install) = commands(args, &service);
    let host = service.host();
    let (now, warn_days) = (now(), args.warn_days);
    let expected = Expected { host: &host, now, warn_days, bundles: &bundles, make: &make, install: &install };
    let findings = verify(&set, &expected);
    print(args.output, &findings, &host, &set)?;
    Ok(ExitCode::from(u8::from(!findings.is_empty())))
}

/// The set, and what the registrations trust.
fn look(args: &Args) -> anyhow::Result<(CertificateSet, Vec<Bundle>)> {
    let mut cluster = None;
    if args.place.secret.is_some() || args.webhook.is_some() {
        cluster = Some(Cluster::connect()?);
    }
    let set = match (&args.place.dir, &args.place.secret, &cluster) {
        (Some(folder), _, _) => CertificateSet::read_folder(folder)?,
        (None, Some((namespace, name)), Some(cluster)) => {
            let secret = cluster.secret(namespace, name)?;
            of_secret(&secret.with_context(|| format!("there is no Secret {namespace}/{name}"))?)
        }
        _ => CertificateSet::default(), // clap wants one of them
    };
    let bundles = match (&args.webhook, &cluster) {
        (Some(name), Some(cluster)) => bundles(&cluster.registrations(name)?),
        _ => Vec::new(),
    };
    Ok((set, bundles))
}

/// What ends most findings, as it is typed here: to make a set, and to install it.
fn commands(args: &Args, service: &Service) -> (String, String) {
    let dir = args.place.dir.as_ref().map_or_else(|| "DIR".to_owned(), |dir| dir.display().to_string());
    let option = |flag: &str, value: &str, default: &str| {
        if value == default { String::new() } else { format!(" {flag} {value}") }
    };
    let secret = args.place.secret.as_ref().map_or("podgraft-tls", |(_, name)| name);
    let options =
        option("--service", &service.service, "podgraft") + &option("--namespace", &service.namespace, "podgraft");
    let target = option("--secret", secret, "podgraft-tls")
        + &option("--webhook", args.webhook.as_deref().unwrap_or("podgraft"), "podgraft");
    (
        format!("podgraft certs make --dir {dir}{options}"),
        format!("podgraft certs install --dir {dir}{options}{target}"),
    )
}

fn print(output: Output, findings: &[CertificateError], host: &str, set: &CertificateSet) -> anyhow::Result<()> {
    let until = set.chain.as_deref().and_then(|text| certificates(text).ok());
    let until = until.and_then(|chain| parsed(&chain).first().map(|leaf| day(leaf.validity().not_after.timestamp())));
    if output == Output::Json {
        let report = json!({"sound": findings.is_empty(), "host": host, "until": until, "findings": findings});
        say!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    for finding in findings {
        say!("{}: {} ({:?})\n  {}", finding.place, finding.message, finding.reason, finding.remedy);
    }
    if findings.is_empty() {
        say!("nothing is wrong: {host} until {}", until.unwrap_or_default());
    }
    Ok(())
}
