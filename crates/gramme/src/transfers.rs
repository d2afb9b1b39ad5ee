//! `gramme transfers`: what comes to each node and what it hands over because the ring changes; pausing and resuming it.

use crate::changing::{arrived, coming};
use crate::failure::Failure;
use crate::nodes::Nodes;
use crate::output::{counted, grouped, lines, print_json, print_line, table};
use crate::status::word;
use clap::{Args, Subcommand};
use gramme_client::{Client, Error};
use gramme_server::figures::{bytes, span};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  gramme transfers\n  gramme transfers --watch\n  gramme transfers pause; gramme transfers resume\n\nBytes are those since a node started. How long it still takes is an estimate."
)]
pub(crate) struct Transfers {
    #[command(subcommand)]
    order: Option<Order>,
    /// Look again every second, until Ctrl-C
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Subcommand)]
enum Order {
    /// Pause all transfers at all nodes; what came stays
    #[command(after_help = "Example:\n  gramme transfers pause")]
    Pause(How),
    /// Let them go on
    #[command(after_help = "Example:\n  gramme transfers resume")]
    Resume(How),
}

#[derive(Args)]
struct How {
    /// Print what each node says, as JSON; one line per look with --watch
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

impl Transfers {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.order {
            Some(Order::Pause(how)) => how.pause(true),
            Some(Order::Resume(how)) => how.pause(false),
            None => self.how.nodes.clone().with_client(|client| async move {
                if self.watch {
                    watch(&client, self.how.json).await
                } else {
                    self.how.show(look(&client).await?)
                }
            }),
        }
    }
}

impl How {
    fn show(&self, told: Told) -> Result<(), Failure> {
        if self.json { print_json(&told.json()) } else { print_line(&told.screen()) }
    }

    fn pause(self, paused: bool) -> Result<(), Failure> {
        self.nodes.clone().with_client(|client| async move {
            let told = Told::of(client.pause_transfers(paused).await?, &client.statuses().await)?;
            let left_out = counted(told.silent.len() as u64, "node", "nodes");
            let is_whole = told.silent.is_empty();
            self.show(told)?;
            if is_whole {
                return Ok(());
            }
            let word = if paused { "pause" } else { "resume" };
            Err(Failure::failed(format!(
                "{left_out} did not answer: give the order again with `gramme transfers {word}` once they do"
            )))
        })
    }
}

async fn look(client: &Client) -> Result<Told, Failure> {
    let (transfers, statuses) = tokio::join!(client.transfers(), client.statuses());
    Told::of(transfers, &statuses)
}

/// Looks every second: bars on a terminal, else the table, or a line of JSON, whenever it is another than before.
async fn watch(client: &Client, json: bool) -> Result<(), Failure> {
    // Whoever reaches nobody at first is told so in a sentence.
    let mut told = look(client).await?;
    let mut bars = (!json && std::io::stderr().is_terminal()).then(Bars::default);
    let mut shown = String::new();
    loop {
        let text = if json { told.json().to_string() } else { told.screen() };
        match &mut bars {
            Some(bars) => bars.show(&told),
            None if text != shown => print_line(&text)?,
            None => {}
        }
        shown = text;
        tokio::time::sleep(LOOK).await;
        match look(client).await {
            Ok(next) => told = next,
            // They may be back at the next look; until then the last answer stands.
            Err(failure) => eprintln!("{}", failure.sentence()),
        }
    }
}

/// A bar for each node.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    nodes: BTreeMap<String, ProgressBar>,
}

impl Bars {
    fn show(&mut self, told: &Told) {
        for (name, bar) in &self.nodes {
            if told.nodes.iter().all(|node| node.name != *name) {
                bar.set_message("does not answer");
            }
        }
        for node in &told.nodes {
            let bar = self.nodes.entry(node.name.clone()).or_insert_with(|| {
                let style = ProgressStyle::with_template("{prefix:12} {bar:32} {pos}/{len}  {msg}");
                let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
                self.all.add(ProgressBar::new(0).with_style(style).with_prefix(node.name.clone()))
            });
            bar.set_length(node.arrived + node.coming);
            bar.set_position(node.arrived);
            bar.set_message(node.words());
        }
    }
}

/// What the nodes say.
struct Told {
    /// In order of name.
    nodes: Vec<Node>,
    /// Addresses of those that say nothing, and why.
    silent: Vec<(String, String)>,
}

/// What one node says.
struct Node {
    name: String,
    says: Json,
    arrived: u64,
    coming: u64,
    bytes_per_s: u64,
    /// What is still to come, if replicas are as large as they are on average.
    left_bytes: Option<u64>,
}

impl Told {
    fn of(
        answers: Vec<(String, Result<Json, Error>)>,
        statuses: &[(String, Result<Json, Error>)],
    ) -> Result<Told, Failure> {
        let size = replica_bytes(statuses.iter().filter_map(|(_, status)| status.as_ref().ok()));
        let mut told = Told { nodes: Vec::new(), silent: Vec::new() };
        let mut first = None;
        for (address, answer) in answers {
            match answer {
                Ok(says) => told.nodes.push(Node::of(says, size)),
                Err(why) => {
                    told.silent.push((address, why.to_string()));
                    first.get_or_insert(why);
                }
            }
        }
        told.nodes.sort_by(|a, b| a.name.cmp(&b.name));
        match first {
            Some(why) if told.nodes.is_empty() => Err(why.into()),
            _ => Ok(told),
        }
    }

    fn json(&self) -> Json {
        let node = |node: &Node| {
            let mut says = node.says.clone();
            says["left_bytes"] = node.left_bytes.into();
            says["left_s"] = node.left_s().into();
            says
        };
        let silent = self.silent.iter().map(|(node, why)| json!({ "node": node, "why": why }));
        json!({ "nodes": self.nodes.iter().map(node).collect::<Vec<_>>(), "silent": silent.collect::<Vec<_>>() })
    }

    fn screen(&self) -> String {
        let mut rows = table([
            "NODE",
            "PARTITIONS THERE",
            "BYTES",
            "RATE",
            "LEFT",
            "WAITING FOR",
            "HANDING OVER",
            "STATE",
        ]);
        self.nodes.iter().for_each(|node| {
            rows.add_row(node.row());
        });
        // What broke on the way names the address itself.
        let silent = self.silent.iter().map(|(node, why)| match why.strip_prefix(node.as_str()) {
            Some(_) => format!("\nwarning  {why}"),
            None => format!("\nwarning  {node}: {why}"),
        });
        silent.fold(lines(&rows), |text, line| text + &line)
    }
}

impl Node {
    fn of(says: Json, replica_bytes: Option<u64>) -> Node {
        let incoming = says["incoming"].as_array().map_or(&[][..], Vec::as_slice);
        let came: u64 = incoming.iter().filter_map(|one| one["bytes"].as_u64()).sum();
        let left_bytes = replica_bytes.map(|bytes| (bytes * incoming.len() as u64).saturating_sub(came));
        Node {
            name: word(&says["name"]),
            arrived: arrived(&says),
            coming: coming(&says),
            bytes_per_s: says["bytes_per_s"].as_u64().unwrap_or(0),
            left_bytes,
            says,
        }
    }

    fn left_s(&self) -> Option<u64> {
        match self.coming {
            0 => None,
            _ => self.left_bytes?.checked_div(self.bytes_per_s),
        }
    }

    fn state(&self) -> &'static str {
        let handing_over = self.says["outgoing"].as_array().is_some_and(|outgoing| !outgoing.is_empty());
        match (self.says["paused"] == true, self.coming > 0, handing_over) {
            (true, ..) => "paused",
            (_, true, _) => "filling",
            (_, false, true) => "handing over",
            _ => "at rest",
        }
    }

    fn row(&self) -> [String; 8] {
        let outgoing = self.says["outgoing"].as_array().map_or(0, Vec::len) as u64;
        let all = self.arrived + self.coming;
        [
            self.name.clone(),
            if all == 0 {
                "-".to_string()
            } else {
                format!("{} {}/{all}", bar(self.arrived, all), self.arrived)
            },
            bytes(self.says["bytes"].as_u64().unwrap_or(0)),
            if self.bytes_per_s == 0 { "-".to_string() } else { format!("{}/s", bytes(self.bytes_per_s)) },
            self.left_s().map_or_else(|| "-".to_string(), |seconds| format!("about {}", span(seconds))),
            self.awaited("from"),
            match outgoing {
                0 => "-".to_string(),
                some => format!("{}, to {}", grouped(some), self.awaited("to")),
            },
            self.state().to_string(),
        ]
    }

    /// Whom something is awaited of, and in how many partitions.
    fn awaited(&self, whom: &str) -> String {
        let of = |node: &Json| format!("{} ({})", word(&node["name"]), node["partitions"]);
        let all: Vec<String> = self.says[whom].as_array().into_iter().flatten().map(of).collect();
        if all.is_empty() { "-".to_string() } else { all.join(", ") }
    }

    /// What is said beside its bar.
    fn words(&self) -> String {
        let [_, _, bytes, rate, left, from, _, state] = self.row();
        let mut parts = vec![state];
        parts.extend((rate != "-").then_some(format!("{bytes}, {rate}")));
        parts.extend((left != "-").then(|| format!("{left} left")));
        parts.extend((from != "-").then(|| format!("waiting for {from}")));
        parts.join("  ")
    }
}

/// What a replica takes on average over all nodes that have some.
fn replica_bytes<'s>(statuses: impl Iterator<Item = &'s Json>) -> Option<u64> {
    let (mut stored, mut homes) = (0, 0);
    for status in statuses {
        let count = status["node"]["homes"].as_u64().unwrap_or(0);
        if count > 0 {
            stored += status["store"]["stored_bytes"].as_u64().unwrap_or(0);
            homes += count;
        }
    }
    stored.checked_div(homes)
}

fn bar(done: u64, of: u64) -> String {
    let full = (done * BAR / of.max(1)) as usize;
    format!("[{}{}]", "#".repeat(full), ".".repeat(BAR as usize - full))
}

/// Characters of a bar in the table.
const BAR: u64 = 12;
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Told {
        let n4 = json!({
            "node": "04", "name": "n4", "paused": false, "arrived": 48, "bytes": 3_145_728, "bytes_per_s": 1024,
            "from": [{ "name": "n2", "partitions": 2 }, { "name": "n3", "partitions": 1 }], "to": [],
            "incoming": [{ "bytes": 4096 }, { "bytes": 0 }], "outgoing": [],
        });
        let n1 = json!({
            "node": "01", "name": "n1", "paused": true, "arrived": 0, "bytes": 0, "bytes_per_s": 0, "from": [],
            "to": [{ "name": "n4", "partitions": 3 }], "incoming": [], "outgoing": [{}, {}, {}],
        });
        let status = json!({ "node": { "homes": 64 }, "store": { "stored_bytes": 64 * 8192 } });
        let answers = vec![("http://h:4".to_string(), Ok(n4)), ("http://h:1".to_string(), Ok(n1))];
        Told::of(answers, &[("http://h:1".to_string(), Ok(status))])
            .unwrap_or_else(|failure| panic!("{}", failure.sentence()))
    }

    #[test]
    fn each_node_tells_what_comes_and_what_it_hands_over() {
        let expected = "\
            NODE  PARTITIONS THERE      BYTES    RATE       LEFT        WAITING FOR     HANDING OVER  STATE\n\
            n1    -                     0 B      -          -           -               3, to n4 (3)  paused\n\
            n4    [###########.] 48/50  3.0 MiB  1.0 KiB/s  about 12 s  n2 (2), n3 (1)  -             filling";
        assert_eq!(told().screen(), expected);
        assert_eq!(
            told().nodes[1].words(),
            "filling  3.0 MiB, 1.0 KiB/s  about 12 s left  waiting for n2 (2), n3 (1)"
        );
    }

    #[test]
    fn programs_are_told_what_is_left_too() {
        let json = told().json();
        assert_eq!(
            (&json["nodes"][1]["left_bytes"], &json["nodes"][1]["left_s"]),
            (&12_288.into(), &12.into())
        );
        assert_eq!(json["nodes"][0]["left_s"], Json::Null);
        assert_eq!(json["silent"], json!([]));
    }
}
