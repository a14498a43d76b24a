//! Certificates in a folder as the kubelet mounts a Secret.

#![allow(dead_code, reason = "several binaries include this file and each uses a part")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use podgraft::server::tls::Files;
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

/// A directory as the kubelet makes it: `tls.crt -> ..data/tls.crt`, `..data -> ..<version>`.
pub(crate) struct Secret {
    pub(crate) directory: TempDir,
    pub(crate) version: AtomicUsize,
}

impl Secret {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for file in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(file), directory.path().join(file)).unwrap();
        }
        Self { directory, version: AtomicUsize::new(0) }
    }

    pub(crate) fn files(&self) -> Files {
        Files { certificate: self.directory.path().join("tls.crt"), key: self.directory.path().join("tls.key") }
    }

    /// Swaps in a new pair and gives its certificate.
    pub(crate) fn swap(&self) -> CertificateDer<'static> {
        let (certificate, key) = pair();
        self.put(Some(&certificate), Some(&key));
        der(&certificate)
    }

    pub(crate) fn put(&self, certificate: Option<&str>, key: Option<&str>) {
        let number = self.version.fetch_add(1, Ordering::SeqCst);
        let (root, version) = (self.directory.path(), format!("..{number}"));
        fs::create_dir(root.join(&version)).unwrap();
        for (file, text) in [("tls.crt", certificate), ("tls.key", key)] {
            if let Some(text) = text {
                fs::write(root.join(&version).join(file), text).unwrap();
            }
        }
        symlink(&version, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        if let Some(before) = number.checked_sub(1) {
            fs::remove_dir_all(root.join(format!("..{before}"))).unwrap();
        }
    }
}

pub(crate) fn pair() -> (String, String) {
    let pair = rcgen::generate_simple_self_signed(["podgraft.podgraft.svc".to_owned()]).unwrap();
    (pair.cert.pem(), pair.signing_key.serialize_pem())
}

pub(crate) fn der(certificate: &str) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()
}
