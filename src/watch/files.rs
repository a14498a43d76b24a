//! The watch of a file or folder by polling.
//!
//! It does not use inotify: on a ConfigMap volume a watch of the file is lost at the first symlink swap, and reading the
//! metadata of a few files once a second costs next to nothing.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::MissedTickBehavior;

use super::source_status::StatusReporter;
use super::{Content, Contents};
use crate::config::{File, Wasm, is_wasm, is_yaml};

/// A file or folder to poll.
#[derive(Clone)]
pub(super) struct Folder {
    /// a file, or a folder without its subfolders
    pub(super) path: PathBuf,
    /// true to read only `*.wasm`, not `*.yaml`
    pub(super) only_modules: bool,
}

/// The metadata that differ between two states of the files, through symlinks: a swap gives new inodes.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Signature(Vec<(PathBuf, u64, u64, u64, Option<SystemTime>)>);

impl Folder {
    /// Reads the files and their signature; reads again if they change meanwhile.
    pub(super) fn read(&self) -> io::Result<(Content, Signature)> {
        // a swap takes microseconds: after several in a row the files are used as they are
        for _ in 0..5 {
            let before = self.signature()?;
            match self.read_all(&before) {
                Ok(content) if self.signature()? == before => return Ok((content, before)),
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
            // the kubelet swaps a volume's version with names such as `..data`
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

    fn read_all(&self, signature: &Signature) -> io::Result<Content> {
        let mut content = Content::default();
        for (path, ..) in &signature.0 {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let with_name = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
            let bytes = fs::read(path).map_err(|error| if self.path == *path { error } else { with_name(error) })?;
            if is_wasm(&name) {
                content.wasm.push(Wasm { name, origin: self.path.display().to_string(), bytes: bytes.into() });
            } else {
                // bytes that are not UTF-8 become an error of the YAML parser, with line and column
                content.files.push(File { name, text: String::from_utf8_lossy(&bytes).into_owned() });
            }
        }
        Ok(content)
    }
}

fn entry(path: PathBuf, metadata: &Metadata) -> (PathBuf, u64, u64, u64, Option<SystemTime>) {
    (path, metadata.dev(), metadata.ino(), metadata.len(), metadata.modified().ok())
}

/// Polls a folder and stores its content in the slot when it changes.
pub(super) async fn poll(
    folder: Folder,
    reporter: StatusReporter,
    contents: Contents,
    slot: usize,
    interval: Duration,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        ticks.tick().await;
        let (folder_now, last_now) = (folder.clone(), last.clone());
        let read = move || read_if_changed(&folder_now, last_now.as_ref());
        let Ok(result) = tokio::task::spawn_blocking(read).await else { continue };
        match result {
            Ok(None) => _ = reporter.succeeded(),
            Ok(Some((content, signature))) => {
                reporter.succeeded();
                last = Some(signature);
                contents.send_modify(|contents| contents[slot] = Some(content));
            }
            Err(error) => report_error(&folder.path, &error, &reporter),
        }
    }
}

fn read_if_changed(folder: &Folder, last: Option<&Signature>) -> io::Result<Option<(Content, Signature)>> {
    if Some(&folder.signature()?) == last { Ok(None) } else { folder.read().map(Some) }
}

/// Logs an error when it first occurs, not at every poll.
fn report_error(path: &Path, error: &io::Error, reporter: &StatusReporter) {
    if reporter.failed(&error.to_string()) {
        tracing::warn!(path = %path.display(), %error, "failed to read, keeping the previous state");
    }
}
