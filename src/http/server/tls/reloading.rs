//! A value that is read from files, and read again when the files change.
//!
//! There is no watcher: each use asks the file system for the files' metadata (one `stat` call a file, a few
//! microseconds on the tmpfs of a mounted Secret). So every way of replacing them is noticed, the kubelet's swap of the
//! `..data` symlink included, and as often as it happens.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{error, info};

use super::pem_file::Error;
use crate::http::metrics::Metrics;

type Read<T> = dyn Fn() -> Result<Arc<T>, Error> + Send + Sync;

/// The last valid value of some files.
pub(super) struct Reloading<T: ?Sized> {
    noun: &'static str,
    paths: Vec<PathBuf>,
    read: Box<Read<T>>,
    metrics: Arc<Metrics>,
    current: Mutex<Current<T>>,
}

struct Current<T: ?Sized> {
    /// fingerprints of the last files that were read, valid or not: the same files are not read, nor logged, twice
    seen: Vec<Option<FileFingerprint>>,
    value: Arc<T>,
}

/// The identity of one version of a file, through any number of symlinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileFingerprint {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

// === impl Reloading ===

impl<T: ?Sized> Reloading<T> {
    /// Reads the first value, which must be valid. Log lines call it `noun`.
    pub(super) fn load(
        noun: &'static str,
        paths: Vec<PathBuf>,
        metrics: Arc<Metrics>,
        read: impl Fn() -> Result<Arc<T>, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let seen = fingerprints(&paths);
        let current = Mutex::new(Current { seen, value: read()? });
        Ok(Self { noun, paths, read: Box::new(read), metrics, current })
    }

    /// Returns the last valid value, read again if the files have changed.
    ///
    /// The fingerprints are taken *before* the files are read: a file that is replaced meanwhile differs at the next
    /// call and is read again, so a value that was read half from the old and half from the new files never stays.
    pub(super) fn get(&self) -> Arc<T> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let found = fingerprints(&self.paths);
        if found != current.seen {
            current.seen = found;
            match (self.read)() {
                Ok(value) => {
                    info!(files = self.files(), "{} reloaded", self.noun);
                    current.value = value;
                }
                Err(error) => {
                    let error = anyhow::Error::from(error); // prints its source too
                    error!(error = format!("{error:#}"), "failed to reload {}, keeping the previous one", self.noun);
                    self.metrics.certificate_failed();
                }
            }
        }
        Arc::clone(&current.value)
    }

    fn files(&self) -> String {
        let paths: Vec<_> = self.paths.iter().map(|path| path.display().to_string()).collect();
        paths.join(", ")
    }
}

impl<T: ?Sized> fmt::Debug for Reloading<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reloading").field("paths", &self.paths).finish_non_exhaustive()
    }
}

// === impl FileFingerprint ===

fn fingerprints(paths: &[PathBuf]) -> Vec<Option<FileFingerprint>> {
    paths.iter().map(|path| FileFingerprint::from_path(path)).collect()
}

impl FileFingerprint {
    /// Returns `None` if the file's metadata cannot be read.
    fn from_path(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            length: metadata.len(),
        })
    }
}
