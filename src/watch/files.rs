//! A file or folder, polled.
//!
//! No inotify: on a ConfigMap volume a watch of the file is lost at the first symlink swap, and a look at the metadata
//! of a few files a second costs nothing.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::MissedTickBehavior;

use super::source_status::StatusReporter;
use super::{Part, Parts};
use crate::config::{File, Wasm, is_wasm, is_yaml};

/// What to look at.
#[derive(Clone)]
pub(super) struct Folder {
    /// a file, or a folder without its subfolders
    pub(super) path: PathBuf,
    /// only `*.wasm`, not `*.yaml`
    pub(super) only_modules: bool,
}

/// What tells two states of the files apart without reading them, through symlinks: a swap gives new inodes.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Signature(Vec<(PathBuf, u64, u64, u64, Option<SystemTime>)>);

impl Folder {
    /// The files and their signature; read again while they change underneath.
    pub(super) fn read(&self) -> io::Result<(Part, Signature)> {
        // a swap takes microseconds: whoever meets several in a row is served what is there
        for _ in 0..5 {
            let before = self.signature()?;
            match self.read_all(&before) {
                Ok(part) if self.signature()? == before => return Ok((part, before)),
                Err(error) if self.signature()? == before => return Err(error),
                _ => {}
            }
        }
        let last = self.signature()?;
        Ok((self.read_all(&last)?, last))
    }

    pub(super) fn signature(&self) -> io::Result<Signature> {
        let metadata = fs::metadata(&self.path)?;
        if !metadata.is_dir() {
            return Ok(Signature(vec![entry(self.path.clone(), &metadata)]));
        }
        let mut entries = Vec::new();
        for file in fs::read_dir(&self.path)? {
            let path = file?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            // `..data` and its likes are how a kubelet swaps
            if name.starts_with('.') || !(is_wasm(name) || is_yaml(name) && !self.only_modules) {
                continue;
            }
            let metadata = fs::metadata(&path)?;
            if metadata.is_file() {
                entries.push(entry(path, &metadata));
            }
        }
        entries.sort();
        Ok(Signature(entries))
    }

    fn read_all(&self, signature: &Signature) -> io::Result<Part> {
        let mut part = Part::default();
        for (path, ..) in &signature.0 {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let unread = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
            let bytes = fs::read(path).map_err(|error| if self.path == *path { error } else { unread(error) })?;
            if is_wasm(&name) {
                part.wasm.push(Wasm { name, origin: self.path.display().to_string(), bytes: bytes.into() });
            } else {
                // YAML is UTF-8; what is not becomes an error of its parser, with its place
                part.files.push(File { name, text: String::from_utf8_lossy(&bytes).into_owned() });
            }
        }
        Ok(part)
    }
}

fn entry(path: PathBuf, metadata: &Metadata) -> (PathBuf, u64, u64, u64, Option<SystemTime>) {
    (path, metadata.dev(), metadata.ino(), metadata.len(), metadata.modified().ok())
}

/// Looks again and again, and puts what it finds into its slot.
pub(super) async fn poll(folder: Folder, reader: StatusReporter, parts: Parts, slot: usize, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = None;
    loop {
        ticks.tick().await;
        let (look, known) = (folder.clone(), seen.clone());
        let Ok(found) = tokio::task::spawn_blocking(move || changed(&look, known.as_ref())).await else { continue };
        match found {
            Ok(None) => _ = reader.succeeded(),
            Ok(Some((part, signature))) => {
                reader.succeeded();
                seen = Some(signature);
                parts.send_modify(|parts| parts[slot] = Some(part));
            }
            Err(error) => report_error(&folder.path, &error, &reader),
        }
    }
}

fn changed(folder: &Folder, seen: Option<&Signature>) -> io::Result<Option<(Part, Signature)>> {
    if Some(&folder.signature()?) == seen { Ok(None) } else { folder.read().map(Some) }
}

/// Once for each error, not once a second.
fn report_error(path: &Path, error: &io::Error, reader: &StatusReporter) {
    if reader.failed(&error.to_string()) {
        tracing::warn!("cannot read {}: {error}; what was read before, if anything, goes on serving", path.display());
    }
}
