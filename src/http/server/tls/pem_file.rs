//! Reads PEM files; an error names the flag and the file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// An error in the serving certificate, its key or the client CA; the text names the flag and the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// a file cannot be read
    #[error("{flag} {}: cannot be read", path.display())]
    Read {
        /// flag that names the file
        flag: &'static str,
        /// path of the file
        path: PathBuf,
        /// error of the system
        source: io::Error,
    },
    /// a file is invalid
    #[error("{flag} {}: {message}", path.display())]
    Content {
        /// flag that names the file
        flag: &'static str,
        /// path of the file
        path: PathBuf,
        /// reason, the end of a sentence about the file
        message: String,
    },
    /// certificate and key are valid, and do not belong together
    #[error("--tls-key {} is not the key of --tls-cert {}", key.display(), certificate.display())]
    Mismatch {
        /// path of the certificate
        certificate: PathBuf,
        /// path of the key
        key: PathBuf,
    },
    /// the TLS library does not accept the settings
    #[error("cannot set up TLS: {0}")]
    Setup(rustls::Error),
}

/// Reads the certificates of a PEM file, one at least.
pub(super) fn chain(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_slice_iter(&read(flag, path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| content(flag, path, format!("is not PEM: {error}")))?;
    if chain.is_empty() { Err(content(flag, path, "holds no certificate")) } else { Ok(chain) }
}

pub(super) fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { flag, path: path.to_owned(), source })
}

pub(super) fn content(flag: &'static str, path: &Path, message: impl Into<String>) -> Error {
    Error::Content { flag, path: path.to_owned(), message: message.into() }
}
