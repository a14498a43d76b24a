//! A new [`Snapshot`] from what was read and from the one before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::cursor::Cursor;
use super::diagnostics::{Diagnostic, Diagnostics};
use super::modules::{self, Compile, Modules, Store, hex};
use super::queues::Names;
use super::read::{self, Docs, Input};
use super::sections::{Part, Sections};
use super::systems;
use super::template::Piece;
use super::units::{self, DecodeContext};
use crate::k8s::pod_security::Levels;
use crate::merge::layer::Source;
use crate::merge::plan_cache::PlanCache;
use crate::model::snapshot::{Environment, Module, Queue, Queues, Snapshot, Unit, UnitSpec, UnknownQueue, Vault};
use crate::model::system::System;

/// Makes snapshots and remembers what was good.
#[derive(Default)]
pub struct Builder {
    /// what all its snapshots know of the namespaces
    pod_security: Levels,
    previous: Arc<Snapshot>,
    problems: Vec<Diagnostic>,
    notices: Vec<Diagnostic>,
    /// what the base that serves is put together from
    pieces: Vec<Piece>,
    /// the last good version of every module, used or not
    modules: BTreeMap<String, Arc<Module>>,
    /// the last good version of every queue, whether pods can reach it or not
    queues: BTreeMap<Source, Arc<Queue>>,
    /// the file that each unit was last seen in
    origins: BTreeMap<Source, Arc<str>>,
    /// the files that `systems`, `taskConfig`… were last seen in
    whole: BTreeMap<&'static str, BTreeSet<Arc<str>>>,
    /// those of them that were sound once: only they have a version to stay at
    ever_valid: BTreeSet<&'static str>,
}

/// What came of a build.
pub struct Built {
    /// what serves now
    pub snapshot: Arc<Snapshot>,
    /// everything that is wrong, by file and line
    pub problems: Vec<Diagnostic>,
    /// what is worth knowing and not wrong: keys that are the ClearML agent's
    pub notices: Vec<Diagnostic>,
    /// whether the input differs from the build before
    pub changed: bool,
    /// whether every file could be taken apart; when not, there may be units that nobody knows of
    pub parsed: bool,
    /// files that hold a GraftConfig
    pub files: usize,
}

impl Builder {
    /// One whose snapshots know this of the namespaces.
    pub fn with_pod_security(pod_security: Levels) -> Self {
        Self { pod_security, ..Self::default() }
    }

    /// Builds. The base, environments, queues and modules that are wrong stay at their last good version.
    pub fn build(&mut self, input: &Input, compile: &Compile<'_>) -> Built {
        let known: BTreeSet<&str> =
            self.origins.values().chain(self.whole.values().flatten()).map(|file| &**file).collect();
        let docs = read::read(input, &|name| known.contains(name));
        let store = Store::new(input.wasm.iter().chain(&docs.wasm));
        let digest = digest(&docs, &store, &input.namespace);
        let changed = digest != self.previous.digest;
        let sections = Sections::of(&docs.graft);
        let torn: BTreeSet<Arc<str>> = docs.malformed.union(&sections.torn).cloned().collect();
        if changed {
            let mut problems = [docs.problems.as_slice(), &sections.problems].concat();
            let (origins, notices) = (BTreeMap::new(), sections.notices.clone());
            let mut pass = Pass { builder: self, torn: &torn, problems: &mut problems, notices, origins };
            let mut snapshot = pass.run(&sections, &store, compile);
            let (origins, mut notices) = (pass.origins, pass.notices);
            snapshot.generation = self.previous.generation + 1;
            snapshot.digest = digest;
            snapshot.namespace.clone_from(&input.namespace);
            snapshot.pod_security = self.pod_security.clone();
            let by_place =
                |a: &Diagnostic, b: &Diagnostic| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column));
            problems.sort_by(by_place);
            notices.sort_by(by_place);
            self.notices = notices;
            self.origins = origins;
            self.previous = Arc::new(snapshot);
            self.problems = problems;
        }
        Built {
            snapshot: Arc::clone(&self.previous),
            problems: self.problems.clone(),
            notices: self.notices.clone(),
            changed,
            parsed: torn.is_empty(),
            files: docs.graft.len(),
        }
    }
}

/// First 12 hex digits over names, texts and module digests, in an order of their own.
fn digest(docs: &Docs, store: &Store<'_>, namespace: &str) -> String {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        // lengths in front, or "a"+"bc" would be "ab"+"c"
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    add(namespace);
    docs.texts.iter().for_each(|(file, text)| {
        add(file);
        add(text);
    });
    store.digests().for_each(|(name, digest)| {
        add(name);
        add(digest);
    });
    let mut text = hex(&hash.finalize());
    text.truncate(12);
    text
}

/// One build under way.
struct Pass<'p> {
    builder: &'p mut Builder,
    torn: &'p BTreeSet<Arc<str>>,
    problems: &'p mut Vec<Diagnostic>,
    notices: Vec<Diagnostic>,
    origins: BTreeMap<Source, Arc<str>>,
}

impl Pass<'_> {
    fn run(&mut self, sections: &Sections<'_>, store: &Store<'_>, compile: &Compile<'_>) -> Snapshot {
        let previous = Arc::clone(&self.builder.previous);
        let task_config = self.vaults("taskConfig", "config", &sections.task_config, &previous.task_config);
        let providers_info = self.vaults("providersInfo", "info", &sections.providers_info, &previous.providers_info);
        let modules = self.modules(sections, store, compile);
        let systems = self.systems(sections, &previous);
        let mut world = DecodeContext {
            modules: &modules,
            systems: &systems,
            base: None,
            pieces: &[],
            environments: &[],
            matched: sections.matched_labels(),
        };
        let base = self.base(sections, &world, &previous);
        let pieces = self.builder.pieces.clone();
        world.base = base.as_ref();
        world.pieces = &pieces;
        let environments = self.environments(sections, &world, &previous);
        world.environments = &environments;
        let queues = self.queues(sections, &world);
        Snapshot {
            plans: PlanCache::default(),
            task_config,
            providers_info,
            unknown_queue: self.unknown_queue(sections, previous.unknown_queue),
            systems,
            base,
            environments,
            queues,
            ..Snapshot::default()
        }
    }

    /// Decodes a unit and decides which version serves.
    fn unit<T>(
        &mut self,
        source: Source,
        path: String,
        parts: &[Part<'_>],
        previous: Option<&Arc<T>>,
        decode: impl FnOnce(&Cursor<'_>) -> Option<T>,
    ) -> Option<Unit<T>> {
        let (part, others) = parts.split_last()?;
        let report = Diagnostics::new(part.file);
        for other in others {
            report.add(part.at, &path, format!("is also defined in {}:{}", other.file, other.at.line));
        }
        let fresh = decode(&Cursor::new(part.node, path, &report));
        self.origins.insert(source.clone(), Arc::clone(part.file));
        let fresh = fresh.filter(|_| report.is_clean()).map(Arc::new);
        let error = self.note(report);
        let good = fresh.or_else(|| previous.cloned());
        Some(Unit { source, last_valid: good, error, claimed_match: None })
    }

    /// Takes a report's problems over; gives them as a unit's error.
    fn note(&mut self, report: Diagnostics) -> Option<String> {
        self.notices.extend(report.take_notices());
        let problems = report.into_errors();
        let error = problems.first().map(|first| match problems.len() {
            1 => first.to_string(),
            more => format!("{first} (and {} more)", more - 1),
        });
        self.problems.extend(problems);
        error
    }

    /// A unit that is gone: really removed, unless its file cannot be taken apart.
    fn keep<T>(&mut self, source: &Source, good: Option<&Arc<T>>) -> Option<Unit<T>> {
        if self.origins.contains_key(source) {
            return None;
        }
        let file = self.builder.origins.get(source).filter(|file| self.torn.contains(*file))?;
        let problem = self.problems.iter().find(|problem| problem.file == *file);
        let error = problem.map_or_else(|| format!("{file} cannot be read"), Diagnostic::to_string);
        self.origins.insert(source.clone(), Arc::clone(file));
        Some(Unit { source: source.clone(), last_valid: good.cloned(), error: Some(error), claimed_match: None })
    }

    fn modules(&mut self, sections: &Sections<'_>, store: &Store<'_>, compile: &Compile<'_>) -> Modules {
        let last = std::mem::take(&mut self.builder.modules);
        let mut modules = Modules::default();
        let mut good = BTreeMap::new();
        // a module without what it reads of its user would do the wrong thing and say that all is well
        let unknown = ["taskConfig", "providersInfo"].into_iter().find(|key| !self.builder.ever_valid.contains(key));
        for (name, parts) in &sections.modules {
            let previous = last.get(*name);
            let decode = |cursor: &Cursor<'_>| {
                let module = modules::decode(name, cursor, store, previous, compile);
                if let Some(key) = unknown {
                    cursor.error(format!("may read {key}, which has no valid version: see {key}"));
                }
                module
            };
            let unit = self.unit(Source::Module((*name).into()), format!("modules.{name}"), parts, previous, decode);
            let Some(unit) = unit else { continue };
            match (&unit.error, &unit.last_valid) {
                (None, Some(module)) => _ = modules.sound.insert((*name).into(), Arc::clone(module)),
                _ => _ = modules.broken.insert((*name).into()),
            }
            good.extend(unit.last_valid.map(|module| ((*name).to_owned(), module)));
        }
        let gone: Vec<_> = self.builder.origins.keys().filter_map(module_name).collect();
        for name in gone {
            if self.keep(&Source::Module(name.clone()), last.get(&name)).is_some() {
                good.extend(last.get(&name).map(|module| (name.clone(), Arc::clone(module))));
                modules.broken.insert(name);
            }
        }
        self.builder.modules = good;
        modules
    }

    fn base(
        &mut self,
        sections: &Sections<'_>,
        world: &DecodeContext<'_>,
        previous: &Snapshot,
    ) -> Option<Unit<UnitSpec>> {
        let good = previous.base.as_ref().and_then(|unit| unit.last_valid.as_ref());
        let mut fresh = Vec::new();
        let unit = self.unit(Source::Base, "basePodTemplate".into(), &sections.base, good, |cursor| {
            let (graft, pieces) = units::base(cursor, world)?;
            fresh = pieces;
            Some(graft)
        });
        match &unit {
            Some(unit) if unit.error.is_none() => self.builder.pieces = fresh,
            // what serves is the last good version, and so are its pieces
            _ => {}
        }
        unit.or_else(|| self.keep(&Source::Base, good))
    }

    fn environments(
        &mut self,
        sections: &Sections<'_>,
        world: &DecodeContext<'_>,
        previous: &Snapshot,
    ) -> Vec<Unit<Environment>> {
        let last: BTreeMap<&Source, &Unit<Environment>> =
            previous.environments.iter().map(|unit| (&unit.source, unit)).collect();
        let mut found: Vec<Unit<Environment>> = Vec::new();
        for (name, parts) in &sections.environments {
            let source = Source::Environment((*name).into());
            let good = last.get(&source).and_then(|unit| unit.last_valid.as_ref());
            let others: Vec<_> = found.iter().filter_map(|unit| unit.last_valid.clone()).collect();
            let path = format!("environments.{name}");
            let unit =
                self.unit(source, path.clone(), parts, good, |cursor| units::environment(name, cursor, world, &others));
            found.extend(unit.map(|unit| match (&unit.last_valid, parts.last()) {
                (None, Some(part)) => Unit { claimed_match: units::claimed_match(part, path), ..unit },
                _ => unit,
            }));
        }
        found.extend(last.iter().filter_map(|(source, unit)| self.keep(source, unit.last_valid.as_ref())));
        found.sort_by(|a, b| rank(a).cmp(&rank(b)));
        found
    }

    fn queues(&mut self, sections: &Sections<'_>, world: &DecodeContext<'_>) -> Queues {
        let last = std::mem::take(&mut self.builder.queues);
        let names = Names::of(sections);
        let mut found = Vec::new();
        for (name, parts) in &sections.queues {
            let source = Source::Queue((*name).into());
            let good = last.get(&source);
            found.extend(self.unit(source, format!("queues.{name}"), parts, good, |cursor| {
                names.clash(name).iter().for_each(|message| cursor.error(message));
                units::queue(name, cursor, world)
            }));
        }
        let before = self.builder.origins.keys().filter(|source| matches!(source, Source::Queue(_)));
        for source in before.cloned().collect::<Vec<_>>() {
            found.extend(self.keep(&source, last.get(&source)));
        }
        let good = found.iter().filter_map(|unit| Some((unit.source.clone(), unit.last_valid.clone()?)));
        self.builder.queues = good.collect();
        names.file(found)
    }

    /// Whether a section that is no unit can be trusted; notes the files that it is in.
    fn accept_section(&mut self, key: &'static str, parts: &[&Part<'_>], reports: Vec<Diagnostics>) -> bool {
        let files: BTreeSet<_> = parts.iter().map(|part| Arc::clone(part.file)).collect();
        let lost = self.builder.whole.get(key).is_some_and(|before| before.intersection(self.torn).next().is_some());
        let known = self.builder.whole.entry(key).or_default();
        if lost {
            known.extend(files);
        } else {
            *known = files;
        }
        let clean = reports.iter().all(Diagnostics::is_clean);
        for report in reports {
            self.note(report);
        }
        let sound = clean && !lost;
        if sound {
            self.builder.ever_valid.insert(key);
        }
        sound
    }

    fn systems(&mut self, sections: &Sections<'_>, previous: &Snapshot) -> Vec<System> {
        let mut reports = Vec::new();
        let mut found = Vec::new();
        for (name, parts) in &sections.systems {
            let Some((part, others)) = parts.split_last() else { continue };
            let report = Diagnostics::new(part.file);
            let path = format!("systems.{name}");
            for other in others {
                report.add(part.at, &path, format!("is also defined in {}:{}", other.file, other.at.line));
            }
            found.extend(systems::system(name, &Cursor::new(part.node, path, &report)));
            reports.push(report);
        }
        let parts: Vec<_> = sections.systems.values().flatten().collect();
        let sound = self.accept_section("systems", &parts, reports);
        if !sound && self.builder.ever_valid.contains("systems") {
            return previous.systems.clone();
        }
        let mut systems = systems::with_stock(found);
        if !sound {
            // whom its author meant to believe is not known, least of all that it is the stock submitter
            for system in &mut systems {
                system.submitters.clear();
            }
        }
        systems
    }

    fn vaults(&mut self, key: &'static str, tree: &'static str, parts: &[Part<'_>], previous: &[Vault]) -> Vec<Vault> {
        let mut reports = Vec::new();
        let mut found = Vec::new();
        for part in parts {
            let report = Diagnostics::new(part.file);
            found.extend(systems::vaults(&Cursor::new(part.node, key, &report), tree));
            reports.push(report);
        }
        systems::sort_vaults(&mut found);
        let parts: Vec<_> = parts.iter().collect();
        if self.accept_section(key, &parts, reports) { found } else { previous.to_vec() }
    }

    fn unknown_queue(&mut self, sections: &Sections<'_>, previous: UnknownQueue) -> UnknownQueue {
        let parts: Vec<_> = sections.unknown_queue.iter().collect();
        let mut reports = Vec::new();
        let mut found = None;
        for (i, part) in parts.iter().enumerate() {
            let report = Diagnostics::new(part.file);
            let cursor = Cursor::new(part.node, "unknownQueue", &report);
            for other in parts.iter().take(i) {
                cursor.error(format!("is also defined in {}:{}", other.file, other.at.line));
            }
            found = systems::unknown_queue(&cursor);
            reports.push(report);
        }
        match self.accept_section("unknownQueue", &parts, reports) {
            true => found.unwrap_or_default(),
            false if self.builder.ever_valid.contains("unknownQueue") => previous,
            // somebody wrote something, and the default lets most through
            false => UnknownQueue::Deny,
        }
    }
}

fn module_name(source: &Source) -> Option<String> {
    match source {
        Source::Module(name) => Some(name.clone()),
        _ => None,
    }
}

/// The order in which environments are laid.
fn rank(unit: &Unit<Environment>) -> (i64, &Source) {
    (unit.last_valid.as_ref().map_or(0, |environment| environment.priority), &unit.source)
}
