//! `podgraft module inspect`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{name_of, read, size};
use crate::wasm::{Engine, Inspection, sha256_hex};

/// Say what a module's file holds, and whether podgraft would take it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  podgraft module inspect policies/inject-nfs.wasm

Exit codes: 0 podgraft takes it, 1 podgraft would refuse it (stderr says why), 2 it cannot be read.")]
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
    // what decides is the very call that loading a configuration makes
    if let Err(why) = engine.compile(&name_of(&args.file), &bytes) {
        out.flush()?;
        tell!("podgraft would refuse it: {why}");
        return Ok(ExitCode::from(1));
    }
    writeln!(out, "verdict:   podgraft takes it")?;
    Ok(ExitCode::SUCCESS)
}

fn text(inspection: &Inspection) -> String {
    let Inspection { imports, exports, memories: (memories, pages), tables: (tables, elements), .. } = inspection;
    format!(
        "imports:   {}\nexports:   {}\nmemory:    {memories}, the largest of {} at first\ntables:    {tables}, the largest of {elements} elements at first\n\
         compiled:  to {} in {} ms\n",
        names(imports, "offered", "not offered"),
        names(exports, "called", "not called"),
        size(pages << 16),
        size(inspection.compiled_size as u64),
        inspection.compile_time.as_millis(),
    )
}

/// `a (offered), b (not offered)`.
fn names(list: &[(String, bool)], yes: &str, no: &str) -> String {
    let names = list.iter().map(|(name, known)| format!("{name} ({})", if *known { yes } else { no }));
    let names: Vec<String> = names.collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
