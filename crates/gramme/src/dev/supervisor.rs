//! The parent of a development cluster's nodes: starts them, waits until they serve, carries out orders, reports
//! a death that nobody ordered, and stops them all when it is asked to.
//!
//! Everything that happens arrives at one loop, one at a time, so that no order meets a node half way between
//! two states.

use super::control::{Order, Ordered, listen};
use super::directory::{DevCluster, Owned};
use super::process::{LOG, Process, last_words};
use super::ready::{gone, ready_or_asking};
use crate::failure::Failure;
use crate::output::{counted, lines, print_line, table};
use rustix::process::Signal;
use serde_json::{Value as Json, json};
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// What happens.
enum Event {
    /// A node's process ended; the number says which of its lives.
    Ended(usize, u64, ExitStatus),
    /// A node serves, or asks to join.
    Ready(usize, u64),
    /// A node was removed from the cluster and has nothing left to hand over.
    Gone(usize, u64),
}

struct Node {
    process: Option<Process>,
    state: State,
    /// Counts its processes, so that what is told of an earlier one is recognised.
    life: u64,
    /// Who waits for what comes next.
    waiting: Vec<oneshot::Sender<Json>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Running,
    Paused,
    /// Killed by order; its end is awaited.
    Dying,
    Killed,
    /// Ended by itself.
    Dead,
    /// No member any more: it is being stopped, or was.
    Removed,
}

struct Supervisor {
    cluster: DevCluster,
    /// Nodes with this number and above came later, and may never have become members.
    first_nodes: usize,
    json: bool,
    nodes: Vec<Node>,
    events: mpsc::Sender<Event>,
}

/// Runs the cluster until it is told to stop.
pub(super) async fn supervise(cluster: DevCluster, json: bool, owned: Owned) -> Result<(), Failure> {
    let begun = Instant::now();
    let no_signals = |e| Failure::failed(format!("signals cannot be received: {e}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(no_signals)?;
    let (orders_in, mut orders) = mpsc::channel(QUEUE);
    let (events_in, mut events) = mpsc::channel(QUEUE);
    let listening = listen(&cluster, orders_in)?;
    let state = |node| if cluster.is_removed(node) { State::Removed } else { State::Dead };
    let nodes = (0..cluster.nodes()).map(|node| Node::new(state(node))).collect();
    let first_nodes = cluster.first_nodes();
    let mut supervisor = Supervisor { cluster, first_nodes, json, nodes, events: events_in };
    let mut greeted = false;
    let mut result = supervisor.there().into_iter().try_for_each(|node| supervisor.start(node));
    while result.is_ok() {
        tokio::select! {
            Some(event) = events.recv() => result = supervisor.event(event, greeted),
            Some(ordered) = orders.recv() => supervisor.order(ordered),
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = hangup.recv() => break,
        }
        if !greeted && result.is_ok() && supervisor.is_ready() {
            greeted = true;
            result = supervisor.greet(begun.elapsed());
        }
    }
    // The word of a second Ctrl-C is that waiting is over.
    let stopped = tokio::select! {
        () = supervisor.stop(&mut events) => true,
        _ = interrupt.recv() => false,
        _ = terminate.recv() => false,
    };
    if !stopped {
        supervisor
            .nodes
            .iter()
            .filter_map(|node| node.process.as_ref())
            .for_each(|process| process.signal(Signal::KILL));
    }
    drop((listening, owned));
    result
}

impl Supervisor {
    fn start(&mut self, node: usize) -> Result<(), Failure> {
        let (process, mut child) = Process::start(&self.cluster.node_dir(node), node)?;
        let life = self.nodes[node].life + 1;
        self.nodes[node].life = life;
        self.nodes[node].process = Some(process);
        self.nodes[node].state = State::Starting;
        let (events, http) = (self.events.clone(), self.cluster.http(node));
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = child.wait() => ended,
                () = ready_or_asking(&http) => {
                    // The loop is gone only when everything is over.
                    let _over = events.send(Event::Ready(node, life)).await;
                    tokio::select! {
                        ended = child.wait() => ended,
                        () = gone(&http) => {
                            let _over = events.send(Event::Gone(node, life)).await;
                            child.wait().await
                        }
                    }
                }
            };
            let status = ended.unwrap_or_default();
            let _over = events.send(Event::Ended(node, life, status)).await;
        });
        Ok(())
    }

    fn event(&mut self, event: Event, greeted: bool) -> Result<(), Failure> {
        match event {
            Event::Ready(node, life) if life == self.nodes[node].life => {
                if self.nodes[node].state == State::Starting {
                    self.nodes[node].state = State::Running;
                }
                let mut ready = json!({ "ok": format!("node {node} is running") });
                self.describe(node, &mut ready);
                self.answer(node, ready);
            }
            Event::Gone(node, life) if life == self.nodes[node].life => self.gone(node),
            Event::Ended(node, life, status) if life == self.nodes[node].life => {
                self.nodes[node].process = None;
                if self.nodes[node].state == State::Removed {
                    self.answer(node, json!({ "ok": format!("node {node} was stopped: it is removed") }));
                    return self.tell_removed(node);
                }
                if self.nodes[node].state == State::Dying {
                    self.nodes[node].state = State::Killed;
                    self.answer(node, json!({ "ok": format!("node {node} was killed") }));
                    return Ok(());
                }
                self.nodes[node].state = State::Dead;
                return self.died(node, status, greeted);
            }
            Event::Ready(..) | Event::Ended(..) | Event::Gone(..) => {}
        }
        Ok(())
    }

    /// Before the cluster is ready the death of one of its first nodes ends it; afterwards it is news, and the others
    /// go on.
    fn died(&mut self, node: usize, status: ExitStatus, greeted: bool) -> Result<(), Failure> {
        let words = last_words(&self.cluster.node_dir(node));
        let log = self.cluster.node_dir(node).join(LOG);
        let mut told = format!("node {node} ended by itself ({status}); its log is {}", log.display());
        for line in &words {
            told.push_str(&format!("\n  {line}"));
        }
        self.answer(node, json!({ "error": told }));
        if !greeted && node < self.first_nodes {
            return Err(Failure::failed(told));
        }
        if self.json {
            return print_line(
                &json!({ "event": "died", "node": node, "status": status.to_string(), "log": words })
                    .to_string(),
            );
        }
        eprintln!("{told}\n  start it again with: {}", self.command(&format!("start {node}")));
        Ok(())
    }

    /// If it cannot be recorded it runs on, and is gone again after its next start.
    fn gone(&mut self, node: usize) {
        if let Err(failure) = self.stop_for_good(node) {
            eprintln!("node {node} has handed over all it had, and runs on: {}", failure.sentence());
        }
    }

    /// That it never comes back is durable before it is stopped.
    fn stop_for_good(&mut self, node: usize) -> Result<(), Failure> {
        self.cluster.remove(node)?;
        self.nodes[node].state = State::Removed;
        if let Some(process) = &self.nodes[node].process {
            // A paused process hears nothing before it goes on.
            process.signal(Signal::CONT);
            process.signal(Signal::TERM);
        }
        Ok(())
    }

    fn tell_removed(&self, node: usize) -> Result<(), Failure> {
        if self.json {
            return print_line(&json!({ "event": "removed", "node": node }).to_string());
        }
        eprintln!("node {node} was removed: it was stopped, and stays so");
        Ok(())
    }

    /// The nodes that were not removed.
    fn there(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].state != State::Removed).collect()
    }

    /// Whether all nodes serve. One that came later and ended keeps nobody from serving.
    fn is_ready(&self) -> bool {
        self.there().into_iter().all(|node| match self.nodes[node].state {
            State::Running => true,
            State::Dead => node >= self.first_nodes,
            _ => false,
        })
    }

    /// The nodes that serve, but this one.
    fn running_but(&self, but: usize) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|node| *node != but && self.nodes[*node].state == State::Running)
            .collect()
    }

    /// What a node is called, and where the others are through which it can be spoken of.
    fn describe(&self, node: usize, answer: &mut Json) {
        answer["node"] = node.into();
        answer["name"] = format!("node-{node}").into();
        answer["running"] = self.nodes[node].process.is_some().into();
        let others = self.running_but(node);
        answer["through"] =
            others.iter().map(|other| format!("http://{}", self.cluster.http(*other))).collect();
    }

    fn answer(&mut self, node: usize, answer: Json) {
        for waiting in self.nodes[node].waiting.drain(..) {
            // Who asked may have gone.
            let _gone = waiting.send(answer.clone());
        }
    }

    fn order(&mut self, (order, answer): Ordered) {
        let (now, node) = match order {
            Order::Status => (Some(json!({ "dir": self.cluster.dir, "nodes": self.status() })), 0),
            Order::Add(zone) => match self.add(zone.as_deref()) {
                Ok(node) => (None, node),
                Err(failure) => (Some(json!({ "error": failure.sentence() })), 0),
            },
            Order::Remove(node)
            | Order::Forget(node)
            | Order::Kill(node)
            | Order::Start(node)
            | Order::Pause(node)
            | Order::Resume(node)
                if node >= self.nodes.len() =>
            {
                let last = self.nodes.len() - 1;
                let none = format!("there is no node {node}: this cluster has 0 to {last}");
                (Some(json!({ "error": none })), node)
            }
            Order::Remove(node) => (Some(self.remove(node)), node),
            Order::Forget(node) => (self.forget(node), node),
            Order::Kill(node) => (self.kill(node), node),
            Order::Start(node) => (self.start_again(node), node),
            Order::Pause(node) => (Some(self.pause(node)), node),
            Order::Resume(node) => (Some(self.resume(node)), node),
        };
        match now {
            Some(now) => drop(answer.send(now)),
            None => self.nodes[node].waiting.push(answer),
        }
    }

    /// Makes and starts another node; whoever ordered it is answered when it is there.
    fn add(&mut self, zone: Option<&str>) -> Result<usize, Failure> {
        let running = self.running_but(self.nodes.len());
        if running.is_empty() {
            return Err(Failure::failed("no node runs that another could join: start one first"));
        }
        let seeds: Vec<String> = running.into_iter().map(|node| self.cluster.peer(node)).collect();
        let node = self.cluster.add(zone, &seeds)?;
        self.nodes.push(Node::new(State::Dead));
        self.start(node)?;
        Ok(node)
    }

    /// The node itself is stopped when it is gone; until then others, and it, serve as ever.
    fn remove(&self, node: usize) -> Json {
        if self.nodes[node].state == State::Removed {
            return json!({ "error": format!("node {node} was removed already") });
        }
        if self.running_but(node).is_empty() {
            return json!({ "error": format!("no other node runs to which node {node} could hand over what it has") });
        }
        let mut found = json!({ "ok": format!("node {node} can be told to leave") });
        self.describe(node, &mut found);
        found
    }

    /// Of a node that is no member.
    fn forget(&mut self, node: usize) -> Option<Json> {
        if self.nodes[node].state == State::Removed {
            return Some(json!({ "error": format!("node {node} was removed already") }));
        }
        match self.stop_for_good(node) {
            Err(failure) => Some(json!({ "error": failure.sentence() })),
            Ok(()) if self.nodes[node].process.is_some() => None,
            Ok(()) => Some(json!({ "ok": format!("node {node} stays stopped: it is removed") })),
        }
    }

    /// `None` if the answer comes when it is done; so with all orders.
    fn kill(&mut self, node: usize) -> Option<Json> {
        match &self.nodes[node].process {
            Some(process) => {
                process.signal(Signal::KILL);
                if self.nodes[node].state != State::Removed {
                    self.nodes[node].state = State::Dying;
                }
                None
            }
            None => Some(json!({ "error": format!("node {node} is not running") })),
        }
    }

    fn start_again(&mut self, node: usize) -> Option<Json> {
        if self.nodes[node].process.is_some() {
            return Some(json!({ "error": format!("node {node} is running already") }));
        }
        if self.nodes[node].state == State::Removed {
            let add = self.command("add");
            return Some(
                json!({ "error": format!("node {node} was removed for good: a new one comes with `{add}`") }),
            );
        }
        self.start(node).err().map(|failure| json!({ "error": failure.sentence() }))
    }

    fn pause(&mut self, node: usize) -> Json {
        match (&self.nodes[node].process, self.nodes[node].state) {
            (Some(process), State::Running) => {
                process.signal(Signal::STOP);
                self.nodes[node].state = State::Paused;
                json!({ "ok": format!("node {node} is paused") })
            }
            (Some(_), State::Paused) => json!({ "error": format!("node {node} is paused already") }),
            (Some(_), State::Starting) => json!({ "error": format!("node {node} is still starting") }),
            _ => json!({ "error": format!("node {node} is not running") }),
        }
    }

    fn resume(&mut self, node: usize) -> Json {
        match (&self.nodes[node].process, self.nodes[node].state) {
            (Some(process), State::Paused) => {
                process.signal(Signal::CONT);
                self.nodes[node].state = State::Running;
                json!({ "ok": format!("node {node} goes on") })
            }
            _ => json!({ "error": format!("node {node} is not paused") }),
        }
    }

    fn status(&self) -> Vec<Json> {
        let of = |(at, node): (usize, &Node)| {
            json!({
                "node": at,
                "process": node.state.as_str(),
                "pid": node.process.as_ref().map(Process::pid),
                "http": format!("http://{}", self.cluster.http(at)),
                "resp": format!("redis://{}", self.cluster.resp(at)),
                "peer": self.cluster.peer(at),
            })
        };
        self.nodes.iter().enumerate().map(of).collect()
    }

    fn greet(&self, time: Duration) -> Result<(), Failure> {
        if self.json {
            let ready = json!({ "event": "ready", "dir": self.cluster.dir, "nodes": self.status() });
            return print_line(&ready.to_string());
        }
        let mut nodes = table(["NODE", "HTTP", "REDIS", "PEERS"]);
        let there = self.there();
        for node in self.status().into_iter().filter(|node| node["process"] != State::Removed.as_str()) {
            nodes.add_row(["node", "http", "resp", "peer"].map(|key| node[key].to_string().replace('"', "")));
        }
        // A cluster keeps as many members as it keeps copies: it has one at least.
        let (first, last) = (there.first().copied().unwrap_or(0), there.last().copied().unwrap_or(0));
        let example = there.get(1).copied().unwrap_or(first);
        let to_default = self.cluster.http(first) == "127.0.0.1:7400";
        let node =
            if to_default { String::new() } else { format!(" --node http://{}", self.cluster.http(first)) };
        print_line(&format!(
            "{} in {}, ready in {:.1} s\n\n{}\n\nTry\n  curl -X PUT -d pen http://{}/v1/kv/carts/u42\n  curl -i http://{}/v1/kv/carts/u42\n  \
             redis-cli -p {} set greeting hello\n  gramme import FILE.tsv --bucket packages --key COLUMN{node}\n  gramme status{node}\n  {}\n\n\
             Ctrl-C stops all nodes; {} keeps the data.",
            counted(there.len() as u64, "node", "nodes"),
            self.cluster.dir.display(),
            time.as_secs_f64(),
            lines(&nodes),
            self.cluster.http(first),
            self.cluster.http(last),
            self.cluster.resp(example).rsplit_once(':').map_or("", |(_, port)| port),
            self.command(&format!("kill {example}")),
            self.cluster.dir.display(),
        ))
    }

    /// A `gramme dev` order for this directory, as it is typed.
    fn command(&self, order: &str) -> String {
        let dir = &self.cluster.dir;
        match dir.to_str() {
            Some("gramme-dev") => format!("gramme dev {order}"),
            _ => format!("gramme dev {order} --dir {}", dir.display()),
        }
    }

    /// Stops all nodes: politely, then, should one not end in time, at once.
    async fn stop(&mut self, events: &mut mpsc::Receiver<Event>) {
        for process in self.nodes.iter().filter_map(|node| node.process.as_ref()) {
            // A paused process hears nothing before it goes on.
            process.signal(Signal::CONT);
            process.signal(Signal::TERM);
        }
        if timeout(POLITE, self.all_ended(events)).await.is_err() {
            for (at, node) in self.nodes.iter().enumerate() {
                if let Some(process) = &node.process {
                    eprintln!("node {at} did not stop within {} s and is killed", POLITE.as_secs());
                    process.signal(Signal::KILL);
                }
            }
            self.all_ended(events).await;
        }
    }

    async fn all_ended(&mut self, events: &mut mpsc::Receiver<Event>) {
        while self.nodes.iter().any(|node| node.process.is_some()) {
            if let Some(Event::Ended(node, life, _)) = events.recv().await
                && self.nodes[node].life == life
            {
                self.nodes[node].process = None;
            }
        }
    }
}

impl Node {
    fn new(state: State) -> Node {
        Node { process: None, state, life: 0, waiting: Vec::new() }
    }
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Running => "running",
            State::Paused => "paused",
            State::Dying | State::Killed => "killed",
            State::Dead => "ended",
            State::Removed => "removed",
        }
    }
}

/// Beyond it whoever tells or orders waits.
const QUEUE: usize = 64;
/// A server's own time to drain, and some more.
const POLITE: Duration = Duration::from_secs(10);
