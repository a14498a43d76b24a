//! All ConfigMaps of podgraft's namespace.
//!
//! Needs `list` and `watch` on configmaps there. Reconnects for ever; while the API server is away, what was read
//! before goes on serving.

use std::collections::BTreeMap;
use std::pin::pin;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};

use super::{Part, Parts};
use crate::config::{File, Wasm, is_wasm, is_yaml};

/// Follows the ConfigMaps and puts what they hold into its slot.
pub(super) async fn watch(client: Client, namespace: String, parts: Parts, slot: usize) {
    let api = Api::<ConfigMap>::namespaced(client, &namespace);
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut maps = Maps::default();
    let mut said = None;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if said.take().is_some() {
                    tracing::info!(namespace, "ConfigMaps can be read again");
                }
                if maps.take(event) {
                    // kube-root-ca.crt and its likes change nothing
                    parts.send_if_modified(|parts| {
                        let part = Some(maps.part());
                        let changed = parts[slot] != part;
                        parts[slot] = part;
                        changed
                    });
                }
            }
            Err(error) => {
                let text = chain(&error);
                if said.as_ref() != Some(&text) {
                    tracing::warn!(namespace, "cannot read the ConfigMaps: {text}; trying again");
                    said = Some(text);
                }
            }
        }
    }
}

/// The error with its causes, which hold what matters ("connection refused").
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The ConfigMaps by name, and those of a list under way.
#[derive(Default)]
struct Maps {
    all: BTreeMap<String, Part>,
    listed: Option<BTreeMap<String, Part>>,
    complete: bool,
}

impl Maps {
    /// Whether what [`Maps::part`] gives may have changed: not in the middle of a list.
    fn take(&mut self, event: Event<ConfigMap>) -> bool {
        match event {
            Event::Init => self.listed = Some(BTreeMap::new()),
            Event::InitApply(map) => {
                self.listed.get_or_insert_default().insert(map.name_any(), part_of(map));
                return false;
            }
            Event::InitDone => {
                self.all = self.listed.take().unwrap_or_default();
                self.complete = true;
                return true;
            }
            Event::Apply(map) => _ = self.all.insert(map.name_any(), part_of(map)),
            Event::Delete(map) => _ = self.all.remove(&map.name_any()),
        }
        self.complete && self.listed.is_none()
    }

    fn part(&self) -> Part {
        let mut whole = Part::default();
        for part in self.all.values().cloned() {
            whole.files.extend(part.files);
            whole.wasm.extend(part.wasm);
        }
        whole
    }
}

fn part_of(map: ConfigMap) -> Part {
    let name = map.name_any();
    let files = map.data.unwrap_or_default().into_iter().filter(|(key, _)| is_yaml(key));
    let wasm = map.binary_data.unwrap_or_default().into_iter().filter(|(key, _)| is_wasm(key));
    Part {
        files: files.map(|(key, text)| File { name: format!("{name}/{key}"), text }).collect(),
        wasm: wasm
            .map(|(key, bytes)| Wasm { name: key, origin: format!("ConfigMap {name}"), bytes: bytes.0.into() })
            .collect(),
    }
}
