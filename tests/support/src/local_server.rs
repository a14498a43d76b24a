//! The program itself, as a child of the test.

#![allow(dead_code, reason = "several binaries include this file and each uses a part")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use podgraft::server::tls::Files;

use super::secret::Secret;

/// The first two lines of every configuration.
pub(crate) const HEAD: &str = "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\n";

/// The program itself.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    log: String,
    /// where its certificate is mounted, with its configuration beside it
    pub(crate) secret: Secret,
}

impl Process {
    /// Starts it with an empty configuration.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::configured("", &[], flags)
    }

    /// Starts it with these sections and modules; what it logs is read all the time.
    pub(crate) fn configured(sections: &str, modules: &[(&str, Vec<u8>)], flags: &[&str]) -> Self {
        let secret = Secret::new();
        secret.swap();
        let Files { certificate, key } = secret.files();
        let config = config_of(&secret);
        fs::create_dir(&config).unwrap();
        for (name, bytes) in modules {
            fs::write(config.join(name), bytes).unwrap();
        }
        configure(&config, sections);
        let mut child = Command::new(env!("CARGO_BIN_EXE_podgraft"))
            .args(["serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"])
            .args([Path::new("--config"), &config, Path::new("--tls-cert"), &certificate, Path::new("--tls-key"), &key])
            .args(flags)
            .env("PODGRAFT_LOG_FORMAT", "json")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|length| length > 0) && sender.send(line).is_ok() {
                line = String::new();
            }
        });
        Self { child, lines, log: String::new(), secret }
    }

    /// The folder of its configuration.
    pub(crate) fn config(&self) -> PathBuf {
        config_of(&self.secret)
    }

    /// The next log line that says this; the log must be JSON.
    pub(crate) fn line(&mut self, message: &str) -> serde_json::Value {
        loop {
            let line = self.lines.recv().map_err(|_| &self.log).expect("it goes on");
            self.log += &line;
            let line: serde_json::Value = serde_json::from_str(&line).expect("each line is an object");
            if line["message"].as_str().is_some_and(|text| text.starts_with(message)) {
                return line;
            }
        }
    }

    /// Both ports, by the log's word, in either format.
    pub(crate) fn addresses(&mut self) -> (SocketAddr, SocketAddr) {
        let line = loop {
            let line = self.lines.recv().map_err(|_| &self.log).expect("it goes on");
            self.log += &line;
            if line.contains("admin_address") {
                break line.replace(['"', ',', '}'], " ").replace(" : ", "=").replace("= ", "=").replace(": ", "=");
            }
        };
        let address = |key: &str| {
            let value = line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            value.and_then(|value| value.parse().ok()).ok_or(&line).expect("a line with both addresses")
        };
        (address("address"), address("admin_address"))
    }

    pub(crate) fn address(&mut self) -> SocketAddr {
        self.addresses().0
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for its end: the exit code and the whole log.
    pub(crate) fn end(&mut self) -> (Option<i32>, String) {
        self.log.extend(self.lines.iter());
        (self.child.wait().unwrap().code(), self.log.clone())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config_of(secret: &Secret) -> PathBuf {
    secret.directory.path().join("config")
}

/// Replaces the configuration in one step.
pub(crate) fn configure(folder: &Path, sections: &str) {
    let next = folder.join(".next");
    fs::write(&next, format!("{HEAD}{sections}")).unwrap();
    fs::rename(next, folder.join("podgraft.yaml")).unwrap();
}

/// A GET on the plain port: status and body.
pub(crate) fn ask(admin: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: podgraft\r\nConnection: close\r\n\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let (head, body) = reply.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Ok((status, body.to_owned()))
}

/// Asks until the series of this name is at least so high; half a minute is the watchdog's patience.
pub(crate) fn until_at_least(admin: SocketAddr, series: &str, least: u64) {
    let is_there = || {
        let metrics = ask(admin, "/metrics").unwrap().1;
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        value.is_some_and(|value: u64| value >= least)
    };
    let reached = (0..3_000).any(|_| {
        let found = is_there();
        if !found {
            thread::sleep(Duration::from_millis(10));
        }
        found
    });
    assert!(reached, "{series} never reaches {least}");
}

/// A module of `policies/misbehaving`.
pub(crate) fn misbehaving(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/misbehaving");
    wat::parse_file(folder.join(name).with_extension("wat")).unwrap()
}
