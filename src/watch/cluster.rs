//! What podgraft reads of the cluster: all ConfigMaps of its own namespace, and the labels of all Namespaces.
//!
//! Needs `list` and `watch` on configmaps there, and on namespaces; without the latter everything else goes on.
//! Reconnects for ever; while the API server is away, what was read before goes on serving.

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
use super::{Part, Parts};
use crate::config::{File, Wasm, is_wasm, is_yaml};
use crate::k8s::pod_security::{Levels, Policy};

/// Follows the ConfigMaps and puts what they hold into its slot.
pub(super) async fn watch(client: Client, reader: StatusReporter, namespace: String, parts: Parts, slot: usize) {
    let what = format!("the ConfigMaps of {namespace}");
    let client = with_success_callback(client, reader.clone(), what.clone());
    let api = Api::<ConfigMap>::namespaced(client, &namespace);
    let value = |map| Some(part_of(map));
    follow(api, &reader, &what, value, |maps| {
        // kube-root-ca.crt and its likes change nothing
        parts.send_if_modified(|parts| {
            let part = Some(whole(maps));
            let changed = parts[slot] != part;
            parts[slot] = part;
            changed
        });
    })
    .await;
}

/// Follows the Namespaces, for what the API server warns of in each. Their labels are all that is asked for.
pub(super) async fn watch_namespaces(client: Client, reader: StatusReporter, levels: Levels) {
    let what = "the Namespaces (without them no pod is held to a Pod Security level)";
    let client = with_success_callback(client, reader.clone(), what.to_owned());
    let api = Api::<PartialObjectMeta<Namespace>>::all(client);
    let value = |namespace: PartialObjectMeta<Namespace>| Policy::from_labels(namespace.labels());
    follow(api, &reader, what, value, |namespaces| {
        levels.set(namespaces.iter().map(|(name, policy)| (name.clone(), *policy)).collect());
    })
    .await;
}

/// The client, with an ear to what it is told: the watcher says when it fails, and not that it goes on where it was, for
/// which nothing but the reply's beginning stands as long as no object changes.
fn with_success_callback(client: Client, reader: StatusReporter, what: String) -> Client {
    let namespace = client.default_namespace().to_owned();
    let (reader, what) = (Arc::new(reader), Arc::<str>::from(what));
    let service = tower::service_fn(move |request| {
        let (client, reader, what) = (client.clone(), Arc::clone(&reader), Arc::clone(&what));
        async move {
            let response = client.send(request).await?;
            if response.status().is_success() && reader.succeeded() {
                tracing::info!("can read again: {what}");
            }
            Ok::<_, kube::Error>(response)
        }
    });
    Client::new(service, namespace)
}

/// Calls `changed` with everything that there is, whenever that may have changed. Objects without a value count as not
/// there.
async fn follow<K, V>(
    api: Api<K>,
    reader: &StatusReporter,
    what: &str,
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
                if objects.take(event, &value) {
                    changed(&objects.all);
                }
            }
            Err(error) => {
                let text = chain(&error);
                if reader.failed(&text) {
                    tracing::warn!("cannot read {what}: {text}; trying again");
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

/// What is known of the objects by name, and of those of a list under way.
struct Objects<V> {
    all: BTreeMap<String, V>,
    listed: Option<BTreeMap<String, V>>,
    complete: bool,
}

impl<V> Objects<V> {
    /// Whether [`Objects::all`] may be another one now: not in the middle of a list.
    fn take<K: Resource>(&mut self, event: Event<K>, value: impl Fn(K) -> Option<V>) -> bool {
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

/// All of them as one.
fn whole(maps: &BTreeMap<String, Part>) -> Part {
    let mut whole = Part::default();
    for part in maps.values().cloned() {
        whole.files.extend(part.files);
        whole.wasm.extend(part.wasm);
    }
    whole
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
