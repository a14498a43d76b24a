//! `podgraft module`: inspections, runs, errors, and a new module from its crate to a pod.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use podgraft_testkit::command_line::{Ran, podgraft_in};
use podgraft_testkit::root;
use tempfile::TempDir;

const POD: &str = "tests/cases/inject-nfs-names-the-missing-value/pod.yaml";
const NFS: &str = r#"{"nfs": {"server": {"ip": "10.0.0.7", "path": "/export/data"}}}"#;
const MOUNT: &str = r#"{"mountPath": "/mnt/nfs"}"#;

fn module(arguments: &[&str]) -> Ran {
    podgraft_in(root(), &[&["module"], arguments].concat(), "")
}

/// Writes a guest of `policies/misbehaving` to a file.
fn guest(folder: &TempDir, name: &str) -> String {
    let bytes = wat::parse_file(root().join(format!("policies/misbehaving/{name}.wat"))).unwrap();
    let file = folder.path().join(format!("{name}.wasm"));
    fs::write(&file, bytes).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Replaces the times in a text, which differ between runs.
fn without_times(text: &str) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    for index in 0..words.len() {
        let is_unit = words.get(index + 1).is_some_and(|unit| unit.starts_with("ms"));
        if is_unit && words[index].parse::<f64>().is_ok() {
            words[index] = "N";
        }
    }
    words.join(" ")
}

#[test]
fn inspect_shows_a_valid_module_with_its_digest() {
    let ran = module(&["inspect", "policies/inject-nfs.wasm"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let sums = fs::read_to_string(root().join("policies/SHA256SUMS")).unwrap();
    let sum = sums.lines().find(|line| line.ends_with("  inject-nfs.wasm")).unwrap();
    let size = fs::metadata(root().join("policies/inject-nfs.wasm")).unwrap().len();
    let shown = without_times(&ran.stdout);
    // the size of the compiled code depends on the machine
    let (before, after) = shown.split_once("compiled:").unwrap();
    let expected = format!(
        "file:      policies/inject-nfs.wasm\nsize:      {size} bytes\nsha256:    {}\n\
         imports:   podgraft:template/host@0.1.0 (offered)\nexports:   podgraft:template/hook@0.1.0 (called)\n\
         memory:    1, the largest initially 512 KiB\n",
        &sum[..64]
    );
    assert!(before.starts_with(&expected), "{shown}");
    assert!(after.ends_with(" KiB in N ms\nverdict:   valid\n"), "{shown}");
}

#[test]
fn inspect_says_why_a_module_is_invalid() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.wasm");
    fs::write(&text, "not wasm").unwrap();
    let cases = [
        (
            text.to_str().unwrap().to_owned(),
            "",
            "module 'text' is not WebAssembly: a component's bytes begin with \\0asm",
        ),
        (
            guest(&folder, "core-module"),
            "",
            "module 'core-module' is a core module, not a component: `podgraft module build FILE` makes it one",
        ),
        (
            guest(&folder, "imports"),
            "imports:   wasi:clocks/monotonic-clock@0.2.0 (not offered)\nexports:   podgraft:template/hook@0.1.0 (called)\n",
            "module 'imports' imports wasi:clocks/monotonic-clock@0.2.0, but only podgraft:template/host@0.1.0 \
             can be imported; a Rust module is built for wasm32-unknown-unknown",
        ),
        (
            guest(&folder, "other-version"),
            "imports:   none\nexports:   podgraft:template/hook@0.2.0 (not called)\n",
            "module 'other-version' exports podgraft:template/hook@0.2.0, but must export podgraft:template/hook@0.1.0",
        ),
        (
            guest(&folder, "signature"),
            "",
            "module 'signature' exports podgraft:template/hook@0.1.0 with another signature than in policies/wit/template.wit",
        ),
    ];
    for (file, shown, reason) in cases {
        let ran = module(&["inspect", &file]);
        assert_eq!((ran.code, ran.stderr), (1, format!("invalid module: {reason}\n")), "{file}");
        assert!(ran.stdout.contains(shown) && ran.stdout.contains("sha256:    "), "{}", ran.stdout);
        assert!(!ran.stdout.contains("verdict"), "{}", ran.stdout);
        for verb in ["run", "bench"] {
            let ran = module(&[verb, &file, "-f", POD]);
            assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr), (2, "", format!("podgraft: {reason}\n")), "{file}");
        }
    }
}

#[test]
fn run_shows_the_changes_of_a_module() {
    let ran = module(&["run", "policies/inject-nfs.wasm", "-f", POD, "--params", MOUNT, "--task-config", NFS]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let bytes = fs::read(root().join("policies/inject-nfs.wasm")).unwrap();
    let digest = &podgraft::wasm::sha256_hex(&bytes)[..12];
    let added: Vec<String> = ran.stdout.lines().filter(|line| line.starts_with('+')).map(unpadded).collect();
    let expected = [
        &format!("+     podgraft.io/applied: \"module/inject-nfs@{digest}\" # podgraft"),
        "+     volumeMounts: # module/inject-nfs",
        "+     - mountPath: /mnt/nfs # module/inject-nfs",
        "+       name: custom-mount # module/inject-nfs",
        "+   volumes: # module/inject-nfs",
        "+   - name: custom-mount # module/inject-nfs",
        "+     nfs: # module/inject-nfs",
        "+       path: /export/data # module/inject-nfs",
        "+       server: \"10.0.0.7\" # module/inject-nfs",
    ];
    assert_eq!(added, expected);
    assert!(!ran.stdout.lines().any(|line| line.starts_with('-')), "{}", ran.stdout);
    let summary = "module inject-nfs: fragment of 194 bytes; N ms for this first call, 512 KiB of memory\n";
    assert_eq!(without_times(&ran.stderr), summary);
}

/// Returns a line of a diff with one space before its note.
fn unpadded(line: &str) -> String {
    line.split_once(" # ").map_or(line.to_owned(), |(text, note)| format!("{} # {note}", text.trim_end()))
}

#[test]
fn run_prints_the_result_and_the_arguments() {
    let run = |output: &str, more: &[&str]| {
        let ran = module(&[&["run", "policies/inject-nfs.wasm", "-f", POD, "-o", output], more].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap()
    };
    let returned = run("json", &["--params", MOUNT, "--task-config", NFS]);
    assert_eq!(returned["fragment"]["spec"]["volumes"][0]["nfs"]["server"], "10.0.0.7");
    assert_eq!(run("json", &[]), serde_json::json!({"unchanged": null}));
    let arguments =
        run("input", &["--params", MOUNT, "--queue", "Other Queue", "--providers", r#"{"ad-role": "analyst"}"#]);
    assert_eq!(arguments["request"]["params"]["mountPath"], "/mnt/nfs");
    assert_eq!(arguments["request"]["queue_name"], "Other Queue");
    assert_eq!(arguments["request"]["providers_info"]["ad-role"], "analyst");
    assert_eq!(arguments["request"]["task_data"]["id"], "0123456789abcdef0123456789abcdef");
    assert_eq!(arguments["template"]["metadata"]["labels"]["clearml-agent-queue-name"], "other-queue");
    let forged = run("input", &["--as", "eve"]);
    assert!(forged["request"]["task_data"]["id"].is_null(), "{forged}");
}

#[test]
fn run_redacts_logs_and_denials_as_the_webhook_does() {
    let folder = tempfile::tempdir().unwrap();
    let pod = folder.path().join("pod.yaml");
    let text = fs::read_to_string(root().join(POD)).unwrap().replace("INFO", "CANARY-IN-ENV");
    fs::write(&pod, text).unwrap();
    let pod = pod.to_str().unwrap();
    // the first guest logs the pod, the second returns it as an error
    for (name, code) in [("log", 0), ("deny", 1)] {
        let ran = module(&["run", &guest(&folder, name), "-f", pod]);
        assert_eq!(ran.code, code, "{}", ran.stderr);
        assert!(ran.stderr.contains("NCCL_DEBUG") && ran.stderr.contains("***"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("CANARY") && !ran.stdout.contains("CANARY"), "{}", ran.stderr);
    }
}

#[test]
fn run_times_out_a_module_that_loops() {
    let folder = tempfile::tempdir().unwrap();
    let ran = module(&["run", &guest(&folder, "loop"), "-f", POD]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    let expected = "denied (503, ModuleUnavailable): module loop exceeded its time budget of 200 ms\n\
                module loop: N ms for this first call, 128 KiB of memory\n";
    assert_eq!(
        without_times(&ran.stderr.replace("budget of 200 ms", "budget of 200 milliseconds")),
        expected.replace("200 ms", "200 milliseconds")
    );
}

#[test]
fn a_module_that_denies_is_exit_code_1() {
    let half = r#"{"nfs": {"server": {"ip": "10.0.0.7"}}}"#;
    let denial =
        "denied (422, ModuleFailed): module inject-nfs denied the pod: task_config nfs.server.path is missing\n";
    let ran = module(&["run", "policies/inject-nfs.wasm", "-f", POD, "--task-config", half]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.starts_with(denial), "{}", ran.stderr);
    let ran = module(&["bench", "policies/inject-nfs.wasm", "-f", POD, "--task-config", half]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (1, "", denial));
}

#[test]
fn run_and_bench_accept_valid_budgets_only() {
    let task = ["-f", POD, "--task-config", NFS, "--params", MOUNT];
    let with = |verb, extra: &[&str]| module(&[&[verb, "policies/inject-nfs.wasm"], &task[..], extra].concat());
    let limited = with("run", &["--budget-memory", "64Ki"]);
    assert_eq!(limited.code, 1, "{}{}", limited.stdout, limited.stderr);
    assert!(
        limited.stderr.contains("memory budget of 64 KiB") && limited.stderr.contains("module inject-nfs"),
        "{}",
        limited.stderr
    );
    let wide = with("bench", &["--calls", "5", "--budget-memory", "128Mi", "--budget-time", "1s"]);
    assert!(wide.code == 0 && wide.stdout.contains(" of 128 MiB\n"), "{}{}", wide.stdout, wide.stderr);
    for (extra, message) in [
        (["--budget-time", "200"], "--budget-time: is not a duration above zero, like 200ms, 1.5s, 1m"),
        (["--budget-memory", "8gb"], "--budget-memory: is not a quantity, like 2, 500m, 16Gi; did you mean 8G or 8Gi?"),
        (["--queue", ""], "--queue: a name must not be empty"),
    ] {
        let wrong = with("run", &extra);
        assert_eq!((wrong.code, wrong.stderr), (2, format!("podgraft: {message}\n")));
    }
}

#[test]
fn a_damaged_module_is_an_error_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read(root().join("policies/inject-nfs.wasm")).unwrap();
    let mut changed = whole.clone();
    changed[5000] ^= 0xff;
    for (bytes, detail) in [(&whole[..30_000], "out of bounds"), (&changed, "type mismatch")] {
        let file = folder.path().join("nfs.wasm");
        fs::write(&file, bytes).unwrap();
        let ran = module(&["run", file.to_str().unwrap(), "-f", POD]);
        let message = "podgraft: module 'nfs' is damaged or incomplete: build it again, or copy it again and compare its sha256 (";
        assert!(ran.code == 2 && ran.stderr.starts_with(message) && ran.stderr.contains(detail), "{}", ran.stderr);
        assert!(ran.stderr.ends_with(")\n") && ran.stderr.lines().count() == 1, "{}", ran.stderr);
    }
}

#[test]
fn the_documented_module_is_the_one_that_new_writes() {
    let document = fs::read_to_string(root().join("docs/modules.md")).unwrap();
    let shown: Vec<_> = document.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let written = fs::read_to_string(root().join("policies/sdk/new/src/lib.rs")).unwrap();
    assert!(shown.len() == 1 && written.contains(shown[0]), "{shown:?}");
}

/// `podgraft module build NAME` where this script is rustc, and a cargo that builds fails.
fn build_with_rustc(script: &str) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let program = |name: &str, script: &str| {
        let file = folder.path().join(name);
        // Written by another process: one that a thread beside this one starts may hold an open file, which cannot run.
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" >"$0" && chmod +x "$0""#;
        assert!(Command::new("sh").args(["-c", write]).arg(&file).arg(script).status().unwrap().success());
        file
    };
    let rustc = program("rustc", script);
    let cargo = program("cargo", "echo 'cargo was run' >&2; exit 1");
    fs::create_dir(folder.path().join("mine")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_podgraft"));
    command.args(["module", "build", "mine"]).current_dir(&folder).env("RUSTC", rustc).env("CARGO", cargo);
    Ran::of(command.output().unwrap())
}

#[test]
fn build_names_the_command_that_installs_the_target_before_it_compiles() {
    let ran = build_with_rustc("echo /nowhere/lib");
    let expected = "the Rust target wasm32-unknown-unknown is not installed: run \
                    `rustup target add wasm32-unknown-unknown` in mine, or install your distribution's package of it \
                    (Debian: libstd-rust-dev-wasm32)\n";
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (1, "", expected));
    let ran = build_with_rustc("echo 'error: toolchain 1.95.0 is not installed' >&2; exit 1");
    let expected = "error: toolchain 1.95.0 is not installed\n\
                    rustc does not run in mine: `rustup toolchain install` there installs it\n";
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (1, "", expected));
    // the target is there: cargo is asked next
    let ran = build_with_rustc("mkdir -p lib && : >lib/libcore-0.rlib && echo \"$PWD/lib\"");
    assert_eq!(ran.code, 2);
    assert_eq!(ran.stderr, "cargo was run\npodgraft: mine is no Rust crate that cargo can read\n");
}

#[test]
fn build_names_where_rust_comes_from() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podgraft"));
    command.args(["module", "build", "policies"]).current_dir(root()).env("RUSTC", "/nowhere/rustc");
    let ran = Ran::of(command.output().unwrap());
    assert_eq!(ran.code, 2);
    assert_eq!(
        ran.stderr,
        "podgraft: rustc cannot be run; Rust comes from https://rustup.rs: No such file or directory (os error 2)\n"
    );
}

#[test]
fn build_names_a_missing_folder() {
    let ran = module(&["build", "nowhere"]);
    assert_eq!(ran.code, 2);
    assert_eq!(ran.stderr, "podgraft: nowhere cannot be read: No such file or directory (os error 2)\n");
}

#[test]
fn bench_prints_rate_times_memory_and_the_share_of_an_empty_call() {
    let ran = module(&["bench", "policies/inject-nfs.wasm", "-f", POD, "--calls", "20"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 5, "{}", ran.stdout);
    assert_eq!(lines[0], "calls:     20 one after the other, each with its own instance");
    assert_eq!(lines[3], "memory:    512 KiB of 64 MiB");
    let number = |line: &str, before: &str| -> f64 {
        let rest = line.split_once(before).unwrap_or_else(|| panic!("{line}")).1;
        rest.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{line}"))
    };
    let (p50, floor) = (number(lines[2], "p50 "), number(lines[4], "p50 "));
    assert!(number(lines[1], "rate:      ") > 0.0 && p50 > 0.0 && floor > 0.0, "{}", ran.stdout);
    assert!(number(lines[2], "p99 ") >= p50, "{}", ran.stdout);
    // both are rounded to a tenth
    assert!((number(lines[4], "this module takes ") - p50 / floor).abs() < 0.2, "{}", ran.stdout);
}

#[test]
fn wrong_input_is_exit_code_2_with_the_correct_form() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain.yaml");
    fs::write(&plain, "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a, image: b}]}\n")
        .unwrap();
    let (plain, occupied) = (plain.to_str().unwrap(), folder.path().to_str().unwrap());
    let run = |arguments: &[&str]| module(&[&["run", "policies/inject-nfs.wasm"], arguments].concat());
    let cases = [
        (
            module(&["inspect", "nowhere.wasm"]),
            "nowhere.wasm cannot be read: No such file or directory (os error 2)".to_owned(),
        ),
        (
            run(&["-f", "nowhere.yaml"]),
            "nowhere.yaml cannot be read: No such file or directory (os error 2)".to_owned(),
        ),
        (
            run(&["-f", plain]),
            format!("{plain}: the pod names no queue, so no module runs: name one with --queue NAME"),
        ),
        (
            run(&["-f", POD, "--params", "[1]"]),
            "--params must be a map, such as {\"key\": \"value\"}, or @ and the name of a file".to_owned(),
        ),
        (
            run(&["-f", POD, "--task-config", "@nowhere.yaml"]),
            "--task-config: nowhere.yaml cannot be read: No such file or directory (os error 2)".to_owned(),
        ),
        (
            module(&["new", "My_Module"]),
            "\"My_Module\" must be lower-case letters, digits and -, and begin with a letter".to_owned(),
        ),
        (module(&["new", "my-module", "--dir", occupied]), format!("{occupied} is there already and not empty")),
        (
            module(&["build", "policies/inject-nfs.wasm"]),
            "give the name of the module that is made: -o FILE.wasm".to_owned(),
        ),
    ];
    for (ran, expected) in cases {
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr), (2, "", format!("podgraft: {expected}\n")));
    }
    let ran = run(&["-f", plain, "--queue", "any", "-o", "json"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "{\n  \"unchanged\": null\n}\n"), "{}", ran.stderr);
}

#[test]
fn build_writes_nothing_for_an_invalid_module() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.wasm");
    let core = guest(&folder, "core-module");
    let ran = module(&["build", &core, "-o", output.to_str().unwrap()]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("invalid module: module 'out' exports nothing"), "{}", ran.stderr);
    let ran = module(&["build", POD, "-o", output.to_str().unwrap()]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.starts_with(&format!("{POD} does not become a component: ")), "{}", ran.stderr);
    assert!(!output.exists());
}

/// Returns the folder of the new crate. Its target folder stays, so that cargo builds only what changed.
fn scaffold() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("module-new");
    let _ = fs::remove_dir_all(folder.join("crate"));
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_new_module_builds_passes_its_own_tests_and_runs() {
    let folder = scaffold();
    let ran = podgraft_in(&folder, &["module", "new", "gpu-cache", "--dir", "crate"], "");
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "crate is written; next: podgraft module build crate\n"),
        "{}",
        ran.stderr
    );
    let own = folder.join("crate");
    let toolchain = fs::read_to_string(own.join("rust-toolchain.toml")).unwrap();
    assert!(toolchain.contains("\ntargets = [\"wasm32-unknown-unknown\"]\n"), "{toolchain}");
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        let output = command.args(arguments).current_dir(&own).env("CARGO_TARGET_DIR", folder.join("target")).output();
        let output = Ran::of(output.unwrap());
        assert_eq!(output.code, 0, "cargo {arguments:?}: {}", output.stderr);
        output
    };
    let native = cargo(&["test", "--quiet"]);
    assert!(native.stdout.contains("2 passed"), "{}", native.stdout);

    let build = |source: &str, output: &str| {
        let mut command = Command::new(podgraft_testkit::program());
        let command = command.args(["module", "build", source, "-o", output]).current_dir(&own);
        let ran = Ran::of(command.env("CARGO_TARGET_DIR", folder.join("target")).output().unwrap());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        fs::read(own.join(output)).unwrap()
    };
    let bytes = build(".", "gpu-cache.wasm");
    let core = folder.join("target/wasm32-unknown-unknown/release/gpu_cache.wasm");
    assert_eq!(
        build(core.to_str().unwrap(), "again.wasm"),
        bytes,
        "a core module of any toolchain is wrapped the same way"
    );
    let paths = String::from_utf8_lossy(&bytes);
    assert!(!paths.contains(own.to_str().unwrap()) && !paths.contains("registry/src"), "paths of this machine");

    let ran = podgraft_in(&own, &["module", "inspect", "gpu-cache.wasm"], "");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let ran = podgraft_in(&own, &["test", "cases", "--policies", "."], "");
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    // the command of its README
    let readme = fs::read_to_string(own.join("README.md")).unwrap();
    let line = readme.lines().find(|line| line.starts_with("podgraft module run ")).unwrap();
    let words: Vec<&str> = line.split('\'').enumerate().flat_map(words).skip(1).collect();
    let ran = podgraft_in(&own, &words, "");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("claimName: team-a") && ran.stdout.contains("# module/gpu-cache"), "{}", ran.stdout);
}

/// Splits a line like a shell: a quoted part is one word.
fn words((index, part): (usize, &str)) -> Vec<&str> {
    if index % 2 == 1 { vec![part] } else { part.split_whitespace().collect() }
}
