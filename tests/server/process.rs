//! The program itself, as a child of the test.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use podgraft::server::tls::Files;

use super::secret::Secret;

/// The program itself.
pub(crate) struct Process {
    child: Child,
    stderr: BufReader<ChildStderr>,
    log: String,
    _secret: Secret,
}

impl Process {
    pub(crate) fn start(flags: &[&str]) -> Self {
        let secret = Secret::new();
        secret.swap();
        let Files { certificate, key } = secret.files();
        let config = secret.directory.path().join("podgraft.yaml");
        fs::write(&config, "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\n").unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_podgraft"))
            .args(["serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json"])
            .args([Path::new("--config"), &config, Path::new("--tls-cert"), &certificate, Path::new("--tls-key"), &key])
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr, log: String::new(), _secret: secret }
    }

    /// The next log line that says this.
    pub(crate) fn line(&mut self, message: &str) -> serde_json::Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.stderr.read_line(&mut line).unwrap(), 0, "it ended: {}", self.log);
            self.log += &line;
            let line: serde_json::Value = serde_json::from_str(&line).expect("each line is an object");
            if line["message"].as_str().is_some_and(|text| text.starts_with(message)) {
                return line;
            }
        }
    }

    pub(crate) fn address(&mut self) -> std::net::SocketAddr {
        self.line("listening")["address"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    pub(crate) fn end(&mut self) -> (Option<i32>, String) {
        self.stderr.read_to_string(&mut self.log).unwrap();
        (self.child.wait().unwrap().code(), self.log.clone())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
