//! The parts that podgraft's tests share: verbs for what a test does.
//!
//! [`control_plane`] starts etcd, an API server, a controller manager and runs `kubectl` as any user. [`install`] puts
//! podgraft's manifests into it. [`installation`] is both together with a running podgraft and namespaces for tests:
//! create a pod as an agent, expect a denial. [`server`] starts `podgraft serve`, [`command_line`] runs any other command
//! of podgraft to its end. [`client`] posts reviews and reads metrics; [`load`] posts them at a steady rate and checks
//! every reply. [`certificates`] and [`mounted_secret`] make certificates and mount them as a kubelet does. [`fixtures`]
//! are files, modules and reviews that tests are given; [`pod`] writes and reads pods. [`expect`] are assertions that
//! return an error. [`process`] starts programs that end with the test, and waits. [`oracle`] asks Kubernetes'
//! own code, with [`random`] numbers that are the same in each run.

pub mod certificates;
pub mod client;
pub mod command_line;
pub mod control_plane;
pub mod expect;
pub mod fixtures;
pub mod install;
pub mod installation;
pub mod load;
pub mod mounted_secret;
pub mod oracle;
pub mod pod;
pub mod process;
pub mod random;
pub mod server;

use std::env;
use std::path::{Path, PathBuf};

/// A result whose error is the text that a failed test shows.
pub type Outcome<T = ()> = Result<T, String>;

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the testkit lies in tests/support")
}

/// The program under test: cargo names it, and it lies beside the folder of a test that is started by hand.
pub fn program() -> PathBuf {
    env::var_os("CARGO_BIN_EXE_podgraft").map_or_else(
        || {
            let test = env::current_exe().expect("the path of the test");
            test.ancestors().nth(2).expect("the folder of the profile").join("podgraft")
        },
        PathBuf::from,
    )
}
