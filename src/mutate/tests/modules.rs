//! Modules: their arguments, the checks of their output, and their errors.

use super::*;
use crate::k8s::labels::APPLIED;

#[test]
fn a_modules_fragment_is_applied_like_a_layer() {
    let hook = module(|call| {
        let request: Value = serde_json::from_str(call.request).unwrap();
        assert_eq!(request["queue_name"], "GPU");
        assert_eq!(request["task_data"]["id"], ID);
        assert_eq!(request["params"]["p"], 1);
        let fragment = json!({"spec": {"volumes": [{"name": "nfs", "nfs": {"server": "s", "path": "/"}}],
            "containers": [{"name": "primary", "volumeMounts": [{"name": "nfs", "mountPath": "/nfs"}]}]}});
        Ok(HookOutput::Fragment(fragment.to_string()))
    });
    let snapshot = snapshot(json!({}), vec![hook]);
    let result = patched(&pod(), &answer_for(&pod(), &snapshot));
    assert_eq!(result["spec"]["volumes"][0]["name"], "nfs");
    assert_eq!(result["metadata"]["annotations"][APPLIED], "base, queue/GPU, module/hook@0123456789ab");
    assert_eq!(answer_for(&result, &snapshot).outcome, Outcome::Unchanged);
}

#[test]
fn a_returned_template_is_compared_with_the_view() {
    let hook = module(|call| {
        let mut template: Value = serde_json::from_str(call.template).unwrap();
        assert!(!call.template.contains("kube-api-access"), "{template}");
        assert!(!call.template.contains("bootstrap") && !call.template.contains("tokentoken"));
        assert!(template.get("status").is_none() && template["metadata"].get("managedFields").is_none());
        let env = template["spec"]["containers"][0]["env"].as_array_mut().unwrap();
        env.push(json!({"name": "FOO", "value": "bar"}));
        Ok(HookOutput::Template(template.to_string()))
    });
    let result = patched(&pod(), &answer_for(&pod(), &snapshot(json!({}), vec![hook])));
    let mut expected = pod()["spec"].clone();
    expected["containers"][0]["env"].as_array_mut().unwrap().insert(0, json!({"name": "FOO", "value": "bar"}));
    assert_eq!(result["spec"], expected, "the token volume, the arguments and the secret stay as they were");
}

#[test]
fn an_invalid_output_is_denied_with_the_modules_name() {
    let returns =
        |text: &'static str| snapshot(json!({}), vec![module(move |_| Ok(HookOutput::Fragment(text.to_owned())))]);
    let template = |change: fn(&mut Value)| {
        let hook = module(move |call| {
            let mut template: Value = serde_json::from_str(call.template).unwrap();
            change(&mut template);
            Ok(HookOutput::Template(template.to_string()))
        });
        snapshot(json!({}), vec![hook])
    };
    let cases = [
        (returns("nonsense"), "422 ModuleFailed module hook returned a fragment that is not a JSON object"),
        (returns("[]"), "422 ModuleFailed module hook returned a fragment that is not a JSON object"),
        (
            returns(r#"{"spec":{},"spec":{}}"#),
            "422 ModuleFailed module hook returned a fragment with the name \"spec\" twice in one object",
        ),
        (
            returns(r#"{"spec":{"volums":[]}}"#),
            "422 ModuleFailed module hook returned an invalid fragment: spec has no field volums; did you mean volumes?",
        ),
        (
            returns(r#"{"spec":{"priority":"high"}}"#),
            "422 ModuleFailed module hook returned an invalid fragment: spec.priority is a string, should be a whole number of 32 bits",
        ),
        (
            returns(r#"{"spec":{"containers":[{"name":"primary","image":"evil"}]}}"#),
            "422 Protected module/hook: spec.containers[clearml-id-6b1d0c4f2e5a4d7e9c3b8a7f1d2e4c60].image may not be changed: it defines the task",
        ),
        (
            returns(r#"{"metadata":{"namespace":"other"}}"#),
            "422 Protected module/hook: metadata.namespace may not be changed: it belongs to the API server or the creator",
        ),
        (
            returns(r#"{"metadata":{"labels":{"clearml-agent-queue-name":"x"}}}"#),
            "422 Protected module/hook: metadata.labels.clearml-agent-queue-name may not be changed: it is the task's identity",
        ),
        (
            returns(r#"{"spec":{"volumes":[{"emptyDir":{}}]}}"#),
            "422 ModuleFailed module hook returned a fragment that cannot be applied: spec.volumes: an element without its key",
        ),
        (
            returns(r#"{"spec":{"initContainers":[{"name":"x","env":[{"name":"Y","value":"podgraft.io:opaque"}]}]}}"#),
            "422 ModuleFailed module hook returned a fragment with a value that is hidden from modules",
        ),
        (
            template(|pod| drop(pod["spec"]["containers"][0].as_object_mut().unwrap().remove("env"))),
            "422 ModuleFailed module hook removes spec.containers[clearml-id-6b1d0c4f2e5a4d7e9c3b8a7f1d2e4c60].env, and mayRemove is not set",
        ),
    ];
    for (snapshot, expected) in cases {
        assert_eq!(denial(&pod(), &snapshot), expected);
    }
}

#[test]
fn a_declared_removal_is_applied() {
    let mut hook = module(|call| {
        let mut template: Value = serde_json::from_str(call.template).unwrap();
        template["spec"]["containers"][0]["env"].as_array_mut().unwrap().retain(|entry| entry["name"] != "OWN");
        Ok(HookOutput::Template(template.to_string()))
    });
    hook.may_remove = true;
    let result = patched(&pod(), &answer_for(&pod(), &snapshot(json!({}), vec![hook])));
    assert_eq!(result["spec"]["containers"][0]["env"].as_array().unwrap().len(), 2);
}

#[test]
fn a_module_error_denies_the_pod_or_is_ignored_as_configured() {
    let failing = |on_error: OnError, error: HookError| {
        let mut hook = module(move |_| Err(error.clone()));
        hook.on_error = on_error;
        snapshot(json!({}), vec![hook])
    };
    let time = HookError::TimedOut(Duration::from_millis(200));
    assert_eq!(
        denial(&pod(), &failing(OnError::Fail, time.clone())),
        "503 ModuleUnavailable module hook exceeded its time budget of 200 ms"
    );
    let memory = HookError::Memory(64 << 20);
    assert_eq!(
        denial(&pod(), &failing(OnError::Fail, memory)),
        "422 ModuleFailed module hook exceeded its memory budget of 64 MiB"
    );
    let ignored = answer_for(&pod(), &failing(OnError::Ignore, time));
    assert_eq!(ignored.outcome, Outcome::Patched);
    assert_eq!(ignored.modules[0].error.as_deref(), Some("module hook exceeded its time budget of 200 ms"));
    assert_eq!(patched(&pod(), &ignored)["metadata"]["annotations"][APPLIED], "base, queue/GPU");
}

#[test]
fn a_slow_module_needs_a_module_thread() {
    let snapshot = snapshot(json!({}), vec![module(|_| Err(HookError::TooSlowInline))]);
    let verdict = answer(&review(&pod(), SUBMITTER), &snapshot, Execution::Inline, &Bump::new());
    assert!(matches!(verdict, Verdict::NeedsPool(module) if module == "hook"));
}

#[test]
fn a_modules_messages_contain_no_secret() {
    let mut snapshot = snapshot(
        json!({}),
        vec![module(|_| Err(HookError::Denied("nfs at 10.1.2.3-canary with plain-value and tokentoken".to_owned())))],
    );
    snapshot.task_config = vec![Vault {
        namespaces: Vec::new(),
        queue: None,
        user: None,
        config: Arc::new(json!({"nfs": {"server": "10.1.2.3-canary"}})),
    }];
    assert_eq!(denial(&pod(), &snapshot), "422 ModuleFailed module hook denied the pod: nfs at *** with *** and ***");
    let answer = answer_for(&pod(), &snapshot);
    assert!(!answer.modules[0].logs[0].message.contains("plain-value"), "{:?}", answer.modules[0].logs);
}

#[test]
fn without_time_left_a_module_that_may_fail_is_ignored() {
    // the time that admission gives when the module threads are full
    let without_time = |on_error: OnError| {
        let mut hook = module(|call| match call.execution {
            Execution::Pooled(left) if left().is_zero() => Err(HookError::Unavailable),
            _ => panic!("the call has time left"),
        });
        hook.on_error = on_error;
        snapshot(json!({}), vec![hook])
    };
    let answer_at_once = |snapshot: &Snapshot| {
        let left = || Duration::ZERO;
        match answer(&review(&pod(), SUBMITTER), snapshot, Execution::Pooled(&left), &Bump::new()) {
            Verdict::Done(answer) => answer,
            Verdict::NeedsPool(module) => panic!("slow: {module}"),
        }
    };
    assert_eq!(answer_at_once(&without_time(OnError::Ignore)).outcome, Outcome::Patched);
    assert_eq!(
        answer_at_once(&without_time(OnError::Fail)).message.as_deref(),
        Some("module hook could not run: no instance was free or no time was left")
    );
}

#[test]
fn a_container_added_by_a_module_comes_after_the_pods_own() {
    let hook = module(|_| {
        Ok(HookOutput::Fragment(json!({"spec": {"containers": [{"name": "sidecar", "image": "x"}]}}).to_string()))
    });
    let result = patched(&pod(), &answer_for(&pod(), &snapshot(json!({}), vec![hook])));
    assert_eq!(result["spec"]["containers"][1]["name"], "sidecar");
}

#[test]
fn a_module_cannot_grant_rights_or_set_the_identity() {
    let primary = |extra: Value| {
        let mut container = json!({"name": "primary"});
        container.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"spec": {"containers": [container]}})
    };
    let cases = [
        (json!({"spec": {"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}}), "spec.volumes: hostPath"),
        (json!({"spec": {"hostPID": true}}), "spec.hostPID"),
        (json!({"spec": {"priorityClassName": "high"}}), "spec.priorityClassName"),
        (
            primary(json!({"securityContext": {"privileged": true}})),
            "securityContext: privileged or added capabilities",
        ),
        (
            primary(json!({"lifecycle": {"postStart": {"exec": {"command": ["x"]}}}})),
            "lifecycle of the task's container",
        ),
    ];
    for (fragment, path) in cases {
        assert_eq!(message_for(&pod(), &fragment), format!("module hook sets {path}, which only a layer may set"));
    }
    let task_id = primary(json!({"env": [{"name": "CLEARML_TASK_ID", "value": "x"}]}));
    assert!(
        message_for(&pod(), &task_id).ends_with("env[CLEARML_TASK_ID] may not be changed: it is the task's identity")
    );
    let mut bare = pod();
    bare["spec"]["containers"][0].as_object_mut().unwrap().remove("env");
    assert!(message_for(&bare, &task_id).ends_with(".env may not be changed: it holds the task's identity"));
    for key in ["podgraft.io/user", "kubernetes.io/config.mirror", "kubectl.kubernetes.io/default-container"] {
        let fragment = json!({"metadata": {"annotations": {key: "x"}}});
        assert!(message_for(&pod(), &fragment).contains("may not be changed: "), "{key}");
    }
}

#[test]
fn a_returned_template_changes_only_what_the_module_changed() {
    let change = |pod: &Value, change: fn(&mut Value)| {
        let hook = module(move |call| {
            let mut template: Value = serde_json::from_str(call.template).unwrap();
            change(&mut template);
            Ok(HookOutput::Template(template.to_string()))
        });
        patched(pod, &answer_for(pod, &snapshot(json!({}), vec![hook])))
    };
    let mut twice = pod();
    let env = twice["spec"]["containers"][0]["env"].as_array_mut().unwrap();
    env.extend([json!({"name": "A", "value": "1"}), json!({"name": "A", "value": "2"})]);
    let mut expected = env.clone();
    expected.remove(3); // the duplicate
    let result = change(&twice, |pod| {
        let env = pod["spec"]["containers"][0]["env"].as_array_mut().unwrap();
        env.push(json!({"name": "NEW", "value": "x"}));
    });
    assert_eq!(result["spec"]["containers"][0]["env"].as_array().unwrap()[1..], expected);
    let mut with_sidecar = pod();
    with_sidecar["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "primary", "image": "nginx"}));
    let result = change(&with_sidecar, |pod| pod["spec"]["containers"][1]["tty"] = json!(true));
    assert_eq!(result["spec"]["containers"][1]["tty"], true, "in a template, primary is an ordinary name");
    assert!(result["spec"]["containers"][0].get("tty").is_none());
}

#[test]
fn a_module_cannot_remove_the_hidden_token() {
    let text = json!({"spec": {"volumes": [{"$patch": "replace"}], "containers": [{"name": "primary", "volumeMounts": [{"$patch": "replace"}]}]}});
    let mut hook = module(move |_| Ok(HookOutput::Fragment(text.to_string())));
    hook.may_remove = true;
    let result = patched(&pod(), &answer_for(&pod(), &snapshot(json!({}), vec![hook])));
    assert_eq!(result["spec"], pod()["spec"]);
}

#[test]
fn a_failed_module_that_may_fail_changes_nothing() {
    let invalid = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"nodeName": "n"}}).to_string();
    let mut hook = module(move |_| Ok(HookOutput::Fragment(invalid.clone())));
    hook.on_error = OnError::Ignore;
    let answer = answer_for(&pod(), &snapshot(json!({}), vec![hook]));
    let result = patched(&pod(), &answer);
    assert!(result["metadata"]["labels"].get("x").is_none());
    assert_eq!(result["metadata"]["annotations"][APPLIED], "base, queue/GPU");
    assert!(answer.modules[0].error.as_ref().unwrap().contains("spec.nodeName may not be changed"));
}

#[test]
fn error_texts_quote_no_secret_of_the_modules_input() {
    let quoting = json!({"spec": {"nodeSelector": {"plain-value": 1}}});
    assert_eq!(
        message_for(&pod(), &quoting),
        "module hook returned an invalid fragment: spec.nodeSelector[***] is a number, should be a string"
    );
}

#[test]
fn a_returned_node_affinity_is_what_the_pod_gets() {
    let required = |zones: &[&[&str]]| {
        let terms = zones.iter().map(|zones| {
            json!({"matchExpressions": zones.iter().map(|zone| json!({"key": "zone", "operator": "In", "values": [zone]})).collect::<Vec<_>>()})
        });
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms.collect::<Vec<_>>()}}})
    };
    let returned = |before: &Value, after: &Value, may_remove: bool| {
        let (mut pod, after) = (pod(), after.clone());
        pod["spec"]["affinity"] = before.clone();
        let mut hook = module(move |call| {
            let mut template: Value = serde_json::from_str(call.template).unwrap();
            template["spec"]["affinity"] = after.clone();
            Ok(HookOutput::Template(template.to_string()))
        });
        hook.may_remove = may_remove;
        let answer = answer_for(&pod, &snapshot(json!({}), vec![hook]));
        match answer.outcome {
            Outcome::Denied => Err(answer.message.unwrap()),
            _ => Ok(patched(&pod, &answer)["spec"]["affinity"].clone()),
        }
    };
    let one = required(&[&["a"]]);
    for after in [required(&[&["b"]]), required(&[&["a"], &["b"]]), required(&[])] {
        assert_eq!(returned(&one, &after, true), Ok(after.clone()));
        let message = returned(&one, &after, false).unwrap_err();
        assert!(message.contains("nodeSelectorTerms, and mayRemove is not set"), "{message}");
    }
    let two = required(&[&["a"], &["b"]]);
    assert_eq!(returned(&two, &required(&[&["b"]]), true), Ok(required(&[&["b"]])));
    let stricter = required(&[&["a", "b"]]);
    assert_eq!(returned(&one, &stricter, false), Ok(stricter), "a stricter term removes nothing");
}

#[test]
fn an_invalid_node_selector_is_denied_with_the_modules_name() {
    let hook = module(|_| Ok(HookOutput::Fragment(json!({"spec": {"nodeSelector": {"team": "A B"}}}).to_string())));
    assert_eq!(
        denial(&pod(), &snapshot(json!({}), vec![hook])),
        "422 InvalidResult module/hook: spec.nodeSelector.team has a value that is invalid for a label"
    );
}
