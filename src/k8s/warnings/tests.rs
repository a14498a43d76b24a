//! Tests with a pod for each warning.

use bumpalo::Bump;
use serde_json::{Value, json};

use super::*;

fn warnings(pod: &Value) -> Vec<String> {
    let arena = Bump::new();
    all(Json::borrowed(pod, &arena)).iter().map(|warning| format!("{} {}", warning.path, warning.message)).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "json! gives values")]
fn spec(spec: Value) -> Vec<String> {
    warnings(&json!({"spec": spec}))
}

#[expect(clippy::needless_pass_by_value, reason = "json! gives values")]
fn container(parts: Value) -> Vec<String> {
    let mut container = json!({"name": "c"});
    container.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
    spec(json!({"containers": [container]}))
}

#[test]
fn deprecated_node_labels_are_found_in_every_selector() {
    let message = "deprecated since v1.14; use \"kubernetes.io/os\" instead";
    let key = "beta.kubernetes.io/os";
    assert_eq!(spec(json!({"nodeSelector": {key: "linux"}})), [format!("spec.nodeSelector[{key}] {message}")]);
    let terms = json!({"matchExpressions": [{"key": key, "operator": "Exists"}]});
    let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [terms]}});
    assert_eq!(
        spec(json!({"affinity": {"nodeAffinity": required}})),
        [format!(
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms.matchExpressions.{key} {message}"
        )]
    );
    let preferred = json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": terms}]});
    assert_eq!(spec(json!({"affinity": {"nodeAffinity": preferred}})).len(), 1);
    let spread = json!([{"topologyKey": key, "labelSelector": {}}]);
    assert_eq!(
        spec(json!({"topologySpreadConstraints": spread})),
        [format!("spec.topologySpreadConstraints[{key}] {message}")]
    );
}

#[test]
fn an_invalid_preferred_label_value_is_found() {
    let term = json!({"matchExpressions": [{"key": "pool", "operator": "In", "values": ["a b"]}]});
    let preferred = json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": term}]});
    assert_eq!(spec(json!({"affinity": {"nodeAffinity": preferred}})).len(), 1);
}

#[test]
fn selectors_that_match_nothing_are_found() {
    assert_eq!(spec(json!({"topologySpreadConstraints": [{"topologyKey": "zone"}]})).len(), 1);
    for kind in ["podAffinity", "podAntiAffinity"] {
        let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]});
        assert_eq!(spec(json!({"affinity": {kind: required}})).len(), 1, "{kind}");
        let preferred = json!({"preferredDuringSchedulingIgnoredDuringExecution":
            [{"weight": 1, "podAffinityTerm": {"topologyKey": "zone"}}]});
        assert_eq!(spec(json!({"affinity": {kind: preferred}})).len(), 1, "{kind}");
        let fine =
            json!({"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone", "labelSelector": {}}]});
        assert_eq!(spec(json!({"affinity": {kind: fine}})).len(), 0, "{kind}");
    }
}

#[test]
fn deprecated_annotations_are_found() {
    for (key, _) in DEPRECATED_ANNOTATIONS {
        assert_eq!(warnings(&json!({"metadata": {"annotations": {*key: "x"}}})).len(), 1, "{key}");
    }
}

#[test]
fn seccomp_and_apparmor_annotations_without_their_field_are_found() {
    let with = |key: &str, value: &str, spec: Value| {
        warnings(&json!({"metadata": {"annotations": {key: value}}, "spec": spec})).len()
    };
    let profile = json!({"type": "RuntimeDefault"});
    assert_eq!(with(SECCOMP, "x", json!({})), 1);
    assert_eq!(with(SECCOMP, "x", json!({"securityContext": {"seccompProfile": profile}})), 0);
    for (prefix, field) in [(CONTAINER_SECCOMP, "seccompProfile"), (APPARMOR, "appArmorProfile")] {
        let key = format!("{prefix}c");
        let of = |context: Value| json!({"containers": [{"name": "c", "securityContext": context}]});
        assert_eq!(with(&key, "runtime/default", of(json!({}))), 1, "{key}");
        assert_eq!(with(&key, "runtime/default", of(json!({field: profile}))), 0, "{key}");
        assert_eq!(with(&key, "runtime/default", json!({"containers": [{"name": "other"}]})), 0, "{key}");
    }
    let pods = json!({"securityContext": {"appArmorProfile": profile}, "containers": [{"name": "c"}]});
    assert_eq!(with(&format!("{APPARMOR}c"), "runtime/default", pods.clone()), 0, "equal to the pod's profile");
    assert_eq!(with(&format!("{APPARMOR}c"), "unconfined", pods), 1);
}

#[test]
fn removed_volume_plugins_are_found() {
    for plugin in
        ["photonPersistentDisk", "gitRepo", "scaleIO", "flocker", "storageos", "quobyte", "glusterfs", "cephfs", "rbd"]
    {
        let found = spec(json!({"volumes": [{"name": "v", plugin: {}}]}));
        assert!(found.len() == 1 && found[0].starts_with(&format!("spec.volumes[v].{plugin} deprecated")), "{found:?}");
    }
}

#[test]
fn overlapping_files_of_one_volume_are_found() {
    let items = |paths: &[&str]| json!(paths.iter().map(|path| json!({"key": "k", "path": path})).collect::<Vec<_>>());
    for kind in ["configMap", "secret", "downwardAPI"] {
        let volume = |paths: &[&str]| spec(json!({"volumes": [{"name": "v", kind: {"items": items(paths)}}]}));
        assert_eq!(volume(&["a", "b", "ab"]).len(), 0, "{kind}");
        assert_eq!(volume(&["a", "a/b"]), ["spec.volumes[v] overlapping paths: \"a/b\""], "{kind}");
        assert_eq!(volume(&["a/b/", "a"]).len(), 1, "{kind}");
    }
    let token = json!({"serviceAccountToken": {"path": "token"}});
    let sources = |other: Value| spec(json!({"volumes": [{"name": "v", "projected": {"sources": [token, other]}}]}));
    assert_eq!(sources(json!({"configMap": {"items": items(&["token"])}})).len(), 1);
    assert_eq!(sources(json!({"configMap": {"items": items(&["ca.crt"])}})).len(), 0);
    assert_eq!(sources(json!({"podCertificate": {"keyPath": "token"}})).len(), 1);
    assert_eq!(sources(json!({})), ["spec.volumes[v] (Projected) has no sources provided"]);
}

#[test]
fn duplicates_and_empty_names_are_found() {
    let alias = json!({"ip": "1.2.3.4", "hostnames": ["a"]});
    assert_eq!(spec(json!({"hostAliases": [alias, alias]})), ["spec.hostAliases[1.2.3.4] duplicate ip"]);
    assert_eq!(
        spec(json!({"imagePullSecrets": [{"name": "a"}, {"name": "a"}, {}]})),
        ["spec.imagePullSecrets[a] duplicate name", "spec.imagePullSecrets invalid empty name"]
    );
}

#[test]
fn addresses_in_non_canonical_form_are_found() {
    for address in ["010.0.0.1", "::ffff:1.2.3.4", "2001:DB8::1", "2001:db8:0:0:0:0:0:1"] {
        assert_eq!(spec(json!({"hostAliases": [{"ip": address}]})).len(), 1, "{address}");
        assert_eq!(spec(json!({"dnsConfig": {"nameservers": [address]}})).len(), 1, "{address}");
    }
    for fine in ["10.0.0.1", "2001:db8::1", "::1", "0.0.0.0", "no address"] {
        assert_eq!(spec(json!({"hostAliases": [{"ip": fine}]})).len(), 0, "{fine}");
    }
}

#[test]
fn a_negative_grace_period_is_found() {
    assert_eq!(spec(json!({"terminationGracePeriodSeconds": -1})).len(), 1);
    assert_eq!(spec(json!({"terminationGracePeriodSeconds": 0})).len(), 0);
}

#[test]
fn fractions_of_a_byte_are_found() {
    for kind in ["limits", "requests"] {
        for name in ["memory", "ephemeral-storage"] {
            let found = container(json!({"resources": {kind: {name: "100m", "cpu": "100m"}}}));
            assert_eq!(
                found,
                [format!(
                    "spec.containers[c].resources.{kind}.{name} fractional byte value is invalid, must be an integer"
                )]
            );
        }
    }
    assert_eq!(spec(json!({"overhead": {"memory": "0.5"}})).len(), 1);
    let claim = json!({"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "1500m"}}}}});
    assert_eq!(spec(json!({"volumes": [{"name": "v", "ephemeral": claim}]})).len(), 1);
}

#[test]
fn env_that_hides_earlier_env_is_found() {
    let twice = |value: &str| container(json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": value}]}));
    assert_eq!(
        twice("2"),
        ["spec.containers[c].env[A] hides previous definition, which may be dropped when using apply"]
    );
    assert_eq!((twice("$(A)").len(), twice("x$(A)").len()), (1, 0));
}

#[test]
fn conflicting_ports_are_found() {
    let ports = |a: Value, b: Value| {
        let sidecar = json!({"name": "s", "ports": [b]});
        let found = spec(json!({"initContainers": [{"name": "c", "ports": [a]}], "containers": [sidecar]}));
        found.join("; ")
    };
    let port = |number: u16| json!({"containerPort": number});
    assert_eq!(ports(port(80), port(81)), "");
    assert_eq!(ports(port(80), json!({"containerPort": 80, "protocol": "UDP"})), "");
    let at = "spec.containers[s].ports[80/TCP]";
    assert_eq!(ports(port(80), port(80)), format!("{at} duplicate port definition with the container c"));
    let host = |ip: &str, port: u16| json!({"containerPort": 80, "hostPort": port, "hostIP": ip});
    assert_eq!(ports(port(80), host("", 8080)), format!("{at} overlapping port definition with the container c"));
    assert_eq!(
        ports(host("", 1), host("10.0.0.1", 1)),
        format!("{at} dangerously ambiguous port definition with the container c")
    );
    assert_eq!(ports(host("", 1), host("", 2)), "");
    assert_eq!(
        ports(port(81), json!({"containerPort": 80, "hostIP": "10.0.0.1"})),
        format!("{at} hostIP set without hostPort")
    );
    let named = |number: u16| json!({"containerPort": number, "name": "http"});
    assert_eq!(ports(named(81), named(80)), format!("{at} duplicate port name \"http\" with the container c"));
}

#[test]
fn warnings_of_the_incoming_pod_do_not_count() {
    let before = json!({"spec": {"nodeSelector": {"beta.kubernetes.io/os": "linux"}, "containers": [{"name": "c"}]}});
    let with = |key: &str| {
        let mut after = before.clone();
        after["spec"]["nodeSelector"][key] = json!("x");
        let arena = Bump::new();
        introduced(Json::borrowed(&before, &arena), Json::borrowed(&after, &arena)).map(|warning| warning.path)
    };
    assert_eq!(with("pool"), None);
    assert_eq!(with("beta.kubernetes.io/arch").as_deref(), Some("spec.nodeSelector[beta.kubernetes.io/arch]"));
}
