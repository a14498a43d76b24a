//! One pod and patch for each documented choice: the two differ without it, and agree with it.

use serde_json::{Value, json};

use crate::known_differences::CHOICES;
use crate::{Oracle, Outcome, merge, prepared, same};

/// A choice, shown by an example.
pub(crate) struct Example {
    /// the choice's name
    pub(crate) name: &'static str,
    /// JSON text: what the pod has, what the patch says, what podgraft makes of it (`null`: an error); in `spec`
    spec: [&'static str; 3],
}

const fn example(name: &'static str, own: &'static str, patch: &'static str, ours: &'static str) -> Example {
    Example { name, spec: [own, patch, ours] }
}

pub(crate) const EXAMPLES: &[Example] = &[
    example(
        "unknown directives are errors",
        r#"{"containers": [{"name": "a"}]}"#,
        r#"{"nodeSelector": {"$patch": "merge", "a": "b"}}"#,
        "null",
    ),
    example(
        "position",
        r#"{"containers": [{"name": "a"}, {"name": "b"}]}"#,
        r#"{"containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}]}"#,
        r#"{"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}"#,
    ),
    example(
        "position",
        r#"{"initContainers": [{"name": "own"}]}"#,
        r#"{"initContainers": [{"name": "first"}, {"name": "proxy", "restartPolicy": "Always"}]}"#,
        r#"{"initContainers": [{"name": "proxy", "restartPolicy": "Always"}, {"name": "first"}, {"name": "own"}]}"#,
    ),
    example("empty is absent", r#"{"hostname": "h"}"#, r#"{"nodeSelector": {}}"#, r#"{"hostname": "h"}"#),
    example(
        "empty is absent",
        r#"{"hostname": "h", "nodeSelector": {"a": "b"}}"#,
        r#"{"nodeSelector": {"$patch": "delete"}}"#,
        r#"{"hostname": "h"}"#,
    ),
    example(
        "nothing to take away",
        r#"{"containers": [{"name": "a"}]}"#,
        r#"{"nodeSelector": {"$patch": "replace", "a": "b"}}"#,
        r#"{"containers": [{"name": "a"}], "nodeSelector": {"a": "b"}}"#,
    ),
    example(
        "nothing to take away",
        r#"{"containers": [{"name": "a"}]}"#,
        r#"{"containers": [{"name": "b", "image": null, "env": [{"name": "X", "$patch": "delete"}]}]}"#,
        r#"{"containers": [{"name": "a"}, {"name": "b", "env": []}]}"#,
    ),
    example(
        "a union part that is taken away",
        r#"{"containers": [{"name": "a", "env": [{"name": "X", "valueFrom": {}}]}]}"#,
        r#"{"containers": [{"name": "a", "env": [{"name": "X", "valueFrom": {"$patch": "delete"}}]}]}"#,
        r#"{"containers": [{"name": "a", "env": [{"name": "X"}]}]}"#,
    ),
    example(
        "a union part that is taken away",
        r#"{"volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}]}"#,
        r#"{"volumes": [{"name": "v", "emptyDir": {"$patch": "delete"}}]}"#,
        r#"{"volumes": [{"name": "v"}]}"#,
    ),
    example(
        "defaults",
        r#"{"volumes": [{"name": "v", "configMap": {"name": "c", "defaultMode": 420}}]}"#,
        r#"{"volumes": [{"name": "v", "configMap": {"name": "c"}}]}"#,
        r#"{"volumes": [{"name": "v", "configMap": {"name": "c", "defaultMode": 420}}]}"#,
    ),
    example(
        "env twice",
        r#"{"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "X", "value": "2"}]}]}"#,
        r#"{"containers": [{"name": "a", "env": [{"name": "X", "value": "3"}]}]}"#,
        r#"{"containers": [{"name": "a", "env": [{"name": "X", "value": "3"}]}]}"#,
    ),
    example(
        "union parts",
        r#"{"volumes": [{"name": "v", "emptyDir": {}}]}"#,
        r#"{"volumes": [{"name": "v", "nfs": {"server": "s", "path": "/p"}}]}"#,
        r#"{"volumes": [{"name": "v", "nfs": {"server": "s", "path": "/p"}}]}"#,
    ),
    example(
        "claims by name",
        r#"{"containers": [{"name": "a", "resources": {"claims": [{"name": "x"}]}}]}"#,
        r#"{"containers": [{"name": "a", "resources": {"claims": [{"name": "y"}]}}]}"#,
        r#"{"containers": [{"name": "a", "resources": {"claims": [{"name": "y"}, {"name": "x"}]}}]}"#,
    ),
    example(
        "concatenated",
        r#"{"containers": [{"name": "a", "envFrom": [{"configMapRef": {"name": "x"}}]}]}"#,
        r#"{"containers": [{"name": "a", "envFrom": [{"configMapRef": {"name": "y"}}]}]}"#,
        r#"{"containers": [{"name": "a", "envFrom": [{"configMapRef": {"name": "y"}}, {"configMapRef": {"name": "x"}}]}]}"#,
    ),
    example(
        "tolerations are a set",
        r#"{"tolerations": [{"key": "x", "operator": "Exists"}]}"#,
        r#"{"tolerations": [{"key": "y", "operator": "Exists"}]}"#,
        r#"{"tolerations": [{"key": "x", "operator": "Exists"}, {"key": "y", "operator": "Exists"}]}"#,
    ),
    example(
        "required node affinity is ANDed",
        r#"{"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}}}"#,
        r#"{"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "b", "operator": "Exists"}]}]}}}}"#,
        r#"{"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}]}]}}}}"#,
    ),
    example(
        "ports by protocol, constraints by action",
        r#"{"containers": [{"name": "a", "ports": [{"containerPort": 53, "name": "dns"}]}]}"#,
        r#"{"containers": [{"name": "a", "ports": [{"containerPort": 53, "protocol": "UDP", "name": "dns-udp"}]}]}"#,
        r#"{"containers": [{"name": "a", "ports": [{"containerPort": 53, "protocol": "UDP", "name": "dns-udp"},
            {"containerPort": 53, "name": "dns"}]}]}"#,
    ),
    example(
        "ports by protocol, constraints by action",
        r#"{"topologySpreadConstraints": [{"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1}]}"#,
        r#"{"topologySpreadConstraints": [{"topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 2}]}"#,
        r#"{"topologySpreadConstraints": [{"topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 2},
            {"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1}]}"#,
    ),
];

/// Shows that podgraft does what the example says, that Kubernetes does not, and that this choice (with how results
/// are compared: by key, and without what is empty) is all that lies between them.
pub(crate) fn check(example: &Example, oracle: &Oracle) -> Outcome {
    let spec = |index: usize| -> Outcome<Value> {
        let spec: Value = serde_json::from_str(example.spec[index]).map_err(|error| error.to_string())?;
        Ok(json!({ "spec": spec }))
    };
    let (pair, expected) = ((spec(0)?, spec(1)?), spec(2)?);
    let ours = merge(&pair);
    if ours.as_ref() != Some(&expected).filter(|expected| !expected["spec"].is_null()) {
        return Err(format!("podgraft gives {ours:?}"));
    }
    let index = CHOICES.iter().position(|choice| choice.name == example.name).ok_or("no such choice")?;
    let compare = |choices: &[crate::Choice]| -> Outcome<bool> {
        Ok(same(ours.as_ref(), oracle.merge(&[prepared(&pair, choices)])?[0].as_ref(), choices))
    };
    if compare(&CHOICES[..index])? {
        return Err("without the choice the two agree too: it explains nothing here".to_owned());
    }
    if compare(&CHOICES[..=index])? {
        Ok(())
    } else {
        Err(format!("the choice does not explain {:?}", oracle.merge(&[prepared(&pair, &CHOICES[..=index])])?))
    }
}
