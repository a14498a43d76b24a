//! A certificate in a folder as the kubelet mounts a Secret.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use crate::certificates::{der, self_signed};

/// A temporary folder with `tls.crt` and `tls.key`.
pub struct MountedSecret {
    /// The folder.
    pub directory: TempDir,
}

impl MountedSecret {
    /// An empty folder.
    pub fn empty() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A folder with a self-signed certificate.
    pub fn self_signed() -> Self {
        let secret = Self::empty();
        secret.rotate();
        secret
    }

    /// The path of the certificate.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("tls.crt")
    }

    /// The path of the key.
    pub fn key(&self) -> PathBuf {
        self.directory.path().join("tls.key")
    }

    /// Swaps in a new self-signed certificate with its key, and returns the certificate.
    pub fn rotate(&self) -> CertificateDer<'static> {
        let (certificate, key) = self_signed();
        self.put(Some(&certificate), Some(&key));
        der(&certificate)
    }

    /// Swaps in these files; an absent one is gone then.
    pub fn put(&self, certificate: Option<&str>, key: Option<&str>) {
        let files = [("tls.crt", certificate), ("tls.key", key)];
        let files = files.into_iter().filter_map(|(name, text)| Some((name, text?.to_owned())));
        mount(self.directory.path(), &files.collect::<Vec<_>>()).expect("the Secret can be mounted");
    }
}

/// Writes files as kubelet's `AtomicWriter` does: into a new folder, to which `..data` is then
/// swapped by a rename; the old folder goes last.
pub fn mount(dir: &Path, files: &[(&str, String)]) -> io::Result<()> {
    let data = dir.join("..data");
    let old = fs::read_link(&data).ok();
    let new = tempfile::Builder::new().prefix("..").tempdir_in(dir)?.keep();
    for (name, text) in files {
        fs::write(new.join(name), text)?;
    }
    let next = dir.join("..data_tmp");
    symlink(new.file_name().unwrap_or_default(), &next)?;
    fs::rename(&next, &data)?;
    for (name, _) in files {
        let link = dir.join(name);
        if !link.is_symlink() {
            symlink(Path::new("..data").join(name), &link)?;
        }
    }
    old.map_or(Ok(()), |old| fs::remove_dir_all(dir.join(old)))
}
