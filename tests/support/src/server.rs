//! A `podgraft serve` process of this machine.

#![allow(dead_code, reason = "several binaries include this file and each uses a part")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::process::{PATIENCE, wait_until};

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_podgraft");

/// A running server; it is killed when this is dropped.
pub(crate) struct Podgraft {
    child: Child,
    /// The webhook's port on 127.0.0.1.
    pub(crate) port: u16,
    /// The plain port on 127.0.0.1.
    pub(crate) admin_port: u16,
    /// From the start of the process to the first `/readyz` that says yes.
    pub(crate) ready_after: Duration,
    log: PathBuf,
}

impl Podgraft {
    /// Starts `podgraft serve` with these arguments beside ports and certificate, and waits until it is ready.
    pub(crate) fn start(tls: &Path, log: &Path, kubeconfig: Option<&Path>, arguments: &[&str]) -> Result<Self, String> {
        Self::start_on(free_port()?, tls, log, kubeconfig, arguments)
    }

    /// The same on a port of the caller's.
    pub(crate) fn start_on(
        port: u16,
        tls: &Path,
        log: &Path,
        kubeconfig: Option<&Path>,
        arguments: &[&str],
    ) -> Result<Self, String> {
        let admin_port = free_port()?;
        let mut command = Command::new(BINARY);
        command
            .args(["serve", "--drain-grace", "100ms"])
            .args(["--listen", &format!("127.0.0.1:{port}"), "--admin-listen", &format!("127.0.0.1:{admin_port}")])
            .arg("--tls-cert")
            .arg(tls.join("tls.crt"))
            .arg("--tls-key")
            .arg(tls.join("tls.key"))
            .args(arguments)
            .env("NO_COLOR", "1");
        if let Some(kubeconfig) = kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        Self::start_command(command, port, admin_port, log)
    }

    /// Starts any command that serves on these ports of loopback, and waits until it is ready.
    pub(crate) fn start_command(command: Command, port: u16, admin_port: u16, log: &Path) -> Result<Self, String> {
        let mut podgraft = Self::spawn(command, port, admin_port, log)?;
        let started = Instant::now();
        wait_until("podgraft's /readyz", PATIENCE, || podgraft.ready())?;
        podgraft.ready_after = started.elapsed();
        Ok(podgraft)
    }

    fn spawn(mut command: Command, port: u16, admin_port: u16, log: &Path) -> Result<Self, String> {
        let file = File::options().create(true).append(true).open(log).map_err(|error| error.to_string())?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        Ok(Self { child, port, admin_port, ready_after: Duration::ZERO, log: log.to_owned() })
    }

    fn ready(&mut self) -> Result<Option<()>, String> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(format!("podgraft ended with {status}: {}", self.log()));
        }
        let (status, text) = self.get("/readyz")?;
        if status == 200 { Ok(Some(())) } else { Err(text) }
    }

    /// A GET on the plain port: status and body.
    pub(crate) fn get(&self, path: &str) -> Result<(u16, String), String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin_port)).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(|error| error.to_string())?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: podgraft\r\nConnection: close\r\n\r\n")
            .map_err(|error| error.to_string())?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).map_err(|error| error.to_string())?;
        let (head, body) = reply.split_once("\r\n\r\n").ok_or("no HTTP reply")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or("no HTTP status")?;
        Ok((status, body.to_owned()))
    }

    /// The value of a metric without labels, or with exactly these (`name{label="x"}`).
    pub(crate) fn metric(&self, name: &str) -> Result<f64, String> {
        let (_, text) = self.get("/metrics")?;
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        let value = line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok());
        value.ok_or_else(|| format!("no metric {name}"))
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until a line of the log holds `text`, and gives that line.
    pub(crate) fn logged(&self, text: &str) -> Result<String, String> {
        wait_until(&format!("{text:?} in podgraft's log"), PATIENCE, || {
            Ok(self.log().lines().find(|line| line.contains(text)).map(str::to_owned))
        })
    }

    /// Resident memory, MiB.
    pub(crate) fn resident_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or(0.0) / 1024.0
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, as a kubelet does, and waits.
    pub(crate) fn terminate(mut self) -> Result<ExitStatus, String> {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().map_err(|error| error.to_string())?;
        wait_until("podgraft's end", PATIENCE, || self.child.try_wait().map_err(|error| error.to_string()))
    }
}

impl Drop for Podgraft {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}
