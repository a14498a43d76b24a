//! The watch of the cluster: all ConfigMaps of podgraft's own namespace, and the labels of all Namespaces.
//!
//! It needs `list` and `watch` on configmaps there, and on namespaces; without the latter only Pod Security levels are
//! missing. It reconnects for ever; while the API server is away, the last state serves.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::source_status::StatusReporter;
use super::{Content, Contents};
use crate::config::{File, Wasm, is_wasm, is_yaml};
use crate::k8s::pod_security::{Levels, Policy};

/// Watches the ConfigMaps of a namespace and stores their contents in the slot.
pub(super) async fn watch(
    client: Client,
    reporter: StatusReporter,
    namespace: String,
    contents: Contents,
    slot: usize,
) {
    let source = format!("the ConfigMaps of {namespace}");
    let client = with_success_callback(client, reporter.clone(), source.clone());
    let api = Api::<ConfigMap>::namespaced(client, &namespace);
    let value = |map| Some(Content::from(map));
    follow(api, &reporter, &source, value, |maps| {
        // a ConfigMap without files of podgraft, such as kube-root-ca.crt, changes nothing
        contents.send_if_modified(|contents| {
            let content = Some(joined(maps));
            let changed = contents[slot] != content;
            contents[slot] = content;
            changed
        });
    })
    .await;
}

/// Watches the labels of all Namespaces, which set the Pod Security levels.
pub(super) async fn watch_namespaces(client: Client, reporter: StatusReporter, levels: Levels) {
    let source = "the Namespaces (without them no Pod Security level is checked)";
    let client = with_success_callback(client, reporter.clone(), source.to_owned());
    let api = Api::<PartialObjectMeta<Namespace>>::all(client);
    let value = |namespace: PartialObjectMeta<Namespace>| Policy::from_labels(namespace.labels());
    follow(api, &reporter, source, value, |namespaces| {
        levels.set(namespaces.iter().map(|(name, policy)| (name.clone(), *policy)).collect());
    })
    .await;
}

/// Wraps the client to report each successful response, because kube's watcher emits an event when it fails but none
/// when it resumes, until an object changes.
fn with_success_callback(client: Client, reporter: StatusReporter, source: String) -> Client {
    let namespace = client.default_namespace().to_owned();
    let (reporter, source) = (Arc::new(reporter), Arc::<str>::from(source));
    let service = tower::service_fn(move |request| {
        let (client, reporter, source) = (client.clone(), Arc::clone(&reporter), Arc::clone(&source));
        async move {
            let response = client.send(request).await?;
            if response.status().is_success() && reporter.succeeded() {
                tracing::info!(%source, "reading from the cluster works again");
            }
            Ok::<_, kube::Error>(response)
        }
    });
    Client::new(service, namespace)
}

/// Calls `changed` with the values of all objects whenever one may have changed. Objects without a value are left out.
async fn follow<K, V>(
    api: Api<K>,
    reporter: &StatusReporter,
    source: &str,
    value: impl Fn(K) -> Option<V>,
    mut changed: impl FnMut(&BTreeMap<String, V>),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut objects = Objects { all: BTreeMap::new(), listed: None, complete: false };
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if objects.apply(event, &value) {
                    changed(&objects.all);
                }
            }
            Err(error) => {
                let error = with_causes(&error);
                if reporter.failed(&error) {
                    tracing::warn!(source, error, "failed to read from the cluster, trying again");
                }
            }
        }
    }
}

/// Returns the error with its causes, which name the reason ("connection refused"). A cause that the text names already
/// is not repeated, unlike by anyhow's `{:#}`.
fn with_causes(error: &dyn std::error::Error) -> String {
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

/// The values of all objects by name, and those of an incomplete list.
struct Objects<V> {
    all: BTreeMap<String, V>,
    listed: Option<BTreeMap<String, V>>,
    complete: bool,
}

impl<V> Objects<V> {
    /// Applies an event; returns true if [`Objects::all`] may have changed, which it does not in the middle of a list.
    fn apply<K: Resource>(&mut self, event: Event<K>, value: impl Fn(K) -> Option<V>) -> bool {
        match event {
            Event::Init => self.listed = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                let (name, listed) = (object.name_any(), self.listed.get_or_insert_default());
                listed.extend(value(object).map(|value| (name, value)));
                return false;
            }
            Event::InitDone => {
                self.all = self.listed.take().unwrap_or_default();
                self.complete = true;
                return true;
            }
            Event::Apply(object) => {
                let name = object.name_any();
                match value(object) {
                    Some(value) => _ = self.all.insert(name, value),
                    None => _ = self.all.remove(&name),
                }
            }
            Event::Delete(object) => _ = self.all.remove(&object.name_any()),
        }
        self.complete && self.listed.is_none()
    }
}

fn joined(maps: &BTreeMap<String, Content>) -> Content {
    let mut joined = Content::default();
    for content in maps.values().cloned() {
        joined.files.extend(content.files);
        joined.wasm.extend(content.wasm);
    }
    joined
}

impl From<ConfigMap> for Content {
    fn from(map: ConfigMap) -> Self {
        let name = map.name_any();
        let files = map.data.unwrap_or_default().into_iter().filter(|(key, _)| is_yaml(key));
        let wasm = map.binary_data.unwrap_or_default().into_iter().filter(|(key, _)| is_wasm(key));
        Self {
            files: files.map(|(key, text)| File { name: format!("{name}/{key}"), text }).collect(),
            wasm: wasm
                .map(|(key, bytes)| Wasm { name: key, origin: format!("ConfigMap {name}"), bytes: bytes.0.into() })
                .collect(),
        }
    }
}
