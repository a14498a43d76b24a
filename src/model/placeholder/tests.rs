//! Texts as layers hold them, filled and refused.

use serde_json::json;

use super::*;

fn trees() -> (Value, Value) {
    let config = json!({"nfs": {"server": "10.0.0.1", "port": 2049, "ro": true, "hosts": ["a", "b", 3], "none": null,
        "deep": [["x"]]}, "a.b": {"c": " Mixed\nCase "}, "empty": ""});
    (config, json!({"ad-role": "Researcher"}))
}

fn filled(text: &str) -> Result<String, String> {
    let (task_config, providers_info) = trees();
    let facts = Facts {
        task_id: Some("6b1d"),
        user: None,
        queue_id: None,
        queue_name: Some("GPU Queue"),
        pod_name: Some("clearml-id-6b1d"),
        namespace: "ml",
        environment: Some("prod"),
        worker_id: Some("w:6b1d"),
        task_config: &task_config,
        providers_info: &providers_info,
    };
    let arena = Bump::new();
    let value = json!({"x": [text]});
    let result = fill(&value, &facts, &arena).map_err(|unfilled| unfilled.to_string())?;
    Ok(result.to_value()["x"][0].as_str().unwrap().to_owned())
}

#[test]
fn documented_roots_are_filled() {
    let table = [
        ("clearml-id-${task.id}", "clearml-id-6b1d"),
        ("${pod.namespace}/${pod.name}", "ml/clearml-id-6b1d"),
        ("${queue.name}", "GPU Queue"),
        ("${environment.name}", "prod"),
        ("${task_config.nfs.server}:${task_config.nfs.port} ${task_config.nfs.ro}", "10.0.0.1:2049 true"),
        ("${task_config.nfs.hosts}", "a,b,3"),
        ("[${task_config.empty}]", "[]"),
        ("${task_config.\"a.b\".c}", " Mixed\nCase "),
        ("${providers_info.ad-role}", "Researcher"),
    ];
    for (text, expected) in table {
        assert_eq!(filled(text).as_deref(), Ok(expected), "{text}");
        assert_eq!(check(text), Ok(()), "{text}");
    }
}

#[test]
fn clearml_s_own_placeholders_and_operators_are_filled() {
    let table = [
        ("${CLEARML_TASK.id}", "6b1d"),
        ("${CLEARML_QUEUE_NAME|lower}", "gpu queue"),
        ("${CLEARML_QUEUE_ID:none}", "none"),
        ("${CLEARML_WORKER_ID}", "w:6b1d"),
        ("${CLEARML_CONFIG.nfs.server}", "10.0.0.1"),
        ("${CLEARML_USER_VAULTS.nfs.missing:Default Value|lower}", "default value"),
        ("${CLEARML_USER_VAULTS.\"a.b\".c|remove_newlines|strip|capitalize}", "Mixedcase"),
        ("${CLEARML_PROVIDERS_INFO.ad-role|raw}", "Researcher"),
        ("${CLEARML_PROVIDERS_INFO.other:}", ""),
    ];
    for (text, expected) in table {
        assert_eq!(filled(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn an_undefined_placeholder_is_an_error_without_any_value() {
    let table = [
        (
            "${task_config.nfs.zzz}",
            "the placeholder ${task_config.nfs.zzz} has no value: taskConfig has nothing of that name for the pod",
        ),
        (
            "${task_config.nfs.none}",
            "the placeholder ${task_config.nfs.none} has no value: taskConfig has nothing of that name for the pod",
        ),
        (
            "${task_config.nfs}",
            "the placeholder ${task_config.nfs} is a map, and a text can hold a plain value or a list only",
        ),
        ("${task_config.nfs.deep}", "the placeholder ${task_config.nfs.deep} is a list of more than plain values"),
        (
            "${providers_info.x}",
            "the placeholder ${providers_info.x} has no value: providersInfo has nothing of that name for the pod",
        ),
        (
            "a ${task.user}",
            "the placeholder ${task.user} is not known: nobody whose word counts (systems.<name>.submitters) made the pod",
        ),
        ("${CLEARML_QUEUE_ID}", "the placeholder ${CLEARML_QUEUE_ID} is empty: the pod's queue has no id"),
    ];
    for (text, expected) in table {
        assert_eq!(filled(text), Err(expected.to_owned()), "{text}");
        assert_eq!(check(text), Ok(()), "{text}: only a pod can tell");
    }
}

#[test]
fn shell_text_survives_and_a_doubled_dollar_escapes() {
    for text in ["${HOME}/${queue}", "${x%.*} ${#a} $(date) $task.id $$", "${FOO.bar}", "${CLEARML_API_HOST}", "${"] {
        assert_eq!(filled(text).as_deref(), Ok(text));
        assert_eq!(check(text), Ok(()), "{text}");
        assert!(!stands_in(&json!(text)), "{text}");
    }
    assert_eq!(filled("$${task.id} a$${HOME}").as_deref(), Ok("${task.id} a${HOME}"));
    assert!(stands_in(&json!({"a": ["$${task.id}"]})));
    assert!(!stands_in(&json!({"${task.id}": "a key is no value"})));
}

#[test]
fn what_can_never_be_filled_is_said_when_the_configuration_is_loaded() {
    let table = [
        ("${tsk.id}", "the placeholder ${tsk.id} has no root that podgraft knows: tsk; did you mean task?"),
        ("${queue.nam}", "the placeholder ${queue.nam} has no field that podgraft knows: nam; did you mean name?"),
        ("${task.idd}", "the placeholder ${task.idd} has no field that podgraft knows: idd; did you mean id?"),
        ("${task.id", "the placeholder ${task.id} has no closing brace"),
        ("${task.id|uper}", "the placeholder ${task.id|uper} has no operator that podgraft knows: uper"),
        (
            "${task.id|lowr}",
            "the placeholder ${task.id|lowr} has no operator that podgraft knows: lowr; did you mean lower?",
        ),
        (
            "${task_config.a b}",
            "the placeholder ${task_config.a b} has a path that is none (names with dots between them)",
        ),
        ("${params.x}", "the placeholder ${params.x} is a module's: a layer has no params"),
        (
            "${CLEARML_TASK.hyperparams.properties.k.value:x}",
            "the placeholder ${CLEARML_TASK.hyperparams.properties.k.value:x} is known to ClearML's API only, which podgraft does not ask",
        ),
        (
            "${CLEARML_PROJECT_NAME}",
            "the placeholder ${CLEARML_PROJECT_NAME} is known to ClearML's API only, which podgraft does not ask",
        ),
        (
            "${CLEARML_TSK.id}",
            "the placeholder ${CLEARML_TSK.id} has no root that podgraft knows: CLEARML_TSK; did you mean CLEARML_TASK?",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(check(text), Err(expected.to_owned()), "{text}");
        assert_eq!(filled(text), Err(expected.to_owned()), "{text}");
        assert!(stands_in(&json!(text)), "{text}");
    }
}
