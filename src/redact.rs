//! Takes secrets out of what a module says.
//!
//! A module is given env values and configuration, and may put them into a log line or an error text. Both
//! reach people and log stores that may not know them: every such string of [`SHORTEST`] characters or more
//! becomes `***`.

use bumpalo::Bump;
use serde_json::Value;

use crate::json::Json;
use crate::render::Log;

/// Shorter strings (`true`, `0`, `dev`) are no secrets, and replacing them would garble every sentence.
const SHORTEST: usize = 6;

/// The strings that must not be repeated, the longest first.
#[derive(Default)]
pub struct Redactor<'a> {
    secrets: Vec<&'a str>,
}

impl<'a> Redactor<'a> {
    /// What the pod's env and arguments and the task's configuration hold.
    pub fn new(pod: Json<'a>, task_config: &'a Value, arena: &'a Bump) -> Self {
        let mut secrets = Vec::new();
        for list in ["containers", "initContainers", "ephemeralContainers"] {
            for container in pod.at(&["spec", list]).map_or(&[][..], |list| list.items()) {
                for entry in container.get("env").map_or(&[][..], |env| env.items()) {
                    collect(entry.get("value").unwrap_or(Json::Null), &mut secrets);
                }
                for argv in ["command", "args"] {
                    collect(container.get(argv).map_or(Json::Null, |argv| argv.open(arena)), &mut secrets);
                }
            }
        }
        collect(Json::lift(task_config, arena), &mut secrets);
        secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self { secrets }
    }

    /// `text` without them.
    pub fn text(&self, text: &str) -> String {
        let present = self.secrets.iter().filter(|secret| text.contains(**secret));
        present.fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }

    /// A log line without them.
    pub fn log(&self, log: &Log) -> Log {
        Log { message: self.text(&log.message), level: log.level }
    }
}

fn collect<'a>(value: Json<'a>, secrets: &mut Vec<&'a str>) {
    match value {
        Json::Str(text) if text.chars().count() >= SHORTEST => secrets.push(text),
        Json::Array(items) => items.iter().for_each(|item| collect(*item, secrets)),
        Json::Object(members) => members.iter().for_each(|(_, member)| collect(*member, secrets)),
        _ => {}
    }
}
