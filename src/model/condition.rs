//! Compiles and evaluates `when:` conditions (CEL).
//!
//! A condition may use the standard functions and these variables: `task_config`, `providers_info` and `params` (maps),
//! `task` (a map with `id`, `name` and `system`), `pod` (a map with `namespace` and `labels`; a bare `namespace` is a
//! reserved word of CEL), `queue` (its id), `queue_name`, `environment` and `user`. Every variable is defined: an
//! unknown text is `""`, an unknown map `{}`. A missing *key* is an error, so test it first with `has(task_config.nfs)`
//! or `'nfs' in task_config`.
//!
//! The crate has no cost limit. A condition's cost is bounded by its length and by the rule that loops do not nest.

mod check;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};

use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, Env, ExecutionError, Program, Value as Cel};
use serde_json::Value;

/// Maximum length of a condition, in bytes.
pub const MAX_LENGTH: usize = 1024;

/// The variables of a condition.
pub const VARIABLES: [&str; 9] =
    ["environment", "params", "pod", "providers_info", "queue", "queue_name", "task", "task_config", "user"];

/// Built once per process: building costs 20 us and more, evaluating a condition 0.2.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A compiled condition.
pub struct When {
    /// the condition's source text
    pub text: String,
    program: Program,
}

/// The values of a condition's variables: borrowed from the request, converted when first used.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// the merged vaults
    pub task_config: &'a Value,
    /// the user's attributes from identity providers
    pub providers_info: &'a Value,
    /// the pod's labels
    pub labels: Vec<(&'a str, &'a str)>,
    /// the queue's id
    pub queue: &'a str,
    /// the queue's configured name
    pub queue_name: &'a str,
    /// the environment's name
    pub environment: &'a str,
    /// the pod's namespace
    pub namespace: &'a str,
    /// the task's user, if a submitter created the pod
    pub user: &'a str,
    /// the task's id
    pub task_id: &'a str,
    /// the task's name
    pub task_name: &'a str,
    /// the name of the task's system
    pub system: &'a str,
}

impl Facts<'_> {
    /// Returns the facts of a task of which nothing is known.
    pub fn unknown() -> Self {
        Self {
            task_config: &Value::Null,
            providers_info: &Value::Null,
            labels: Vec::new(),
            queue: "",
            queue_name: "",
            environment: "",
            namespace: "",
            user: "",
            task_id: "",
            task_name: "",
            system: "",
        }
    }
}

/// [`Facts`] with a cache of the converted values: one per request, for all its conditions.
pub struct Scope<'a> {
    facts: Facts<'a>,
    params: &'a Value,
    converted: [OnceLock<Option<Box<dyn Val>>>; VARIABLES.len()],
}

// === impl When ===

impl When {
    /// Compiles a condition and checks every name in it.
    ///
    /// # Errors
    /// The text is too long, is not CEL, uses an unknown name, or nests loops.
    pub fn compile(text: &str) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("the condition has {} bytes, more than {MAX_LENGTH}", text.len()));
        }
        let program = ENV.compile(text).map_err(|errors| describe_parse_errors(&errors))?;
        check::check(program.expression())?;
        Ok(Self { text: text.to_owned(), program })
    }

    /// Evaluates the condition for a task of which nothing is known, which must succeed.
    ///
    /// # Errors
    /// The condition reads a key that may be missing, or is not true or false.
    pub fn try_without_values(&self, params: &Value) -> Result<(), String> {
        let mut scope = Scope::new(Facts::unknown());
        scope.set_params(params);
        let result = self.holds(&scope).map(|_| ());
        result.map_err(|error| format!("fails for a task of which nothing is known: {error}"))
    }

    /// Returns true if the condition is true.
    ///
    /// # Errors
    /// The condition cannot be evaluated, or is not true or false.
    pub fn holds(&self, scope: &Scope<'_>) -> Result<bool, String> {
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.set_variable_resolver(scope);
        match self.program.execute(&context) {
            Ok(Cel::Bool(value)) => Ok(value),
            Ok(other) => Err(format!("returns {} instead of true or false", other.type_of())),
            Err(error) => Err(describe_error(&error)),
        }
    }
}

impl fmt::Debug for When {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("When").field(&self.text).finish()
    }
}

/// Describes the interpreter's error without its values, which may come from a vault.
fn describe_error(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("there is no key `{key}`: test it with has() first"),
        ExecutionError::NoSuchOverload(error) => error.to_string(),
        ExecutionError::UndeclaredReference(name) => format!("there is no `{name}`"),
        ExecutionError::InvalidArgumentCount { expected, actual } => {
            format!("a call has {actual} arguments instead of {expected}")
        }
        ExecutionError::IndexOutOfBounds(_) => "an index is beyond the end of its list".to_owned(),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "a division by zero".to_owned(),
        _ => "cannot be evaluated on these values".to_owned(),
    }
}

/// Describes the first error of the parser.
fn describe_parse_errors(errors: &cel::ParseErrors) -> String {
    let Some(error) = errors.errors.first() else { return "is not a CEL condition".to_owned() };
    let position = match error.pos {
        (line, column) if line > 1 => format!("line {line}, character {column}"),
        (_, column) => format!("character {column}"),
    };
    format!("is not a CEL condition: at {position}, {}", describe_syntax(&error.msg))
}

fn describe_syntax(message: &str) -> String {
    let quoted = |begin: &str| message.split_once(begin).map(|(_, rest)| rest);
    if let Some(word) = quoted("reserved identifier: ") {
        let hint = if word == "namespace" { "; write pod.namespace" } else { "" };
        return format!("`{word}` is a reserved word{hint}");
    }
    if message.contains("has() macro") {
        return "has() tests a key of a map, like has(task_config.nfs)".to_owned();
    }
    if message.contains("simple name") {
        return "a loop needs a variable name, like x in all(x, x > 1)".to_owned();
    }
    if message.contains("missing ')'") {
        return "a ) is missing".to_owned();
    }
    if let Some(text) = quoted("token recognition error at: '") {
        return match text.chars().next() {
            Some('\'' | '"') => "the closing quote of a text is missing".to_owned(),
            Some('=') => "`=` is not an operator; write ==".to_owned(),
            other => format!("`{}` is not valid in CEL", other.unwrap_or(' ')),
        };
    }
    let word = quoted(" input '").and_then(|rest| rest.split_once("' expecting")).map_or("", |(word, _)| word);
    let hint = match word {
        "and" => "; write &&",
        "or" => "; write ||",
        "is" => "; write ==",
        "not" => "; write !",
        _ => "",
    };
    match word {
        "" | "<EOF>" => "something is missing".to_owned(),
        word => format!("`{word}` is unexpected{hint}"),
    }
}

// === impl Scope ===

impl<'a> Scope<'a> {
    /// Creates a scope; values are converted when first used.
    pub fn new(facts: Facts<'a>) -> Self {
        Self { facts, params: &Value::Null, converted: Default::default() }
    }

    /// Sets `params`: each module has its own.
    pub fn set_params(&mut self, params: &'a Value) {
        self.params = params;
        if let Some(slot) = VARIABLES.iter().position(|name| *name == "params") {
            self.converted[slot] = OnceLock::new();
        }
    }

    fn convert(&self, name: &str) -> Option<Box<dyn Val>> {
        let facts = &self.facts;
        let text = |text: &str| Cel::from(text);
        let value = match name {
            "task_config" => to_cel(facts.task_config),
            "params" => to_cel(self.params),
            "providers_info" => to_cel(facts.providers_info),
            "pod" => {
                let labels: HashMap<_, _> = facts.labels.iter().map(|(key, value)| (*key, text(value))).collect();
                Cel::from(HashMap::from([("namespace", text(facts.namespace)), ("labels", Cel::from(labels))]))
            }
            "queue" => text(facts.queue),
            "queue_name" => text(facts.queue_name),
            "environment" => text(facts.environment),
            "user" => text(facts.user),
            "task" => Cel::from(HashMap::from([
                ("id", text(facts.task_id)),
                ("name", text(facts.task_name)),
                ("system", text(facts.system)),
            ])),
            _ => return None,
        };
        value.try_into().ok()
    }
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Scope").finish_non_exhaustive()
    }
}

impl VariableResolver for Scope<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let slot = VARIABLES.iter().position(|name| *name == variable)?;
        let value = self.converted[slot].get_or_init(|| self.convert(variable)).as_ref()?;
        Some(CowVal::Borrowed(value.as_ref()))
    }
}

/// Converts a value. Whole numbers become `int`, as CEL compares but does not add `int` and `uint`; a missing tree
/// becomes an empty map, so that `has(task_config.x)` is false and not an error.
fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::from(HashMap::<String, Cel>::new()),
        value => inner_to_cel(value),
    }
}

fn inner_to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Cel::Int(value),
            (None, Some(value)) => Cel::UInt(value),
            _ => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Cel::from(text.as_str()),
        Value::Array(list) => Cel::from(list.iter().map(inner_to_cel).collect::<Vec<_>>()),
        Value::Object(map) => {
            Cel::from(map.iter().map(|(key, value)| (key.as_str(), inner_to_cel(value))).collect::<HashMap<_, _>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(text: &str) -> Result<bool, String> {
        let task_config = json!({"nfs": {"server": "10.0.0.1", "n": 3}, "list": [1, 2]});
        let providers_info = json!({"ad-role": "researcher"});
        let params = json!({"on": true, "n": 2});
        let mut scope = Scope::new(Facts {
            task_config: &task_config,
            providers_info: &providers_info,
            labels: vec![("tier", "gold")],
            queue: "q1",
            queue_name: "GPU",
            environment: "",
            namespace: "ml",
            user: "",
            task_id: "t1",
            task_name: "",
            system: "clearml",
        });
        let when = When::compile(text).unwrap();
        scope.set_params(&params);
        let first = when.holds(&scope);
        assert_eq!(first, when.holds(&scope), "the second use of converted values");
        first
    }

    #[test]
    fn conditions_use_the_tasks_values() {
        for text in [
            "has(task_config.nfs) && 'ad-role' in providers_info",
            "task_config.nfs.n + params.n == 5 && params.on",
            "task.id == 't1' && task.system == 'clearml' && task.name == ''",
            "queue == 'q1' && queue_name.startsWith('G') && pod.namespace in ['ml', 'x']",
            "pod.labels.tier.matches('^g') && user == '' && environment == ''",
            "task_config.list.exists(x, x > 1) && !has(task_config.none)",
            "task_config.list.filter(x, x > 1).all(y, y == 2)",
            "task_config.?nope.orValue(4) == 4",
        ] {
            assert_eq!(holds(text), Ok(true), "{text}");
        }
        assert_eq!(holds("'x' in task_config"), Ok(false));
    }

    #[test]
    fn each_module_has_params_of_its_own() {
        let (on, off) = (json!({"on": true}), json!({"on": false}));
        let mut scope = Scope::new(Facts::unknown());
        let when = When::compile("params.on").unwrap();
        for (params, expected) in [(&on, true), (&off, false), (&on, true)] {
            scope.set_params(params);
            assert_eq!(when.holds(&scope), Ok(expected));
        }
    }

    #[test]
    fn errors_name_keys_and_types_but_no_values() {
        let table = [
            ("task_config.nfs.path == 'x'", "there is no key `path`: test it with has() first"),
            ("task_config.nfs.server", "returns string instead of true or false"),
            ("task_config.nfs.server < 3", "found no matching overload for '_<_' applied to '(string, int)'"),
            ("task_config.nfs.server.matches('(')", "cannot be evaluated on these values"),
            ("task_config.list[7] == 1", "an index is beyond the end of its list"),
            ("1 / (params.n - 2) == 1", "a division by zero"),
        ];
        for (text, message) in table {
            assert_eq!(holds(text), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn names_and_loops_are_checked_at_load() {
        let known = VARIABLES.join(", ");
        let table = [
            ("taskconfig.nfs", format!("there is no variable `taskconfig`; there are {known}")),
            ("pod.labels.all(k, j == k)", format!("there is no variable `j`; there are {known}")),
            ("queue.startswith('x')", "there is no function `startswith`; did you mean startsWith?".into()),
            ("[1].all(x, [2].exists(y, y == x))", "a loop (all, exists, map, filter) is nested in another".into()),
            ("Foo{}", "there is no type `Foo`".into()),
        ];
        for (text, message) in table {
            assert_eq!(When::compile(text).map(|_| ()), Err(message), "{text}");
        }
        assert!(When::compile(&"x".repeat(1025)).unwrap_err().starts_with("the condition has 1025 bytes"));
        for (text, message) in [
            ("namespace == 'x'", "at character 1, `namespace` is a reserved word; write pod.namespace"),
            ("queue ==", "at character 9, something is missing"),
            ("queue = 'x'", "at character 7, `=` is not an operator; write =="),
            ("queue and user", "at character 7, `and` is unexpected; write &&"),
            ("(queue == 'x'", "at character 14, a ) is missing"),
            ("queue == 'x", "at character 10, the closing quote of a text is missing"),
            ("queue == 'x' ||\n&& user", "at line 2, character 1, `&&` is unexpected"),
            ("@x", "at character 1, `@` is not valid in CEL"),
            ("has(nfs)", "at character 5, has() tests a key of a map, like has(task_config.nfs)"),
            ("[1].all(1, true)", "at character 9, a loop needs a variable name, like x in all(x, x > 1)"),
        ] {
            let expected = format!("is not a CEL condition: {message}");
            assert_eq!(When::compile(text).map(|_| ()), Err(expected), "{text}");
        }
    }
}
