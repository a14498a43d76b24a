//! `podgraft module build`: builds a crate with `cargo` and makes a component of it, without `wasm-tools`.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;
use wit_component::ComponentEncoder;

use super::{name_of, read, size};
use crate::wasm::{Engine, sha256_hex};

const TARGET: &str = "wasm32-unknown-unknown";

/// The linker flags: 64 KiB of stack, ten times what a hook uses, and 512 KiB of memory, which hold a 28 KB pod without
/// growing.
const LINKING: [&str; 2] = ["-Clink-arg=-zstack-size=65536", "-Clink-arg=--initial-memory=524288"];

/// Build a Rust module's crate, or make a component of a core module.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A folder is built with cargo (Rust with the target wasm32-unknown-unknown), without the
paths of this machine in the result. A core module of any other toolchain must hold the
component type that `wit-bindgen` or `wasm-tools component embed` puts there.

Examples:
  podgraft module build my-module
  podgraft module build core.wasm -o module.wasm

Exit codes: 0 done, 1 the build failed or the module is invalid, 2 wrong usage or file.")]
pub(super) struct Args {
    /// The crate's folder, or the core module
    #[arg(value_name = "DIR|CORE.wasm", default_value = ".")]
    source: PathBuf,
    /// Path of the module; default: in the folder, with the crate's name
    #[arg(short, long, value_name = "FILE.wasm")]
    output: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (core, default) = if args.source.is_dir() {
        if let Some(missing) = missing_toolchain(&args.source)? {
            errln!("{missing}");
            return Ok(ExitCode::from(1));
        }
        let package = Package::of(&args.source)?;
        if !package.build(&args.source)? {
            errln!("the module does not build: cargo says why above");
            return Ok(ExitCode::from(1));
        }
        (package.core, Some(args.source.join(format!("{}.wasm", package.name))))
    } else {
        fs::metadata(&args.source).with_context(|| format!("{} cannot be read", args.source.display()))?;
        (args.source.clone(), None)
    };
    let Some(output) = args.output.clone().or(default) else {
        bail!("give the name of the module that is made: -o FILE.wasm");
    };
    let bytes = match component(&read(&core)?) {
        Ok(bytes) => bytes,
        Err(why) => {
            errln!("{} does not become a component: {why:#}", core.display());
            return Ok(ExitCode::from(1));
        }
    };
    if let Err(why) = Engine::new()?.compile(&name_of(&output), &bytes) {
        errln!("invalid module: {why}");
        return Ok(ExitCode::from(1));
    }
    fs::write(&output, &bytes).with_context(|| format!("{} cannot be written", output.display()))?;
    outln!("{}: {}, sha256 {}", output.display(), size(bytes.len() as u64), sha256_hex(&bytes));
    Ok(ExitCode::SUCCESS)
}

/// Returns what a folder's Rust toolchain lacks for a build, with the command that installs it.
fn missing_toolchain(folder: &Path) -> anyhow::Result<Option<String>> {
    let output = tool("RUSTC", "rustc", folder)
        .args(["--print", "target-libdir", "--target", TARGET])
        .stderr(Stdio::inherit())
        .output()
        .context("rustc cannot be run; Rust comes from https://rustup.rs")?;
    if !output.status.success() {
        let folder = folder.display();
        return Ok(Some(format!("rustc does not run in {folder}: `rustup toolchain install` there installs it")));
    }
    let libraries = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end());
    let is_core = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libcore-");
    let is_installed = fs::read_dir(libraries).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(is_core)));
    Ok((!is_installed).then(|| {
        format!(
            "the Rust target {TARGET} is not installed: run `rustup target add {TARGET}` in {}, or install your \
             distribution's package of it (Debian: libstd-rust-dev-wasm32)",
            folder.display()
        )
    }))
}

/// Makes a component of a core module.
fn component(core: &[u8]) -> anyhow::Result<Vec<u8>> {
    ComponentEncoder::default().validate(true).module(core)?.encode()
}

/// The name of a crate and the path of its core module.
struct Package {
    name: String,
    /// the path of the core module after a build
    core: PathBuf,
}

impl Package {
    fn of(folder: &Path) -> anyhow::Result<Self> {
        let output = tool("CARGO", "cargo", folder)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .context("cargo cannot be run; Rust comes from https://rustup.rs")?;
        if !output.status.success() {
            bail!("{} is no Rust crate that cargo can read", folder.display());
        }
        let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata gives no JSON")?;
        Self::from_metadata(&metadata, &folder.canonicalize()?.join("Cargo.toml"))
            .with_context(|| format!("{} has no library with crate-type = [\"cdylib\"]", folder.display()))
    }

    fn from_metadata(metadata: &Value, manifest: &Path) -> Option<Self> {
        let packages = metadata["packages"].as_array()?;
        let package =
            packages.iter().find(|package| package["manifest_path"].as_str().map(Path::new) == Some(manifest))?;
        let is_cdylib =
            |target: &&Value| target["crate_types"].as_array().is_some_and(|types| types.contains(&"cdylib".into()));
        let library = package["targets"].as_array()?.iter().find(is_cdylib)?["name"].as_str()?;
        let folder = Path::new(metadata["target_directory"].as_str()?).join(TARGET).join("release");
        let core = folder.join(format!("{}.wasm", library.replace('-', "_")));
        Some(Self { name: package["name"].as_str()?.to_owned(), core })
    }

    /// Builds the crate. Returns false if cargo failed.
    fn build(&self, folder: &Path) -> anyhow::Result<bool> {
        let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
        // panic texts hold the names of sources: the last that fits wins
        let folders = [(home.clone(), "/cargo"), (home.map(|home| home.join("registry/src")), "/crates")];
        let folders = folders.into_iter().chain([(Some(folder.canonicalize()?), "/module")]);
        let mut flags = OsString::from(LINKING.join("\u{1f}"));
        for (path, name) in folders.filter_map(|(path, name)| Some((path?, name))) {
            flags.push("\u{1f}--remap-path-prefix=");
            flags.push(path);
            flags.push(format!("={name}"));
        }
        let status = tool("CARGO", "cargo", folder)
            .args(["build", "--release", "--target", TARGET, "--package", &self.name])
            .env_remove("RUSTFLAGS")
            .env("CARGO_ENCODED_RUSTFLAGS", flags)
            .status();
        Ok(status.context("cargo cannot be run")?.success())
    }
}

/// A tool of the Rust toolchain that is in use in a folder; a variable may name another program.
fn tool(variable: &str, name: &str, folder: &Path) -> Command {
    let mut command = Command::new(env::var_os(variable).unwrap_or_else(|| name.into()));
    command.current_dir(folder);
    command
}
