//! A real local cluster for a test: processes of this build, in a directory of its own, on ports of its own.
#![allow(dead_code, reason = "each file of tests uses its own part")]

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

/// A running `gramme dev`.
pub(crate) struct Local {
    child: Child,
    events: BufReader<ChildStdout>,
    pub(crate) place: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Local {
    /// Starts a new cluster and waits until it says that it is ready.
    pub(crate) fn start(nodes: u16) -> Local {
        Local::start_with(nodes, &[])
    }

    /// The same with these variables in the environment of every node.
    pub(crate) fn start_with(nodes: u16, environment: &[(String, String)]) -> Local {
        let place = tempfile::tempdir().unwrap();
        let port = free_ports(nodes);
        let given = ["--nodes".to_string(), nodes.to_string(), "--port".to_string(), port.to_string()];
        let (child, events) = spawn(&place.path().join("dev"), &given, environment);
        Local { child, events, place, port }
    }

    /// Stops the cluster as an operator would, and starts it again on the same directory.
    pub(crate) fn restart(mut self) -> Local {
        self.signal(Signal::TERM);
        assert!(self.child.wait().unwrap().success());
        let (child, events) = spawn(&self.place.path().join("dev"), &[], &[]);
        self.child = child;
        self.events = events;
        self
    }

    /// After all its processes were killed: something is done to its directory, and it is started again.
    pub(crate) fn back_after(mut self, environment: &[(String, String)], what: impl FnOnce(&Local)) -> Local {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        what(&self);
        let (child, events) = spawn(&self.place.path().join("dev"), &[], environment);
        self.child = child;
        self.events = events;
        self
    }

    /// The process of each node.
    pub(crate) fn pids(&self) -> Vec<Pid> {
        let dir = self.place.path().join("dev");
        let output = gramme(&["dev", "status", "--json", "--dir"]).arg(dir).output().unwrap();
        let status: Json = serde_json::from_slice(&output.stdout).unwrap();
        let nodes = status["nodes"].as_array().unwrap().iter();
        nodes.map(|node| Pid::from_raw(node["pid"].as_i64().unwrap().try_into().unwrap()).unwrap()).collect()
    }

    pub(crate) fn url(&self, node: u16) -> String {
        format!("http://{}", self.address(node))
    }

    pub(crate) fn address(&self, node: u16) -> String {
        format!("127.0.0.1:{}", self.port + 10 * node)
    }

    /// Runs a client command that talks to `node`; again if the nodes took themselves for frozen, as they do on a
    /// machine that has much else to do.
    pub(crate) fn run(&self, node: u16, arguments: &[&str], stdin: &[u8]) -> Output {
        let mut times = 0;
        loop {
            let mut child = self.begin(node, arguments);
            child.stdin.take().unwrap().write_all(stdin).unwrap();
            let output = child.wait_with_output().unwrap();
            let words = String::from_utf8_lossy(&output.stderr);
            let frozen = words.contains(FROZEN) && words.contains("nothing was written");
            times += 1;
            if output.status.success() || !frozen || times == FROZEN_TIMES_MAX {
                return output;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// The same for one that must succeed; gives its stdout.
    pub(crate) fn ok(&self, node: u16, arguments: &[&str], stdin: &[u8]) -> String {
        let output = self.run(node, arguments, stdin);
        assert!(output.status.success(), "gramme {}: {}", arguments.join(" "), told(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts a client command and leaves it running.
    pub(crate) fn begin(&self, node: u16, arguments: &[&str]) -> Child {
        let arguments = patient(arguments);
        gramme(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
            .env("GRAMME_NODE", self.url(node))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Gives an order, as from another terminal.
    pub(crate) fn order(&self, order: &[&str]) {
        let dir = self.place.path().join("dev");
        let output = gramme(&["dev"]).args(order).arg("--dir").arg(dir).output().unwrap();
        assert!(output.status.success(), "{order:?}: {}", told(&output));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The next line that the cluster tells.
    pub(crate) fn event(&mut self) -> Json {
        next_event(&mut self.events, &mut self.child)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // Its nodes stop when it is gone; a test that failed is told by its own panic.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The binary under test, without the settings of whoever runs the tests.
pub(crate) fn gramme(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gramme"));
    command.args(arguments).env_remove("GRAMME_NODE").env_remove("GRAMME_TOKEN");
    command
}

/// The same command with much more time than a request has by default: a machine that is slow fails no test.
fn patient(arguments: &[&str]) -> Vec<String> {
    let mut patient: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    if !["get", "put", "del"].contains(&arguments[0]) {
        return patient;
    }
    match patient.iter().position(|argument| argument == "--consistency") {
        Some(at) => patient[at + 1].push_str(&format!("; {PATIENCE}")),
        None => patient.extend(["--consistency".to_string(), PATIENCE.to_string()]),
    }
    patient
}

/// What a node says that stood still, and refuses what may have waited meanwhile.
pub(crate) const FROZEN: &str = "was frozen";
pub(crate) const FROZEN_TIMES_MAX: usize = 200;
/// For a test's own requests.
pub(crate) const PATIENCE: &str = "timeout=20s";

/// What a command said that was not expected to fail, or not so.
pub(crate) fn told(output: &Output) -> String {
    let texts = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    format!("{}, {}", output.status, texts.join("\n"))
}

/// A shim of `faults`, compiled; `None`, and a word why, without a compiler.
pub(crate) fn shim(place: &Path, name: &str) -> Option<PathBuf> {
    let library = place.join(format!("{name}.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/faults/{name}.c"));
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).args(["-ldl", "-lpthread"]);
    match compiler.output() {
        Ok(output) if output.status.success() => Some(library),
        other => {
            println!("skipped: the shim cannot be compiled: {other:?}");
            None
        }
    }
}

fn spawn(dir: &Path, given: &[String], environment: &[(String, String)]) -> (Child, BufReader<ChildStdout>) {
    let mut command = gramme(&["dev", "--json", "--dir"]);
    command.arg(dir).args(given).envs(environment.iter().cloned()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut events = BufReader::new(child.stdout.take().unwrap());
    let ready = next_event(&mut events, &mut child);
    assert_eq!(ready["event"], "ready", "{ready}");
    (child, events)
}

fn next_event(events: &mut BufReader<ChildStdout>, child: &mut Child) -> Json {
    let mut line = String::new();
    events.read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "gramme dev ended: {:?}", child.wait());
    serde_json::from_str(&line).unwrap()
}

/// A first port with room for up to five nodes. Below those that systems hand out, and apart for each cluster of
/// each test process, so that nobody takes one between this look and its use.
fn free_ports(nodes: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + ((std::process::id() % 40) as u16 * 300 + turn * 50) % 12_000;
        let mut needed = (0..nodes).flat_map(|node| (0..3).map(move |door| port + 10 * node + door));
        if needed.all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return port;
        }
    }
}
