//! A certificate set: the certificate, its key and its authorities, in a folder or a Secret.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// The file of the authorities' certificates, the newest first.
pub(super) const CA: &str = "ca.crt";
/// The file of the newest authority's key, which is never installed.
pub(super) const CA_KEY: &str = "ca.key";
/// The file of the server's chain, its own certificate first.
pub(super) const CERTIFICATE: &str = "tls.crt";
/// The file of the server's key.
pub(super) const KEY: &str = "tls.key";

/// The PEM texts of a set; absent without the file or key.
#[derive(Default, Clone)]
pub(super) struct CertificateSet {
    /// [`CA`]
    pub(super) authorities: Option<String>,
    /// [`CERTIFICATE`]
    pub(super) chain: Option<String>,
    /// [`KEY`]
    pub(super) key: Option<String>,
    /// true if other users may read the key's file
    pub(super) key_is_open: bool,
}

impl CertificateSet {
    /// Reads a folder. A missing file is absent.
    ///
    /// # Errors
    /// The folder is missing, or a file cannot be read.
    pub(super) fn read_folder(folder: &Path) -> anyhow::Result<Self> {
        if !folder.is_dir() {
            bail!("{} is not a folder", folder.display());
        }
        let key = folder.join(KEY);
        let mode = fs::metadata(&key).map_or(0, |metadata| metadata.mode());
        Ok(Self {
            authorities: read(&folder.join(CA))?,
            chain: read(&folder.join(CERTIFICATE))?,
            key: read(&key)?,
            key_is_open: mode & 0o007 != 0,
        })
    }
}

/// Reads a file; `None` if there is none.
pub(super) fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read(path) {
        // bytes that are no UTF-8 are no PEM either, which the verification reports
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// Writes a file, or replaces it atomically. Only its owner may read a key.
pub(super) fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let (path, new) = (folder.join(name), folder.join(format!(".{name}.new")));
    let mode = if Path::new(name).extension().is_some_and(|ending| ending == "key") { 0o600 } else { 0o644 };
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
        file.set_permissions(Permissions::from_mode(mode))?; // also for a file of an interrupted run
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

/// Decodes the certificates of a PEM text, in their order.
///
/// # Errors
/// The text is no PEM, or holds no certificate. The error is a predicate that follows the name of the text.
pub(super) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("is not PEM: {error}"))?;
    if found.is_empty() {
        return Err("holds no certificate (no `-----BEGIN CERTIFICATE-----`)".to_owned());
    }
    match found.iter().position(|der| X509Certificate::from_der(der).is_err()) {
        Some(index) => Err(format!("holds an invalid certificate, number {} of {}", index + 1, found.len())),
        None => Ok(found),
    }
}

/// Parses certificates, and omits invalid ones, for which [`certificates`] returns an error.
pub(super) fn parsed<'d>(ders: &'d [CertificateDer<'static>]) -> Vec<X509Certificate<'d>> {
    ders.iter().filter_map(|der| X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate)).collect()
}

/// Encodes certificates as PEM text, each once, in their order.
pub(super) fn bundle<'d>(ders: impl IntoIterator<Item = &'d CertificateDer<'static>>) -> String {
    let mut once: Vec<&CertificateDer<'static>> = Vec::new();
    for der in ders {
        if !once.contains(&der) {
            once.push(der);
        }
    }
    once.into_iter().map(pem).collect()
}

fn pem(der: &CertificateDer<'static>) -> String {
    let code = BASE64_STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = code.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64)); // base64 is ASCII
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text + "-----END CERTIFICATE-----\n"
}
