//! `tests/setup.sh` and `tests/progress.sh` on machines that lack something: folders of programs that stand for a PATH.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// The programs that the scripts themselves use.
const TOOLS: &[&str] =
    &["bash", "cat", "cut", "dirname", "grep", "mkdir", "mktemp", "rm", "sed", "sha256sum", "shasum"];

const RUSTC: &str = r#"[ -d "$MACHINE/sysroot" ] || exit 1
case "$*" in
  --version) echo "rustc 1.95.0 (0123456789 2026-01-01)" ;;
  "--print sysroot") echo "$MACHINE/sysroot" ;;
esac"#;

/// Records its arguments, and makes the files that the scripts look for.
const RUSTUP: &str = r#"case "$*" in "which rustc") echo "$MACHINE/sysroot/bin/rustc"; exit ;; esac
echo "rustup $*" >>"$MACHINE/calls"
[ ! -e "$MACHINE/offline" ] || { echo "error: could not download" >&2; exit 1; }
case "$1" in
  toolchain | target) /bin/mkdir -p "$MACHINE/sysroot/lib/rustlib/wasm32-unknown-unknown/lib"
    : >"$MACHINE/sysroot/lib/rustlib/wasm32-unknown-unknown/lib/libcore-0.rlib" ;;
esac
case "$1" in
  toolchain | component) /bin/mkdir -p "$MACHINE/sysroot/bin"
    for name in rustfmt cargo-clippy; do : >"$MACHINE/sysroot/bin/$name"; /bin/chmod +x "$MACHINE/sysroot/bin/$name"; done ;;
esac"#;

/// A machine: a PATH that holds only what is put there.
struct Machine(TempDir);

impl Machine {
    fn bare() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        fs::create_dir(machine.path().join("bin")).unwrap();
        let path = std::env::var_os("PATH").unwrap();
        for tool in TOOLS {
            let found = std::env::split_paths(&path).map(|folder| folder.join(tool)).find(|file| file.is_file());
            if let Some(found) = found {
                symlink(found, machine.path().join("bin").join(tool)).unwrap();
            }
        }
        machine
    }

    /// A machine that has all that the scripts look for.
    fn complete() -> Self {
        let machine = Self::with_rust();
        for program in ["cc", "c++", "go", "unshare", "git", "openssl"] {
            machine.add(program, "exit 0");
        }
        machine
    }

    /// A machine with a Rust that is not rustup's.
    fn with_rust() -> Self {
        let machine = Self::bare();
        machine.add("rustc", RUSTC).add("cargo", "exit 0");
        machine.file("sysroot/bin/rustc").file("sysroot/bin/rustfmt").file("sysroot/bin/cargo-clippy");
        machine.file("sysroot/lib/rustlib/wasm32-unknown-unknown/lib/libcore-0.rlib");
        machine
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn add(&self, program: &str, script: &str) -> &Self {
        self.program(&format!("bin/{program}"), script)
    }

    /// Adds a program that does nothing.
    fn file(&self, name: &str) -> &Self {
        self.program(name, "")
    }

    fn program(&self, name: &str, script: &str) -> &Self {
        let file = self.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        // Written by another process: one that a thread beside this one starts may hold an open file, which cannot run.
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" >"$0" && chmod +x "$0""#;
        assert!(Command::new("sh").args(["-c", write]).arg(&file).arg(script).status().unwrap().success());
        self
    }

    fn remove(&self, name: &str) -> &Self {
        let path = self.path().join(name);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
        self
    }

    /// The commands that rustup was given.
    fn calls(&self) -> String {
        fs::read_to_string(self.path().join("calls")).unwrap_or_default()
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Output {
        Command::new(self.path().join("bin/bash"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script))
            .args(arguments)
            .env_clear()
            .env("PATH", self.path().join("bin"))
            .env("MACHINE", self.path())
            .env("CARGO_TARGET_DIR", self.path().join("target"))
            .env("PROGRESS_SECONDS", "0")
            .env("KUBEBUILDER_ASSETS", self.path().join("kubebuilder"))
            .output()
            .unwrap()
    }

    /// Runs `setup.sh`: the exit code and all that it prints.
    fn setup(&self, needs: &[&str]) -> (i32, String) {
        let output = self.run("tests/setup.sh", needs);
        assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }
}

fn channel() -> String {
    let file = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("rust-toolchain.toml")).unwrap();
    let line = file.lines().find(|line| line.starts_with("channel")).unwrap();
    line.split('"').nth(1).unwrap().to_owned()
}

fn done() -> (i32, String) {
    (0, String::new())
}

#[test]
fn setup_installs_nothing_on_a_complete_machine() {
    let machine = Machine::complete();
    let needs = ["rust", "lint", "wasm", "cc", "c++", "static", "go", "cluster", "userns", "git", "openssl"];
    assert_eq!(machine.setup(&needs), done());
    machine.add("rustup", RUSTUP);
    assert_eq!((machine.setup(&needs), machine.calls()), (done(), String::new()));
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    let machine = Machine::with_rust();
    let expected = "\
setup: no C compiler that works (cc): install gcc and libc6-dev (Debian), or Xcode's command line tools
setup: no C++ compiler that works (c++): install g++ (Debian), or Xcode's command line tools
setup: no C library to link statically: install libc6-dev (Debian) or glibc-static (Fedora); it takes Linux
setup: no Go 1.26 or newer: install it from https://go.dev/dl; the tests compare with Kubernetes' own code
cluster: no kube-apiserver: set KUBEBUILDER_ASSETS to a folder that holds it, or put it (Kubernetes 1.30 or newer) on \
the PATH, or install Go 1.26 or newer (https://go.dev/dl) to have it built
setup: no user namespaces (unshare --user): the image's tests take Linux, util-linux, and the right to make them
setup: no git: install your system's package of it
setup: no openssl: install your system's package of it
";
    let needs = ["rust", "cc", "c++", "static", "go", "cluster", "userns", "git", "openssl"];
    assert_eq!(machine.setup(&needs), (1, expected.to_owned()));
    // a compiler without headers, and a Go that is too old, are as good as none
    for program in ["cc", "c++", "go"] {
        machine.add(program, "echo trouble >&2; exit 1");
    }
    assert_eq!(machine.setup(&needs), (1, expected.to_owned()));
}

#[test]
fn a_control_plane_needs_no_go_where_its_programs_are() {
    let machine = Machine::with_rust();
    let programs = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"];
    for program in programs {
        machine.program(&format!("kubebuilder/{program}"), "echo Kubernetes v1.36.1");
    }
    assert_eq!(machine.setup(&["cluster"]), done());
    machine.remove("kubebuilder/kube-controller-manager");
    let expected = "cluster: no kube-controller-manager: set KUBEBUILDER_ASSETS to a folder that holds it, or put it \
                    (Kubernetes 1.30 or newer) on the PATH, or install Go 1.26 or newer (https://go.dev/dl) to have it \
                    built\n";
    assert_eq!(machine.setup(&["cluster"]), (1, expected.to_owned()));
}

#[test]
fn without_rust_the_error_names_its_source() {
    let expected = "setup: no Rust: install rustup from https://rustup.rs; if it is installed, put ~/.cargo/bin on the \
                    PATH\n";
    let machine = Machine::bare();
    assert_eq!(machine.setup(&["rust", "lint", "wasm"]), (1, expected.to_owned()));
    machine.add("rustc", RUSTC);
    assert_eq!(machine.setup(&["rust", "lint", "wasm"]), (1, expected.to_owned()));
}

#[test]
fn an_old_rust_is_named_with_the_version_that_is_needed() {
    let machine = Machine::with_rust();
    machine.add("rustc", &RUSTC.replace("1.95.0", "1.85.1"));
    let expected = format!(
        "setup: Rust 1.85.1 is too old: install {} or newer, or rustup from https://rustup.rs, which installs it\n",
        channel()
    );
    assert_eq!(machine.setup(&["rust"]), (1, expected));
}

#[test]
fn rustup_installs_the_toolchain_with_all_that_the_file_names() {
    let machine = Machine::complete();
    machine.remove("sysroot").add("rustup", RUSTUP);
    let expected = format!("setup: rustup installs Rust {} (about a minute)\n", channel());
    assert_eq!(machine.setup(&["rust", "lint", "wasm"]), (0, expected));
    let expected = format!(
        "rustup toolchain install {} --profile minimal --no-self-update --component rustfmt --component clippy \
         --target wasm32-unknown-unknown\n",
        channel()
    );
    assert_eq!(machine.calls(), expected);
}

#[test]
fn rustup_adds_what_its_toolchain_lacks() {
    let machine = Machine::complete();
    machine.add("rustup", RUSTUP).remove("sysroot/lib").remove("sysroot/bin/cargo-clippy");
    let expected =
        "setup: rustup installs the component clippy\nsetup: rustup installs the target wasm32-unknown-unknown\n";
    assert_eq!(machine.setup(&["rust", "lint", "wasm"]), (0, expected.to_owned()));
    assert_eq!(machine.calls(), "rustup component add clippy\nrustup target add wasm32-unknown-unknown\n");
    assert_eq!(machine.setup(&["rust", "lint", "wasm"]), done());
}

#[test]
fn with_the_distributions_rust_the_error_names_its_package() {
    let machine = Machine::complete();
    machine.remove("sysroot/lib").remove("sysroot/bin/cargo-clippy");
    let expected = "\
setup: no cargo-clippy: run `rustup component add clippy`, or install your distribution's package of it
setup: no Rust target wasm32-unknown-unknown: run `rustup target add wasm32-unknown-unknown`, or install your \
distribution's package of it (Debian: libstd-rust-dev-wasm32)
";
    assert_eq!(machine.setup(&["rust", "lint", "wasm"]), (1, expected.to_owned()));
    // a rustup that is there, too, must not install into a toolchain that is not in use
    machine.add("rustup", "echo /elsewhere/bin/rustc");
    assert_eq!(machine.setup(&["rust", "lint", "wasm"]), (1, expected.to_owned()));
}

#[test]
fn a_rustup_that_cannot_download_leaves_the_command_to_run() {
    let machine = Machine::complete();
    machine.add("rustup", RUSTUP).file("offline").remove("sysroot/lib");
    let expected = "\
setup: rustup installs the target wasm32-unknown-unknown
error: could not download
setup: no Rust target wasm32-unknown-unknown: run `rustup target add wasm32-unknown-unknown`, or install your \
distribution's package of it (Debian: libstd-rust-dev-wasm32)
";
    assert_eq!(machine.setup(&["rust", "wasm"]), (1, expected.to_owned()));
    machine.remove("sysroot");
    let expected = format!(
        "setup: rustup installs Rust {0} (about a minute)\nerror: could not download\n\
         setup: no Rust {0}: run `rustup toolchain install {0}`\n",
        channel()
    );
    assert_eq!(machine.setup(&["rust", "wasm"]), (1, expected));
}

/// A build's standard error as `progress.sh` shows it; how long it took is left out.
fn progress(script: &str) -> (i32, String, String) {
    let machine = Machine::bare();
    machine.add("build", script);
    let output = machine.run("tests/progress.sh", &["podgraft", "of about 3 crates", "build"]);
    let text = String::from_utf8(output.stderr).unwrap();
    let without_times = text.lines().map(|line| {
        let (before, after) = line.split_once(" after ").unwrap_or((line, ""));
        format!("{before}{}\n", after.trim_start_matches(|c: char| c.is_ascii_digit() || " mins".contains(c)))
    });
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), without_times.collect())
}

#[test]
fn a_builds_crates_and_packages_are_counted_and_its_errors_pass() {
    let (code, out, shown) = progress(
        r#"echo "   Compiling serde v1.0.229" >&2; echo "go: downloading k8s.io/api v0.36.1" >&2
        echo "k8s.io/api/core/v1" >&2; echo "error: expected one of" >&2; echo "    Finished dev" >&2
        echo out; printf "without an end of line" >&2; exit 3"#,
    );
    let expected = "\
podgraft: 1 of about 3 crates, now serde
podgraft: 1 of about 3 crates, now downloading k8s.io/api v0.36.1
podgraft: 2 of about 3 crates, now k8s.io/api/core/v1
error: expected one of
podgraft: 2 of about 3 crates, now k8s.io/api/core/v1
podgraft: 2 of about 3 crates, now k8s.io/api/core/v1
without an end of line
podgraft: 2 of about 3 crates, now k8s.io/api/core/v1
podgraft: done
";
    assert_eq!((code, out.as_str(), shown.as_str()), (3, "out\n", expected));
}
