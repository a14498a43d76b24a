//! Builds a new [`Snapshot`] from the files and the previous snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::config::decode::cursor::Cursor;
use crate::config::diagnostics::{Diagnostic, Diagnostics};
use crate::config::input::{self, Documents, Input};
use crate::config::pod::fragment_part::FragmentPart;
use crate::config::units::modules::{self, Compile, ModuleFiles, Modules, hex};
use crate::config::units::queues::QueueIdentifiers;
use crate::config::units::sections::{Definition, Sections};
use crate::config::units::systems;
use crate::config::units::{self, DecodeContext};
use crate::k8s::pod_security::Levels;
use crate::merge::layer::Source;
use crate::merge::plan_cache::PlanCache;
use crate::model::snapshot::{Environment, Module, Queue, Queues, Snapshot, Unit, UnitSpec, UnknownQueue, Vault};
use crate::model::system::System;

/// Builds snapshots and keeps the last valid version of each unit.
#[derive(Default)]
pub struct Builder {
    /// Pod Security levels of the namespaces, shared by all snapshots
    pod_security: Levels,
    previous: Arc<Snapshot>,
    errors: Vec<Diagnostic>,
    notices: Vec<Diagnostic>,
    /// the parts of the base's fragment in the last valid version
    base_parts: Vec<FragmentPart>,
    /// the last valid version of every module, used or not
    modules: BTreeMap<String, Arc<Module>>,
    /// the last valid version of every queue, also of those hidden by another queue with their label
    queues: BTreeMap<Source, Arc<Queue>>,
    /// the file that last defined each unit
    unit_files: BTreeMap<Source, Arc<str>>,
    /// the files that last defined `systems`, `taskConfig`…
    section_files: BTreeMap<&'static str, BTreeSet<Arc<str>>>,
    /// the sections that were valid at least once: only these have a last valid version
    ever_valid: BTreeSet<&'static str>,
}

/// The result of a build.
pub struct Built {
    /// the snapshot that serves
    pub snapshot: Arc<Snapshot>,
    /// all errors, by file and line
    pub errors: Vec<Diagnostic>,
    /// all notices, by file and line: keys of the ClearML agent, which podgraft ignores
    pub notices: Vec<Diagnostic>,
    /// true if the input differs from that of the previous build
    pub changed: bool,
    /// false if a file is malformed: the units defined in it are unknown
    pub parsed: bool,
    /// number of files that hold a GraftConfig
    pub files: usize,
}

impl Builder {
    /// Returns a builder whose snapshots share these Pod Security levels.
    pub fn with_pod_security(pod_security: Levels) -> Self {
        Self { pod_security, ..Self::default() }
    }

    /// Builds a snapshot. An invalid base, environment, queue or module keeps its last valid version.
    pub fn build(&mut self, input: &Input, compile: &Compile<'_>) -> Built {
        let known: BTreeSet<&str> =
            self.unit_files.values().chain(self.section_files.values().flatten()).map(|file| &**file).collect();
        let documents = input::read(input, &|name| known.contains(name));
        let module_files = ModuleFiles::new(input.wasm.iter().chain(&documents.wasm));
        let digest = digest(&documents, &module_files, &input.namespace);
        let changed = digest != self.previous.digest;
        let sections = Sections::from_documents(&documents.configs);
        let malformed: BTreeSet<Arc<str>> = documents.malformed.union(&sections.malformed).cloned().collect();
        if changed {
            let mut errors = [documents.errors.as_slice(), &sections.errors].concat();
            let (unit_files, notices) = (BTreeMap::new(), sections.notices.clone());
            let mut run = BuildRun { builder: self, malformed: &malformed, errors: &mut errors, notices, unit_files };
            let mut snapshot = run.snapshot(&sections, &module_files, compile);
            let (unit_files, mut notices) = (run.unit_files, run.notices);
            snapshot.generation = self.previous.generation + 1;
            snapshot.digest = digest;
            snapshot.namespace.clone_from(&input.namespace);
            snapshot.pod_security = self.pod_security.clone();
            let by_position =
                |a: &Diagnostic, b: &Diagnostic| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column));
            errors.sort_by(by_position);
            notices.sort_by(by_position);
            self.notices = notices;
            self.unit_files = unit_files;
            self.previous = Arc::new(snapshot);
            self.errors = errors;
        }
        Built {
            snapshot: Arc::clone(&self.previous),
            errors: self.errors.clone(),
            notices: self.notices.clone(),
            changed,
            parsed: malformed.is_empty(),
            files: documents.configs.len(),
        }
    }
}

/// Returns the first 12 hex digits of the SHA-256 over file names, texts and module digests, in sorted order.
fn digest(documents: &Documents, module_files: &ModuleFiles<'_>, namespace: &str) -> String {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        // length prefixes: without them "a"+"bc" would equal "ab"+"c"
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    add(namespace);
    documents.texts.iter().for_each(|(file, text)| {
        add(file);
        add(text);
    });
    module_files.digests().for_each(|(name, digest)| {
        add(name);
        add(digest);
    });
    let mut text = hex(&hash.finalize());
    text.truncate(12);
    text
}

/// The state of one build.
struct BuildRun<'p> {
    builder: &'p mut Builder,
    malformed: &'p BTreeSet<Arc<str>>,
    errors: &'p mut Vec<Diagnostic>,
    notices: Vec<Diagnostic>,
    unit_files: BTreeMap<Source, Arc<str>>,
}

impl BuildRun<'_> {
    fn snapshot(&mut self, sections: &Sections<'_>, module_files: &ModuleFiles<'_>, compile: &Compile<'_>) -> Snapshot {
        let previous = Arc::clone(&self.builder.previous);
        let task_config = self.vaults("taskConfig", "config", &sections.task_config, &previous.task_config);
        let providers_info = self.vaults("providersInfo", "info", &sections.providers_info, &previous.providers_info);
        let modules = self.modules(sections, module_files, compile);
        let systems = self.systems(sections, &previous);
        let mut context = DecodeContext {
            modules: &modules,
            systems: &systems,
            base: None,
            base_parts: &[],
            environments: &[],
            matched: sections.matched_labels(),
        };
        let base = self.base(sections, &context, &previous);
        let base_parts = self.builder.base_parts.clone();
        context.base = base.as_ref();
        context.base_parts = &base_parts;
        let environments = self.environments(sections, &context, &previous);
        context.environments = &environments;
        let queues = self.queues(sections, &context);
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

    /// Decodes a unit; an invalid one keeps its previous version.
    fn unit<T>(
        &mut self,
        source: Source,
        path: String,
        definitions: &[Definition<'_>],
        previous: Option<&Arc<T>>,
        decode: impl FnOnce(&Cursor<'_>) -> Option<T>,
    ) -> Option<Unit<T>> {
        let (definition, others) = definitions.split_last()?;
        let diagnostics = Diagnostics::new(definition.file);
        for other in others {
            diagnostics.error(definition.at, &path, format!("is also defined in {}:{}", other.file, other.at.line));
        }
        let decoded = decode(&Cursor::new(definition.node, path, &diagnostics));
        self.unit_files.insert(source.clone(), Arc::clone(definition.file));
        let decoded = decoded.filter(|_| diagnostics.is_clean()).map(Arc::new);
        let error = self.take_diagnostics(diagnostics);
        let last_valid = decoded.or_else(|| previous.cloned());
        Some(Unit { source, last_valid, error, claimed_match: None })
    }

    /// Moves the diagnostics of a unit to the build's lists, and returns its errors as one text.
    fn take_diagnostics(&mut self, diagnostics: Diagnostics) -> Option<String> {
        self.notices.extend(diagnostics.take_notices());
        let errors = diagnostics.into_errors();
        let error = errors.first().map(|first| match errors.len() {
            1 => first.to_string(),
            more => format!("{first} (and {} more)", more - 1),
        });
        self.errors.extend(errors);
        error
    }

    /// Keeps a unit that is not defined any more, if the file that defined it is malformed.
    fn keep_if_malformed<T>(&mut self, source: &Source, last_valid: Option<&Arc<T>>) -> Option<Unit<T>> {
        if self.unit_files.contains_key(source) {
            return None;
        }
        let file = self.builder.unit_files.get(source).filter(|file| self.malformed.contains(*file))?;
        let error = self.errors.iter().find(|error| error.file == *file);
        let error = error.map_or_else(|| format!("{file} is malformed"), Diagnostic::to_string);
        self.unit_files.insert(source.clone(), Arc::clone(file));
        Some(Unit { source: source.clone(), last_valid: last_valid.cloned(), error: Some(error), claimed_match: None })
    }

    fn modules(&mut self, sections: &Sections<'_>, module_files: &ModuleFiles<'_>, compile: &Compile<'_>) -> Modules {
        let last = std::mem::take(&mut self.builder.modules);
        let mut modules = Modules::default();
        let mut last_valid = BTreeMap::new();
        // without the vaults a module would do the wrong thing and succeed
        let unknown = ["taskConfig", "providersInfo"].into_iter().find(|key| !self.builder.ever_valid.contains(key));
        for (name, definitions) in &sections.modules {
            let previous = last.get(*name);
            let decode = |cursor: &Cursor<'_>| {
                let module = modules::decode(name, cursor, module_files, previous, compile);
                if let Some(key) = unknown {
                    cursor.error(format!("may read {key}, which has no valid version: see {key}"));
                }
                module
            };
            let unit =
                self.unit(Source::Module((*name).into()), format!("modules.{name}"), definitions, previous, decode);
            let Some(unit) = unit else { continue };
            match (&unit.error, &unit.last_valid) {
                (None, Some(module)) => _ = modules.valid.insert((*name).into(), Arc::clone(module)),
                _ => _ = modules.invalid.insert((*name).into()),
            }
            last_valid.extend(unit.last_valid.map(|module| ((*name).to_owned(), module)));
        }
        let gone: Vec<_> = self.builder.unit_files.keys().filter_map(module_name).collect();
        for name in gone {
            if self.keep_if_malformed(&Source::Module(name.clone()), last.get(&name)).is_some() {
                last_valid.extend(last.get(&name).map(|module| (name.clone(), Arc::clone(module))));
                modules.invalid.insert(name);
            }
        }
        self.builder.modules = last_valid;
        modules
    }

    fn base(
        &mut self,
        sections: &Sections<'_>,
        context: &DecodeContext<'_>,
        previous: &Snapshot,
    ) -> Option<Unit<UnitSpec>> {
        let last_valid = previous.base.as_ref().and_then(|unit| unit.last_valid.as_ref());
        let mut decoded = Vec::new();
        let unit = self.unit(Source::Base, "basePodTemplate".into(), &sections.base, last_valid, |cursor| {
            let (spec, parts) = units::base(cursor, context)?;
            decoded = parts;
            Some(spec)
        });
        match &unit {
            Some(unit) if unit.error.is_none() => self.builder.base_parts = decoded,
            // the last valid version serves, with its own parts
            _ => {}
        }
        unit.or_else(|| self.keep_if_malformed(&Source::Base, last_valid))
    }

    fn environments(
        &mut self,
        sections: &Sections<'_>,
        context: &DecodeContext<'_>,
        previous: &Snapshot,
    ) -> Vec<Unit<Environment>> {
        let last: BTreeMap<&Source, &Unit<Environment>> =
            previous.environments.iter().map(|unit| (&unit.source, unit)).collect();
        let mut found: Vec<Unit<Environment>> = Vec::new();
        for (name, definitions) in &sections.environments {
            let source = Source::Environment((*name).into());
            let last_valid = last.get(&source).and_then(|unit| unit.last_valid.as_ref());
            let others: Vec<_> = found.iter().filter_map(|unit| unit.last_valid.clone()).collect();
            let path = format!("environments.{name}");
            let unit = self.unit(source, path.clone(), definitions, last_valid, |cursor| {
                units::environment(name, cursor, context, &others)
            });
            found.extend(unit.map(|unit| match (&unit.last_valid, definitions.last()) {
                (None, Some(definition)) => Unit { claimed_match: units::claimed_match(definition, path), ..unit },
                _ => unit,
            }));
        }
        found.extend(last.iter().filter_map(|(source, unit)| self.keep_if_malformed(source, unit.last_valid.as_ref())));
        found.sort_by(|a, b| rank(a).cmp(&rank(b)));
        found
    }

    fn queues(&mut self, sections: &Sections<'_>, context: &DecodeContext<'_>) -> Queues {
        let last = std::mem::take(&mut self.builder.queues);
        let identifiers = QueueIdentifiers::from_sections(sections);
        let mut found = Vec::new();
        for (name, definitions) in &sections.queues {
            let source = Source::Queue((*name).into());
            let last_valid = last.get(&source);
            found.extend(self.unit(source, format!("queues.{name}"), definitions, last_valid, |cursor| {
                identifiers.conflict(name).iter().for_each(|message| cursor.error(message));
                units::queue(name, cursor, context)
            }));
        }
        let before = self.builder.unit_files.keys().filter(|source| matches!(source, Source::Queue(_)));
        for source in before.cloned().collect::<Vec<_>>() {
            found.extend(self.keep_if_malformed(&source, last.get(&source)));
        }
        let last_valid = found.iter().filter_map(|unit| Some((unit.source.clone(), unit.last_valid.clone()?)));
        self.builder.queues = last_valid.collect();
        identifiers.index(found)
    }

    /// Returns true if a section that is not a unit is valid, and records the files that define it.
    fn accept_section(
        &mut self,
        key: &'static str,
        definitions: &[&Definition<'_>],
        collected: Vec<Diagnostics>,
    ) -> bool {
        let files: BTreeSet<_> = definitions.iter().map(|definition| Arc::clone(definition.file)).collect();
        let was_in_malformed = self
            .builder
            .section_files
            .get(key)
            .is_some_and(|before| before.intersection(self.malformed).next().is_some());
        let known = self.builder.section_files.entry(key).or_default();
        if was_in_malformed {
            known.extend(files);
        } else {
            *known = files;
        }
        let clean = collected.iter().all(Diagnostics::is_clean);
        for diagnostics in collected {
            self.take_diagnostics(diagnostics);
        }
        let valid = clean && !was_in_malformed;
        if valid {
            self.builder.ever_valid.insert(key);
        }
        valid
    }

    fn systems(&mut self, sections: &Sections<'_>, previous: &Snapshot) -> Vec<System> {
        let mut collected = Vec::new();
        let mut found = Vec::new();
        for (name, definitions) in &sections.systems {
            let Some((definition, others)) = definitions.split_last() else { continue };
            let diagnostics = Diagnostics::new(definition.file);
            let path = format!("systems.{name}");
            for other in others {
                diagnostics.error(definition.at, &path, format!("is also defined in {}:{}", other.file, other.at.line));
            }
            found.extend(systems::system(name, &Cursor::new(definition.node, path, &diagnostics)));
            collected.push(diagnostics);
        }
        let definitions: Vec<_> = sections.systems.values().flatten().collect();
        let valid = self.accept_section("systems", &definitions, collected);
        if !valid && self.builder.ever_valid.contains("systems") {
            return previous.systems.clone();
        }
        let mut systems = systems::with_defaults(found);
        if !valid {
            // the submitters that the author meant are unknown: trust none, not even the default one
            for system in &mut systems {
                system.submitters.clear();
            }
        }
        systems
    }

    fn vaults(
        &mut self,
        key: &'static str,
        tree: &'static str,
        definitions: &[Definition<'_>],
        previous: &[Vault],
    ) -> Vec<Vault> {
        let mut collected = Vec::new();
        let mut found = Vec::new();
        for definition in definitions {
            let diagnostics = Diagnostics::new(definition.file);
            found.extend(systems::vaults(&Cursor::new(definition.node, key, &diagnostics), tree));
            collected.push(diagnostics);
        }
        systems::sort_vaults(&mut found);
        let definitions: Vec<_> = definitions.iter().collect();
        if self.accept_section(key, &definitions, collected) { found } else { previous.to_vec() }
    }

    fn unknown_queue(&mut self, sections: &Sections<'_>, previous: UnknownQueue) -> UnknownQueue {
        let definitions: Vec<_> = sections.unknown_queue.iter().collect();
        let mut collected = Vec::new();
        let mut found = None;
        for (i, definition) in definitions.iter().enumerate() {
            let diagnostics = Diagnostics::new(definition.file);
            let cursor = Cursor::new(definition.node, "unknownQueue", &diagnostics);
            for other in definitions.iter().take(i) {
                cursor.error(format!("is also defined in {}:{}", other.file, other.at.line));
            }
            found = systems::unknown_queue(&cursor);
            collected.push(diagnostics);
        }
        match self.accept_section("unknownQueue", &definitions, collected) {
            true => found.unwrap_or_default(),
            false if self.builder.ever_valid.contains("unknownQueue") => previous,
            // the value that the author meant is unknown, and the default lets most pods through
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

/// Returns the sort key of an environment: lower priorities are applied first.
fn rank(unit: &Unit<Environment>) -> (i64, &Source) {
    (unit.last_valid.as_ref().map_or(0, |environment| environment.priority), &unit.source)
}
