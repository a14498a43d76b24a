//! Programs that run beside the tests and die with them, and the folder that they write to.

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

/// The time limit for a program to come up, or an object of the cluster to appear. Generous: it is
/// reached only when something is broken.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Calls `probe` until it gives a value, more and more seldom, for `bound` at most.
///
/// `Ok(None)` is "not yet", and `Err` is "not yet" with the state that was seen, which the error
/// names beside `what` when the time is over.
pub fn wait_until<T>(
    what: &str,
    bound: Duration,
    mut probe: impl FnMut() -> Result<Option<T>, String>,
) -> Result<T, String> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(5);
    let mut seen = String::from("nothing");
    loop {
        match probe() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => {}
            Err(state) => seen = state,
        }
        if started.elapsed() >= bound {
            return Err(format!("waited {bound:?} for {what}; last seen: {}", seen.trim()));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// One program of the control plane, which can be ended and started again.
pub(crate) struct Program {
    name: &'static str,
    path: PathBuf,
    flags: Vec<String>,
    log: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Program {
    /// A program of the folder `programs` that writes its log into `dir`; it is not started yet.
    pub(crate) fn new(programs: &Path, dir: &Path, name: &'static str, flags: Vec<String>) -> Self {
        Self { name, path: programs.join(name), flags, log: log_file(dir, name), child: Mutex::new(None) }
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        // A test that panicked leaves nothing half done in there.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the program.
    pub(crate) fn start(&self, spawner: &Spawner) -> Result<(), String> {
        // Through `setpriv` the error would be an exit status.
        fs::metadata(&self.path).map_err(|error| format!("{}: {error}", self.path.display()))?;
        let mut child = self.child();
        if child.is_some() {
            return Err(format!("{} runs already", self.name));
        }
        let started = File::options().create(true).append(true).open(&self.log).and_then(|log| {
            let mut command = spawner.command(&self.path);
            command
                .args(&self.flags)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                // Ctrl-C is for us, who end the programs in their order.
                .process_group(0);
            spawner.spawn(command)
        });
        *child = Some(started.map_err(|error| format!("{}: {error}", self.path.display()))?);
        Ok(())
    }

    /// True from the start of the program until it is stopped.
    pub(crate) fn is_running(&self) -> bool {
        self.child().is_some()
    }

    /// Waits until the probe succeeds; an error holds the end of the log.
    pub(crate) fn await_ready(&self, mut probe: impl FnMut() -> Result<(), String>) -> Result<(), String> {
        wait_until(self.name, PATIENCE, || match self.ended() {
            Some(status) => Ok(Some(Err(format!("{} ended: {status}", self.name)))),
            None => probe().map(|()| Some(Ok(()))),
        })
        .flatten()
        .map_err(|error| format!("{error}\n{}", log_tail(&self.log)))
    }

    fn ended(&self) -> Option<ExitStatus> {
        self.child().as_mut()?.try_wait().ok()?
    }

    /// Asks the program to end, and insists when it does not.
    pub(crate) fn stop(&self) {
        // One that ended by itself has left its process id to others.
        if self.ended().is_none()
            && let Some(child) = self.child().as_mut()
        {
            // The standard library knows SIGKILL only.
            let terminate = format!("kill -TERM {}", child.id());
            let _ = Command::new("sh").args(["-c", &terminate]).status();
            let _ =
                wait_until(self.name, Duration::from_secs(10), || child.try_wait().map_err(|error| error.to_string()));
        }
        self.kill();
    }

    /// Sends a signal (`STOP`, `CONT`) to a program that runs.
    pub(crate) fn signal(&self, name: &str) -> Result<(), String> {
        let child = self.child();
        let child = child.as_ref().ok_or_else(|| format!("{} does not run", self.name))?;
        let kill = format!("kill -{name} {}", child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("{kill}: {status}")) }
    }

    /// Ends the program at once; one that ended already is only forgotten.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.child().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The file that a program logs to.
pub(crate) fn log_file(dir: &Path, program: &str) -> PathBuf {
    dir.join(program).with_extension("log")
}

/// The last 20 lines of a log.
pub(crate) fn log_tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Spawns the programs so that they die with this process.
///
/// The kernel sends the signal that `setpriv --pdeathsig` asks for when the *thread* that spawned a
/// program ends, so they are all spawned by one that lives as long as they may. Where there is no
/// such `setpriv` (macOS) a killed test leaves its programs running.
pub(crate) struct Spawner {
    orders: mpsc::Sender<(Command, mpsc::Sender<io::Result<Child>>)>,
    death_signal: bool,
}

impl Spawner {
    /// Starts the thread that spawns the programs.
    pub(crate) fn new() -> Self {
        let (orders, received) = mpsc::channel::<(Command, mpsc::Sender<_>)>();
        thread::spawn(move || {
            for (mut command, reply) in received {
                let _ = reply.send(command.spawn());
            }
        });
        let death_signal = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "true"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        Self { orders, death_signal }
    }

    fn command(&self, program: &Path) -> Command {
        if !self.death_signal {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    }

    fn spawn(&self, command: Command) -> io::Result<Child> {
        let (reply, child) = mpsc::channel();
        self.orders.send((command, reply)).map_err(io::Error::other)?;
        child.recv().map_err(io::Error::other)?
    }
}

/// The temporary folder.
///
/// A small shell removes it when the pipe to it closes, which the kernel does however this process
/// ends: no destructor runs at Ctrl-C.
pub(crate) struct Scratch {
    /// The folder.
    pub(crate) path: PathBuf,
    janitor: Child,
}

impl Scratch {
    /// Makes the folder.
    pub(crate) fn new() -> Result<Self, String> {
        let folder = tempfile::Builder::new()
            .prefix("podgraft-cluster-")
            .tempdir()
            .map_err(|error| format!("temporary folder: {error}"))?;
        let path = fs::canonicalize(folder.path()).map_err(|error| error.to_string())?;
        // More than once, as the programs may be writing while they are killed.
        let script = r#"read -r _; for _ in 1 2 3 4 5 6 7 8 9; do rm -rf "$1" && exit; sleep 0.2; done"#;
        let janitor = Command::new("sh")
            .args(["-c", script, "podgraft-cluster-janitor"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("sh: {error}"))?;
        let _ = folder.keep();
        Ok(Self { path, janitor })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.janitor.stdin.take());
        let _ = self.janitor.wait();
    }
}
