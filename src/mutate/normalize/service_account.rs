//! Removes the pull secrets and the token of a service account that the pod no longer has.

use super::Normalizer;
use crate::json::Json;
use crate::k8s::labels::TOKEN_VOLUME;
use crate::k8s::patch::{PathElement, display_path};

impl<'a> Normalizer<'_, 'a> {
    /// Removes the old service account's pull secrets and token mounts, except those that the submitter or a layer
    /// set: the `ServiceAccount` plugin runs again and adds the new one's. Sets the deprecated field to the new name.
    pub(super) fn service_account(&mut self) {
        let Some(account) = self.changed("serviceAccountName") else { return };
        if self.spec().get("serviceAccount").is_some() {
            self.set("serviceAccount", account);
        }
        self.pull_secrets();
        let volumes = self.spec().get("volumes").map_or(&[][..], |volumes| volumes.items());
        let tokens: Vec<&'a str> = volumes.iter().map(|volume| volume.text("name")).collect();
        let tokens: Vec<&'a str> = tokens.into_iter().filter(|name| self.is_plugins_volume(name)).collect();
        if tokens.is_empty() {
            return;
        }
        let is_token = |item: &Json<'a>| tokens.contains(&item.text("name"));
        self.retain("volumes", |volume| !is_token(volume));
        self.removed.extend(tokens.iter().map(|name| display_path(&element("volumes", name))));
        for list in ["containers", "initContainers"] {
            self.each_container(list, |normalizer, container| normalizer.without_mounts(list, container, is_token));
        }
    }

    fn is_plugins_volume(&self, name: &str) -> bool {
        name.starts_with(TOKEN_VOLUME) && !self.managed_fields.set_by_submitter(&element("volumes", name))
    }

    fn pull_secrets(&mut self) {
        let fragments = self.fragments;
        let from_layer = |name: &str| {
            let lists = fragments.iter().filter_map(|(_, fragment)| fragment.get_path(&["spec", "imagePullSecrets"]));
            lists.flat_map(|list| list.items()).any(|secret| secret.text("name") == name)
        };
        let secrets = self.spec().get("imagePullSecrets").map_or(&[][..], |secrets| secrets.items());
        let names = secrets.iter().map(|secret| secret.text("name"));
        let old: Vec<&'a str> = names
            .filter(|name| {
                !from_layer(name) && !self.managed_fields.set_by_submitter(&element("imagePullSecrets", name))
            })
            .collect();
        self.retain("imagePullSecrets", |secret| !old.contains(&secret.text("name")));
        self.removed.extend(old.iter().map(|name| display_path(&element("imagePullSecrets", name))));
    }

    fn without_mounts(
        &mut self,
        list: &'static str,
        container: Json<'a>,
        is_token: impl Fn(&Json<'a>) -> bool,
    ) -> Json<'a> {
        let Some(mounts) = container.get("volumeMounts") else { return container };
        if !mounts.items().iter().any(&is_token) {
            return container;
        }
        let name = container.text("name");
        for mount in mounts.items().iter().filter(|mount| is_token(mount)) {
            let path = mount.text("mountPath");
            self.removed.push(format!("spec.{list}[{name}].volumeMounts[{path}]"));
        }
        let kept = mounts.items().iter().copied().filter(|mount| !is_token(mount));
        container.with("volumeMounts", Json::array(kept, self.arena), self.arena)
    }
}

fn element<'s>(list: &'s str, name: &'s str) -> [PathElement<'s>; 3] {
    [PathElement::Member("spec"), PathElement::Member(list), PathElement::Element(0, Some(name))]
}
