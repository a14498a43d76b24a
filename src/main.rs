//! The `podgraft` program. Exit codes: 0 done, 1 rejected, 2 wrong usage or configuration.

use std::process::ExitCode;

/// Several threads allocate and free small things for every request.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // It fails only when there is a provider already. Whatever uses rustls beside the server finds this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    podgraft::cli::run().unwrap_or_else(|error| {
        eprintln!("podgraft: {error:#}");
        ExitCode::from(2)
    })
}
