//! podgraft's own manifests in a [`ControlPlane`], with the webhook a process of this machine.

use std::fs;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Deserializer, Value, json};

use crate::certificates::{Authority, WEBHOOK_NAME};
use crate::control_plane::{ControlPlane, Output};
use crate::mounted_secret::mount;

/// The names in the webhook's certificate.
const NAMES: &[&str] = &[WEBHOOK_NAME, "localhost"];

/// podgraft as `deploy/kustomize` installs it, but for the way to the webhook: the Service
/// `podgraft` is another name for `localhost`, and the registrations name the port there.
pub struct Install<'a> {
    /// The control plane to install into.
    pub cluster: &'a ControlPlane,
    /// The folder of the kustomization.
    pub base: &'a Path,
    /// The port of 127.0.0.1 that the webhook listens on.
    pub port: u16,
    /// The authorities of the webhook's certificate, PEM.
    pub ca_pem: &'a str,
}

impl Install<'_> {
    /// Applies the manifests. The API server takes a registration up some milliseconds later: wait
    /// for the first effect.
    pub fn apply(&self) -> Result<(), String> {
        self.apply_objects(&self.objects()?)
    }

    /// Applies the registrations anew, with other authorities or another port.
    pub fn update_webhooks(&self) -> Result<(), String> {
        let mut objects = self.objects()?;
        objects.retain(|object| object["webhooks"].is_array());
        self.apply_objects(&objects)
    }

    /// Deletes the registrations, so that the API server calls no webhook.
    pub fn remove_webhooks(&self) -> Result<(), String> {
        let kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations";
        let arguments = ["delete", kinds, "podgraft", "--ignore-not-found"];
        success(&arguments, self.cluster.kubectl(&arguments)).map(drop)
    }

    /// The manifests as they are applied.
    ///
    /// Edited here and not by an overlay: kustomize cannot say "in every webhook" of a field that
    /// the base does not have.
    pub fn objects(&self) -> Result<Vec<Value>, String> {
        let mut objects = self.render()?;
        for object in &mut objects {
            if object["kind"] == "Service" {
                object["spec"] = json!({"type": "ExternalName", "externalName": "localhost"});
            }
            for webhook in object.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
                webhook["clientConfig"]["service"]["port"] = self.port.into();
                webhook["clientConfig"]["caBundle"] = BASE64_STANDARD.encode(self.ca_pem).into();
            }
        }
        Ok(objects)
    }

    /// The objects of the kustomization, as JSON.
    fn render(&self) -> Result<Vec<Value>, String> {
        let base = self.base.to_string_lossy();
        let arguments = ["kustomize", &base];
        let yaml = success(&arguments, self.cluster.kubectl(&arguments))?;
        let arguments = ["create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-"];
        let json = success(&arguments, self.cluster.kubectl_stdin(&arguments, &yaml))?;
        let objects = Deserializer::from_str(&json).into_iter::<Value>();
        // One object after the other, or one List of them.
        let mut found = Vec::new();
        for object in objects {
            let mut object = object.map_err(|error| format!("kubectl create: {error}"))?;
            match object.get_mut("items").and_then(Value::as_array_mut) {
                Some(items) => found.append(items),
                None => found.push(object),
            }
        }
        Ok(found)
    }

    fn apply_objects(&self, objects: &[Value]) -> Result<(), String> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let arguments = ["apply", "-f", "-"];
        success(&arguments, self.cluster.kubectl_stdin(&arguments, &list)).map(drop)
    }
}

fn success(arguments: &[&str], output: Output) -> Result<String, String> {
    if output.success() {
        Ok(output.stdout)
    } else {
        Err(format!("kubectl {}: {}", arguments.join(" "), output.stderr.trim()))
    }
}

/// A webhook's serving certificate in a folder as kubelet mounts a Secret: `tls.crt`, `tls.key` and
/// `ca.crt` are links through the link `..data`, which is swapped when the Secret changes.
pub struct ServingCertificate {
    dir: PathBuf,
    authority: Authority,
}

/// Makes an authority and a certificate of it for `podgraft.podgraft.svc` and `localhost`, and
/// mounts it at `dir`, which is created.
pub fn serving_certificate(dir: &Path) -> Result<ServingCertificate, String> {
    let certificate = ServingCertificate { dir: dir.into(), authority: new_authority()? };
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    certificate.rotate()?;
    Ok(certificate)
}

impl ServingCertificate {
    /// The authority's certificate.
    pub fn ca_pem(&self) -> String {
        self.authority.pem()
    }

    /// Mounts a new certificate of the same authority.
    pub fn rotate(&self) -> Result<(), String> {
        let (certificate, key) = self.authority.issue(NAMES)?;
        let files = [("tls.crt", certificate), ("tls.key", key), ("ca.crt", self.ca_pem())];
        mount(&self.dir, &files).map_err(|error| format!("{}: {error}", self.dir.display()))
    }

    /// Mounts a certificate of a new authority, which [`Self::ca_pem`] gives from now on. To rotate
    /// without a failed call, let the registration trust both before.
    pub fn rotate_authority(&mut self, next: Authority) -> Result<(), String> {
        self.authority = next;
        self.rotate()
    }
}

/// A new authority for [`ServingCertificate::rotate_authority`].
pub fn new_authority() -> Result<Authority, String> {
    Authority::new("podgraft test webhook")
}
