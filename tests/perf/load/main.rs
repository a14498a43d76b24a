//! podgraft under load during a rolling restart, new certificates, new configurations, and beside a hostile module.
//! Reviews come at a steady rate, every reply is checked, and none may fail.
//!
//! * [`balancer`] is a TCP balancer that does what a Service does.
//!
//! Each part takes a few seconds, longer with `LOAD_SECONDS`; `--nocapture` shows the table.
#![expect(clippy::unwrap_used, reason = "in a test they are assertions")]

mod balancer;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use balancer::{Balancer, Replica};
use libtest_mimic::{Arguments, Trial};
use podgraft_testkit::client::{self, Connection, accepting_any};
use podgraft_testkit::fixtures::{committed, misbehaving, task_review};
use podgraft_testkit::load::{Load, Report, Target, UID, span};
use podgraft_testkit::server::LocalPodgraft;

/// Requests a second. A debug build on a busy machine takes several times as many.
const RATE: u32 = 100;

/// The configuration of the load's pods.
const VALID: &str = "
taskConfig: [{config: {nfs: {server: {ip: 10.0.0.7, path: /export}, mountPath: /mnt/nfs}}}]
modules: {nfs: {wasm: inject-nfs.wasm, budget: {time: 2s}}}
queues: {load: {modules: [nfs], templateOverrides: {env: [{name: VERSION, value: v0}]}}}
";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // side by side they would measure each other
    arguments.test_threads = Some(1);
    let trials = vec![
        Trial::test("a_rolling_restart_of_two_replicas_fails_no_request", || Ok(a_rolling_restart()?)),
        Trial::test("twenty_certificate_rotations_fail_no_request", || Ok(certificate_rotations()?)),
        Trial::test("two_hundred_edits_half_of_them_invalid_fail_no_request", || Ok(edits()?)),
        Trial::test("a_hostile_module_fails_no_other_request", || Ok(a_hostile_module()?)),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn a_rolling_restart() -> Result<(), String> {
    let balancer = Balancer::start().unwrap();
    let mut replicas = vec![replica(&balancer), replica(&balancer)];
    let load = Load::start(target(&replicas[0].1, balancer.address, u64::MAX), RATE);
    let deadline = Instant::now() + span();
    let mut restarts = 0;
    while restarts < 2 || Instant::now() < deadline {
        let (mut old, old_address) = replicas.remove(0);
        // as a Deployment with maxSurge 1: first the new one
        replicas.push(replica(&balancer));
        old.signal("TERM")?;
        let (status, log) = old.end()?;
        assert_eq!(status.code(), Some(0), "{log}");
        balancer.remove(old_address);
        restarts += 1;
    }
    finish(load, &format!("rolling restart ({restarts} replicas)"))
}

/// A new replica, ready and known.
fn replica(balancer: &Balancer) -> (LocalPodgraft, Replica) {
    let process = LocalPodgraft::configured(VALID, &modules(), &["--drain-grace=1s", "--log-level=info"]);
    let (address, admin) = (process.address(), process.admin_address());
    until(|| client::get(admin, "/readyz").is_ok_and(|(status, _)| status == 200));
    let replica = Replica { address, admin };
    balancer.add(replica);
    (process, replica)
}

fn certificate_rotations() -> Result<(), String> {
    let (process, replica) = single(VALID);
    let load = Load::start(target(&replica, replica.address, 3), RATE);
    let between = span() / 20;
    for _ in 0..20 {
        let shown = process.secret.rotate();
        let before = load.ok();
        thread::sleep(between);
        until(|| load.ok() > before + 5);
        assert_eq!(certificate_of(&replica), shown);
    }
    finish(load, "20 certificate rotations")
}

/// The certificate that a new connection is shown.
fn certificate_of(replica: &Replica) -> rustls::pki_types::CertificateDer<'static> {
    Connection::open(replica.address, &accepting_any()).unwrap().certificate().unwrap()
}

fn edits() -> Result<(), String> {
    let (process, replica) = single(VALID);
    let expected = expected_patch(&replica);
    // the newest version that may have been seen, and the oldest that may still be
    let newest = Arc::new(AtomicUsize::new(0));
    let allowed = Arc::clone(&newest);
    let check = move |patch: &str| {
        let version: Option<usize> =
            patch.split("\"value\":\"v").nth(1).and_then(|rest| rest.split('"').next()?.parse().ok());
        let version = version.ok_or("no version")?;
        let same = patch.replace(&format!("\"v{version}\""), "\"v0\"") == expected;
        let is_known = version <= allowed.load(Ordering::SeqCst);
        if same && is_known { Ok(()) } else { Err(format!("version {version}: {patch}")) }
    };
    let load = Load::start(Target { check: Box::new(check), ..target(&replica, replica.address, u64::MAX) }, RATE);
    let between = span() / 200;
    for edit in 1..=100 {
        newest.store(edit, Ordering::SeqCst);
        let before = gauge(&replica, "podgraft_config_generation");
        process.configure(&VALID.replace("v0", &format!("v{edit}")));
        until(|| gauge(&replica, "podgraft_config_generation") > before && config_errors(&replica) < 1.0);
        thread::sleep(between);
        let invalid = match edit % 3 {
            0 => VALID.replace("env:", "envs:"),
            1 => VALID.replace("queues: {", "queues: {{"),
            _ => VALID.replace("wasm: inject-nfs.wasm", "wasm: gone.wasm"),
        };
        process.configure(&invalid);
        until(|| config_errors(&replica) > 0.0);
        thread::sleep(between);
    }
    finish(load, "200 edits, half of them invalid")
}

fn config_errors(replica: &Replica) -> f64 {
    gauge(replica, "podgraft_config_errors")
}

fn gauge(replica: &Replica, name: &str) -> f64 {
    client::metric(replica.admin, name).unwrap()
}

fn a_hostile_module() -> Result<(), String> {
    let config = VALID
        .replace("modules: {", "modules: {loop: {wasm: loop.wasm}, ")
        .replace("queues: {", "queues: {hostile: {modules: [loop]}, ");
    let (_process, replica) = single(&config);
    let alone = loaded(&replica, span());
    alone.print("an ordinary module alone");
    let stopped = Arc::new(AtomicBool::new(false));
    let hostile: Vec<_> = (0..8)
        .map(|number| {
            let mut target = target(&replica, replica.address, u64::MAX);
            target.review = task_review("hostile");
            let stopped = Arc::clone(&stopped);
            thread::spawn(move || {
                let (mut connection, mut denied) = (None, 0);
                while !stopped.load(Ordering::SeqCst) {
                    let reply = target.post(&mut connection, &number.to_string()).unwrap();
                    let reply: serde_json::Value = serde_json::from_slice(&reply).unwrap();
                    assert_eq!(reply["response"]["status"]["reason"], "ModuleUnavailable", "{reply}");
                    denied += 1;
                }
                denied
            })
        })
        .collect();
    let beside = loaded(&replica, span());
    stopped.store(true, Ordering::SeqCst);
    let denied: usize = hostile.into_iter().map(|client| client.join().unwrap()).sum();
    beside.print(&format!("beside a loop (denied {denied})"));
    let ratio = |share| beside.quantile(share) / alone.quantile(share);
    println!("beside / alone: p50 {:.2}, p99 {:.2}", ratio(0.5), ratio(0.99));
    assert!(denied > 0);
    alone.nothing_failed().and_then(|()| beside.nothing_failed())
}

fn loaded(replica: &Replica, span: Duration) -> Report {
    let load = Load::start(target(replica, replica.address, u64::MAX), RATE);
    thread::sleep(span);
    load.stop()
}

// === what they share ===

fn modules() -> Vec<(&'static str, Vec<u8>)> {
    vec![("inject-nfs.wasm", committed("inject-nfs.wasm").unwrap()), ("loop.wasm", misbehaving("loop").unwrap())]
}

/// One replica, ready, with its files looked at all the time.
fn single(config: &str) -> (LocalPodgraft, Replica) {
    let process = LocalPodgraft::configured(config, &modules(), &["--config-poll=10ms"]);
    let (address, admin) = (process.address(), process.admin_address());
    until(|| client::get(admin, "/readyz").is_ok_and(|(status, _)| status == 200));
    (process, Replica { address, admin })
}

/// The load's pods, whose replies must all be as this replica's is now.
fn target(replica: &Replica, address: std::net::SocketAddr, per_connection: u64) -> Target {
    let expected = expected_patch(replica);
    let check = move |patch: &str| if patch == expected { Ok(()) } else { Err(format!("another patch: {patch}")) };
    Target { address, config: accepting_any(), review: review(), check: Box::new(check), per_connection }
}

fn review() -> String {
    task_review("load").replace("\"uid\":\"uid\"", &format!("\"uid\":\"{UID}\""))
}

/// The patch of the load's pods; it must hold what the configuration adds.
fn expected_patch(replica: &Replica) -> String {
    let seen = Arc::new(std::sync::Mutex::new(String::new()));
    let slot = Arc::clone(&seen);
    let check = move |patch: &str| {
        patch.clone_into(&mut slot.lock().unwrap());
        Ok(())
    };
    let (address, config) = (replica.address, accepting_any());
    let target = Target { address, config, review: review(), check: Box::new(check), per_connection: 1 };
    target.ask(&mut None, "first").unwrap();
    let patch = seen.lock().unwrap().clone();
    assert!(patch.contains("\"VERSION\"") && patch.contains("10.0.0.7"), "{patch}");
    patch
}

fn finish(load: Load, what: &str) -> Result<(), String> {
    let report = load.stop();
    report.print(what);
    report.nothing_failed()
}

/// Waits for the condition, for at most a minute.
fn until(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_mins(1), "the test waits in vain");
        thread::sleep(Duration::from_millis(5));
    }
}
