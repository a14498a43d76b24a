//! A server's process as the kernel sees it, and the load on it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use podgraft_testkit::client;

use crate::variant::Variant;

/// A clock tick of /proc, as on every Linux that Rust runs on.
const TICK: Duration = Duration::from_millis(10);

/// A server that is ready. It ends when this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts a variant on core 0.
    pub(crate) fn variant(variant: Variant, folder: &Path) -> Self {
        let mut command = on_core(Some(0), &std::env::current_exe().unwrap());
        command.args(["serve", variant.name()]).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let parts = line.trim().split_once(' ');
        let (address, admin) = parts.unwrap_or_else(|| panic!("{} did not start", variant.name()));
        Self { address: address.parse().unwrap(), admin: admin.parse().unwrap(), child }
    }

    /// Starts the program itself with the configuration in `config`; the time is until it said that it is ready.
    pub(crate) fn program(config: &Path, folder: &Path, core: Option<usize>) -> (Self, Duration) {
        let (address, admin) = (free_address(), free_address());
        let mut command = on_core(core, &podgraft_testkit::program());
        command.arg("serve").arg("--config").arg(config);
        command.args([format!("--listen={address}"), format!("--admin-listen={admin}")]);
        command.arg("--tls-cert").arg(folder.join("tls.crt")).arg("--tls-key").arg(folder.join("tls.key"));
        let begun = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { address, admin, child };
        while !is_ready(admin) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{} is not ready", config.display());
            thread::sleep(Duration::from_millis(1));
        }
        (server, begun.elapsed())
    }

    /// Resident memory, KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Requests so far that went to the module threads, because a module was not or no longer known to be fast.
    fn reruns(&self) -> f64 {
        let (_, metrics) = client::get(self.admin, "/metrics").unwrap();
        let counts = metrics.lines().filter(|line| line.starts_with("podgraft_module_offloads_total{"));
        counts.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
    }

    /// CPU of all threads so far.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // the program's name, in brackets, may hold anything; behind it utime and stime are fields 11 and 12
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        TICK * (fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn on_core(core: Option<usize>, program: &Path) -> Command {
    let Some(core) = core else { return Command::new(program) };
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string()).arg(program);
    command
}

/// Keeps this process, whose clients ask too, away from the core that serves. Servers without a core of their own
/// inherit that.
pub(crate) fn stay_on_core_1() {
    let pid = std::process::id().to_string();
    let moved = Command::new("taskset").args(["-a", "-c", "-p", "1", &pid]).stdout(Stdio::null()).status();
    assert!(moved.unwrap().success(), "taskset -p");
}

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

fn is_ready(admin: SocketAddr) -> bool {
    client::get(admin, "/readyz").is_ok_and(|(status, _)| status == 200)
}

/// The results of one run of wrk.
pub(crate) struct Load {
    requests: f64,
    /// share of them that went to the module threads
    pub(crate) rerun: f64,
    elapsed: Duration,
    cpu: Duration,
    /// µs
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Load {
    /// Posts the review over and over, from core 1.
    pub(crate) fn of(server: &Server, review: &Path, connections: u32, span: Duration) -> Self {
        let script = podgraft_testkit::root().join("tests/perf/bench/post.lua");
        let (before, reruns) = (server.cpu(), server.reruns());
        let output = Command::new("taskset")
            .args(["-c", "1", "wrk", "--latency", "-t1"])
            .arg(format!("-c{connections}"))
            .arg(format!("-d{}s", span.as_secs()))
            .arg("-s")
            .arg(script)
            .arg(format!("https://{}/mutate?timeout=10s", server.address))
            .arg("--")
            .arg(review)
            .output()
            .unwrap_or_else(|error| panic!("taskset -c 1 wrk: {error}"));
        let cpu = server.cpu().saturating_sub(before);
        let text = String::from_utf8_lossy(&output.stdout);
        let seen: serde_json::Value = text
            .lines()
            .last()
            .and_then(|line| serde_json::from_str(line).ok())
            .unwrap_or_else(|| panic!("wrk says: {text}{}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(seen["errors"], 0, "{seen}");
        let number = |name: &str| seen[name].as_f64().unwrap();
        let elapsed = Duration::from_secs_f64(number("us") / 1e6);
        let requests = number("requests");
        let rerun = (server.reruns() - reruns) / requests;
        Self { requests, rerun, elapsed, cpu, p50: number("p50"), p99: number("p99") }
    }

    /// µs
    pub(crate) fn cpu_per_request(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests
    }

    pub(crate) fn rate(&self) -> f64 {
        self.requests / self.elapsed.as_secs_f64()
    }
}
