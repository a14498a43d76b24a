//! The API server and etcd go away and come back; podgraft serves what it knows.

use std::fs;

use super::world::{Outcome, Place, World, env, root, same};

pub(crate) fn podgraft_serves_on_without_the_api_server(world: &World) -> Outcome {
    let place = configured(world, "no-apiserver")?;
    let before = recorded(&place)?;
    world.cluster.stop_apiserver();
    let meanwhile = serves(&place);
    world.cluster.start_apiserver()?;
    same("the reply without the API server", meanwhile?, before)?;
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
    let path = root().join("tests/fixtures/reviews/bare-apply-clearml.json");
    let review = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let review = review
        .replace("\"namespace\": \"a\"", &format!("\"namespace\": {:?}", place.name))
        .replace("\"clearml-agent-queue-name\": \"1xgpu\"", &format!("\"clearml-agent-queue-name\": {:?}", place.name));
    let reply = place.world.post(review.as_bytes())?;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    same(&text, (reply.status, text.contains("\"patch\":")), (200, true))?;
    Ok(text)
}

fn serves(place: &Place<'_>) -> Outcome<String> {
    same("readiness", place.world.podgraft(|podgraft| podgraft.get("/readyz"))?.0, 200)?;
    recorded(place)
}

fn an_edit_is_seen(place: &Place<'_>) -> Outcome {
    place.configure(&config(place.name, "after"))?;
    place.until_says(place.name, "after")?;
    same("a pod after the outage", env(&place.create_in(place.name, "one")?, "OUTAGE"), "after")
}
