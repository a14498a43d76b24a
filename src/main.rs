//! The `podgraft` program. Exit codes: 0 done, 1 denied or invalid, 2 wrong usage or configuration, 141 closed stdout.

use std::io::{self, Write as _};
use std::process::ExitCode;

/// 128 + SIGPIPE: what a shell says of other programs that were cut short by `| head`.
const CLOSED_PIPE: u8 = 141;

/// Several threads allocate and free small things for every request.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // It fails only when there is a provider already. Whatever uses rustls beside the server finds this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    podgraft::cli::run().unwrap_or_else(|error| {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            return ExitCode::from(CLOSED_PIPE);
        }
        // nobody may read this either
        let _ = writeln!(io::stderr(), "podgraft: {error:#}");
        ExitCode::from(2)
    })
}
