//! The cost of a request in the whole server: TLS, HTTP, and the code that answers it.
//!
//! * [`fixture`] makes reviews of several sizes, and configurations that give about 35 operations.
//! * [`naive`] is the simplest webhook that gives the same pod.
//! * [`process`] starts a server and measures its CPU and memory under load.
//! * [`table`] writes the table of goals and results.
//! * [`variant`] lists the servers that are compared.
//!
//! Without an argument it starts itself once per variant on core 0, lets `wrk` on core 1 post the same review to each
//! in turn, and writes the table. Rounds go over all variants, so that a busy moment of the machine hits all of them;
//! medians are over rounds.
#![expect(clippy::unwrap_used, clippy::panic, reason = "whatever goes wrong ends the benchmark")]

mod fixture;
mod naive;
mod process;
mod table;
mod variant;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use podgraft_testkit::certificates::self_signed;
use podgraft_testkit::client::{Connection, accepting_any};

use self::process::{Load, Server};
use self::variant::{MISBEHAVING, Variant};

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// More requests than a module needs to prove itself fast.
const WARM_UP: usize = 500;

/// The measurements of one variant, one entry a round.
#[derive(Default)]
pub(crate) struct Measured {
    /// CPU per request, µs
    cpu: Vec<f64>,
    /// requests per second with 16 connections
    rate: Vec<f64>,
    /// share of them that ran twice, the second time on a module thread
    rerun: Vec<f64>,
    /// latencies with one connection, µs
    p50: Vec<f64>,
    p99: Vec<f64>,
}

/// Everything that the table is made of.
pub(crate) struct Results {
    variants: BTreeMap<Variant, Measured>,
    /// p99 of ordinary requests in µs, connections -> (alone, beside looping modules)
    beside: BTreeMap<u32, (Vec<f64>, Vec<f64>)>,
    /// each misbehaving module's sentence, and how long it took to come
    denials: Vec<(&'static str, String, Duration)>,
    /// KiB
    idle_memory: u64,
    loaded_memory: u64,
    /// pinned to one core, and on all
    start: (Duration, Duration),
    body: usize,
}

fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.as_slice() {
        [] => table::write(&measure()),
        [command, variant, folder] if command == "serve" => variant::serve(variant.parse().unwrap(), Path::new(folder)),
        other => panic!("no argument is expected, not {other:?}"),
    }
}

fn measure() -> Results {
    let seconds = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (rounds, span) = (seconds("ROUNDS", 5), Duration::from_secs(seconds("SPAN", 2)));
    let folder = fixture::output();
    let body = fixture::ordinary_review();
    let review = folder.join("review.json");
    fs::write(&review, &body).unwrap();
    certificate(&folder);

    let config = fixture::ten_modules(&folder);
    let start = start_times(&config, &folder);
    process::stay_on_core_1();
    let (program, _) = Server::program(&config, &folder, Some(0));
    let idle_memory = program.memory();
    let mut client = connect(&program);
    (0..WARM_UP).for_each(|_| drop(client.post(&body).unwrap()));
    assert!(fixture::patched(&body, &client.post(&body).unwrap().body).to_string().contains("10.0.0.7"));
    Load::of(&program, &review, 16, 2 * span);
    let loaded_memory = program.memory();
    drop(program);

    let servers: Vec<(Variant, Server)> =
        Variant::ALL.iter().map(|variant| (*variant, Server::variant(*variant, &folder))).collect();
    for (variant, server) in &servers {
        check(*variant, server, &body);
    }

    let mut variants: BTreeMap<Variant, Measured> = BTreeMap::new();
    for round in 1..=rounds {
        for (variant, server) in &servers {
            let measured = variants.entry(*variant).or_default();
            let many = Load::of(server, &review, 16, span);
            measured.cpu.push(many.cpu_per_request());
            measured.rate.push(many.rate());
            measured.rerun.push(many.rerun);
            let one = Load::of(server, &review, 1, span);
            measured.p50.push(one.p50);
            measured.p99.push(one.p99);
            let (name, us) = (variant.name(), many.cpu_per_request());
            eprintln!(
                "round {round} of {rounds}: {name:<14} {us:6.1} us of CPU, {:6.0}/s, p50 {:4.0} us",
                many.rate(),
                one.p50
            );
        }
    }
    let (_, hostile) = servers.iter().find(|(variant, _)| *variant == Variant::Hostile).unwrap();
    let denials = denials(hostile);
    let beside = beside(hostile, &review, rounds, span);
    Results { variants, beside, denials, idle_memory, loaded_memory, start, body: body.len() }
}

/// A certificate for the servers, self-signed.
fn certificate(folder: &Path) {
    let (certificate, key) = self_signed();
    fs::write(folder.join("tls.crt"), certificate).unwrap();
    fs::write(folder.join("tls.key"), key).unwrap();
}

/// A connection whose replies are looked at, which wrk does not do.
fn connect(server: &Server) -> Connection {
    Connection::open(server.address, &accepting_any()).unwrap()
}

/// From the process's start to ready, with ten modules to compile: on one core, and on all.
fn start_times(config: &Path, folder: &Path) -> (Duration, Duration) {
    let median = |core| {
        let mut times: Vec<Duration> = (0..5).map(|_| Server::program(config, folder, core).1).collect();
        times.sort();
        times[times.len() / 2]
    };
    (median(Some(0)), median(None))
}

/// Warms a server up, and looks at what it replies: only right replies are worth measuring.
fn check(variant: Variant, server: &Server, body: &[u8]) {
    let mut client = connect(server);
    for _ in 0..WARM_UP {
        assert_eq!(client.post(body).unwrap().status, 200);
    }
    let reply = client.post(body).unwrap().body;
    let pod = fixture::patched(body, &reply);
    let layers = fixture::layers(variant.layers());
    let mut expected = fixture::patched(body, &naive::answer(body, &layers));
    if variant.has_module() {
        let volumes = |pod: &serde_json::Value| pod["spec"]["volumes"].as_array().unwrap().len();
        assert!(pod.to_string().contains("10.0.0.7"), "the module has not run: {pod}");
        assert_eq!(volumes(&pod), volumes(&expected) + 1);
        for part in ["nodeSelector", "tolerations"] {
            assert_eq!(pod["spec"][part], expected["spec"][part]);
        }
    } else {
        // one layer has its own word for who applied
        expected["metadata"]["annotations"]["podgraft.io/applied"] =
            pod["metadata"]["annotations"]["podgraft.io/applied"].clone();
        assert!(pod == expected, "{} gives another pod", variant.name());
    }
}

/// The denials of each misbehaving module's pod.
fn denials(server: &Server) -> Vec<(&'static str, String, Duration)> {
    let mut client = connect(server);
    let denials = MISBEHAVING.iter().map(|name| {
        let begun = Instant::now();
        let reply = client.post(&fixture::review_for(name)).unwrap().body;
        let reply: serde_json::Value = serde_json::from_slice(&reply).unwrap();
        assert_eq!(reply["response"]["allowed"], false, "{reply}");
        (*name, reply["response"]["status"]["message"].as_str().unwrap().to_owned(), begun.elapsed())
    });
    denials.collect()
}

/// Ordinary requests alone, and while four clients post pods of the queue whose module loops.
fn beside(server: &Server, review: &Path, rounds: u64, span: Duration) -> BTreeMap<u32, (Vec<f64>, Vec<f64>)> {
    let mut found: BTreeMap<u32, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    let bad = fixture::review_for("loop");
    for _ in 0..rounds {
        for connections in [1, 16] {
            let (alone, looping) = found.entry(connections).or_default();
            alone.push(Load::of(server, review, connections, span).p99);
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let mut client = connect(server);
                        while !stop.load(Ordering::Relaxed) {
                            client.post(&bad).unwrap();
                        }
                    });
                }
                looping.push(Load::of(server, review, connections, span).p99);
                stop.store(true, Ordering::Relaxed);
            });
        }
    }
    found
}
