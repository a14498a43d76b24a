//! Decodes `modules`, checks their digests and compiles them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::config::decode::cursor::{Cursor, Fields};
use crate::config::decode::scalars;
use crate::config::keys;
use crate::k8s::schema::did_you_mean;
use crate::model::condition::When;
use crate::model::hook::Budget;
use crate::model::hook::Hook;
use crate::model::snapshot::{Module, OnError};

/// Compiles the bytes of a module. The error's text follows the module's path in the diagnostic.
pub type Compile<'c> = dyn Fn(&str, &[u8]) -> Result<Arc<dyn Hook>, String> + 'c;

/// A Wasm file.
#[derive(Clone, PartialEq, Eq)]
pub struct Wasm {
    /// file name, such as `inject-nfs.wasm`
    pub name: String,
    /// the folder or ConfigMap that holds it
    pub origin: String,
    /// content
    pub bytes: Arc<[u8]>,
}

/// The Wasm files by name, with their SHA-256 digests.
pub(crate) struct ModuleFiles<'w> {
    by_name: BTreeMap<&'w str, Vec<(&'w Wasm, String)>>,
}

impl<'w> ModuleFiles<'w> {
    pub(crate) fn new(wasm: impl IntoIterator<Item = &'w Wasm>) -> Self {
        let mut by_name: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for wasm in wasm {
            by_name.entry(&wasm.name).or_default().push((wasm, hex(&Sha256::digest(&wasm.bytes))));
        }
        Self { by_name }
    }

    /// Returns names and digests, for the digest of the configuration.
    pub(crate) fn digests(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.by_name.iter();
        all.flat_map(|(name, list)| list.iter().map(move |(_, digest)| (*name, digest.as_str())))
    }

    fn find(&self, cursor: &Cursor<'_>) -> Option<(&'w Wasm, &str)> {
        let name = cursor.name()?;
        match self.by_name.get(name).map(Vec::as_slice) {
            Some([(wasm, digest)]) => Some((wasm, digest)),
            Some(several) => {
                let origins: Vec<_> = several.iter().map(|(wasm, _)| wasm.origin.as_str()).collect();
                cursor.error(format!("`{name}` exists more than once: in {}", origins.join(" and in ")));
                None
            }
            None => {
                let hint = did_you_mean(name, self.by_name.keys().copied());
                cursor.error(format!("there is no file `{name}`{hint}"));
                None
            }
        }
    }
}

/// The valid modules of a configuration, and the names of the invalid ones.
#[derive(Default)]
pub(crate) struct Modules {
    pub(crate) valid: BTreeMap<String, Arc<Module>>,
    pub(crate) invalid: BTreeSet<String>,
}

impl Modules {
    /// Returns the modules of a `modules: [a, b]` list, in its order; adds an error for each other name.
    pub(crate) fn find_all(&self, cursor: &Cursor<'_>) -> Vec<Arc<Module>> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for item in cursor.list() {
            let Some(name) = item.name() else { continue };
            if !seen.insert(name) {
                item.error(format!("duplicate module `{name}` in this list"));
            }
            match self.valid.get(name) {
                Some(module) => found.push(Arc::clone(module)),
                None if self.invalid.contains(name) => {
                    item.error(format!("module `{name}` is invalid: see modules.{name}"));
                }
                None => {
                    let names = self.valid.keys().chain(&self.invalid).map(String::as_str);
                    item.error(format!("module `{name}` is not defined{}", did_you_mean(name, names)));
                }
            }
        }
        found
    }
}

/// Decodes `modules.<name>`. Code that is unchanged since `previous` is not compiled again.
pub(crate) fn decode(
    name: &str,
    cursor: &Cursor<'_>,
    module_files: &ModuleFiles<'_>,
    previous: Option<&Arc<Module>>,
    compile: &Compile<'_>,
) -> Option<Module> {
    let mut fields = cursor.fields(&keys::MODULE)?;
    let wasm = fields.take("wasm");
    let found = wasm.as_ref().and_then(|cursor| module_files.find(cursor));
    if let (Some(cursor), Some((_, digest))) = (fields.take("sha256"), found) {
        check_digest(&cursor, digest);
    }
    let condition = fields.take("when");
    let params = fields.take("params").map_or_else(
        || json!({}),
        |cursor| {
            if !matches!(cursor.node.to_json(), Value::Object(_)) {
                cursor.error(format!("must be a mapping, not {}", cursor.node.kind()));
            }
            cursor.plain()
        },
    );
    let when = condition.and_then(|cursor| {
        let compiled = When::compile(cursor.name()?).and_then(|when| when.try_without_values(&params).map(|()| when));
        compiled.map_err(|error| cursor.error(error)).ok()
    });
    let may_remove = fields.take("mayRemove").and_then(|cursor| cursor.boolean()).unwrap_or_default();
    let words = [("Fail", OnError::Fail), ("Ignore", OnError::Ignore)];
    let on_error = fields.take("onError").and_then(|cursor| cursor.one_of(&words, &[])).unwrap_or_default();
    let budget = budget(&mut fields);
    fields.finish();
    let (file, digest) = found?;
    // a module with other errors, above all one whose digest does not match, is not compiled
    if !cursor.diagnostics.is_clean() {
        return None;
    }
    let code = match previous.filter(|module| module.digest == digest) {
        Some(module) => Arc::clone(&module.hook),
        None => {
            compile(name, &file.bytes).map_err(|error| wasm.iter().for_each(|wasm| wasm.error(error.as_str()))).ok()?
        }
    };
    Some(Module {
        name: name.to_owned(),
        digest: digest.to_owned(),
        when,
        params,
        may_remove,
        on_error,
        budget,
        hook: code,
    })
}

fn budget(fields: &mut Fields<'_>) -> Budget {
    let mut budget = Budget::default();
    if let Some(mut fields) = fields.take("budget").and_then(|cursor| cursor.fields(&keys::BUDGET)) {
        if let Some(time) = fields.take("time").and_then(|cursor| scalars::duration(&cursor)) {
            budget.time = time;
        }
        if let Some(memory) = fields.take("memory").and_then(|cursor| scalars::bytes(&cursor)) {
            budget.memory = memory;
        }
        fields.finish();
    }
    budget
}

fn check_digest(cursor: &Cursor<'_>, digest: &str) {
    let Some(expected) = cursor.text() else { return };
    if expected.len() != 64 || !expected.bytes().all(|c| c.is_ascii_hexdigit()) {
        cursor.error("must be 64 hexadecimal digits");
    } else if !expected.eq_ignore_ascii_case(digest) {
        cursor.error(format!("does not match the file, whose sha256 is {digest}"));
    }
}

/// Formats bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}
