//! `gramme repair`: how the copies of every partition compare, and what can be started by hand. Every member is asked
//! for itself; what was started goes on by itself, and this command only watches.

use crate::failure::Failure;
use crate::nodes::Nodes;
use crate::output::{counted, grouped, lines, print_json, print_line, table};
use clap::{Args, Subcommand};
use gramme_client::{Client, Error};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme repair status\n  gramme repair now\n  gramme repair verify carts\n  gramme repair verify --all\n\nAll of it happens by itself too: this is for looking, and for the impatient."
)]
pub(crate) struct Repair {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// How each node's partitions compare with their other homes
    #[command(after_help = "Example:\n  gramme repair status")]
    Status(Look),
    /// Compare everything with everyone now, and repair what differs
    #[command(after_help = "Example:\n  gramme repair now --wait 120")]
    Now(Now),
    /// Reread a bucket on all of its homes, or everything
    #[command(after_help = "Examples:\n  gramme repair verify carts\n  gramme repair verify --all")]
    Verify(Verify),
}

#[derive(Args)]
struct Look {
    /// Print what each node says, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

#[derive(Args)]
struct Now {
    /// How long to watch, in seconds; what was started goes on after that
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    /// Print what each node says in the end, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

#[derive(Args)]
struct Verify {
    /// The bucket
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    bucket: Option<String>,
    /// Everything, and every hash tree is built anew
    #[arg(long)]
    all: bool,
    /// Print what each node says in the end, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

impl Repair {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Status(look) => look.nodes.clone().with_client(|client| async move {
                let told = Told::of(client.repairs().await)?;
                if look.json { print_json(&told.json()) } else { print_line(&told.screen()) }
            }),
            Action::Now(now) => {
                now.nodes.clone().with_client(|client| async move { now.watch(&client).await })
            }
            Action::Verify(verify) => {
                verify.nodes.clone().with_client(|client| async move { verify.watch(&client).await })
            }
        }
    }
}

impl Now {
    async fn watch(&self, client: &Client) -> Result<(), Failure> {
        let until = Instant::now() + Duration::from_secs(self.wait);
        let mut told = Told::of(client.repair_now().await)?;
        let mut shown = None;
        loop {
            let left = told.waiting();
            if !self.json && shown != Some(left) {
                eprintln!("{} to be compared", counted(left, "copy", "copies"));
                shown = Some(left);
            }
            if left == 0 || Instant::now() >= until {
                break;
            }
            tokio::time::sleep(LOOK).await;
            told = Told::of(client.repairs().await)?;
        }
        if self.json {
            return print_json(&told.json());
        }
        print_line(&told.screen())?;
        match told.waiting() {
            0 => Ok(()),
            left => Err(Failure::failed(format!(
                "{} could not be compared within {} s, and will be: look at `gramme repair status`",
                counted(left, "copy", "copies"),
                self.wait
            ))),
        }
    }
}

impl Verify {
    async fn watch(&self, client: &Client) -> Result<(), Failure> {
        let mut told = Told::of(client.repair_verify(self.bucket.as_deref()).await)?;
        let mut shown = 0;
        while told.verifying() {
            tokio::time::sleep(LOOK).await;
            told = Told::of(client.repairs().await)?;
            let (done, of) = (told.verified("done"), told.verified("of"));
            if !self.json && done > shown {
                eprintln!("{} of {} partitions read", grouped(done), grouped(of));
                shown = done;
            }
        }
        if self.json {
            return print_json(&told.json());
        }
        print_line(&told.verdict())?;
        let (corrupt, failed) = (told.verified("corrupt"), told.verified("failed"));
        if corrupt + failed == 0 && told.silent.is_empty() {
            return Ok(());
        }
        Err(Failure::failed(
            "not everything could be read: what is damaged is mended from its other homes; look at the disks"
                .to_string(),
        ))
    }
}

/// What the nodes say.
struct Told {
    /// By name.
    nodes: BTreeMap<String, Json>,
    /// Addresses of those that say nothing, and why.
    silent: Vec<(String, String)>,
}

impl Told {
    fn of(answers: Vec<(String, Result<Json, Error>)>) -> Result<Told, Failure> {
        let mut told = Told { nodes: BTreeMap::new(), silent: Vec::new() };
        let mut first = None;
        for (address, answer) in answers {
            match answer {
                Ok(status) => {
                    let name = status["name"].as_str().unwrap_or(&address).to_string();
                    told.nodes.insert(name, status);
                }
                Err(why) => {
                    told.silent.push((address, why.to_string()));
                    first.get_or_insert(why);
                }
            }
        }
        match first {
            Some(why) if told.nodes.is_empty() => Err(why.into()),
            _ => Ok(told),
        }
    }

    fn json(&self) -> Json {
        let silent: Vec<Json> =
            self.silent.iter().map(|(node, why)| json!({ "node": node, "why": why })).collect();
        json!({ "nodes": self.nodes.values().collect::<Vec<_>>(), "silent": silent })
    }

    /// Copies that have not been found the same since somebody last asked.
    fn waiting(&self) -> u64 {
        self.nodes.values().map(copies_waiting).sum()
    }

    fn verifying(&self) -> bool {
        self.nodes.values().any(|status| status["verify"]["running"] == true)
    }

    fn verified(&self, what: &str) -> u64 {
        self.nodes.values().filter_map(|status| status["verify"][what].as_u64()).sum()
    }

    fn verdict(&self) -> String {
        let mut rows = table(["NODE", "PARTITIONS", "KEYS", "UNREADABLE", "WRONG TREES", "NOT READ"]);
        for (name, status) in &self.nodes {
            let of = |what: &str| grouped(status["verify"][what].as_u64().unwrap_or(0));
            rows.add_row([
                name.clone(),
                of("done"),
                of("keys"),
                of("corrupt"),
                of("mismatches"),
                of("failed"),
            ]);
        }
        self.with_silent(lines(&rows))
    }

    fn screen(&self) -> String {
        let mut rows = table([
            "NODE",
            "PEER",
            "PARTITIONS",
            "UNSEEN",
            "MISSING FOR",
            "OLDEST AUDIT",
            "NOT AUDITED",
            "DIFFERENT",
        ]);
        let mut remarks = Vec::new();
        for (name, status) in &self.nodes {
            let mut by_peer: BTreeMap<&str, Vec<&Json>> = BTreeMap::new();
            peers(status)
                .for_each(|peer| by_peer.entry(peer["name"].as_str().unwrap_or("-")).or_default().push(peer));
            for (peer, copies) in by_peer {
                rows.add_row(copies_row(name, peer, &copies));
            }
            remarks.extend(remark(name, status));
        }
        let text = self.with_silent(lines(&rows));
        remarks.into_iter().fold(text, |text, remark| text + "\n" + &remark)
    }

    fn with_silent(&self, text: String) -> String {
        let silent = self.silent.iter().map(|(node, why)| format!("\nwarning  {node}: {why}"));
        silent.fold(text, |text, line| text + &line)
    }
}

/// Of one node, copies that have not been found the same since somebody last asked.
pub(crate) fn copies_waiting(status: &Json) -> u64 {
    let asked = status["asked_ms"].as_u64().unwrap_or(u64::MAX);
    let stale = |peer: &&Json| peer["verified_ms"].as_u64().is_none_or(|ago| ago > asked);
    peers(status).filter(stale).count() as u64
}

fn copies_row(name: &str, peer: &str, copies: &[&Json]) -> [String; 8] {
    let greatest = |what: &str| copies.iter().filter_map(|copy| copy[what].as_u64()).max();
    let count = |what: &str| copies.iter().filter(|copy| copy[what].is_u64()).count() as u64;
    let age = |what: &str| greatest(what).map_or_else(|| "-".to_string(), span);
    [
        name.to_string(),
        peer.to_string(),
        grouped(copies.len() as u64),
        grouped(copies.iter().filter_map(|copy| copy["unseen"].as_u64()).sum()),
        age("unseen_ms"),
        age("verified_ms"),
        grouped(copies.len() as u64 - count("verified_ms")),
        grouped(count("differs_ms")),
    ]
}

fn remark(name: &str, status: &Json) -> Vec<String> {
    let of = |wanted: &dyn Fn(&Json) -> bool| {
        let partitions = status["partitions"].as_array().into_iter().flatten();
        partitions.filter(|partition| wanted(partition)).count() as u64
    };
    let mut remarks = Vec::new();
    let mut say = |count: u64, one: &str, many: &str, what: &str| {
        if count > 0 {
            remarks.push(format!("{name}: {} {what}", counted(count, one, many)));
        }
    };
    let refilling = of(&|partition| partition["standing"] == "unproven");
    say(refilling, "partition", "partitions", "refilled from the other homes, or not yet trusted");
    say(of(&|partition| partition["keys"].is_null()), "hash tree", "hash trees", "still to be built");
    let damaged = status["damaged_rows"].as_u64().unwrap_or(0);
    let keys: Vec<String> =
        status["damaged_keys"].as_array().into_iter().flatten().map(damaged_key).collect();
    let of = if keys.is_empty() { String::new() } else { format!(": {}", keys.join(", ")) };
    say(damaged, "row", "rows", &format!("cannot be read and wait to be mended, or written again{of}"));
    let audits = status["audits_waiting"].as_u64().unwrap_or(0);
    say(audits, "copy", "copies", "found different, and waiting for an audit");
    remarks
}

fn damaged_key(key: &Json) -> String {
    let name = key["key"].as_str().or_else(|| key["key_base64"].as_str());
    format!("{}/{}", key["bucket"].as_str().unwrap_or("-"), name.unwrap_or("-"))
}

fn peers(status: &Json) -> impl Iterator<Item = &Json> {
    let partitions = status["partitions"].as_array().into_iter().flatten();
    partitions.flat_map(|partition| partition["peers"].as_array().into_iter().flatten())
}

fn span(ms: u64) -> String {
    match ms / 1000 {
        0 => format!("{ms} ms"),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: &str, asked_ms: Option<u64>, verified_ms: [Option<u64>; 2]) -> Json {
        let peer = |peer: &str, at: usize| json!({ "name": peer, "verified_ms": verified_ms[at], "differs_ms": null, "unseen": 3 * at, "unseen_ms": null });
        json!({
            "name": name, "asked_ms": asked_ms, "damaged_rows": 1, "damaged_keys": [{ "bucket": "carts", "key": "ann" }], "audits_waiting": 0, "verify": null,
            "partitions": [{ "partition": 0, "standing": "continuous", "keys": 7, "peers": [peer("n2", 0), peer("n3", 1)] }],
        })
    }

    fn told(status: Json) -> Told {
        let answers = vec![("http://h:1".to_string(), Ok(status))];
        Told::of(answers).unwrap_or_else(|_| panic!("a node answered"))
    }

    #[test]
    fn a_copy_waits_until_it_was_verified_after_somebody_asked() {
        assert_eq!(told(status("n1", Some(2000), [Some(100), Some(9000)])).waiting(), 1);
        assert_eq!(told(status("n1", Some(2000), [Some(100), None])).waiting(), 1);
        assert_eq!(told(status("n1", Some(2000), [Some(100), Some(1999)])).waiting(), 0);
    }

    #[test]
    fn the_screen_has_a_line_for_each_pair_of_nodes() {
        let screen = told(status("n1", None, [Some(100), None])).screen();
        let expected = "NODE  PEER  PARTITIONS  UNSEEN  MISSING FOR  OLDEST AUDIT  NOT AUDITED  DIFFERENT\n\
            n1    n2    1           0       -            100 ms        0            0\n\
            n1    n3    1           3       -            -             1            0\n\
            n1: 1 row cannot be read and wait to be mended, or written again: carts/ann";
        assert_eq!(screen, expected);
    }
}
