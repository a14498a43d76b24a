//! The Pod Security checks against Kubernetes' own: thousands of random pods, by each level and version, judged by
//! podgraft and by `k8s.io/pod-security-admission` (the Go program `main.go` beside this file). Every check must find
//! what its counterpart finds, and labels must mean the same.
//!
//! `PODGRAFT_POD_SECURITY_PODS` and `PODGRAFT_POD_SECURITY_SEED` set how many pods, and which.

#![allow(clippy::unwrap_used, reason = "a test that cannot ask fails")]

use std::collections::BTreeMap;
use std::process::Command;

use bumpalo::Bump;
use podgraft::json::Json;
use podgraft::k8s::pod_security::{Policy, violations};
use podgraft_testkit::oracle::{self, number};
use podgraft_testkit::random::Random;
use serde_json::{Value, json};

/// A change that a check looks at: where in a pod (`*` is some container), and what may stand there.
type Change = (&'static str, &'static [&'static str]);

const CONTEXT: &[Change] = &[
    ("seccompProfile", &[r#"{"type":"RuntimeDefault"}"#, r#"{"type":"Localhost"}"#, r#"{"type":"Unconfined"}"#, "{}"]),
    ("appArmorProfile", &[r#"{"type":"RuntimeDefault"}"#, r#"{"type":"Localhost"}"#, r#"{"type":"Unconfined"}"#, "{}"]),
    (
        "seLinuxOptions",
        &[
            "{}",
            r#"{"level":"s0"}"#,
            r#"{"type":"container_t"}"#,
            r#"{"type":"container_init_t"}"#,
            r#"{"type":"container_kvm_t"}"#,
            r#"{"type":"container_engine_t"}"#,
            r#"{"type":"spc_t"}"#,
            r#"{"user":"u"}"#,
            r#"{"role":"r"}"#,
        ],
    ),
    ("windowsOptions", &["{}", r#"{"hostProcess":true}"#, r#"{"hostProcess":false}"#]),
    ("runAsNonRoot", &["true", "false", "null"]),
    ("runAsUser", &["0", "1000", "null"]),
];

const CONTAINER_CONTEXT: &[Change] = &[
    ("privileged", &["true", "false", "null"]),
    ("procMount", &[r#""Default""#, r#""Unmasked""#, r#""""#, "null"]),
    ("allowPrivilegeEscalation", &["true", "false", "null"]),
    (
        "capabilities",
        &[
            "{}",
            "null",
            r#"{"drop":["ALL"]}"#,
            r#"{"drop":["CHOWN"]}"#,
            r#"{"drop":["CHOWN","ALL"],"add":["NET_BIND_SERVICE"]}"#,
            r#"{"drop":["ALL"],"add":["SYS_CHROOT","AUDIT_WRITE","MKNOD","SETPCAP"]}"#,
            r#"{"drop":["ALL"],"add":["CHOWN","DAC_OVERRIDE","FOWNER","FSETID","KILL","SETFCAP","SETGID","SETUID"]}"#,
            r#"{"add":["NET_RAW"]}"#,
            r#"{"drop":["ALL"],"add":["SYS_ADMIN"]}"#,
        ],
    ),
];

const CONTAINER: &[Change] = &[
    ("securityContext", &["null", "{}"]),
    (
        "ports",
        &["[]", r#"[{"containerPort":1,"hostPort":0},{"containerPort":2}]"#, r#"[{"containerPort":1,"hostPort":2}]"#],
    ),
    ("livenessProbe", &[r#"{"httpGet":{"port":1}}"#, r#"{"httpGet":{"port":1,"host":"h"}}"#]),
    ("readinessProbe", &[r#"{"tcpSocket":{"port":1,"host":""}}"#, r#"{"tcpSocket":{"port":1,"host":"h"}}"#]),
    ("startupProbe", &[r#"{"exec":{"command":["true"]}}"#, r#"{"httpGet":{"port":1,"host":"h"}}"#]),
    (
        "lifecycle",
        &[
            r#"{"postStart":{"httpGet":{"port":1,"host":"h"}}}"#,
            r#"{"preStop":{"tcpSocket":{"port":1,"host":"h"}}}"#,
            "{}",
        ],
    ),
];

const SPEC: &[Change] = &[
    ("hostNetwork", &["true", "false"]),
    ("hostPID", &["true", "false"]),
    ("hostIPC", &["true", "false"]),
    ("hostUsers", &["true", "false", "null"]),
    ("os", &[r#"{"name":"windows"}"#, r#"{"name":"linux"}"#]),
    ("securityContext", &["null", "{}"]),
];

const SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "kernel.msgmax",
];

const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
    "hostPath",
    "nfs",
    "gitRepo",
    "iscsi",
    "cephfs",
];

const ANNOTATIONS: &[(&str, &[&str])] = &[
    (
        "container.apparmor.security.beta.kubernetes.io/a",
        &["", "runtime/default", "localhost/x", "unconfined", "localhost"],
    ),
    ("container.apparmor.security.beta.kubernetes.io/missing", &["runtime/default", "unconfined"]),
    (
        "seccomp.security.alpha.kubernetes.io/pod",
        &["runtime/default", "docker/default", "localhost/x", "unconfined", ""],
    ),
    ("container.seccomp.security.alpha.kubernetes.io/b", &["runtime/default", "unconfined"]),
    ("container.seccomp.security.alpha.kubernetes.io/missing", &["unconfined"]),
];

/// The values that `restricted` demands.
fn compliant() -> Value {
    let context = || json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "annotations": {}},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "initContainers": [{"name": "a", "securityContext": context()}],
            "containers": [{"name": "b", "securityContext": context()}, {"name": "c", "securityContext": context()}],
        },
    })
}

struct Generator(Random);

impl Generator {
    fn one<'c, T: ?Sized>(&mut self, of: &'c [&'c T]) -> &'c T {
        of[self.0.below(of.len())]
    }

    fn pod(&mut self) -> Value {
        let mut pod = compliant();
        // Several changes meet; a pod of many violates everything, and says less.
        for _ in 0..self.0.below(5) {
            self.change(&mut pod);
        }
        pod
    }

    fn change(&mut self, pod: &mut Value) {
        let places = ["/spec/initContainers/0", "/spec/containers/0", "/spec/containers/1"];
        let place = self.one(&places);
        let context = format!("{place}/securityContext");
        match self.0.below(12) {
            0 | 1 => self.set(pod, "/spec/securityContext", CONTEXT),
            2..=4 => self.set(pod, &context, CONTEXT),
            5..=7 => self.set(pod, &context, CONTAINER_CONTEXT),
            8 => self.set(pod, place, CONTAINER),
            9 => self.set(pod, "/spec", SPEC),
            10 => {
                let (key, values) = ANNOTATIONS[self.0.below(ANNOTATIONS.len())];
                pod["metadata"]["annotations"][key] = json!(self.one(values));
            }
            _ if self.0.below(2) == 0 => {
                let sysctl = |name: &str| json!({"name": name, "value": "1"});
                let names = [self.one(SYSCTLS), self.one(SYSCTLS)];
                pod["spec"]["securityContext"]["sysctls"] = names.map(sysctl).into();
            }
            _ => {
                let volume = |name: &str, kind: &str| json!({"name": name, kind: {}});
                pod["spec"]["volumes"] = json!([volume("v", self.one(VOLUMES)), volume("w", self.one(VOLUMES))]);
            }
        }
    }

    fn set(&mut self, pod: &mut Value, place: &str, changes: &[Change]) {
        let (field, values) = changes[self.0.below(changes.len())];
        let value = serde_json::from_str(self.one(values)).unwrap();
        let place = pod.pointer_mut(place).unwrap();
        place[field] = value;
    }

    /// A namespace's labels, some of them none that the API server understands.
    fn labels(&mut self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for mode in ["enforce", "warn"] {
            let level = self.one(&["restricted", "restricted", "baseline", "privileged", "strict", ""]);
            let minor = format!("v1.{}", self.0.below(40));
            let versions = ["latest", &minor, &minor, &minor, "1.30", "v1.030", "v2.1", ""];
            let version = self.one(&versions);
            for (label, value) in [(mode.to_owned(), level), (format!("{mode}-version"), version)] {
                if self.0.below(3) > 0 {
                    labels.insert(format!("pod-security.kubernetes.io/{label}"), value.to_owned());
                }
            }
        }
        labels
    }
}

/// Asks the oracle: for each pod the level by which it warns, and the violations of that.
fn oracle(questions: &[Value]) -> Vec<Value> {
    let program = Command::new(oracle::build("pod_security").unwrap());
    let lines = questions.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    oracle::printed(program, &lines).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_check_finds_what_kubernetes_finds() {
    let (seed, count) = (number("PODGRAFT_POD_SECURITY_SEED", 1), number("PODGRAFT_POD_SECURITY_PODS", 20_000));
    let mut generator = Generator(Random(seed));
    let questions: Vec<Value> =
        (0..count).map(|_| json!({"labels": generator.labels(), "pod": generator.pod()})).collect();
    let answers = oracle(&questions);
    assert_eq!(answers.len(), questions.len());
    let mut met: BTreeMap<String, u64> = BTreeMap::new();
    for (question, answer) in questions.iter().zip(&answers) {
        let labels: BTreeMap<String, String> = serde_json::from_value(question["labels"].clone()).unwrap();
        let policy = Policy::from_labels(&labels);
        let said = policy.map(|policy| policy.to_string());
        let theirs = answer["warn"].as_str().filter(|warn| !warn.starts_with("privileged:"));
        assert_eq!(said.as_deref(), theirs, "{labels:?}");
        let arena = Bump::new();
        let pod = Json::borrowed(&question["pod"], &arena);
        let ours = policy.into_iter().flat_map(|policy| violations(pod, policy)).map(|it| it.reason.to_owned());
        let mut ours: Vec<String> = ours.collect();
        let reasons = answer["reasons"].as_array().into_iter().flatten();
        // They count the profiles.
        let singular = |reason: &Value| reason.as_str().unwrap().replace("AppArmor profiles", "AppArmor profile");
        let mut theirs: Vec<String> = reasons.map(singular).collect();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{said:?} {}", question["pod"]);
        ours.into_iter().chain(["any level".to_owned()].into_iter().filter(|_| policy.is_some())).for_each(|reason| {
            *met.entry(reason).or_default() += 1;
        });
    }
    println!("{count} pods of seed {seed}; violations: {met:#?}");
    assert!(count < 20_000 || met.values().all(|times| *times > 10), "a check was hardly met: {met:#?}");
    assert!(count < 20_000 || met.len() == 17 + 1, "a check was never met: {met:#?}");
}
