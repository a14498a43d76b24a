//! Every folder under `tests/cases/` is a test, as `podgraft test tests/cases --policies policies` runs it, each by
//! its name: adding a folder adds a test. `UPDATE=1 cargo test --test cases` writes what comes out.

use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use podgraft::cli::test::{Case, Suite, Verdict, find};

fn main() {
    let arguments = Arguments::from_args();
    let root = podgraft_testkit::root();
    let cases = find(&root.join("tests/cases")).expect("tests/cases can be listed");
    let update = std::env::var_os("UPDATE").is_some();
    let suite = Arc::new(Suite { policies: Some(root.join("policies")), update, ..Suite::default() });
    let trials = cases.into_iter().map(|case| {
        let suite = Arc::clone(&suite);
        Trial::test(case.name.clone(), move || run(&case, &suite))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn run(case: &Case, suite: &Suite) -> Result<(), Failed> {
    match case.run(suite).map_err(|error| format!("{error:#}"))? {
        Verdict::Passed | Verdict::Updated => Ok(()),
        Verdict::Failed(why) => Err(anstream::adapter::strip_str(&why).to_string().into()),
    }
}
