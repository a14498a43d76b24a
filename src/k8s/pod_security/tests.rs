use std::collections::{BTreeMap, HashMap};

use bumpalo::Bump;
use serde_json::{Value, json};

use super::*;

/// A pod with exactly the fields that `restricted` requires.
fn compliant() -> Value {
    let context = || json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    json!({
        "metadata": {"name": "p"},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "initContainers": [{"name": "fetch", "securityContext": context()}],
            "containers": [{"name": "main", "securityContext": context()}],
            "volumes": [{"name": "scratch", "emptyDir": {}}, {"name": "unsaid"}],
        },
    })
}

/// The compliant pod with changes: JSON pointers and values; null removes the value.
fn changed(changes: &[(&str, Value)]) -> Value {
    let mut pod = compliant();
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let mut at = &mut pod;
        for step in parent.split('/').skip(1) {
            at = match step.parse::<usize>() {
                Ok(index) => &mut at[index],
                Err(_) => &mut at[step],
            };
        }
        at[key] = value.clone();
    }
    pod
}

/// The violations, as `path must; reason`.
fn found(pod: &Value, policy: &str) -> Vec<String> {
    let arena = Bump::new();
    let all = violations(Json::borrowed(pod, &arena), policy.parse().unwrap());
    all.map(|it| format!("{} {}; {}", it.path, it.must, it.reason)).collect()
}

/// Asserts that the changes violate one rule at a level and its successors, and none below.
fn violates(level: &str, changes: &[(&str, Value)], expected: &str) {
    let pod = changed(changes);
    assert_eq!(found(&pod, "restricted"), [expected], "{changes:?}");
    assert_eq!(found(&pod, "baseline").len(), usize::from(level == "baseline"), "{changes:?}");
    assert!(found(&pod, "privileged").is_empty());
}

const MAIN: &str = "/spec/containers/0";

#[test]
fn a_compliant_pod_violates_nothing_at_any_level_or_version() {
    for version in 0..40 {
        for level in ["privileged", "baseline", "restricted"] {
            let policy = format!("{level}:v1.{version}");
            assert!(found(&compliant(), &policy).is_empty(), "{policy}");
        }
    }
}

#[test]
fn forbidden_fields_of_baseline_are_found_by_path() {
    let main = |field: &str| format!("{MAIN}/{field}");
    let context = |field: &str| format!("{MAIN}/securityContext/{field}");
    let checks: &[(&str, Value, &str)] = &[
        ("/spec/hostPID", json!(true), "spec.hostPID may not be true; host namespaces"),
        ("/spec/hostIPC", json!(true), "spec.hostIPC may not be true; host namespaces"),
        ("/spec/hostNetwork", json!(true), "spec.hostNetwork may not be true; host namespaces"),
        (
            &context("privileged"),
            json!(true),
            "spec.containers[main].securityContext.privileged may not be true; privileged",
        ),
        (
            "/spec/securityContext/windowsOptions",
            json!({"hostProcess": true}),
            "spec.securityContext.windowsOptions.hostProcess may not be true; hostProcess",
        ),
        (
            &main("ports"),
            json!([{"containerPort": 1, "hostPort": 0}, {"containerPort": 2, "hostPort": 80}]),
            "spec.containers[main].ports may have no hostPort; hostPort",
        ),
        (
            &context("appArmorProfile"),
            json!({"type": "Unconfined"}),
            "spec.containers[main].securityContext.appArmorProfile.type must be RuntimeDefault or Localhost; forbidden AppArmor profile",
        ),
        (
            "/metadata/annotations",
            json!({"container.apparmor.security.beta.kubernetes.io/main": "unconfined"}),
            "metadata.annotations[container.apparmor.security.beta.kubernetes.io/main] must be runtime/default or localhost/…; forbidden AppArmor profile",
        ),
        (
            "/spec/securityContext/sysctls",
            json!([{"name": "kernel.shm_rmid_forced"}, {"name": "kernel.msgmax"}]),
            "spec.securityContext.sysctls[kernel.msgmax] may not be set: it is not a safe sysctl; forbidden sysctls",
        ),
        (
            &context("procMount"),
            json!("Unmasked"),
            "spec.containers[main].securityContext.procMount must be Default; procMount",
        ),
        (
            &main("livenessProbe"),
            json!({"httpGet": {"port": 1, "host": "example.com"}}),
            "spec.containers[main].livenessProbe.httpGet.host may not be set; probe or lifecycle host",
        ),
        (
            &main("lifecycle"),
            json!({"preStop": {"tcpSocket": {"port": 1, "host": "example.com"}}}),
            "spec.containers[main].lifecycle.preStop.tcpSocket.host may not be set; probe or lifecycle host",
        ),
        (
            "/spec/securityContext/seccompProfile",
            json!({"type": "Unconfined"}),
            "spec.securityContext.seccompProfile.type must be RuntimeDefault or Localhost; seccompProfile",
        ),
    ];
    for (pointer, value, expected) in checks {
        violates("baseline", &[(pointer, value.clone())], expected);
    }
    for options in [json!({"type": "spc_t"}), json!({"user": "u"}), json!({"role": "r"})] {
        let pod = changed(&[("/spec/securityContext/seLinuxOptions", options)]);
        assert!(found(&pod, "baseline")[0].starts_with("spec.securityContext.seLinuxOptions may name"));
    }
}

/// If `restricted` has a stricter check, its message is used.
#[test]
fn a_check_of_both_levels_is_reported_once() {
    let host_path = changed(&[("/spec/volumes", json!([{"name": "scratch", "hostPath": {"path": "/"}}]))]);
    assert_eq!(found(&host_path, "baseline"), ["spec.volumes[scratch].hostPath may not be set; hostPath volumes"]);
    let violations = found(&host_path, "restricted");
    assert!(
        violations.len() == 1 && violations[0].starts_with("spec.volumes[scratch] must be a configMap, csi"),
        "{violations:?}"
    );
    let capability = changed(&[(&format!("{MAIN}/securityContext/capabilities/add"), json!(["SYS_ADMIN"]))]);
    assert_eq!(
        found(&capability, "baseline"),
        [
            "spec.containers[main].securityContext.capabilities.add may hold no other capabilities than those that a container has by default; non-default capabilities"
        ]
    );
    assert_eq!(
        found(&capability, "restricted"),
        [
            "spec.containers[main].securityContext.capabilities.add may hold nothing but NET_BIND_SERVICE; unrestricted capabilities"
        ]
    );
    let default = changed(&[(&format!("{MAIN}/securityContext/capabilities/add"), json!(["CHOWN"]))]);
    assert!(found(&default, "baseline").is_empty() && found(&default, "restricted").len() == 1);
}

#[test]
fn missing_fields_of_restricted_are_found_by_path() {
    let context = |field: &str| format!("{MAIN}/securityContext/{field}");
    let checks: &[(&str, Value, &str)] = &[
        (
            &context("allowPrivilegeEscalation"),
            Value::Null,
            "spec.containers[main].securityContext.allowPrivilegeEscalation must be false; allowPrivilegeEscalation != false",
        ),
        (
            &context("capabilities"),
            json!({"drop": ["CHOWN"]}),
            "spec.containers[main].securityContext.capabilities.drop must hold ALL; unrestricted capabilities",
        ),
        (
            "/spec/securityContext/runAsNonRoot",
            Value::Null,
            "spec.initContainers[fetch].securityContext.runAsNonRoot must be true; runAsNonRoot != true",
        ),
        (
            "/spec/securityContext/runAsNonRoot",
            json!(false),
            "spec.securityContext.runAsNonRoot must be true; runAsNonRoot != true",
        ),
        (
            &context("runAsNonRoot"),
            json!(false),
            "spec.containers[main].securityContext.runAsNonRoot must be true; runAsNonRoot != true",
        ),
        (&context("runAsUser"), json!(0), "spec.containers[main].securityContext.runAsUser may not be 0; runAsUser=0"),
        (
            "/spec/securityContext/seccompProfile",
            Value::Null,
            "spec.initContainers[fetch].securityContext.seccompProfile must be of the type RuntimeDefault or Localhost; seccompProfile",
        ),
    ];
    for (pointer, value, expected) in checks {
        violates("restricted", &[(pointer, value.clone())], expected);
    }
    let nfs = changed(&[("/spec/volumes", json!([{"name": "scratch", "nfs": {"server": "s", "path": "/"}}]))]);
    assert!(found(&nfs, "baseline").is_empty() && found(&nfs, "restricted").len() == 1);
}

#[test]
fn a_field_of_every_container_need_not_be_set_in_the_pod() {
    let mut pod = changed(&[("/spec/securityContext", Value::Null)]);
    for list in ["initContainers", "containers"] {
        pod["spec"][list][0]["securityContext"]["runAsNonRoot"] = json!(true);
        pod["spec"][list][0]["securityContext"]["seccompProfile"] = json!({"type": "Localhost"});
    }
    assert!(found(&pod, "restricted").is_empty());
}

#[test]
fn a_windows_pod_needs_no_linux_fields() {
    let pod = json!({"spec": {
        "os": {"name": "windows"}, "securityContext": {"runAsNonRoot": true}, "containers": [{"name": "main"}],
    }});
    assert!(found(&pod, "restricted").is_empty());
    assert_eq!(found(&pod, "restricted:v1.24").len(), 3);
}

#[test]
fn root_is_allowed_in_a_user_namespace() {
    let mut pod = changed(&[
        ("/spec/hostUsers", json!(false)),
        ("/spec/securityContext/runAsNonRoot", json!(false)),
        ("/spec/securityContext/runAsUser", json!(0)),
        (&format!("{MAIN}/securityContext/procMount"), json!("Unmasked")),
    ]);
    assert!(found(&pod, "baseline").is_empty());
    let unmasked = "spec.containers[main].securityContext.procMount must be Default; procMount";
    assert_eq!(found(&pod, "restricted"), [unmasked]);
    assert_eq!(found(&pod, "restricted:v1.34").len(), 3);
    pod["spec"]["hostUsers"] = json!(true);
    assert_eq!(found(&pod, "baseline"), [unmasked]);
}

#[test]
fn an_older_version_has_its_own_rules() {
    let sysctl = changed(&[("/spec/securityContext/sysctls", json!([{"name": "net.ipv4.tcp_rmem"}]))]);
    assert_eq!(found(&sysctl, "baseline:v1.31").len(), 1);
    assert!(found(&sysctl, "baseline:v1.32").is_empty() && found(&sysctl, "baseline:v1.99").is_empty());
    let engine = changed(&[("/spec/securityContext/seLinuxOptions", json!({"type": "container_engine_t"}))]);
    assert_eq!([found(&engine, "baseline:v1.30").len(), found(&engine, "baseline:v1.31").len()], [1, 0]);
    let probe =
        changed(&[(&format!("{MAIN}/readinessProbe"), json!({"tcpSocket": {"port": 1, "host": "example.com"}}))]);
    assert_eq!([found(&probe, "baseline:v1.33").len(), found(&probe, "baseline:v1.34").len()], [0, 1]);
    let key = "container.seccomp.security.alpha.kubernetes.io/main";
    let annotated = changed(&[("/metadata/annotations", json!({key: "unconfined"}))]);
    assert_eq!([found(&annotated, "baseline:v1.18").len(), found(&annotated, "baseline:v1.19").len()], [1, 0]);
}

#[test]
fn only_violations_by_podgraft_are_introduced() {
    let arena = Bump::new();
    let policy = "restricted".parse().unwrap();
    let pod = |changes: &[(&str, Value)]| arena.alloc(changed(changes));
    let new_violation = |before: &Value, after: &Value| {
        super::introduced(
            Json::borrowed(arena.alloc(before.clone()), &arena),
            Json::borrowed(arena.alloc(after.clone()), &arena),
            policy,
        )
    };
    let (compliant, violating) = (pod(&[]), pod(&[("/spec/hostPID", json!(true))]));
    let other = pod(&[("/spec/hostIPC", json!(true))]);
    assert_eq!(new_violation(compliant, violating).map(|violation| violation.path), Some("spec.hostPID".to_owned()));
    assert_eq!(
        [
            new_violation(compliant, compliant),
            new_violation(violating, compliant),
            new_violation(violating, violating),
            new_violation(violating, other)
        ],
        [None, None, None, None]
    );
}

#[test]
fn labels_give_the_policy_by_which_the_api_server_warns() {
    let of = |labels: &[(&str, &str)]| {
        let labels =
            labels.iter().map(|(key, value)| (format!("pod-security.kubernetes.io/{key}"), (*value).to_owned()));
        Policy::from_labels(&labels.collect::<BTreeMap<_, _>>()).map(|policy| policy.to_string())
    };
    for (labels, expected) in [
        (&[][..], None),
        (&[("audit", "restricted")], None),
        (&[("warn", "restricted")], Some("restricted:latest")),
        (&[("warn", "baseline"), ("warn-version", "v1.30")], Some("baseline:v1.30")),
        (&[("warn", "baseline"), ("warn-version", "1.30")], Some("baseline:latest")),
        (&[("warn", "baseline"), ("warn-version", "v1.030")], Some("baseline:latest")),
        (&[("warn", "privileged"), ("enforce", "restricted")], None),
        (&[("warn", "nonsense"), ("enforce", "restricted")], None),
        (&[("enforce", "baseline"), ("enforce-version", "v1.20")], Some("baseline:v1.20")),
        (&[("enforce", "baseline"), ("enforce-version", "v1.20"), ("warn-version", "v1.0")], Some("baseline:v1.0")),
        (&[("enforce", "baseline"), ("enforce-version", "v1.20"), ("warn-version", "x")], Some("baseline:latest")),
        (&[("enforce", "nonsense")], None),
    ] {
        assert_eq!(of(labels).as_deref(), expected, "{labels:?}");
    }
}

#[test]
fn a_policy_is_parsed_with_or_without_a_version() {
    let parse = |text: &str| text.parse::<Policy>().map(|policy| policy.to_string());
    assert_eq!(parse("restricted"), Ok("restricted:latest".to_owned()));
    assert_eq!(parse("baseline:v1.30"), Ok("baseline:v1.30".to_owned()));
    assert_eq!(parse("strict"), Err("must be privileged, baseline or restricted"));
    assert_eq!(parse("baseline:1.30"), Err("the version must be `latest` or like `v1.30`"));
}

#[test]
fn levels_are_shared_and_change_for_every_holder() {
    let levels = Levels::default();
    let shared = levels.clone();
    let policy: Policy = "baseline".parse().unwrap();
    assert_eq!(shared.for_namespace("ml"), None);
    levels.set(HashMap::from([("ml".to_owned(), policy)]));
    assert_eq!([shared.for_namespace("ml"), shared.for_namespace("other")], [Some(policy), None]);
    levels.set_everywhere(Some(policy));
    assert_eq!(shared.for_namespace("other"), Some(policy));
    levels.set(HashMap::new());
    assert_eq!(shared.for_namespace("ml"), None);
}
