//! One node's process: this binary, run as `gramme server`.
//!
//! Invariant: it does not outlive us. It holds the reading end of a pipe whose other end is ours; when we are
//! gone, however we went, the pipe ends and the server stops by itself. It is in a process group of its own, so
//! that Ctrl-C reaches us alone and we stop the nodes in order.

use crate::cluster::SETTINGS_FILE;
use crate::failure::Failure;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::{Child, ChildStdin, Command};

/// A node's process that was started.
pub(crate) struct Process {
    pid: Pid,
    /// Ends when this is dropped, and the server with it.
    _life: ChildStdin,
}

impl Process {
    /// Starts the node whose settings and log are in `dir`. Its end is told by the [`Child`].
    pub(crate) fn start(dir: &Path, node: usize) -> Result<(Process, Child), Failure> {
        let log = open_log(&dir.join(LOG))?;
        let errors = log.try_clone().map_err(|e| Failure::io("cannot write", &dir.join(LOG), &e))?;
        let binary = own_binary()?;
        let mut command = Command::new(binary);
        command
            .args(["server", "--with-parent", "--config"])
            .arg(dir.join(SETTINGS_FILE))
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .process_group(0);
        for (name, _) in std::env::vars_os() {
            // What the directory says must not be overruled for all nodes alike.
            if OWN_SETTINGS.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        let mut child =
            command.spawn().map_err(|e| Failure::failed(format!("node {node} could not be started: {e}")))?;
        let started = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)).zip(child.stdin.take());
        let (pid, life) =
            started.ok_or_else(|| Failure::failed(format!("node {node} ended before it was started")))?;
        Ok((Process { pid, _life: life }, child))
    }

    /// The process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends a signal. A process that is gone already is none of our concern: its end is told by its child.
    pub(crate) fn signal(&self, signal: Signal) {
        let _gone = kill_process(self.pid, signal);
    }
}

/// This program's file. One that was replaced under a running cluster, as a build does, is still there as what
/// runs: all nodes of a cluster are of one release.
fn own_binary() -> Result<PathBuf, Failure> {
    let named = std::env::current_exe()
        .map_err(|e| Failure::failed(format!("this program's own file cannot be found: {e}")))?;
    let running = Path::new("/proc/self/exe");
    Ok(if !named.exists() && running.exists() { running.to_path_buf() } else { named })
}

/// What a node said last, for the report of its death.
pub(crate) fn last_words(dir: &Path) -> Vec<String> {
    let tail = || -> std::io::Result<String> {
        let mut file = File::open(dir.join(LOG))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = tail().unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(ToString::to_string).collect()
}

fn open_log(path: &Path) -> Result<File, Failure> {
    let too_long = path.metadata().is_ok_and(|about| about.len() > LOG_BYTES_MAX);
    let mut options = OpenOptions::new();
    options.create(true).append(!too_long).write(true).truncate(too_long);
    options.open(path).map_err(|e| Failure::io("cannot write", path, &e))
}

/// What a node says.
pub(crate) const LOG: &str = "log";
/// A log longer than this is begun anew when its node starts.
const LOG_BYTES_MAX: u64 = 16 << 20;
const TAIL_BYTES: u64 = 4 << 10;
const LAST_LINES: usize = 3;
const OWN_SETTINGS: &[&str] = &[
    "GRAMME_NODE__",
    "GRAMME_CLUSTER__",
    "GRAMME_LISTEN__",
    "GRAMME_STORAGE__DATA_DIR",
    "GRAMME_STORAGE__ENGINE",
];
