//! The API server and etcd go away and come back; podgraft serves what it knows.

use std::{fs, thread};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value;

use podgraft_testkit::client;
use podgraft_testkit::expect::{same, says};
use podgraft_testkit::installation::{Place, World};
use podgraft_testkit::load::{Load, Target, UID, span};
use podgraft_testkit::pod::env;
use podgraft_testkit::process::{PATIENCE, wait_until};
use podgraft_testkit::{Outcome, root};

pub(crate) fn podgraft_serves_on_without_the_api_server(world: &World) -> Outcome {
    let place = configured(world, "no-apiserver")?;
    let before = recorded(&place)?;
    world.cluster.stop_apiserver();
    let meanwhile = serves(&place).and_then(|reply| until_source_is(&place, false).map(|()| reply));
    world.cluster.start_apiserver()?;
    same("the reply without the API server", meanwhile?, before)?;
    until_source_is(&place, true)?;
    an_edit_is_seen(&place)
}

pub(crate) fn podgraft_serves_on_without_etcd(world: &World) -> Outcome {
    let place = configured(world, "no-etcd")?;
    let before = recorded(&place)?;
    world.cluster.stop_etcd();
    let meanwhile = serves(&place);
    world.cluster.start_etcd()?;
    same("the reply without etcd", meanwhile?, before)?;
    an_edit_is_seen(&place)
}

/// Frozen for as long as `LOAD_SECONDS` says: the API server's calls hang, and so does podgraft's watch.
pub(crate) fn podgraft_serves_a_load_while_etcd_stands_still(world: &World) -> Outcome {
    let place = configured(world, "frozen-etcd")?;
    recorded(&place)?;
    let load = Load::start(target(&place)?, 100);
    world.cluster.freeze_etcd()?;
    thread::sleep(span());
    world.cluster.thaw_etcd()?;
    let report = load.stop();
    report.print(&format!("etcd frozen for {} s", span().as_secs()));
    report.nothing_failed()?;
    an_edit_is_seen(&place)
}

/// The recorded review, whose reply must give the place's env.
fn target(place: &Place<'_>) -> Outcome<Target> {
    let review: Value = serde_json::from_str(&review_of(place)?).map_err(|error| error.to_string())?;
    let uid = review["request"]["uid"].as_str().ok_or("a review without a uid")?.to_owned();
    let reply: Value = serde_json::from_str(&recorded(place)?).map_err(|error| error.to_string())?;
    let expected = BASE64_STANDARD.decode(reply["response"]["patch"].as_str().unwrap_or_default());
    let expected =
        String::from_utf8(expected.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    says(&expected, "OUTAGE")?;
    Ok(Target {
        address: ([127, 0, 0, 1], place.world.port).into(),
        config: client::trusting(&place.world.certificate().ca_pem())?,
        review: review_of(place)?.replace(&uid, UID),
        check: Box::new(move |patch| if patch == expected { Ok(()) } else { Err(format!("another patch: {patch}")) }),
        per_connection: 20,
    })
}

fn configured<'w>(world: &'w World, name: &'static str) -> Outcome<Place<'w>> {
    let place = world.place(name, &config(name, "before"))?;
    place.until_says(name, "before")?;
    Ok(place)
}

fn config(queue: &str, value: &str) -> String {
    format!("queues: {{{queue}: {{templateOverrides: {{env: [{{name: OUTAGE, value: {value}}}]}}}}}}")
}

/// podgraft's reply to a review that an API server once sent.
fn recorded(place: &Place<'_>) -> Outcome<String> {
    let reply = place.world.post(review_of(place)?.as_bytes())?;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    same(&text, (reply.status, text.contains("\"patch\":")), (200, true))?;
    Ok(text)
}

fn review_of(place: &Place<'_>) -> Outcome<String> {
    let path = root().join("tests/fixtures/reviews/bare-apply-clearml.json");
    let review = fs::read_to_string(path).map_err(|error| error.to_string())?;
    Ok(review
        .replace("\"namespace\": \"a\"", &format!("\"namespace\": {:?}", place.name))
        .replace("\"clearml-agent-queue-name\": \"1xgpu\"", &format!("\"clearml-agent-queue-name\": {:?}", place.name)))
}

fn serves(place: &Place<'_>) -> Outcome<String> {
    same("readiness", place.world.podgraft(|podgraft| podgraft.get("/readyz"))?.0, 200)?;
    recorded(place)
}

/// Waits until podgraft's metric says whether it can read its ConfigMaps.
fn until_source_is(place: &Place<'_>, expected: bool) -> Outcome {
    let series = "podgraft_config_source_up{source=\"configmaps\"}";
    wait_until(&format!("{series} to be {}", u8::from(expected)), PATIENCE, || {
        let is_up = place.world.podgraft(|podgraft| podgraft.metric(series))? > 0.5;
        Ok((is_up == expected).then_some(()))
    })
}

fn an_edit_is_seen(place: &Place<'_>) -> Outcome {
    place.configure(&config(place.name, "after"))?;
    place.until_says(place.name, "after")?;
    same("a pod after the outage", env(&place.create_in(place.name, "one")?, "OUTAGE"), "after")
}
