//! Changes to JSON as a tree: bytes changed at random are hardly ever JSON again, and would test the parser alone. YAML
//! becomes JSON by that, which is YAML too.

use libfuzzer_sys::fuzzer_mutate;
use serde_json::{Map, Value, json};

/// A small generator (xorshift), as the seed is all the randomness that libFuzzer gives.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap_or_default() % bound.max(1)
    }

    fn choose<'c, T>(&mut self, choices: &'c [T]) -> Option<&'c T> {
        choices.get(self.below(choices.len()))
    }
}

/// Keys and values that mean something to podgraft.
const WORDS: &[&str] = &[
    "metadata",
    "labels",
    "annotations",
    "managedFields",
    "ownerReferences",
    "generateName",
    "namespace",
    "name",
    "spec",
    "containers",
    "initContainers",
    "ephemeralContainers",
    "volumes",
    "volumeMounts",
    "mountPath",
    "env",
    "envFrom",
    "value",
    "valueFrom",
    "secretKeyRef",
    "configMapKeyRef",
    "ports",
    "containerPort",
    "protocol",
    "resources",
    "limits",
    "requests",
    "claims",
    "tolerations",
    "nodeSelector",
    "affinity",
    "topologySpreadConstraints",
    "hostAliases",
    "ip",
    "imagePullSecrets",
    "priority",
    "priorityClassName",
    "preemptionPolicy",
    "serviceAccountName",
    "runtimeClassName",
    "overhead",
    "schedulingGates",
    "restartPolicy",
    "Always",
    "image",
    "imagePullPolicy",
    "command",
    "args",
    "securityContext",
    "capabilities",
    "hostPath",
    "emptyDir",
    "persistentVolumeClaim",
    "ephemeral",
    "nfs",
    "lifecycle",
    "primary",
    "$patch",
    "delete",
    "replace",
    "merge",
    "$setElementOrder/env",
    "cpu",
    "memory",
    "nvidia.com/gpu",
    "1",
    "500m",
    "CLEARML",
    "CLEARML_WORKER_ID",
    "clearml-agent-queue-name",
    "clearml-task-id",
    "podgraft.io/queue",
    "podgraft.io/environment",
    "podgraft.io/primary-container",
    "podgraft.io/user",
    "podgraft.io/applied",
    "1xgpu",
    "production",
    "",
    "~",
    "/",
    "f:metadata",
    "request",
    "object",
    "operation",
    "CREATE",
    "kind",
    "uid",
    "userInfo",
    "apiVersion",
    "podgraft.io/v1alpha1",
    "GraftConfig",
    "systems",
    "basePodTemplate",
    "environments",
    "queues",
    "modules",
    "taskConfig",
    "providersInfo",
    "unknownQueue",
    "templateOverrides",
    "podTemplate",
    "claims",
    "Ephemeral",
    "conflict",
    "Override",
    "Strategic",
    "match",
    "namespaces",
    "wasm",
    "returns.wasm",
    "broken.wasm",
    "when",
    "params",
    "budget",
    "200ms",
    "config",
    "${task.id}",
    "$(VAR)",
];

/// libFuzzer's own mutation, or one of the tree where the input is JSON or YAML. The tree begins behind `head` bytes,
/// which choose something.
pub fn mutate(head: usize, data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice((u64::from(seed) << 1 | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let Some(mut tree) = data.get(head..size).and_then(tree).filter(|_| dice.below(8) > 0) else {
        return fuzzer_mutate(data, size, max_size);
    };
    if head > 0 && dice.below(8) == 0 {
        data[0] = dice.below(256) as u8;
    }
    for _ in 0..=dice.below(4) {
        let donor = pick(&mut tree.clone(), &mut dice).clone();
        change(pick(&mut tree, &mut dice), donor, &mut dice);
    }
    let text = tree.to_string();
    let room = max_size.min(data.len());
    if head + text.len() > room {
        return fuzzer_mutate(data, size, max_size);
    }
    data[head..head + text.len()].copy_from_slice(text.as_bytes());
    head + text.len()
}

/// The text as a tree, if it is one and not a lonely word.
fn tree(text: &[u8]) -> Option<Value> {
    let tree = serde_json::from_slice(text).ok();
    let tree = tree.or_else(|| serde_saphyr::from_str(std::str::from_utf8(text).ok()?).ok());
    tree.filter(|tree: &Value| tree.is_object() || tree.is_array())
}

/// A node, the deep ones as likely as the others.
fn pick<'t>(tree: &'t mut Value, dice: &mut Dice) -> &'t mut Value {
    let depth = dice.below(9);
    let mut node = tree;
    for _ in 0..depth {
        let leaf = match &*node {
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => true,
        };
        if leaf {
            break;
        }
        node = match node {
            Value::Array(list) => {
                let at = dice.below(list.len());
                &mut list[at]
            }
            Value::Object(map) => {
                let at = dice.below(map.len());
                map.values_mut().nth(at).expect("it is below the length")
            }
            _ => unreachable!("a leaf"),
        };
    }
    node
}

/// Changes one node.
fn change(node: &mut Value, donor: Value, dice: &mut Dice) {
    let word = dice.choose(WORDS).copied().unwrap_or_default();
    match (dice.below(6), &mut *node) {
        (0..=2, Value::Object(map)) => change_map(map, donor, word, dice),
        (0..=2, Value::Array(list)) => change_list(list, donor, dice),
        (0..=1, Value::String(text)) => *text = word.to_owned(),
        (3, node) => *node = donor,
        (4, node) => *node = json!([donor]),
        (_, node) => {
            let plain = [Value::Null, json!(true), json!(0), json!(-1), json!(1.5), json!(word), json!({}), json!([])];
            *node = dice.choose(&plain).cloned().unwrap_or_default();
        }
    }
}

fn change_map(map: &mut Map<String, Value>, donor: Value, word: &str, dice: &mut Dice) {
    let key = map.keys().nth(dice.below(map.len())).cloned().unwrap_or_default();
    match dice.below(3) {
        0 => drop(map.remove(&key)),
        1 => drop(map.insert(word.to_owned(), donor)),
        _ => {
            let value = map.remove(&key).unwrap_or_default();
            map.insert(word.to_owned(), value);
        }
    }
}

fn change_list(list: &mut Vec<Value>, donor: Value, dice: &mut Dice) {
    let at = dice.below(list.len());
    match dice.below(4) {
        0 if !list.is_empty() => drop(list.remove(at)),
        1 if !list.is_empty() => list.push(list[at].clone()),
        2 => list.reverse(),
        _ => list.insert(at, donor),
    }
}
