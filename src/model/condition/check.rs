//! Checks the names in a condition and that its loops do not nest.

use cel::common::ast::{EntryExpr, Expr, IdedExpr};

use super::VARIABLES;
use crate::k8s::schema::did_you_mean;

/// The functions that a condition may call, beside operators and macros.
const FUNCTIONS: [&str; 22] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "hasValue",
    "int",
    "matches",
    "none",
    "of",
    "ofNonZeroValue",
    "optFlatMap",
    "optMap",
    "optional",
    "or",
    "orValue",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];

/// Checks a condition.
///
/// # Errors
/// The condition uses an unknown name, or a loop within a loop.
pub(super) fn check(expression: &IdedExpr) -> Result<(), String> {
    let mut check = Check { bound: Vec::new(), looping: false, error: None };
    check.visit(expression);
    check.error.map_or(Ok(()), Err)
}

/// A walk over a condition, and the first error that it found.
struct Check<'e> {
    bound: Vec<&'e str>,
    looping: bool,
    error: Option<String>,
}

impl<'e> Check<'e> {
    fn fail(&mut self, message: impl FnOnce() -> String) {
        self.error.get_or_insert_with(message);
    }

    fn visit(&mut self, node: &'e IdedExpr) {
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.visit(&select.operand),
            Expr::List(list) => list.elements.iter().for_each(|element| self.visit(element)),
            Expr::Map(map) => map.entries.iter().for_each(|entry| self.entry(&entry.expr)),
            Expr::Struct(structure) => {
                self.fail(|| format!("there is no type `{}`", structure.type_name));
            }
            Expr::Call(call) => {
                self.function(&call.func_name);
                // the target of `optional.of(x)` is a name space
                let target = call.target.as_deref().filter(|target| !is_ident(target, "optional"));
                target.into_iter().chain(&call.args).for_each(|part| self.visit(part));
            }
            Expr::Comprehension(comprehension) => {
                // the costs of chained loops add up; only a nested loop multiplies them
                self.visit(&comprehension.iter_range);
                if self.looping {
                    self.fail(|| "a loop (all, exists, map, filter) is nested in another".to_owned());
                }
                let depth = self.bound.len();
                let names =
                    [Some(&comprehension.iter_var), comprehension.iter_var2.as_ref(), Some(&comprehension.accu_var)];
                self.bound.extend(names.into_iter().flatten().map(String::as_str));
                let outer = std::mem::replace(&mut self.looping, true);
                for part in [
                    &comprehension.accu_init,
                    &comprehension.loop_cond,
                    &comprehension.loop_step,
                    &comprehension.result,
                ] {
                    self.visit(part);
                }
                self.looping = outer;
                self.bound.truncate(depth);
            }
        }
    }

    fn entry(&mut self, entry: &'e EntryExpr) {
        match entry {
            EntryExpr::StructField(field) => self.visit(&field.value),
            EntryExpr::MapEntry(entry) => {
                self.visit(&entry.key);
                self.visit(&entry.value);
            }
        }
    }

    fn name(&mut self, name: &str) {
        let name = name.strip_prefix('.').unwrap_or(name);
        if !name.starts_with('@') && !self.bound.contains(&name) && !VARIABLES.contains(&name) {
            let known = VARIABLES.join(", ");
            self.fail(|| format!("there is no variable `{name}`; there are {known}"));
        }
    }

    fn function(&mut self, name: &str) {
        let operator = name.contains(['_', '@', '!', '-']);
        if !operator && !FUNCTIONS.contains(&name) {
            self.fail(|| format!("there is no function `{name}`{}", did_you_mean(name, FUNCTIONS)));
        }
    }
}

fn is_ident(node: &IdedExpr, name: &str) -> bool {
    matches!(&node.expr, Expr::Ident(ident) if ident == name)
}
