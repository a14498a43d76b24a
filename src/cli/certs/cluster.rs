//! Reads the Secret and the webhook configurations from the cluster of the user's kubeconfig.

use anyhow::{anyhow, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

use super::set::{CA, CERTIFICATE, CertificateSet, KEY};
use super::verify::Bundle;

/// The kinds of objects with a caBundle.
const KINDS: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

/// A client for the cluster of the user's kubeconfig.
pub(super) struct Cluster {
    pub(super) client: kube::Client,
    pub(super) runtime: tokio::runtime::Runtime,
}

/// A webhook configuration.
pub(super) struct Registration {
    pub(super) kind: &'static str,
    pub(super) object: DynamicObject,
}

impl Cluster {
    /// Connects to the cluster.
    ///
    /// # Errors
    /// There is no usable kubeconfig.
    pub(super) fn connect() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(kube::Client::try_default());
        // the errors between repeat the root cause in words of the client library
        let client = client.map_err(|error| {
            let cause = anyhow::Error::from(error).root_cause().to_string();
            anyhow!("cannot connect to the API server: KUBECONFIG or ~/.kube/config cannot be used: {cause}")
        })?;
        Ok(Self { client, runtime })
    }

    /// Reads a Secret; `None` if there is none.
    ///
    /// # Errors
    /// The API server does not answer, or denies the access.
    pub(super) fn secret(&self, namespace: &str, name: &str) -> anyhow::Result<Option<Secret>> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let found = self.runtime.block_on(api.get_opt(name));
        found.map_err(|error| anyhow!("the Secret {namespace}/{name} cannot be read: {}", error_text(&error)))
    }

    /// Returns the API of one kind of webhook configurations.
    pub(super) fn configurations(&self, kind: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
        Api::all_with(self.client.clone(), &ApiResource::from_gvk(&kind))
    }

    /// Reads the webhook configurations with this name.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub(super) fn registrations(&self, name: &str) -> anyhow::Result<Vec<Registration>> {
        let mut found = Vec::new();
        for kind in KINDS {
            let object = self.runtime.block_on(self.configurations(kind).get_opt(name));
            let object = object.map_err(|error| anyhow!("the {kind} {name} cannot be read: {}", error_text(&error)))?;
            found.extend(object.map(|object| Registration { kind, object }));
        }
        if found.is_empty() {
            bail!(
                "there is no MutatingWebhookConfiguration {name}: install podgraft's manifests first, or name another with --webhook"
            );
        }
        Ok(found)
    }
}

/// Returns the set that a Secret holds.
pub(super) fn from_secret(secret: &Secret) -> CertificateSet {
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        bytes.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())
    };
    CertificateSet { authorities: text(CA), chain: text(CERTIFICATE), key: text(KEY), key_is_open: false }
}

/// Returns the API server's message, otherwise the client's chain of errors.
pub(super) fn error_text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("the API server responds with status {}", status.code),
        error => {
            let mut text = error.to_string();
            let mut inner = std::error::Error::source(error);
            while let Some(source) = inner {
                let next = source.to_string();
                if !text.contains(&next) {
                    text = format!("{text}: {next}");
                }
                inner = source.source();
            }
            text
        }
    }
}

/// Returns the entries of a webhook configuration.
pub(super) fn webhooks(object: &DynamicObject) -> impl Iterator<Item = &Value> {
    object.data["webhooks"].as_array().map_or(&[][..], Vec::as_slice).iter()
}

/// Decodes a caBundle; text that is no base64 gives an empty bundle.
pub(super) fn decoded(bundle: &str) -> String {
    let bytes = BASE64_STANDARD.decode(bundle).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns the caBundles of all entries.
pub(super) fn bundles(registrations: &[Registration]) -> Vec<Bundle> {
    let mut found = Vec::new();
    for Registration { kind, object } in registrations {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        for entry in webhooks(object) {
            let place = format!("{kind} {name}, entry {}", entry["name"].as_str().unwrap_or_default());
            found.push(Bundle { place, text: entry["clientConfig"]["caBundle"].as_str().map(decoded) });
        }
    }
    found
}
