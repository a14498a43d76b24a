//! The merge against Kubernetes' own: thousands of random pods and patches, applied by podgraft under `Override` and by
//! apimachinery's `strategicpatch` (the Go program `main.go` beside this file).
//!
//! * [`generate`] makes random pods and patches.
//! * [`known_differences`] lists where podgraft differs on purpose; any other difference is a defect.
//! * [`examples`] has a pod and a patch for each known difference.
//!
//! `PODGRAFT_STRATEGIC_PAIRS` and `PODGRAFT_STRATEGIC_SEED` set how many pairs, and which.

mod examples;
mod generate;
mod known_differences;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, LazyLock};

use bumpalo::Bump;
use generate::Generator;
use known_differences::{CHOICES, Choice};
use libtest_mimic::{Arguments, Failed, Trial};
use podgraft::json::Json;
use podgraft::k8s::managed_fields::ManagedFields;
use podgraft::k8s::schema::{ListType, POD, Type};
use podgraft::merge::layer::Conflict;
use podgraft::merge::{MergeRule, Merger};
use podgraft_testkit::Outcome;
use podgraft_testkit::control_plane::ProgramDir;
use podgraft_testkit::oracle::{self, number, printed};
use serde_json::{Value, json};

type Pair = (Value, Value);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let oracle: Arc<LazyLock<Outcome<Oracle>>> = Arc::new(LazyLock::new(Oracle::build));
    let trial = |name: String, run: Box<dyn FnOnce(&Oracle) -> Outcome + Send>| {
        let oracle = Arc::clone(&oracle);
        Trial::test(name, move || {
            let oracle = LazyLock::force(&oracle).as_ref()?;
            run(oracle).map_err(Failed::from)
        })
    };
    let mut trials = vec![
        trial("generated_pairs".to_owned(), Box::new(generated_pairs)),
        trial("kubectl_agrees_with_the_oracle".to_owned(), Box::new(kubectl_agrees)),
        trial("merge_keys_are_those_of_kubernetes".to_owned(), Box::new(merge_keys)),
    ];
    for example in examples::EXAMPLES {
        let run = move |oracle: &Oracle| examples::check(example, oracle);
        trials.push(trial(example.name.replace(' ', "_"), Box::new(run)));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// apimachinery's `strategicpatch`.
struct Oracle {
    program: PathBuf,
    /// every field of its pod, as `Type.field`, with the struct tags of a list
    fields: BTreeMap<String, String>,
}

impl Oracle {
    fn build() -> Outcome<Self> {
        let program = oracle::build("strategic")?;
        let mut tags = Command::new(&program);
        tags.arg("tags");
        let fields = serde_json::from_str(&printed(tags, "")?).map_err(|error| error.to_string())?;
        Ok(Self { program, fields })
    }

    /// Merges each pair; `None` where the patch is an error.
    fn merge(&self, pairs: &[Pair]) -> Outcome<Vec<Option<Value>>> {
        let lines = pairs.iter().map(|(pod, patch)| json!({"original": pod, "patch": patch}).to_string() + "\n");
        let answers = printed(Command::new(&self.program), &lines.collect::<String>())?;
        let results = answers.lines().map(|line| {
            let mut answer: Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
            Ok(answer.get_mut("result").map(Value::take))
        });
        let results: Vec<_> = results.collect::<Outcome<_>>()?;
        if results.len() == pairs.len() { Ok(results) } else { Err("an answer is missing".to_owned()) }
    }
}

/// Merges a pair by podgraft; `None` where the patch is an error.
fn merge((pod, patch): &Pair) -> Option<Value> {
    let arena = Bump::new();
    let original = Json::borrowed(pod, &arena);
    let managed_fields = ManagedFields::from_pod(original, &arena);
    let mut merger = Merger::new(original, &managed_fields, None, &arena);
    let rule = MergeRule { conflict: Conflict::Override, keeps_env: false, may_remove: true, alias: false };
    merger.apply(original, Json::borrowed(patch, &arena), rule).ok().map(|pod| pod.to_value())
}

/// The oracle's input with these differences taken out.
fn prepared((pod, patch): &Pair, choices: &[Choice]) -> Pair {
    let (mut pod, mut patch) = (pod.clone(), patch.clone());
    for choice in choices {
        (choice.before)(&mut pod, &mut patch);
    }
    (pod, patch)
}

/// True if both results are the same with these differences taken out.
fn same(ours: Option<&Value>, theirs: Option<&Value>, choices: &[Choice]) -> bool {
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return ours.is_none() && theirs.is_none() };
    let (mut ours, mut theirs) = (ours.clone(), theirs.clone());
    for choice in choices {
        (choice.after)(&mut theirs);
    }
    for choice in choices {
        (choice.both)(&mut ours);
        (choice.both)(&mut theirs);
    }
    ours == theirs
}

fn generated_pairs(oracle: &Oracle) -> Outcome {
    let (seed, count) = (number("PODGRAFT_STRATEGIC_SEED", 1), number("PODGRAFT_STRATEGIC_PAIRS", 2000));
    let mut generator = Generator::new(seed, &oracle.fields);
    let pairs = (0..count).map(|_| generator.pair());
    let mut open: Vec<(Pair, Option<Value>)> = pairs.map(|pair| (pair.clone(), merge(&pair))).collect();
    let mut summary = format!("{count} pairs of seed {seed}:");
    let mut errors = 0;
    for level in 0..=CHOICES.len() {
        let choices = &CHOICES[..level];
        let given: Vec<Pair> = open.iter().map(|(pair, _)| prepared(pair, choices)).collect();
        let theirs = oracle.merge(&given)?;
        let before = open.len();
        let mut theirs = theirs.iter();
        open.retain(|(_, ours)| {
            let theirs = theirs.next().and_then(Option::as_ref);
            let equal = same(ours.as_ref(), theirs, choices);
            errors += usize::from(equal && ours.is_none());
            !equal
        });
        let what = choices.last().map_or("as they are", |choice| choice.name);
        let _ = write!(summary, "\n  {:5} equal: {what}", before - open.len());
    }
    println!("{summary}\n  (of these {errors} an error in both)");
    let length = |(pod, patch): &Pair| pod.to_string().len() + patch.to_string().len();
    let Some((pair, _)) = open.into_iter().min_by_key(|(pair, _)| length(pair)) else { return Ok(()) };
    Err(format!("a pair differs, and no choice explains it\n{}", difference(&pair, oracle)?))
}

/// Describes a pair that differs, reduced as far as it still does.
fn difference(pair: &Pair, oracle: &Oracle) -> Outcome<String> {
    let mut pair = pair.clone();
    loop {
        let smaller: Vec<Pair> = pointers(&pair.0, "")
            .iter()
            .map(|pointer| (without(&pair.0, pointer), pair.1.clone()))
            .chain(pointers(&pair.1, "").iter().map(|pointer| (pair.0.clone(), without(&pair.1, pointer))))
            .collect();
        let given: Vec<Pair> = smaller.iter().map(|pair| prepared(pair, CHOICES)).collect();
        let theirs = oracle.merge(&given)?;
        let mut both = smaller.into_iter().zip(theirs);
        let differs = |(pair, theirs): &(Pair, Option<Value>)| {
            // A pair that reduction makes an error is another difference.
            let ours = merge(pair);
            ours.is_some() == theirs.is_some() && !same(ours.as_ref(), theirs.as_ref(), CHOICES)
        };
        match both.find(differs) {
            Some((less, _)) => pair = less,
            None => break,
        }
    }
    let given = prepared(&pair, CHOICES);
    let theirs = oracle.merge(std::slice::from_ref(&given))?.remove(0);
    let text = |value: Option<Value>| value.map_or("an error".to_owned(), |value| value.to_string());
    let (ours, (pod, patch)) = (text(merge(&pair)), &pair);
    Ok(format!("pod      {pod}\npatch    {patch}\npodgraft {ours}\noracle   {}\n(given {given:?})", text(theirs)))
}

fn pointers(value: &Value, path: &str) -> Vec<String> {
    let mut all = Vec::new();
    let members = value.as_object().into_iter().flatten().map(|(name, member)| (name.clone(), member));
    let items = value.as_array().into_iter().flatten().enumerate().map(|(index, item)| (index.to_string(), item));
    for (step, below) in members.chain(items) {
        let path = format!("{path}/{}", step.replace('~', "~0").replace('/', "~1"));
        all.push(path.clone());
        all.extend(pointers(below, &path));
    }
    all
}

fn without(value: &Value, pointer: &str) -> Value {
    let mut value = value.clone();
    let (parent, step) = pointer.rsplit_once('/').unwrap_or_default();
    match value.pointer_mut(parent) {
        Some(Value::Object(members)) => drop(members.remove(&step.replace("~1", "/").replace("~0", "~"))),
        Some(Value::Array(items)) => drop(items.remove(step.parse().unwrap_or_default())),
        _ => {}
    }
    value
}

/// The oracle calls the library as `kubectl` does.
fn kubectl_agrees(oracle: &Oracle) -> Outcome {
    let mut generator = Generator::new(20, &oracle.fields);
    let mut pairs: Vec<Pair> = (0..20).map(|_| generator.pair()).collect();
    for (pod, patch) in &mut pairs {
        // kubectl finds the object by the first four, and reads the times.
        for name in ["name", "namespace", "apiVersion", "kind", "creationTimestamp", "deletionTimestamp"] {
            drop(patch.as_object_mut().map(|patch| patch.remove(name)));
            drop(patch["metadata"].as_object_mut().map(|metadata| metadata.remove(name)));
            if name.ends_with("Timestamp") {
                drop(pod["metadata"].as_object_mut().map(|metadata| metadata.remove(name)));
            }
        }
    }
    let theirs = oracle.merge(&pairs)?;
    let kubectl = ProgramDir::find()?.0.join("kubectl");
    let mut merged = 0;
    for ((pod, patch), theirs) in pairs.iter().zip(theirs) {
        let mut command = Command::new(&kubectl);
        command.args(["patch", "--local", "-f", "-", "--type", "strategic", "-o", "json", "-p", &patch.to_string()]);
        command.env("KUBECONFIG", "/dev/null").stderr(Stdio::null());
        let printed: Option<Value> =
            printed(command, &pod.to_string()).ok().and_then(|text| serde_json::from_str(&text).ok());
        if printed != theirs {
            return Err(format!("pod {pod}\npatch {patch}\nkubectl {printed:?}\noracle {theirs:?}"));
        }
        merged += usize::from(theirs.is_some());
    }
    println!("20 pairs through kubectl, {merged} of them merged");
    if merged > 10 { Ok(()) } else { Err(format!("only {merged} of 20 patches were merged")) }
}

/// Every list that Kubernetes' types give a patch strategy is keyed by the same field in podgraft's table, and no
/// other, but for the rows that differ on purpose.
fn merge_keys(oracle: &Oracle) -> Outcome {
    let ours = table();
    let mut differ: BTreeSet<String> = BTreeSet::new();
    for (name, tags) in &oracle.fields {
        let wanted = tags.rsplit_once(' ').map_or(tags.as_str(), |(_, key)| key);
        match ours.get(name) {
            None if name.starts_with("PodStatus.") || name.starts_with("ContainerStatus.") => {}
            None if !tags.is_empty() => _ = differ.insert(format!("{name}: {tags}, and unknown to podgraft")),
            Some(list) if list.keys().join(" ") != wanted && !(wanted == "merge" && *list == ListType::Set) => {
                differ.insert(format!("{name}: {wanted:?} and {list:?}"));
            }
            _ => {}
        }
    }
    let expected = [
        "Container.ports: \"containerPort\" and Map([\"containerPort\", \"protocol\"])",
        "EphemeralContainer.ports: \"containerPort\" and Map([\"containerPort\", \"protocol\"])",
        "PodSpec.topologySpreadConstraints: \"topologyKey\" and Map([\"topologyKey\", \"whenUnsatisfiable\"])",
        "ResourceRequirements.claims: \"\" and Map([\"name\"])",
    ];
    if differ.iter().eq(expected.iter()) { Ok(()) } else { Err(format!("{differ:#?}")) }
}

/// The list type of every field of podgraft's pod, by `Type.field`.
fn table() -> BTreeMap<String, ListType> {
    fn collect(kind: Type, all: &mut BTreeMap<String, ListType>) {
        match kind {
            Type::List(element) | Type::Map(element) => collect(*element, all),
            Type::Object(object) => {
                for field in object.fields {
                    if all.insert(format!("{}.{}", object.name, field.name), field.list).is_none() {
                        collect(field.kind, all);
                    }
                }
            }
            _ => {}
        }
    }
    let mut all = BTreeMap::new();
    collect(Type::Object(&POD), &mut all);
    all
}
