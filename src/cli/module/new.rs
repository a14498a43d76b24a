//! `podgraft module new`: writes a crate that builds, with the SDK of this version of podgraft.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

/// Write a new Rust module: its crate, the SDK, a README and case folders.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The SDK comes out of this binary, so that both are of one version; its three
dependencies come from crates.io when the module is built.

Examples:
  podgraft module new my-module
  podgraft module new my-module --dir modules/my-module

Exit codes: 0 done, 2 wrong usage, or the folder is there already.")]
pub(super) struct Args {
    /// The crate's name: lower-case letters, digits and -
    #[arg(value_name = "NAME")]
    name: String,
    /// The folder to write; default: NAME
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The placeholder of the module's name in the crate's own files.
const NAME: &str = "my-module";

macro_rules! policies {
    ($path:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/policies/", $path))
    };
}

/// The crate's own files.
const CRATE: &[(&str, &str)] = &[
    ("Cargo.toml", policies!("sdk/new/Cargo.toml")),
    ("README.md", policies!("sdk/new/README.md")),
    (".gitignore", policies!("sdk/new/gitignore")),
    ("rust-toolchain.toml", policies!("sdk/new/rust-toolchain.toml")),
    ("src/lib.rs", policies!("sdk/new/src/lib.rs")),
    ("cases/leaves-other-tasks-alone/config.yaml", policies!("sdk/new/cases/leaves-other-tasks-alone/config.yaml")),
    ("cases/leaves-other-tasks-alone/expected.yaml", policies!("sdk/new/cases/leaves-other-tasks-alone/expected.yaml")),
    ("cases/leaves-other-tasks-alone/pod.yaml", policies!("sdk/new/cases/leaves-other-tasks-alone/pod.yaml")),
    ("cases/says-what-is-missing/config.yaml", policies!("sdk/new/cases/says-what-is-missing/config.yaml")),
    ("cases/says-what-is-missing/pod.yaml", policies!("sdk/new/cases/says-what-is-missing/pod.yaml")),
    ("cases/says-what-is-missing/denial.txt", policies!("sdk/new/cases/says-what-is-missing/denial.txt")),
];

/// The files of the SDK, copied from podgraft's sources. `Cargo.lock` pins the dependencies that the SDK was tested with.
const SDK: &[(&str, &str)] = &[
    ("Cargo.lock", policies!("Cargo.lock")),
    ("podgraft/wit/template.wit", policies!("wit/template.wit")),
    ("podgraft/sdk/rust/Cargo.toml", policies!("sdk/rust/Cargo.toml")),
    ("podgraft/sdk/rust/src/bump.rs", policies!("sdk/rust/src/bump.rs")),
    ("podgraft/sdk/rust/src/error.rs", policies!("sdk/rust/src/error.rs")),
    ("podgraft/sdk/rust/src/fragment.rs", policies!("sdk/rust/src/fragment.rs")),
    ("podgraft/sdk/rust/src/host.rs", policies!("sdk/rust/src/host.rs")),
    ("podgraft/sdk/rust/src/lib.rs", policies!("sdk/rust/src/lib.rs")),
    ("podgraft/sdk/rust/src/testing.rs", policies!("sdk/rust/src/testing.rs")),
];

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let name = args.name.as_str();
    if let Some(wrong) = wrong_name(name) {
        bail!("{name:?} {wrong}");
    }
    let folder = args.dir.clone().unwrap_or_else(|| name.into());
    if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is there already and not empty", folder.display());
    }
    for (path, text) in CRATE {
        write(&folder.join(path), &text.replace(NAME, name))?;
    }
    for (path, text) in SDK {
        write(&folder.join(path), text)?;
    }
    outln!("{0} is written; next: podgraft module build {0}", folder.display());
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// Returns the reason for which a name is no valid crate name, if there is one.
fn wrong_name(name: &str) -> Option<&'static str> {
    let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !letters || !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.ends_with('-') {
        return Some("must be lower-case letters, digits and -, and begin with a letter");
    }
    // the crates that the module is built from
    ["alloc", "core", "podgraft-sdk", "proc-macro", "serde", "serde-json", "std", "test", "wit-bindgen"]
        .contains(&name)
        .then_some("is the name of a crate that modules are built from")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_sdk_is_written() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/sdk/rust");
        for sources in [folder.join("src"), folder] {
            for entry in fs::read_dir(&sources).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
                let name = entry.file_name().into_string().unwrap();
                assert!(SDK.iter().any(|(path, _)| path.ends_with(&format!("/{name}"))), "{name} is not written");
            }
        }
    }

    #[test]
    fn a_new_module_is_built_with_the_compiler_of_the_repository() {
        let channel = |text: &str| text.lines().find(|line| line.starts_with("channel = ")).unwrap().to_owned();
        let own = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/rust-toolchain.toml"));
        assert_eq!(channel(policies!("sdk/new/rust-toolchain.toml")), channel(own));
    }

    #[test]
    fn names_that_cannot_be_a_crate_are_invalid() {
        for wrong in ["", "9a", "A", "a_b", "a.b", "../a", "a-", "-a", "std", "serde"] {
            assert!(wrong_name(wrong).is_some(), "{wrong}");
        }
        for right in ["a", "inject-nfs", "gpu2"] {
            assert!(wrong_name(right).is_none(), "{right}");
        }
    }
}
