//! Filling placeholders, and their errors.

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
    let result = fill(&value, &facts, &arena).map_err(|error| error.to_string())?;
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
fn clearml_placeholders_and_operators_are_filled() {
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
            "the placeholder ${task_config.nfs.zzz} has no value: taskConfig has no such key for the pod",
        ),
        (
            "${task_config.nfs.none}",
            "the placeholder ${task_config.nfs.none} has no value: taskConfig has no such key for the pod",
        ),
        (
            "${task_config.nfs}",
            "the placeholder ${task_config.nfs} is a map; only a plain value or a list can be inserted into a text",
        ),
        (
            "${task_config.nfs.deep}",
            "the placeholder ${task_config.nfs.deep} is a list whose elements are not plain values",
        ),
        (
            "${providers_info.x}",
            "the placeholder ${providers_info.x} has no value: providersInfo has no such key for the pod",
        ),
        (
            "a ${task.user}",
            "the placeholder ${task.user} has no value: the pod was not created by a trusted submitter (systems.<name>.submitters)",
        ),
        ("${CLEARML_QUEUE_ID}", "the placeholder ${CLEARML_QUEUE_ID} is empty: the pod's queue has no id"),
    ];
    for (text, expected) in table {
        assert_eq!(filled(text), Err(expected.to_owned()), "{text}");
        assert_eq!(check(text), Ok(()), "{text}: the value depends on the pod");
    }
}

#[test]
fn shell_text_survives_and_a_doubled_dollar_escapes() {
    for text in ["${HOME}/${queue}", "${x%.*} ${#a} $(date) $task.id $$", "${FOO.bar}", "${CLEARML_API_HOST}", "${"] {
        assert_eq!(filled(text).as_deref(), Ok(text));
        assert_eq!(check(text), Ok(()), "{text}");
        assert!(!has_placeholder(&json!(text)), "{text}");
    }
    assert_eq!(filled("$${task.id} a$${HOME}").as_deref(), Ok("${task.id} a${HOME}"));
    assert!(has_placeholder(&json!({"a": ["$${task.id}"]})));
    assert!(!has_placeholder(&json!({"${task.id}": "keys are not filled"})));
}

#[test]
fn a_placeholder_that_can_never_have_a_value_is_an_error_at_load() {
    let table = [
        ("${tsk.id}", "the placeholder ${tsk.id} has an unknown root: tsk; did you mean task?"),
        ("${queue.nam}", "the placeholder ${queue.nam} has an unknown field: nam; did you mean name?"),
        ("${task.idd}", "the placeholder ${task.idd} has an unknown field: idd; did you mean id?"),
        ("${task.id", "the placeholder ${task.id} has no closing brace"),
        ("${task.id|uper}", "the placeholder ${task.id|uper} has an unknown operator: uper"),
        ("${task.id|lowr}", "the placeholder ${task.id|lowr} has an unknown operator: lowr; did you mean lower?"),
        (
            "${task_config.a b}",
            "the placeholder ${task_config.a b} has an invalid path (names with dots between them are expected)",
        ),
        ("${params.x}", "the placeholder ${params.x} is for modules only: a layer has no params"),
        (
            "${CLEARML_TASK.hyperparams.properties.k.value:x}",
            "the placeholder ${CLEARML_TASK.hyperparams.properties.k.value:x} exists in ClearML's API only, which podgraft does not query",
        ),
        (
            "${CLEARML_PROJECT_NAME}",
            "the placeholder ${CLEARML_PROJECT_NAME} exists in ClearML's API only, which podgraft does not query",
        ),
        (
            "${CLEARML_TSK.id}",
            "the placeholder ${CLEARML_TSK.id} has an unknown root: CLEARML_TSK; did you mean CLEARML_TASK?",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(check(text), Err(expected.to_owned()), "{text}");
        assert_eq!(filled(text), Err(expected.to_owned()), "{text}");
        assert!(has_placeholder(&json!(text)), "{text}");
    }
}
