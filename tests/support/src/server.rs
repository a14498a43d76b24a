//! `podgraft serve` as a process of this machine.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::client;
use crate::fixtures::graft_config;
use crate::mounted_secret::MountedSecret;
use crate::process::{PATIENCE, wait_until};

/// A running server; it is killed when this is dropped.
pub struct Podgraft {
    child: Child,
    /// The webhook's port on 127.0.0.1.
    pub port: u16,
    /// The plain port on 127.0.0.1.
    pub admin_port: u16,
    /// From the start of the process to the first successful `/readyz`.
    pub ready_after: Duration,
    log: PathBuf,
    /// The number of bytes of the log that [`Self::next_line`] has read.
    read: usize,
}

impl Podgraft {
    /// Starts `podgraft serve` with these arguments beside ports and certificate, and waits until it is ready.
    pub fn start(tls: &Path, log: &Path, kubeconfig: Option<&Path>, arguments: &[&str]) -> Result<Self, String> {
        Self::start_on(0, tls, log, kubeconfig, arguments)
    }

    /// Starts `podgraft serve` on this port, and waits until it is ready.
    pub fn start_on(
        port: u16,
        tls: &Path,
        log: &Path,
        kubeconfig: Option<&Path>,
        arguments: &[&str],
    ) -> Result<Self, String> {
        let mut command = serve(port, &tls.join("tls.crt"), &tls.join("tls.key"));
        command.args(["--drain-grace", "100ms"]).args(arguments).env("NO_COLOR", "1");
        if let Some(kubeconfig) = kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        let started = Instant::now();
        let mut podgraft = Self::spawn(command, log)?;
        podgraft.until_listening()?;
        podgraft.until_ready(started)
    }

    /// Starts any command that serves on these ports of loopback, and waits until it is ready.
    pub fn start_command(command: Command, port: u16, admin_port: u16, log: &Path) -> Result<Self, String> {
        let started = Instant::now();
        let mut podgraft = Self::spawn(command, log)?;
        (podgraft.port, podgraft.admin_port) = (port, admin_port);
        podgraft.until_ready(started)
    }

    /// Starts a command that logs to this file, after what is in there.
    fn spawn(mut command: Command, log: &Path) -> Result<Self, String> {
        let file = File::options().create(true).append(true).open(log).map_err(|error| error.to_string())?;
        let read = fs::read(log).map_err(|error| error.to_string())?.len();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        Ok(Self { child, port: 0, admin_port: 0, ready_after: Duration::ZERO, log: log.to_owned(), read })
    }

    /// Waits until the log names both ports, in either format.
    fn until_listening(&mut self) -> Result<(), String> {
        let line = self.next_line("podgraft's addresses", |line| line.contains("admin_address"))?;
        let words = line.replace(['"', ',', '}'], " ").replace(" : ", "=").replace("= ", "=").replace(": ", "=");
        let port = |key: &str| {
            let value = words.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            let address = value.and_then(|value| value.parse::<SocketAddr>().ok());
            address.map(|address| address.port()).ok_or_else(|| format!("no {key}: {line}"))
        };
        (self.port, self.admin_port) = (port("address")?, port("admin_address")?);
        Ok(())
    }

    fn until_ready(mut self, started: Instant) -> Result<Self, String> {
        wait_until("podgraft's /readyz", PATIENCE, || {
            if let Some(status) = self.ended() {
                return Ok(Some(Err(format!("podgraft ended with {status}: {}", self.log()))));
            }
            let (status, text) = self.get("/readyz")?;
            if status == 200 { Ok(Some(Ok(()))) } else { Err(text) }
        })
        .flatten()?;
        self.ready_after = started.elapsed();
        Ok(self)
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok()?
    }

    /// The address of the webhook's port.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The address of the plain port.
    pub fn admin_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.admin_port).into()
    }

    /// Gets a path of the plain port: status and body.
    pub fn get(&self, path: &str) -> Result<(u16, String), String> {
        client::get(self.admin_address(), path).map_err(|error| error.to_string())
    }

    /// Reads the value of a metric without labels, or with exactly these (`name{label="x"}`).
    pub fn metric(&self, series: &str) -> Result<f64, String> {
        client::metric(self.admin_address(), series)
    }

    /// Waits until a metric is at least this high.
    pub fn until_metric(&self, series: &str, least: f64) -> Result<(), String> {
        wait_until(&format!("{series} to reach {least}"), PATIENCE, || {
            let value = self.metric(series)?;
            if value >= least { Ok(Some(())) } else { Err(value.to_string()) }
        })
    }

    /// The whole log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until a line of the log holds `text`, and returns that line.
    pub fn logged(&self, text: &str) -> Result<String, String> {
        wait_until(&format!("{text:?} in podgraft's log"), PATIENCE, || {
            Ok(self.log().lines().find(|line| line.contains(text)).map(str::to_owned))
        })
    }

    /// Waits for the next line of the log that this is true of.
    pub fn next_line(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> Result<String, String> {
        wait_until(what, PATIENCE, || {
            let ended = self.ended();
            let log = fs::read(&self.log).map_err(|error| error.to_string())?;
            while let Some(length) = log[self.read..].iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&log[self.read..self.read + length]).into_owned();
                self.read += length + 1;
                if is_it(&line) {
                    return Ok(Some(Ok(line)));
                }
            }
            Ok(ended.map(|status| Err(format!("podgraft ended with {status}: {}", self.log()))))
        })
        .flatten()
    }

    /// Resident memory, MiB.
    pub fn resident_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or(0.0) / 1024.0
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal: `TERM`, `INT`.
    pub fn signal(&self, name: &str) -> Result<(), String> {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("{kill}: {status}")) }
    }

    /// Waits until the process has ended: its status and the whole log.
    pub fn end(&mut self) -> Result<(ExitStatus, String), String> {
        let status = wait_until("podgraft's end", PATIENCE, || Ok(self.ended()))?;
        Ok((status, self.log()))
    }

    /// Ends the process as a kubelet does, and waits.
    pub fn terminate(mut self) -> Result<ExitStatus, String> {
        self.signal("TERM")?;
        self.end().map(|(status, _)| status)
    }
}

impl Drop for Podgraft {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `podgraft serve` on this port of loopback, and a free one for metrics.
fn serve(port: u16, certificate: &Path, key: &Path) -> Command {
    let mut command = Command::new(crate::program());
    command
        .args(["serve", "--admin-listen=127.0.0.1:0", &format!("--listen=127.0.0.1:{port}"), "--tls-cert"])
        .arg(certificate)
        .arg("--tls-key")
        .arg(key);
    command
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

/// A running server with a configuration, a certificate and a log in a temporary folder of its own.
pub struct LocalPodgraft {
    podgraft: Podgraft,
    /// The folder of its certificate, with its configuration beside it.
    pub secret: MountedSecret,
}

impl LocalPodgraft {
    /// Starts a server with an empty configuration, and waits until it listens.
    pub fn start(flags: &[&str]) -> Self {
        Self::configured("", &[], flags)
    }

    /// Starts a server with these sections, modules and flags, and waits until it listens. The log is JSON unless a flag
    /// says otherwise.
    pub fn configured(sections: &str, modules: &[(&str, Vec<u8>)], flags: &[&str]) -> Self {
        let secret = MountedSecret::self_signed();
        let config = config_of(&secret);
        fs::create_dir(&config).expect("a folder for the configuration");
        for (name, bytes) in modules {
            fs::write(config.join(name), bytes).expect("the module can be written");
        }
        configure(&config, sections);
        let mut command = serve(0, &secret.certificate(), &secret.key());
        command.arg("--config").arg(&config).args(flags).env("PODGRAFT_LOG_FORMAT", "json");
        let log = secret.directory.path().join("podgraft.log");
        let mut podgraft = Podgraft::spawn(command, &log).expect("podgraft can be started");
        podgraft.until_listening().expect("podgraft listens");
        Self { podgraft, secret }
    }

    /// The folder of its configuration.
    pub fn config(&self) -> PathBuf {
        config_of(&self.secret)
    }

    /// Replaces the configuration in one step.
    pub fn configure(&self, sections: &str) {
        configure(&self.config(), sections);
    }
}

impl Deref for LocalPodgraft {
    type Target = Podgraft;

    fn deref(&self) -> &Podgraft {
        &self.podgraft
    }
}

impl DerefMut for LocalPodgraft {
    fn deref_mut(&mut self) -> &mut Podgraft {
        &mut self.podgraft
    }
}

fn config_of(secret: &MountedSecret) -> PathBuf {
    secret.directory.path().join("config")
}

fn configure(folder: &Path, sections: &str) {
    let next = folder.join(".next");
    fs::write(&next, graft_config(sections)).expect("the configuration can be written");
    fs::rename(next, folder.join("podgraft.yaml")).expect("the configuration can be replaced");
}
