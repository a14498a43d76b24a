//! `modules`: which code there is, how it runs, and whether it is what the configuration says.

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

/// Turns a module's bytes into code; the text of an error goes behind the module's path.
pub type Compile<'c> = dyn Fn(&str, &[u8]) -> Result<Arc<dyn Hook>, String> + 'c;

/// A module's bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Wasm {
    /// `inject-nfs.wasm`
    pub name: String,
    /// the folder or ConfigMap that it comes from
    pub origin: String,
    /// its bytes
    pub bytes: Arc<[u8]>,
}

/// The bytes that there are, by name, with their digests.
pub(crate) struct Store<'w> {
    files: BTreeMap<&'w str, Vec<(&'w Wasm, String)>>,
}

impl<'w> Store<'w> {
    pub(crate) fn new(wasm: impl IntoIterator<Item = &'w Wasm>) -> Self {
        let mut files: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for wasm in wasm {
            files.entry(&wasm.name).or_default().push((wasm, hex(&Sha256::digest(&wasm.bytes))));
        }
        Self { files }
    }

    /// Names and digests, for the digest of the whole.
    pub(crate) fn digests(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.files.iter();
        all.flat_map(|(name, list)| list.iter().map(move |(_, digest)| (*name, digest.as_str())))
    }

    fn find(&self, cursor: &Cursor<'_>) -> Option<(&'w Wasm, &str)> {
        let name = cursor.name()?;
        match self.files.get(name).map(Vec::as_slice) {
            Some([(wasm, digest)]) => Some((wasm, digest)),
            Some(several) => {
                let origins: Vec<_> = several.iter().map(|(wasm, _)| wasm.origin.as_str()).collect();
                cursor.error(format!("`{name}` exists more than once: in {}", origins.join(" and in ")));
                None
            }
            None => {
                let hint = did_you_mean(name, self.files.keys().copied());
                cursor.error(format!("there is no file `{name}`{hint}"));
                None
            }
        }
    }
}

/// The modules of a configuration: those that are sound now, and those that are not.
#[derive(Default)]
pub(crate) struct Modules {
    pub(crate) sound: BTreeMap<String, Arc<Module>>,
    pub(crate) broken: BTreeSet<String>,
}

impl Modules {
    /// The modules of a `modules: [a, b]` list, in its order.
    pub(crate) fn find_all(&self, cursor: &Cursor<'_>) -> Vec<Arc<Module>> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for item in cursor.list() {
            let Some(name) = item.name() else { continue };
            if !seen.insert(name) {
                item.error(format!("module `{name}` stands twice in this list"));
            }
            match self.sound.get(name) {
                Some(module) => found.push(Arc::clone(module)),
                None if self.broken.contains(name) => {
                    item.error(format!("module `{name}` is broken: see modules.{name}"));
                }
                None => {
                    let names = self.sound.keys().chain(&self.broken).map(String::as_str);
                    item.error(format!("module `{name}` is not defined{}", did_you_mean(name, names)));
                }
            }
        }
        found
    }
}

/// `modules.<name>`; code that has not changed since `previous` is not compiled again.
pub(crate) fn decode(
    name: &str,
    cursor: &Cursor<'_>,
    store: &Store<'_>,
    previous: Option<&Arc<Module>>,
    compile: &Compile<'_>,
) -> Option<Module> {
    let mut fields = cursor.fields(&keys::MODULE)?;
    let wasm = fields.take("wasm");
    let found = wasm.as_ref().and_then(|cursor| store.find(cursor));
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
    // what is wrong otherwise is said already; a digest that does not match must not even be compiled
    if !cursor.report.is_clean() {
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
    let Some(wanted) = cursor.text() else { return };
    if wanted.len() != 64 || !wanted.bytes().all(|c| c.is_ascii_hexdigit()) {
        cursor.error("must be 64 hexadecimal digits");
    } else if !wanted.eq_ignore_ascii_case(digest) {
        cursor.error(format!("the file is another: its sha256 is {digest}"));
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}
