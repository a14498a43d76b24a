//! Random pods, and random patches for them: over every field that both podgraft's schema and the oracle know.

use std::collections::BTreeMap;

use podgraft::k8s::schema::{Field, ListType, Object, POD, Type};
use serde_json::{Map, Value, json};

use podgraft_testkit::random::Random;

/// Few names and values, so that pods and patches meet.
const TEXTS: [&str; 3] = ["a", "b", "c"];

/// Random numbers and what is made with them.
pub(crate) struct Generator<'k> {
    random: Random,
    /// the fields of the oracle, as `Type.field`
    known: &'k BTreeMap<String, String>,
    /// true for a patch, which has nulls and directives
    patch: bool,
}

impl<'k> Generator<'k> {
    pub(crate) fn new(seed: u64, known: &'k BTreeMap<String, String>) -> Self {
        Self { random: Random(seed), known, patch: false }
    }

    /// A pod and a patch.
    pub(crate) fn pair(&mut self) -> (Value, Value) {
        self.patch = false;
        let mut pod = self.object(&POD, 0);
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!("pod");
        // What no schema knows must survive.
        pod["spec"]["future"] = json!({"list": [1, {"a": null}]});
        self.patch = true;
        let patch = self.object(&POD, 0);
        (pod, patch)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound)
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn text(&mut self) -> Value {
        json!(TEXTS[self.below(TEXTS.len())])
    }

    fn object(&mut self, object: &'static Object, depth: usize) -> Value {
        let fields: Vec<&'static Field> = object
            .fields
            .iter()
            .filter(|field| self.known.contains_key(&format!("{}.{}", object.name, field.name)))
            .filter(|field| !matches!(field.kind, Type::Any) && !["apiVersion", "kind"].contains(&field.name))
            .collect();
        let special =
            |field: &&&Field| field.list != ListType::Atomic || ["affinity", "nodeAffinity"].contains(&field.name);
        let lists: Vec<&'static Field> = fields.iter().filter(special).copied().collect();
        let mut members = Map::new();
        let wanted = [9, 8, 6, 3][depth.min(3)];
        for _ in 0..wanted {
            // What merges in a way of its own is met more often than the many fields that do not.
            let from = if self.one_in(2) { &lists } else { &fields };
            if from.is_empty() {
                continue;
            }
            let field = from[self.below(from.len())];
            let value = if self.patch && self.one_in(12) { Value::Null } else { self.field(field, depth) };
            members.insert(field.name.to_owned(), value);
        }
        if depth == 0 {
            for field in &fields {
                members.insert(field.name.to_owned(), self.field(field, depth));
            }
        } else if self.patch && depth > 1 && self.one_in(25) {
            members.insert("$patch".to_owned(), self.directive());
        }
        Value::Object(members)
    }

    fn directive(&mut self) -> Value {
        match self.below(20) {
            0 => json!("merge"),
            even if even % 2 == 0 => json!("delete"),
            _ => json!("replace"),
        }
    }

    fn field(&mut self, field: &'static Field, depth: usize) -> Value {
        match field.kind {
            Type::List(Type::Object(object)) => self.list(object, field, depth),
            kind => self.value(kind, depth),
        }
    }

    fn value(&mut self, kind: Type, depth: usize) -> Value {
        match kind {
            Type::Any => Value::Null,
            Type::Bool => json!(self.one_in(2)),
            Type::Int | Type::Int32 => json!(self.below(3) + 1),
            Type::Str | Type::IntOrStr => self.text(),
            Type::Quantity => json!(["1", "2Gi"][self.below(2)]),
            Type::Map(element) => {
                let mut members = Map::new();
                for _ in 0..self.below(3) {
                    let value =
                        if self.patch && self.one_in(8) { Value::Null } else { self.value(*element, depth + 1) };
                    members.insert(TEXTS[self.below(TEXTS.len())].to_owned(), value);
                }
                if self.patch && self.one_in(15) {
                    members.insert("$patch".to_owned(), self.directive());
                }
                Value::Object(members)
            }
            Type::List(element) => {
                let mut items: Vec<Value> = Vec::new();
                for _ in 0..self.below(4) {
                    let item = self.value(*element, depth + 1);
                    if !items.contains(&item) {
                        items.push(item);
                    }
                }
                Value::Array(items)
            }
            Type::Object(object) => self.object(object, depth + 1),
        }
    }

    /// A list of objects: distinct, but for env, and with directives in a patch of a keyed list.
    fn list(&mut self, object: &'static Object, field: &'static Field, depth: usize) -> Value {
        let mut items: Vec<Value> = Vec::new();
        for _ in 0..self.below(4) {
            let mut item = self.object(object, depth + 1);
            if let Some(members) = item.as_object_mut() {
                members.remove("$patch");
            }
            self.name(&mut item, field);
            let is_same = |other: &Value| match field.list.keys() {
                [] => *other == item,
                _ => key(other, field.list) == key(&item, field.list),
            };
            let twice = field.name == "env" && !self.patch;
            if twice || !items.iter().any(is_same) {
                items.push(item);
            }
        }
        if self.patch && !field.list.keys().is_empty() && field.name != "claims" {
            self.directives(&mut items, field);
        }
        Value::Array(items)
    }

    /// Gives an element its key. A port may do without its protocol.
    fn name(&mut self, item: &mut Value, field: &'static Field) {
        for name in field.list.keys() {
            item[name] = match *name {
                "containerPort" => json!(self.below(3) + 1),
                "protocol" if self.one_in(2) => {
                    item.as_object_mut().map(|members| members.remove("protocol"));
                    continue;
                }
                "protocol" => json!(["TCP", "UDP"][self.below(2)]),
                _ => json!(TEXTS[self.below(2)]),
            };
        }
    }

    fn directives(&mut self, items: &mut Vec<Value>, field: &'static Field) {
        if self.one_in(6) {
            let mut item = json!({"$patch": "delete"});
            self.name(&mut item, field);
            let place = self.below(items.len() + 1);
            items.insert(place, item);
        }
        if self.one_in(25) {
            let place = self.below(items.len() + 1);
            items.insert(place, json!({"$patch": "replace"}));
        }
    }
}

/// The key of a list's element as one text.
pub(crate) fn key(item: &Value, list: ListType) -> String {
    let part = |name: &&str| match (&item[*name], *name) {
        (Value::Null, "protocol") => "TCP".to_owned(),
        (Value::String(text), _) => text.clone(),
        (other, _) => other.to_string(),
    };
    list.keys().iter().map(part).collect::<Vec<_>>().join("|")
}
