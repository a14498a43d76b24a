//! Warnings of containers: hidden env, fractions of bytes, conflicting ports.

use super::{BYTES, Search, Warning};
use crate::json::Json;
use crate::k8s::defaults::hidden;

/// A port and its container.
struct Seen<'a> {
    container: &'a str,
    path: String,
    port: Json<'a>,
}

impl<'a> Search<'a> {
    pub(super) fn containers(&mut self) {
        let mut ports_changed = false;
        for list in ["initContainers", "containers"] {
            let old = self.before.get_path(&["spec", list]).map_or(&[][..], |list| list.items());
            for container in self.changed(&[list]) {
                let own = old.iter().find(|old| old.get("name") == container.get("name"));
                if own.is_some_and(|own| own.ptr_eq(container)) {
                    continue;
                }
                let path = format_args!("spec.{list}[{}]", container.text("name"));
                let has_changed = |key: &str| match (container.get(key), own.and_then(|own| own.get(key))) {
                    (Some(new), Some(old)) => !new.ptr_eq(&old),
                    (new, _) => new.is_some(),
                };
                if has_changed("env") {
                    let env = container.get("env").map_or(&[][..], |env| env.items());
                    for name in hidden(env) {
                        let message = "hides previous definition, which may be dropped when using apply";
                        self.warn(format!("{path}.env[{name}]"), message);
                    }
                }
                if has_changed("resources") {
                    for kind in ["limits", "requests"] {
                        let amounts = container.get_path(&["resources", kind]);
                        self.fractions(amounts, format_args!("{path}.resources.{kind}"), BYTES);
                    }
                }
                ports_changed |= has_changed("ports");
            }
        }
        if ports_changed {
            self.ports();
        }
    }

    /// Compares the ports of all containers: they share the pod's network.
    fn ports(&mut self) {
        let mut seen: Vec<Seen<'a>> = Vec::new();
        for list in ["initContainers", "containers"] {
            for container in self.pod.get_path(&["spec", list]).map_or(&[][..], |list| list.items()) {
                let name = container.text("name");
                for port in container.get("ports").map_or(&[][..], |ports| ports.items()) {
                    let path = format!("spec.{list}[{name}].ports");
                    self.port(&path, *port, &seen);
                    seen.push(Seen { container: name, path, port: *port });
                }
            }
        }
    }

    fn port(&mut self, path: &str, port: Json<'a>, seen: &[Seen<'a>]) {
        let number = |port: Json<'a>, key: &str| port.get(key).filter(|number| *number != Json::Uint(0));
        let (host, host_ip) = (number(port, "hostPort"), port.text("hostIP"));
        let path = format!("{path}[{}/{}]", shown(port.get("containerPort")), protocol(port));
        if !host_ip.is_empty() && host.is_none() {
            self.warn(&path, "hostIP set without hostPort");
        }
        for Seen { container, path: others_path, port: other } in seen {
            let same =
                number(*other, "containerPort") == number(port, "containerPort") && protocol(*other) == protocol(port);
            let (others_host, others_ip) = (number(*other, "hostPort"), other.text("hostIP"));
            let what = match (same, host, others_host) {
                (true, a, b) if a == b && host_ip == others_ip => Some("duplicate"),
                (true, None, _) | (true, _, None) => Some("overlapping"),
                (true, a, b) if a == b && host_ip.is_empty() != others_ip.is_empty() => Some("dangerously ambiguous"),
                _ => None,
            };
            if let Some(what) = what {
                self.conflict(&path, format!("{what} port definition with the container {container}"), others_path);
            }
        }
        let name = port.text("name");
        if let Some(other) = seen.iter().find(|other| !name.is_empty() && other.port.text("name") == name) {
            let message = format!("duplicate port name {name:?} with the container {}", other.container);
            self.conflict(&path, message, &other.path);
        }
    }

    fn conflict(&mut self, path: &str, message: String, related_path: &str) {
        self.found.push(Warning { path: path.to_owned(), message, related_path: Some(related_path.to_owned()) });
    }
}

fn protocol(port: Json<'_>) -> &str {
    Some(port.text("protocol")).filter(|text| !text.is_empty()).unwrap_or("TCP")
}

fn shown(value: Option<Json<'_>>) -> String {
    value.map_or_else(String::new, |value| serde_json::to_string(&value).unwrap_or_default())
}
