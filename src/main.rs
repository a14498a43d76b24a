//! The `podgraft` program. Exit codes: 0 done, 1 denied or invalid, 2 wrong usage or configuration, 141 closed stdout.

use std::io::{self, Write as _};
use std::process::ExitCode;

/// 128 + SIGPIPE: the exit code that a shell reports of a program whose output pipe was closed, as by `| head`.
const CLOSED_PIPE: u8 = 141;

/// The allocator: several threads allocate and free small objects for every request.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Fails only if a provider is installed already. Every user of rustls in the process gets this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    podgraft::cli::run().unwrap_or_else(|error| {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            return ExitCode::from(CLOSED_PIPE);
        }
        // stderr may be closed too
        let _ = writeln!(io::stderr(), "podgraft: {error:#}");
        ExitCode::from(2)
    })
}
