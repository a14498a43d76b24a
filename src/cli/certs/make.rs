//! `podgraft certs make`: makes an authority and a certificate in a folder.

use std::fs::DirBuilder;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;

use super::set::{CA, CA_KEY, CERTIFICATE, CertificateSet, KEY, bundle, certificates, parsed, read, write};
use super::verify::{Expected, day, verify};
use super::{DAY, Service, now};

/// The lifetime of an authority in days, ten years: its replacement also needs a new caBundle, with an overlap.
const CA_DAYS: i64 = 3650;

/// Make a certificate for the webhook, and the authority that signs it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Makes ca.crt and ca.key (ten years), tls.crt and tls.key in DIR; only you can read the keys.
Run it again to renew the certificate. The authority in DIR is kept while it outlives the new
certificate; then a new one is made, and ca.crt holds both until the old one expires, so that no
call fails while replicas change over. Keep ca.key offline: nothing in the cluster needs it.

Examples:
  podgraft certs make --dir ~/podgraft-certs
  podgraft certs make --dir ~/podgraft-certs --days 90 --san podgraft.example.com
  podgraft certs make --dir ~/podgraft-certs --ca company-ca.crt --ca-key company-ca.key

Exit codes: 0 made, 2 wrong usage, or nothing was made.")]
pub(super) struct Args {
    /// Folder for the files, outside of any repository
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    service: Service,
    /// Lifetime of the certificate in days
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3600))]
    days: u16,
    /// Another DNS name or IP address of the certificate; may be repeated
    #[arg(long, value_name = "NAME|IP")]
    san: Vec<String>,
    /// Sign with this authority, PEM, instead of the one in DIR
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    ca: Option<PathBuf>,
    /// The key of --ca, PEM
    #[arg(long, value_name = "FILE", requires = "ca")]
    ca_key: Option<PathBuf>,
    /// Make a new authority even if the one in DIR can sign
    #[arg(long, conflicts_with = "ca")]
    new_ca: bool,
}

/// The authority that signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// the key of a new authority, PEM
    key: Option<String>,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    make(args, now())?;
    Ok(ExitCode::SUCCESS)
}

fn make(args: &Args, now: i64) -> anyhow::Result<()> {
    outside_of_repositories(&std::path::absolute(&args.dir)?)?;
    // other users may not even list it
    let folder = DirBuilder::new().recursive(true).mode(0o700).create(&args.dir);
    folder.with_context(|| format!("{} cannot be created", args.dir.display()))?;

    let until = now + i64::from(args.days) * DAY;
    let before = read(&args.dir.join(CA))?.map(|text| certificates(&text)).transpose();
    let before = before.map_err(|error| anyhow!("{} {error}", args.dir.join(CA).display()))?.unwrap_or_default();
    let authority = authority(args, &before, now, until)?;
    let (chain, key) = certificate(args, &authority, now, until)?;
    // an old authority stays while a replica may still serve a certificate that it signed
    let unexpired: Vec<_> = before.iter().filter(|der| expiry(der).is_some_and(|end| end > now)).collect();
    let overlap = !unexpired.is_empty();
    let authorities = bundle([&authority.certificate].into_iter().chain(unexpired));
    let set = CertificateSet { authorities: Some(authorities), chain: Some(chain), key: Some(key), key_is_open: false };
    store(args, set, authority.key.as_deref(), now)?;
    report(args, &authority, overlap, until)
}

/// Writes the set if it is valid. An authority of --ca may make it invalid.
fn store(args: &Args, set: CertificateSet, ca_key: Option<&str>, now: i64) -> anyhow::Result<()> {
    let host = args.service.host();
    let expected = Expected { host: &host, now, warn_days: 0, bundles: &[], make: "", install: "" };
    if let Some(error) = verify(&set, &expected).first() {
        bail!("nothing was made: {} {}", error.place, error.message);
    }
    if let Some(key) = ca_key {
        write(&args.dir, CA_KEY, key)?;
    }
    for (name, text) in [(CA, set.authorities), (KEY, set.key), (CERTIFICATE, set.chain)] {
        write(&args.dir, name, &text.unwrap_or_default())?;
    }
    Ok(())
}

fn report(args: &Args, authority: &Authority, overlap: bool, until: i64) -> anyhow::Result<()> {
    let (dir, host) = (args.dir.display(), args.service.host());
    outln!("made a certificate for {host} in {dir}, valid until {}", day(until));
    let end = expiry(&authority.certificate).map(day).unwrap_or_default();
    match (&authority.key, overlap) {
        (Some(_), true) => {
            outln!("made a new authority, valid until {end}; ca.crt also holds the previous one");
        }
        (Some(_), false) => outln!("made an authority, valid until {end}; keep {CA_KEY} offline"),
        (None, _) => outln!("signed by the existing authority, valid until {end}"),
    }
    outln!("next: podgraft certs install --dir {dir}");
    Ok(())
}

/// Fails for a folder in a repository that does not ignore the keys: one `git add` would publish them.
fn outside_of_repositories(dir: &Path) -> anyhow::Result<()> {
    let Some(existing) = dir.ancestors().find(|folder| folder.is_dir()) else { return Ok(()) };
    let existing = existing.canonicalize().with_context(|| format!("{} cannot be read", existing.display()))?;
    let Some(tree) = existing.ancestors().find(|folder| folder.join(".git").exists()) else { return Ok(()) };
    for name in [CA_KEY, KEY] {
        let ignored =
            Command::new("git").arg("-C").arg(tree).args(["check-ignore", "-q", "--"]).arg(dir.join(name)).status();
        if !ignored.is_ok_and(|status| status.success()) {
            bail!(
                "{} is inside the repository {}, which does not ignore {name}: choose another folder",
                dir.display(),
                tree.display()
            );
        }
    }
    Ok(())
}

/// Returns the authority that signs: that of --ca, the one in the folder, or a new one.
fn authority(args: &Args, before: &[CertificateDer<'static>], now: i64, until: i64) -> anyhow::Result<Authority> {
    if let (Some(ca), Some(key)) = (&args.ca, &args.ca_key) {
        let authority = stored(ca, key)?;
        let end = expiry(&authority.certificate).unwrap_or_default();
        if end < until {
            let days = (end - now) / DAY;
            bail!(
                "the authority in {} expires on {}, before the certificate: use --days {days} or less",
                ca.display(),
                day(end)
            );
        }
        return Ok(authority);
    }
    let (path, key) = (args.dir.join(CA), args.dir.join(CA_KEY));
    match (before.first(), key.exists()) {
        (None, true) => bail!("{} exists without {CA}: choose another folder", key.display()),
        (Some(_), false) => {
            bail!(
                "{} exists without {CA_KEY}: choose another folder, or name an authority with --ca and --ca-key",
                path.display()
            )
        }
        (Some(newest), true) if !args.new_ca && expiry(newest).is_some_and(|end| end >= until) => stored(&path, &key),
        _ => new_authority(now),
    }
}

/// Reads the first certificate of a file and its key.
fn stored(ca: &Path, key: &Path) -> anyhow::Result<Authority> {
    let text = read(ca)?.with_context(|| format!("there is no {}", ca.display()))?;
    let certificate = certificates(&text).map_err(|error| anyhow!("{} {error}", ca.display()))?.swap_remove(0);
    let is_ca = parsed(std::slice::from_ref(&certificate)).first().is_some_and(|parsed| parsed.is_ca());
    if !is_ca {
        bail!("{} holds no certificate of an authority (CA:FALSE)", ca.display());
    }
    let text = read(key)?.with_context(|| format!("there is no {}", key.display()))?;
    // the library's error may quote the text, which is secret
    let pair = KeyPair::from_pem(&text)
        .map_err(|_| anyhow!("{} holds no private key in PEM that can be used", key.display()))?;
    let issuer =
        Issuer::from_ca_cert_der(&certificate, pair).with_context(|| format!("{} cannot sign", ca.display()))?;
    Ok(Authority { issuer, certificate, key: None })
}

fn new_authority(now: i64) -> anyhow::Result<Authority> {
    let key = KeyPair::generate().context("no key can be generated")?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // with the day, because two authorities with one name in a bundle are hard to tell apart
    params.distinguished_name.push(DnType::CommonName, format!("podgraft CA {}", day(now)));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, now + CA_DAYS * DAY);
    let text = key.serialize_pem();
    let certificate = params.self_signed(&key).context("the authority cannot be made")?;
    Ok(Authority { issuer: Issuer::new(params, key), certificate: certificate.der().clone(), key: Some(text) })
}

/// Makes the server's certificate and its key, PEM.
fn certificate(args: &Args, authority: &Authority, now: i64, until: i64) -> anyhow::Result<(String, String)> {
    let host = args.service.host();
    let mut names = vec![host.clone(), format!("{host}.cluster.local")];
    names.extend(args.san.iter().cloned());
    names.dedup();
    if let Some(name) = args.san.iter().find(|name| !is_name(name)) {
        bail!("--san {name}: is neither a DNS name nor an IP address");
    }
    let key = KeyPair::generate().context("no key can be generated")?;
    let mut params = CertificateParams::new(names).context("the certificate cannot be made")?;
    params.distinguished_name = DistinguishedName::new();
    if host.len() <= 64 {
        params.distinguished_name.push(DnType::CommonName, host); // for humans; X.509 allows 64 characters
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, until);
    let certificate = params.signed_by(&key, &authority.issuer).context("the certificate cannot be signed")?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn is_name(name: &str) -> bool {
    let host = name.strip_prefix("*.").unwrap_or(name);
    let label = |label: &str| {
        let has_valid_letters = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        has_valid_letters && !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
    };
    name.parse::<IpAddr>().is_ok() || host.split('.').all(label)
}

/// Sets the validity from one hour before `now`, because clocks differ.
fn set_validity(params: &mut CertificateParams, now: i64, until: i64) {
    let at = |seconds: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds.unsigned_abs());
    (params.not_before, params.not_after) = (at(now - 60 * 60), at(until));
}

/// Returns the end of a certificate's validity, in seconds since 1970.
fn expiry(der: &CertificateDer<'static>) -> Option<i64> {
    parsed(std::slice::from_ref(der)).first().map(|certificate| certificate.validity().not_after.timestamp())
}
