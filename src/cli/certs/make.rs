//! `podgraft certs make`: an authority and a certificate of it, in a folder.

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

/// Ten years: replacing it means to replace the caBundle, with an overlap.
const CA_DAYS: i64 = 3650;

/// Make a certificate for the webhook, and the authority that signs it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Makes ca.crt and ca.key (ten years), tls.crt and tls.key in DIR, keys readable by you alone.
Run again to renew: an authority that is in DIR is kept while it outlives the certificate;
then a new one is made, and ca.crt holds both until the old one ends, so that nobody is
refused while replicas change over. Keep ca.key offline: nothing in the cluster needs it.

Examples:
  podgraft certs make --dir ~/podgraft-certs
  podgraft certs make --dir ~/podgraft-certs --days 90 --san podgraft.example.com
  podgraft certs make --dir ~/podgraft-certs --ca company-ca.crt --ca-key company-ca.key

Exit codes: 0 made, 2 wrong usage, or nothing was made.")]
pub(super) struct Args {
    /// Where the files go; outside of any repository
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    service: Service,
    /// How long the certificate is good for
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3600))]
    days: u16,
    /// One more name or address that it is for; may be given several times
    #[arg(long, value_name = "NAME|IP")]
    san: Vec<String>,
    /// Sign with this authority, PEM, instead of one in DIR
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    ca: Option<PathBuf>,
    /// The key of --ca, PEM
    #[arg(long, value_name = "FILE", requires = "ca")]
    ca_key: Option<PathBuf>,
    /// Make a new authority although the one in DIR would do
    #[arg(long, conflicts_with = "ca")]
    new_ca: bool,
}

/// Who signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// where it is new, and so to be written
    key: Option<String>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    make(args, now())?;
    Ok(ExitCode::SUCCESS)
}

fn make(args: &Args, now: i64) -> anyhow::Result<()> {
    outside_of_repositories(&std::path::absolute(&args.dir)?)?;
    // nobody else may even list it
    let folder = DirBuilder::new().recursive(true).mode(0o700).create(&args.dir);
    folder.with_context(|| format!("{} cannot be made", args.dir.display()))?;

    let until = now + i64::from(args.days) * DAY;
    let before = read(&args.dir.join(CA))?.map(|text| certificates(&text)).transpose();
    let before = before.map_err(|problem| anyhow!("{} {problem}", args.dir.join(CA).display()))?.unwrap_or_default();
    let authority = authority(args, &before, now, until)?;
    let (chain, key) = certificate(args, &authority, now, until)?;
    // the old authorities stay as long as a replica may still show a certificate of theirs
    let lasting: Vec<_> = before.iter().filter(|der| ends(der).is_some_and(|end| end > now)).collect();
    let overlap = !lasting.is_empty();
    let authorities = bundle([&authority.certificate].into_iter().chain(lasting));
    let set = CertificateSet { authorities: Some(authorities), chain: Some(chain), key: Some(key), key_is_open: false };
    store(args, set, authority.key.as_deref(), now)?;
    report(args, &authority, overlap, until)
}

/// Writes what was made, if it is sound: an authority of somebody's own may be anything.
fn store(args: &Args, set: CertificateSet, ca_key: Option<&str>, now: i64) -> anyhow::Result<()> {
    let host = args.service.host();
    let expected = Expected { host: &host, now, warn_days: 0, bundles: &[], make: "", install: "" };
    if let Some(finding) = verify(&set, &expected).first() {
        bail!("nothing was made: {} {}", finding.place, finding.message);
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
    say!("made a certificate for {host} in {dir}, good until {}", day(until));
    let end = ends(&authority.certificate).map(day).unwrap_or_default();
    match (&authority.key, overlap) {
        (Some(_), true) => {
            say!("made a new authority, good until {end}; ca.crt also holds the one before");
        }
        (Some(_), false) => say!("made an authority, good until {end}; keep {CA_KEY} offline"),
        (None, _) => say!("signed by the authority that there was, good until {end}"),
    }
    say!("next: podgraft certs install --dir {dir}");
    Ok(())
}

/// Keys never get into a repository, where one `git add` makes them everybody's.
fn outside_of_repositories(dir: &Path) -> anyhow::Result<()> {
    let Some(near) = dir.ancestors().find(|folder| folder.is_dir()) else { return Ok(()) };
    let near = near.canonicalize().with_context(|| format!("{} cannot be read", near.display()))?;
    let Some(tree) = near.ancestors().find(|folder| folder.join(".git").exists()) else { return Ok(()) };
    for name in [CA_KEY, KEY] {
        let ignored =
            Command::new("git").arg("-C").arg(tree).args(["check-ignore", "-q", "--"]).arg(dir.join(name)).status();
        if !ignored.is_ok_and(|status| status.success()) {
            bail!(
                "{} is inside the repository {}, which does not ignore {name} there: choose another folder",
                dir.display(),
                tree.display()
            );
        }
    }
    Ok(())
}

fn authority(args: &Args, before: &[CertificateDer<'static>], now: i64, until: i64) -> anyhow::Result<Authority> {
    if let (Some(ca), Some(key)) = (&args.ca, &args.ca_key) {
        let authority = stored(ca, key)?;
        let end = ends(&authority.certificate).unwrap_or_default();
        if end < until {
            let days = (end - now) / DAY;
            bail!(
                "the authority in {} ends on {}, before the certificate would: --days {days} at most",
                ca.display(),
                day(end)
            );
        }
        return Ok(authority);
    }
    let (path, key) = (args.dir.join(CA), args.dir.join(CA_KEY));
    match (before.first(), key.exists()) {
        (None, true) => bail!("{} is there without {CA}: choose another folder", key.display()),
        (Some(_), false) => {
            bail!(
                "{} is there without {CA_KEY}: choose another folder, or say who signs with --ca and --ca-key",
                path.display()
            )
        }
        (Some(newest), true) if !args.new_ca && ends(newest).is_some_and(|end| end >= until) => stored(&path, &key),
        _ => new_authority(now),
    }
}

/// The first certificate of a file with its key.
fn stored(ca: &Path, key: &Path) -> anyhow::Result<Authority> {
    let text = read(ca)?.with_context(|| format!("there is no {}", ca.display()))?;
    let certificate = certificates(&text).map_err(|problem| anyhow!("{} {problem}", ca.display()))?.swap_remove(0);
    let is_ca = parsed(std::slice::from_ref(&certificate)).first().is_some_and(|parsed| parsed.is_ca());
    if !is_ca {
        bail!("{} is no authority's certificate (CA:FALSE)", ca.display());
    }
    let text = read(key)?.with_context(|| format!("there is no {}", key.display()))?;
    // not the library's error, which may quote the text
    let pair = KeyPair::from_pem(&text)
        .map_err(|_| anyhow!("{} holds no private key in PEM that can be used", key.display()))?;
    let issuer =
        Issuer::from_ca_cert_der(&certificate, pair).with_context(|| format!("{} cannot sign", ca.display()))?;
    Ok(Authority { issuer, certificate, key: None })
}

fn new_authority(now: i64) -> anyhow::Result<Authority> {
    let key = KeyPair::generate().context("no key can be made")?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // with the day, as two authorities of one name in a bundle confuse people
    params.distinguished_name.push(DnType::CommonName, format!("podgraft CA {}", day(now)));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now, now + CA_DAYS * DAY);
    let text = key.serialize_pem();
    let certificate = params.self_signed(&key).context("the authority cannot be made")?;
    Ok(Authority { issuer: Issuer::new(params, key), certificate: certificate.der().clone(), key: Some(text) })
}

/// The server's certificate and its key, PEM.
fn certificate(args: &Args, authority: &Authority, now: i64, until: i64) -> anyhow::Result<(String, String)> {
    let host = args.service.host();
    let mut names = vec![host.clone(), format!("{host}.cluster.local")];
    names.extend(args.san.iter().cloned());
    names.dedup();
    if let Some(bad) = args.san.iter().find(|name| !is_name(name)) {
        bail!("--san {bad}: is neither a DNS name nor an IP address");
    }
    let key = KeyPair::generate().context("no key can be made")?;
    let mut params = CertificateParams::new(names).context("the certificate cannot be made")?;
    params.distinguished_name = DistinguishedName::new();
    if host.len() <= 64 {
        params.distinguished_name.push(DnType::CommonName, host); // for people; X.509 has no room for more
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, now, until);
    let certificate = params.signed_by(&key, &authority.issuer).context("the certificate cannot be signed")?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn is_name(name: &str) -> bool {
    let host = name.strip_prefix("*.").unwrap_or(name);
    let label = |label: &str| {
        let sound = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        sound && !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
    };
    name.parse::<IpAddr>().is_ok() || host.split('.').all(label)
}

/// An hour before `now`, as clocks differ.
fn valid(params: &mut CertificateParams, now: i64, until: i64) {
    let at = |seconds: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds.unsigned_abs());
    (params.not_before, params.not_after) = (at(now - 60 * 60), at(until));
}

/// When a certificate ends, in seconds since 1970.
fn ends(der: &CertificateDer<'static>) -> Option<i64> {
    parsed(std::slice::from_ref(der)).first().map(|certificate| certificate.validity().not_after.timestamp())
}
