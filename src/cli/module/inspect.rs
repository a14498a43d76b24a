//! `podgraft module inspect`: prints a module's imports, exports and sizes, and whether podgraft can load it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{name_of, read, size};
use crate::wasm::{Engine, Inspection, sha256_hex};

/// Show the imports, exports and sizes of a module, and whether podgraft can load it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  podgraft module inspect policies/inject-nfs.wasm

Exit codes: 0 valid, 1 invalid (the reason is on stderr), 2 the file cannot be read.")]
pub(super) struct Args {
    /// The module's file
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let bytes = read(&args.file)?;
    let engine = Engine::new()?;
    let mut out = anstream::stdout().lock();
    writeln!(out, "file:      {}", args.file.display())?;
    writeln!(out, "size:      {} bytes", bytes.len())?;
    writeln!(out, "sha256:    {}", sha256_hex(&bytes))?;
    if let Some(inspection) = engine.inspect(&bytes) {
        write!(out, "{}", text(&inspection))?;
    }
    // the check that also loads the modules of a configuration
    if let Err(error) = engine.compile(&name_of(&args.file), &bytes) {
        out.flush()?;
        errln!("invalid module: {error}");
        return Ok(ExitCode::from(1));
    }
    writeln!(out, "verdict:   valid")?;
    Ok(ExitCode::SUCCESS)
}

fn text(inspection: &Inspection) -> String {
    let Inspection { imports, exports, memories: (memories, pages), tables: (tables, elements), .. } = inspection;
    format!(
        "imports:   {}\nexports:   {}\nmemory:    {memories}, the largest initially {}\ntables:    {tables}, the largest initially {elements} elements\n\
         compiled:  to {} in {} ms\n",
        names(imports, "offered", "not offered"),
        names(exports, "called", "not called"),
        size(pages << 16),
        size(inspection.compiled_size as u64),
        inspection.compile_time.as_millis(),
    )
}

/// Lists names: `a (offered), b (not offered)`.
fn names(list: &[(String, bool)], yes: &str, no: &str) -> String {
    let names = list.iter().map(|(name, known)| format!("{name} ({})", if *known { yes } else { no }));
    let names: Vec<String> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
