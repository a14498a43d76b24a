//! The commands of the documents.
//!
//! A `console` block shows commands behind `$ ` and what they print; a `sh` block has commands only. Each document is a
//! session: its commands run in order, in a scratch folder that links to the files of the repository. A command that
//! needs a cluster, a network or minutes stands in [`ELSEWHERE`] with the test that runs it, or in [`BY_HAND`] with the
//! reason why none does.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::blocks::{self, Block};
use super::{compare, documents, read, root};

/// Programs that a session may start. Every other command must stand in a list below.
const PROGRAMS: [&str; 3] = ["podgraft", "cat", "mkdir"];

/// Commands that do not run here, each with a test function that runs it, or with a file that has its text and runs it.
const ELSEWHERE: &[(&str, &str)] = &[
    ("kubectl apply --server-side -k deploy/kustomize/base", README),
    ("podgraft certs install --dir target/certs", README),
    (
        "kubectl -n podgraft create configmap quick-start --from-file=podgraft.yaml=tests/cases/quick-start/config.yaml",
        README,
    ),
    ("kubectl apply -o yaml -f tests/cases/quick-start/pod.yaml", README),
    ("kubectl delete mutatingwebhookconfiguration podgraft", "deleting_the_webhook_configuration_disables_podgraft"),
    (
        "kubectl label namespace ml podgraft.io/required=",
        "an_installed_certificate_and_its_successors_serve_without_a_failed_call",
    ),
    (
        "podgraft certs check --secret podgraft/podgraft-tls --webhook podgraft",
        "an_installed_certificate_and_its_successors_serve_without_a_failed_call",
    ),
    (
        "podgraft certs install --dir target/certs --drop-old-ca",
        "an_installed_certificate_and_its_successors_serve_without_a_failed_call",
    ),
    ("podgraft module build my-module", NEW_MODULE),
    ("podgraft module inspect my-module/my-module.wasm", NEW_MODULE),
    ("podgraft module run my-module/my-module.wasm -f my-module/cases/leaves-other-tasks-alone/pod.yaml", NEW_MODULE),
    ("make test", ".ci/run"),
    ("make fuzz FUZZ_SECONDS=60", ".ci/run"),
    ("make deny", ".ci/run"),
];

/// Runs the commands of the quick start from the README's text.
const README: &str = "the_readmes_install_commands_work";
/// Builds a new module, which takes a minute.
const NEW_MODULE: &str = "a_new_module_builds_passes_its_own_tests_and_runs";

/// Commands that no test runs, each with the reason.
const BY_HAND: &[(&str, &str)] = &[
    ("docker build -f deploy/Dockerfile -t podgraft:0.1.0 .", "needs Docker; tests/image.rs checks each instruction"),
    ("cargo build --locked --release", "takes minutes; the tests build the same program with the profile dev"),
    ("export PATH=$PWD/target/release:$PATH", "the tests put the program that they build on the PATH"),
    ("make check", "a part of `make test`"),
    ("kubectl -n podgraft rollout status deployment/podgraft", "needs a kubelet, which the cluster tests do not have"),
    ("kubectl delete --ignore-not-found -k deploy/kustomize/base", "ends what the other cluster tests use"),
    (
        "kubectl -n podgraft create configmap podgraft-modules --from-file=policies/inject-nfs.wasm",
        "the cluster tests create the same ConfigMap from JSON",
    ),
    ("kubectl apply -f certs/issuer.yaml", "needs cert-manager"),
    (
        "kubectl annotate mutatingwebhookconfiguration podgraft cert-manager.io/inject-ca-from=podgraft/podgraft-tls",
        "needs cert-manager",
    ),
];

#[test]
fn every_command_prints_what_its_document_shows() {
    let mut unused: BTreeSet<&str> = listed().collect();
    for name in documents() {
        let session = Session::new(&name);
        let document = read(&name);
        let fresh = blocks::rewritten(&name, &document, |block| match (&block.file, block.language.as_str()) {
            (Some(file), _) => read(file),
            (None, "sh" | "bash" | "shell") => session.commands(block, &mut unused),
            (None, "console") => session.console(block, &mut unused),
            _ => block.text.clone(),
        });
        compare(&name, &fresh);
    }
    assert!(unused.is_empty(), "no document has these commands of ELSEWHERE and BY_HAND: {unused:#?}");
}

fn listed() -> impl Iterator<Item = &'static str> {
    ELSEWHERE.iter().chain(BY_HAND).map(|(command, _)| *command)
}

#[test]
fn every_command_that_runs_elsewhere_names_its_test() {
    let sources = sources(&root().join("tests")) + &sources(&root().join("src"));
    for (command, test) in ELSEWHERE {
        if test.contains(['/', '.']) {
            assert!(read(test).contains(command), "{test} does not run `{command}`");
        } else {
            assert!(sources.contains(&format!("fn {test}(")), "there is no test {test}, which should run `{command}`");
        }
    }
}

#[test]
fn every_make_target_exists() {
    let makefile = read("Makefile");
    for name in documents() {
        let document = read(&name);
        let mentioned = document.split('`').filter_map(|span| span.strip_prefix("make "));
        let typed = document.lines().filter_map(|line| line.trim_start_matches("$ ").strip_prefix("make "));
        for rest in mentioned.chain(typed) {
            let target: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            assert!(makefile.contains(&format!("\n{target}:")), "{name} names `make {target}`");
        }
    }
}

/// The commands of one document.
struct Session {
    document: String,
    folder: TempDir,
}

impl Session {
    fn new(document: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(root()).unwrap() {
            let entry = entry.unwrap();
            if ![".git", "target"].contains(&entry.file_name().to_str().unwrap()) {
                symlink(entry.path(), folder.path().join(entry.file_name())).unwrap();
            }
        }
        Self { document: document.to_owned(), folder }
    }

    /// Runs a block of commands; returns its text.
    fn commands(&self, block: &Block, unused: &mut BTreeSet<&str>) -> String {
        for command in joined(&block.text) {
            let command = command.split("  #").next().unwrap_or_default().trim();
            if command.is_empty() || command.starts_with('#') || self.is_elsewhere(command, block, unused) {
                continue;
            }
            let (code, output) = self.run(command);
            assert_eq!(code, 0, "{}:{}: `{command}` prints\n{output}", self.document, block.line);
        }
        block.text.clone()
    }

    /// Runs a block of commands with their output; returns the block with the output of today. The last command ends
    /// with the exit code that the block's `exit=N` names, every other with 0.
    fn console(&self, block: &Block, unused: &mut BTreeSet<&str>) -> String {
        let expected: i32 = block.flags.strip_prefix("exit=").map_or(0, |code| code.parse().unwrap());
        let mut fresh = String::new();
        let mut last = 0;
        assert!(block.text.starts_with("$ "), "{}:{}: a console block begins with `$ `", self.document, block.line);
        for part in format!("\n{}", block.text).split("\n$ ").skip(1) {
            assert_eq!(last, 0, "{}:{}: only the last command may fail", self.document, block.line);
            let mut lines = part.lines();
            let mut typed = lines.next().unwrap_or_default().to_owned();
            while typed.ends_with('\\') {
                typed = format!("{typed}\n{}", lines.next().unwrap_or_default());
            }
            fresh.extend(["$ ", &typed, "\n"]);
            if self.is_elsewhere(&typed, block, unused) {
                fresh.extend(lines.map(|line| format!("{line}\n")));
                continue;
            }
            let (code, output) = self.run(&typed);
            last = code;
            fresh += &output;
        }
        assert_eq!(last, expected, "{}:{}: the exit code\n{fresh}", self.document, block.line);
        fresh
    }

    /// True if the command does not run here. Any other must begin with one of [`PROGRAMS`], in each part of a pipe.
    fn is_elsewhere(&self, command: &str, block: &Block, unused: &mut BTreeSet<&str>) -> bool {
        unused.remove(command);
        if listed().any(|known| known == command) || is_cargo_test(command) {
            return true;
        }
        let parts = command.split(['|', ';', '&']).filter_map(|part| part.split_whitespace().next());
        let other: Vec<_> = parts.filter(|program| !PROGRAMS.contains(program)).collect();
        assert!(
            other.is_empty(),
            "{}:{}: `{command}` is not run by this test: name the test that runs it in tests/documents/commands.rs",
            self.document,
            block.line
        );
        false
    }

    /// The exit code of a command, and what it prints on stdout and stderr.
    fn run(&self, command: &str) -> (i32, String) {
        let program = Path::new(env!("CARGO_BIN_EXE_podgraft")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        let output = Command::new("sh")
            .arg("-c")
            .arg(format!("{{ {command}\n}} 2>&1"))
            .current_dir(self.folder.path())
            .env("PATH", path)
            .env("HOME", self.folder.path())
            .env("COLUMNS", "100")
            .env("KUBECONFIG", "/nowhere")
            .env_remove("CLICOLOR_FORCE")
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    }
}

/// True for `cargo test`, whose target must exist: `make test` runs all of them.
fn is_cargo_test(command: &str) -> bool {
    let Some((before, arguments)) = command.split_once("cargo test") else { return false };
    let is_set_up = before.is_empty()
        || before.split_once('=').is_some_and(|(name, _)| name == "UPDATE" || name == "PODGRAFT_CLUSTER_BIN");
    let target = arguments.split("--test ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let manifest = read("Cargo.toml");
    is_set_up
        && target.map_or(arguments.starts_with(" --lib"), |name| manifest.contains(&format!("\nname = \"{name}\"")))
}

/// The lines of a block, those that end with `\` joined with the next.
fn joined(text: &str) -> Vec<String> {
    text.replace("\\\n", " ").lines().map(str::to_owned).collect()
}

/// All Rust text below a folder.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            text += &fs::read_to_string(&path).unwrap();
        }
    }
    text
}
