//! One run of the real program with everything that can happen to a webhook: no secret of a pod or a vault is ever
//! repeated, and every metric moves.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use podgraft_testkit::client::{accepting_any, accepting_any_with};
use podgraft_testkit::fixtures::{HEAD, misbehaving, review};
use podgraft_testkit::server::LocalPodgraft;

use super::client::{admitted, connect};

/// Stands wherever a secret may stand.
const CANARY: &str = "canary-51b7f0c2";

const SECTIONS: &str = "
systems: {tasks: {type: ClearML, namespaces: [ns], submitters: [u]}}
taskConfig: [{config: {token: CANARY, deep: {list: [CANARY]}}}]
providersInfo: [{info: {ad-role: CANARY}}]
modules:
  log: {wasm: log.wasm}
  deny: {wasm: deny.wasm}
  trap: {wasm: trap.wasm}
  not-json: {wasm: not-json.wasm}
  echo: {wasm: echo.wasm}
  loop: {wasm: loop.wasm}
  condition: {wasm: echo.wasm, when: \"has(task_config.token) && task_config.token + 1 == 2\"}
queues:
  plain: {templateOverrides: {env: [{name: GIVEN, value: CANARY}]}}
  log: {modules: [log]}
  deny: {modules: [deny]}
  trap: {modules: [trap]}
  not-json: {modules: [not-json]}
  echo: {modules: [echo]}
  loop: {modules: [loop]}
  condition: {modules: [condition]}
  bad: {templateOverrides: {env: [{name: A, value: [CANARY]}], volumes: CANARY}}
";

const MODULES: [&str; 6] = ["log", "deny", "trap", "not-json", "echo", "loop"];

/// The outputs of one run.
struct Outputs {
    log: String,
    metrics: String,
    /// bodies of the replies, but for their patches
    replies: String,
    reasons: Vec<String>,
}

fn outputs_of(flags: &[&str]) -> Outputs {
    let modules: Vec<_> = MODULES.iter().map(|name| (format!("{name}.wasm"), misbehaving(name).unwrap())).collect();
    let modules: Vec<_> = modules.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let sections = SECTIONS.replace("CANARY", CANARY);
    let flags = [flags, &["--config-poll=10ms", "--drain-grace=10ms"]].concat();
    let mut process = LocalPodgraft::configured(&sections, &modules, &flags);
    let address = process.address();
    process.until_metric("podgraft_config_errors", 2.0).unwrap();

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (mut replies, reasons) = runtime.block_on(send_requests(address));
    // a malformed file with the secret in it, and a certificate that cannot be parsed
    let malformed = format!("{HEAD}environments: {{e: {{template: \"{CANARY}\n  : {CANARY}");
    fs::write(process.config().join("malformed.yaml"), malformed).unwrap();
    process.secret.put(Some(CANARY), Some(CANARY));
    process.until_metric("podgraft_certificate_reload_failures_total", 1.0).unwrap();
    process.until_metric("podgraft_config_errors", 3.0).unwrap(); // two of the invalid queue, and the malformed file
    runtime.block_on(async {
        let mut client = connect(address, &accepting_any()).await;
        replies += &without_patch(&client.post(task("plain").as_bytes()).await.body).0;
    });
    let metrics = process.get("/metrics").unwrap().1;
    process.signal("TERM").unwrap();
    let (status, log) = process.end().unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    Outputs { log, metrics, replies, reasons }
}

async fn send_requests(address: SocketAddr) -> (String, Vec<String>) {
    let (mut replies, mut reasons) = (String::new(), Vec::new());
    let mut client = connect(address, &accepting_any()).await;
    for queue in ["plain", "log", "deny", "trap", "not-json", "echo", "loop", "condition", "bad", "unknown"] {
        let (text, reason) = without_patch(&client.post(task(queue).as_bytes()).await.body);
        replies += &text;
        reasons.push(format!("{queue}: {reason}"));
    }
    let malformed =
        [format!("{{\"a\": {CANARY}"), CANARY.to_owned(), task("plain").replace("\"uid\":\"uid\"", "\"uid\":7")];
    for body in malformed {
        replies += &client.post(body.as_bytes()).await.body;
    }
    // more than the module threads take; all are connected first, as a handshake takes longer than a queue is full
    let mut clients = Vec::new();
    for _ in 0..90 {
        clients.push(connect(address, &accepting_any()).await);
    }
    let crowd: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move {
                client.send_post_to("/mutate?timeout=1s", task("loop").as_bytes()).await;
                client.reply().await.body
            })
        })
        .collect();
    for one in crowd {
        replies += &one.await.unwrap();
    }
    // a handshake that is none, and a connection that is slow enough to be seen by the scrape
    assert_eq!(admitted(address, &Arc::clone(&accepting_any_with(&[&rustls::version::TLS12], None))).await, Some(400));
    let mut no_tls = super::client::Client { stream: tokio::net::TcpStream::connect(address).await.unwrap() };
    no_tls.send(CANARY.as_bytes()).await;
    let _ = no_tls.receive(64).await;
    (replies, reasons)
}

/// A task pod with the canary wherever a submitter may write.
fn task(queue: &str) -> String {
    let mut review: Value = serde_json::from_str(&review("admission.k8s.io/v1")).unwrap();
    review["request"]["uid"] = json!("uid");
    let pod = &mut review["request"]["object"];
    pod["metadata"]["labels"] = json!({"CLEARML": "agent", "clearml-agent-queue-name": queue});
    pod["metadata"]["annotations"] = json!({"example.com/secret": CANARY});
    let container = &mut pod["spec"]["containers"][0];
    container["env"] =
        json!([{"name": "SECRET", "value": CANARY}, {"name": "IN", "value": format!("http://u:{CANARY}@h")}]);
    container["args"] = json!(["-c", format!("export TOKEN={CANARY}; run")]);
    container["command"] = json!([CANARY]);
    review.to_string()
}

/// A reply without its patch, which does hold what the pod is given; and its reason.
fn without_patch(reply: &str) -> (String, String) {
    let mut reply: Value = serde_json::from_str(reply).expect("a reply");
    let response = &mut reply["response"];
    response.as_object_mut().unwrap().remove("patch");
    let reason = response["status"]["reason"].as_str().unwrap_or("allowed").to_owned();
    (reply.to_string(), reason)
}

#[test]
fn a_secret_is_never_repeated_in_log_metrics_or_replies() {
    for flags in [["--log-format=json", "--log-level=trace"], ["--log-format=json", "--log-level=info"]] {
        let outputs = outputs_of(&flags);
        no_canary(&outputs);
        assert_eq!(
            outputs.reasons,
            [
                "plain: allowed",
                "log: allowed",
                "deny: ModuleFailed",
                "trap: ModuleFailed",
                "not-json: ModuleFailed",
                "echo: ModuleFailed",
                "loop: ModuleUnavailable",
                "condition: ModuleFailed",
                "bad: ConfigInvalid",
                "unknown: allowed",
            ]
        );
        assert!(outputs.log.contains("***"), "the module's text is in the log, without the secret");
        let is_warned = |line: &str| line.contains("\"WARN\"") && line.contains("ConfigInvalid");
        assert!(outputs.log.lines().any(is_warned), "{}", outputs.log);
    }
}

#[test]
fn a_secret_is_never_repeated_in_a_log_of_text() {
    let outputs = outputs_of(&["--log-format=text", "--log-level=trace"]);
    no_canary(&outputs);
}

fn no_canary(outputs: &Outputs) {
    for (what, text) in [("log", &outputs.log), ("metrics", &outputs.metrics), ("replies", &outputs.replies)] {
        let line = text.lines().find(|line| line.contains(CANARY));
        assert_eq!(line, None, "{what}");
    }
}

/// Each family and a series of it that must be above zero at the end of the run; `""`: another test moves it. A family
/// with labels is not there before it has a series: no connection times out here, see `timeouts`.
const SERIES: &[(&str, &str)] = &[
    ("podgraft_build", "podgraft_build_info{version="),
    ("podgraft_request_duration_seconds", "podgraft_request_duration_seconds_count{outcome=\"denied\"}"),
    ("podgraft_requests", "podgraft_requests_total{outcome=\"patched\",queue=\"plain\"}"),
    ("podgraft_denials", "podgraft_denials_total{reason=\"ConfigInvalid\",queue="),
    ("podgraft_requests_in_flight", ""), // modules::
    ("podgraft_requests_waiting", ""),   // modules::
    ("podgraft_panics", ""),             // modules::
    ("podgraft_module_duration_seconds", "podgraft_module_duration_seconds_count{module=\"echo\"}"),
    ("podgraft_module_errors", "podgraft_module_errors_total{module=\"trap\"}"),
    ("podgraft_module_offloads", "podgraft_module_offloads_total{module=\"loop\"}"),
    ("podgraft_config_generation", "podgraft_config_generation"),
    ("podgraft_config_loaded_timestamp_seconds", "podgraft_config_loaded_timestamp_seconds"),
    ("podgraft_config_errors", "podgraft_config_errors"),
    ("podgraft_config_source_up", "podgraft_config_source_up{source=\"config\"}"),
    ("podgraft_certificate_not_after_timestamp_seconds", "podgraft_certificate_not_after_timestamp_seconds"),
    ("podgraft_certificate_reload_failures", "podgraft_certificate_reload_failures_total"),
    ("podgraft_connections", ""),         // connections::
    ("podgraft_connections_evicted", ""), // connections::
    ("podgraft_tls_handshake_errors", "podgraft_tls_handshake_errors_total{reason=\"protocol\"}"),
    ("podgraft_requests_shed", "podgraft_requests_shed_total{reason=\"queue_full\"}"),
];

#[test]
fn every_metric_moves_and_is_named_as_prometheus_names_them() {
    let metrics = outputs_of(&["--log-format=json"]).metrics;
    let families: Vec<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(families, SERIES.iter().map(|(family, _)| *family).collect::<Vec<_>>());
    for (family, series) in SERIES.iter().filter(|(_, series)| !series.is_empty()) {
        let line = metrics.lines().find(|line| line.starts_with(series));
        let value: f64 = line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0);
        assert!(value > 0.0, "{family}: {line:?}");
    }
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
    }
    for (family, kind) in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        assert_eq!(kind == "histogram", family.ends_with("_duration_seconds"), "{family} is a {kind}");
        assert!(metrics.contains(&format!("# HELP {family} ")), "{family} has no help");
    }
}
