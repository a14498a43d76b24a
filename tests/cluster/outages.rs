//! The API server and etcd stop and start again; podgraft serves its last configuration.

use std::{fs, thread};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value;

use podgraft_testkit::client;
use podgraft_testkit::expect::{same, says};
use podgraft_testkit::installation::{Installation, TestNamespace};
use podgraft_testkit::load::{Load, Target, UID, span};
use podgraft_testkit::pod::env;
use podgraft_testkit::process::{PATIENCE, wait_until};
use podgraft_testkit::{Outcome, root};

pub(crate) fn podgraft_serves_on_without_the_api_server(installation: &Installation) -> Outcome {
    let ns = configured(installation, "no-apiserver")?;
    let before = recorded(&ns)?;
    installation.cluster.stop_apiserver();
    let meanwhile = serves(&ns).and_then(|reply| until_source_is(&ns, false).map(|()| reply));
    installation.cluster.start_apiserver()?;
    same("the reply without the API server", meanwhile?, before)?;
    until_source_is(&ns, true)?;
    an_edit_is_seen(&ns)
}

pub(crate) fn podgraft_serves_on_without_etcd(installation: &Installation) -> Outcome {
    let ns = configured(installation, "no-etcd")?;
    let before = recorded(&ns)?;
    installation.cluster.stop_etcd();
    let meanwhile = serves(&ns);
    installation.cluster.start_etcd()?;
    same("the reply without etcd", meanwhile?, before)?;
    an_edit_is_seen(&ns)
}

/// Freezes etcd for `LOAD_SECONDS`: the API server's calls hang, and so does podgraft's watch.
pub(crate) fn podgraft_serves_a_load_while_etcd_stands_still(installation: &Installation) -> Outcome {
    let ns = configured(installation, "frozen-etcd")?;
    recorded(&ns)?;
    let load = Load::start(target(&ns)?, 100);
    installation.cluster.freeze_etcd()?;
    thread::sleep(span());
    installation.cluster.thaw_etcd()?;
    let report = load.stop();
    report.print(&format!("etcd frozen for {} s", span().as_secs()));
    report.nothing_failed()?;
    an_edit_is_seen(&ns)
}

/// Returns a load of recorded reviews, whose replies must set the namespace's env.
fn target(ns: &TestNamespace<'_>) -> Outcome<Target> {
    let review: Value = serde_json::from_str(&review_of(ns)?).map_err(|error| error.to_string())?;
    let uid = review["request"]["uid"].as_str().ok_or("a review without a uid")?.to_owned();
    let reply: Value = serde_json::from_str(&recorded(ns)?).map_err(|error| error.to_string())?;
    let expected = BASE64_STANDARD.decode(reply["response"]["patch"].as_str().unwrap_or_default());
    let expected =
        String::from_utf8(expected.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    says(&expected, "OUTAGE")?;
    Ok(Target {
        address: ([127, 0, 0, 1], ns.installation.port).into(),
        config: client::trusting(&ns.installation.certificate().ca_pem())?,
        review: review_of(ns)?.replace(&uid, UID),
        check: Box::new(move |patch| if patch == expected { Ok(()) } else { Err(format!("another patch: {patch}")) }),
        per_connection: 20,
    })
}

fn configured<'w>(installation: &'w Installation, name: &'static str) -> Outcome<TestNamespace<'w>> {
    let ns = installation.create_namespace(name, &config(name, "before"))?;
    ns.until_webhook_says(name, "before")?;
    Ok(ns)
}

fn config(queue: &str, value: &str) -> String {
    format!("queues: {{{queue}: {{templateOverrides: {{env: [{{name: OUTAGE, value: {value}}}]}}}}}}")
}

/// Posts a recorded review and returns podgraft's reply.
fn recorded(ns: &TestNamespace<'_>) -> Outcome<String> {
    let reply = ns.installation.post(review_of(ns)?.as_bytes())?;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    same(&text, (reply.status, text.contains("\"patch\":")), (200, true))?;
    Ok(text)
}

fn review_of(ns: &TestNamespace<'_>) -> Outcome<String> {
    let path = root().join("tests/fixtures/reviews/bare-apply-clearml.json");
    let review = fs::read_to_string(path).map_err(|error| error.to_string())?;
    Ok(review
        .replace("\"namespace\": \"a\"", &format!("\"namespace\": {:?}", ns.name))
        .replace("\"clearml-agent-queue-name\": \"1xgpu\"", &format!("\"clearml-agent-queue-name\": {:?}", ns.name)))
}

fn serves(ns: &TestNamespace<'_>) -> Outcome<String> {
    same("readiness", ns.installation.podgraft(|podgraft| podgraft.get("/readyz"))?.0, 200)?;
    recorded(ns)
}

/// Waits until podgraft's metric says whether it can read its ConfigMaps.
fn until_source_is(ns: &TestNamespace<'_>, expected: bool) -> Outcome {
    let series = "podgraft_config_source_up{source=\"configmaps\"}";
    wait_until(&format!("{series} to be {}", u8::from(expected)), PATIENCE, || {
        let is_up = ns.installation.podgraft(|podgraft| podgraft.metric(series))? > 0.5;
        Ok((is_up == expected).then_some(()))
    })
}

fn an_edit_is_seen(ns: &TestNamespace<'_>) -> Outcome {
    ns.configure(&config(ns.name, "after"))?;
    ns.until_webhook_says(ns.name, "after")?;
    same("a pod after the outage", env(&ns.create_in(ns.name, "one")?, "OUTAGE"), "after")
}
