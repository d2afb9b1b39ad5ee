//! `gramme status`: how the cluster is, on one screen. Every member is asked for itself, so that each line is
//! that node's own word; who does not answer is shown as what the asked node thinks of it.

use crate::failure::Failure;
use crate::nodes::Nodes;
use crate::output::{counted, lines, print_json, print_line, table};
use clap::Args;
use gramme_client::{Client, Error};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

#[derive(Args)]
#[command(after_help = "Examples:\n  gramme status\n  gramme status --node http://127.0.0.1:7410 --json")]
pub(crate) struct Status {
    /// Print what each node says, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

impl Status {
    pub(crate) fn run(self) -> Result<(), Failure> {
        self.nodes.clone().with_client(|client| async move { self.show(&client).await })
    }

    async fn show(&self, client: &Client) -> Result<(), Failure> {
        let asked = client.status().await?;
        let told: BTreeMap<String, Result<Json, Error>> = client.statuses().await.into_iter().collect();
        let members = members(&asked, &told);
        if self.json {
            let nodes: Vec<Json> = members
                .iter()
                .map(|member| json!({ "name": member.name, "state": member.state, "says": member.says }))
                .collect();
            return print_json(
                &json!({ "verdict": verdict(&asked, &members), "asked": asked, "nodes": nodes }),
            );
        }
        print_line(&screen(&asked, &members))
    }
}

/// One line of the screen.
struct Member<'a> {
    name: String,
    /// As the asked node describes it.
    described: &'a Json,
    /// Its own status, if it gave one.
    says: Option<&'a Json>,
    state: &'static str,
}

fn members<'a>(asked: &'a Json, told: &'a BTreeMap<String, Result<Json, Error>>) -> Vec<Member<'a>> {
    let described = asked["members"].as_array().into_iter().flatten();
    let mut members: Vec<Member<'a>> = described
        .map(|described| {
            let address = format!("http://{}", described["http"].as_str().unwrap_or_default());
            let answer = told.get(&address);
            let says = answer.and_then(|status| status.as_ref().ok());
            Member { name: word(&described["name"]), described, says, state: state(described, says) }
        })
        .collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    members
}

fn state(described: &Json, says: Option<&Json>) -> &'static str {
    let Some(says) = says else {
        // Its peers may still reach a node whose HTTP door we do not.
        return if described["health"] == "down" { "down" } else { "no answer" };
    };
    if says["store"]["broken"].is_string() {
        "broken"
    } else if says["store"]["full"] == true {
        "full"
    } else if says["node"]["draining"] == true {
        "stopping"
    } else if described["health"] == "down" {
        "cut off"
    } else if says["node"]["standing"] == "unproven" {
        "unproven"
    } else if described["degraded"] == true {
        "slow"
    } else if described["health"] == "suspect" {
        "suspect"
    } else if says["node"]["disk_stalls"] == true {
        "disk stalls"
    } else {
        "up"
    }
}

/// Green serves as it should, yellow serves or will soon, red does not.
fn colour(state: &str) -> &'static str {
    match state {
        "up" => "green",
        "down" | "cut off" | "broken" => "red",
        _ => "yellow",
    }
}

fn serves(state: &str) -> bool {
    matches!(state, "up" | "slow" | "disk stalls" | "suspect" | "full")
}

/// What may still fail: of a key's N homes a majority must answer, whichever nodes they are.
fn verdict(asked: &Json, members: &[Member<'_>]) -> String {
    let n = asked["layout"]["n"].as_u64().unwrap_or(1);
    let lost = members.iter().filter(|member| !serves(member.state)).count() as u64;
    let of_all =
        format!("{} of {} up", members.len() as u64 - lost, counted(members.len() as u64, "node", "nodes"));
    let spare = (n - n / 2 - 1).checked_sub(lost);
    match (lost, spare) {
        (0, Some(0)) => format!("HEALTHY   {of_all}; with N={n} no node may fail without failing requests"),
        (0, Some(spare)) => {
            format!("HEALTHY   {of_all}; any {spare} may fail without failing a request at quorum")
        }
        (_, Some(0)) => format!("DEGRADED  {of_all}; requests at quorum go on, but no further node may fail"),
        (_, Some(spare)) => {
            format!("DEGRADED  {of_all}; any {spare} more may fail without failing a request at quorum")
        }
        (_, None) if members.len() as u64 - lost <= n / 2 => {
            format!(
                "CRITICAL  {of_all}; too few for a quorum: only requests for fewer answers, as r=1 and w=1, go on"
            )
        }
        (_, None) => format!("CRITICAL  {of_all}; keys whose homes are mostly down cannot be read at quorum"),
    }
}

fn screen(asked: &Json, members: &[Member<'_>]) -> String {
    let layout = &asked["layout"];
    let zones: std::collections::BTreeSet<&str> =
        members.iter().filter_map(|member| member.described["zone"].as_str()).collect();
    let mut text = format!(
        "{}\ncluster {}  v{}   {}, {}, {} partitions, N={}\n",
        verdict(asked, members),
        word(&asked["cluster"]),
        word(&asked["version"]),
        counted(zones.len() as u64, "zone", "zones"),
        counted(members.len() as u64, "node", "nodes"),
        layout["partitions"],
        layout["n"],
    );
    let slots = layout["n"].as_f64().unwrap_or(1.0) * layout["partitions"].as_f64().unwrap_or(1.0);
    let mut nodes =
        table(["NODE", "ZONE", "STATE", "OWNS", "STORED", "HINTS", "IN FLIGHT", "P99", "FSYNC", "UPTIME"]);
    for member in members {
        let own = |section: &str, key: &str, shown: fn(u64) -> String| {
            member.says.and_then(|says| says[section][key].as_u64()).map_or_else(|| "-".to_string(), shown)
        };
        let star = if member.described["self"] == true { "*" } else { "" };
        nodes.add_row([
            format!("{}{star}", member.name),
            word(&member.described["zone"]),
            format!("{} {}", colour(member.state), member.state),
            format!("{:.1}%", member.described["slots"].as_f64().unwrap_or(0.0) * 100.0 / slots),
            own("store", "stored_bytes", bytes),
            own("node", "hints", |hints| hints.to_string()),
            own("node", "in_flight", |calls| calls.to_string()),
            // Of one that is down it is what it once was.
            member.described["p99_us"]
                .as_u64()
                .filter(|us| *us > 0 && member.state != "down")
                .map_or_else(|| "-".to_string(), micros),
            own("store", "sync_mean_us", micros),
            own("node", "uptime_ms", |ms| span(ms / 1000)),
        ]);
    }
    text.push_str(&lines(&nodes));
    for member in members {
        let copies = layout["n"].as_u64().unwrap_or(0);
        let has_fallbacks = (members.len() as u64) > copies;
        text.extend(
            warning(member, has_fallbacks, copies)
                .map(|words| format!("\nwarning  {}: {words}", member.name)),
        );
    }
    text.push_str("\n* was asked; P99 is how long it waits for each of the others");
    text
}

fn warning(member: &Member<'_>, has_fallbacks: bool, copies: u64) -> Option<String> {
    match member.state {
        "down" if !has_fallbacks => Some(
            "it is down; every node is a home of every key, so what it misses is repaired when read"
                .to_string(),
        ),
        "down" => Some(
            "it is down; other nodes take its place, keep what it misses as hints, and hand them over when it is back"
                .to_string(),
        ),
        "cut off" => Some("its HTTP door answers us, but the asked node does not reach it".to_string()),
        "no answer" => Some("the asked node reaches it, but its HTTP door does not answer us".to_string()),
        "unproven" if !refilling(member.says?).is_empty() => Some(format!(
            "it lost something: what it holds counts, what it lacks proves nothing, and it is being refilled: {}",
            refilling(member.says?)
        )),
        "unproven" if member.says?["node"]["trust"] != "proving" => {
            Some("it has just started, and asks the others what they remember of it".to_string())
        }
        "unproven" => Some("its store is new, and it has not yet met every other member with it".to_string()),
        "slow" => Some(
            "it is over ten times slower than its neighbours, or fails where they do not: it is read last, coordinates nothing and still gets every write".to_string(),
        ),
        "disk stalls" => Some("its own syncs take over ten times as long as usual".to_string()),
        "broken" => Some(format!("its store is broken: {}", word(&member.says?["store"]["broken"]))),
        "full" => Some(
            "its disk has no room: it answers reads, other nodes take its writes, and it takes writes again once there is space"
                .to_string(),
        ),
        _ if member.says?["store"]["damaged_rows"].as_u64() > Some(0) => Some(format!(
            "{} of its rows cannot be read; {}: look at the disk",
            member.says?["store"]["damaged_rows"],
            if copies == 1 {
                "there is no other copy of them, and their keys must be written again; `gramme repair status` names some"
            } else {
                "other nodes answer for them, and they are mended from there"
            }
        )),
        _ if member.says?["store"]["damaged_partitions"].as_u64() > Some(0) => Some(format!(
            "parts of its store cannot be read, in {}; {}",
            counted(
                member.says?["store"]["damaged_partitions"].as_u64().unwrap_or(0),
                "partition",
                "partitions"
            ),
            if copies == 1 {
                "there is no other copy of them, so lists and backups of them are refused: move its data directory away, start it, and restore from a backup"
            } else {
                "other nodes answer for them, but who wants everything from this node waits: stop it, move its data directory away and start it, and it is refilled"
            }
        )),
        _ => hints(member.says?)
            .or_else(|| lag(member.says?))
            .or_else(|| tombstones(member.says?))
            .or_else(|| audits(member.says?)),
    }
}

/// Hints that are many, or that nobody has come for.
fn hints(says: &Json) -> Option<String> {
    let figure = |key: &str| says["node"][key].as_u64().unwrap_or(0);
    let (held, max) = (figure("hint_bytes"), figure("hint_bytes_max"));
    let old_ms = figure("hint_oldest_ms");
    if says["node"]["hint_alarm"] == true {
        return Some(format!(
            "it keeps {} of at most {} for nodes that are away; beyond that it keeps nothing more for them: bring them back, or raise storage.hints_mb",
            bytes(held),
            bytes(max)
        ));
    }
    (old_ms >= HINTS_OLD_MS).then(|| {
        format!(
            "it has kept {} for {} for nodes that are away: bring them back",
            counted(figure("hints"), "hint", "hints"),
            span(old_ms / 1000)
        )
    })
}

/// Tombstones that cannot go, and for whom they wait.
fn tombstones(says: &Json) -> Option<String> {
    let blocking: Vec<&str> =
        says["store"]["reclaim_blocked_by"].as_array()?.iter().filter_map(Json::as_str).collect();
    let count = says["store"]["tombstones"].as_u64().filter(|count| *count > 0)?;
    (!blocking.is_empty()).then(|| {
        format!(
            "it keeps {} until {} has seen them: a node that is down must come back for that",
            counted(count, "tombstone", "tombstones"),
            blocking.join(" and ")
        )
    })
}

/// Hints this old want somebody to look.
const HINTS_OLD_MS: u64 = 3_600_000;

/// Which partitions are being refilled, and whose content they still lack.
fn refilling(says: &Json) -> String {
    let partitions = says["refilling"].as_array().map_or(&[][..], Vec::as_slice);
    let from: std::collections::BTreeSet<&str> = partitions
        .iter()
        .flat_map(|partition| partition["from"].as_array().into_iter().flatten())
        .filter_map(Json::as_str)
        .collect();
    if partitions.is_empty() {
        return String::new();
    }
    let from: Vec<&str> = from.into_iter().collect();
    format!(
        "{} still want what {} hold",
        counted(partitions.len() as u64, "partition", "partitions"),
        from.join(", ")
    )
}

/// Homes of a partition that agree compare every few seconds; one that has long lacked something is worth a word.
fn lag(says: &Json) -> Option<String> {
    let behind = says["behind"].as_array()?;
    let known_for = |lag: &&Json| lag["known_for_ms"].as_u64().unwrap_or(0);
    let longest = behind.iter().max_by_key(known_for).filter(|lag| known_for(lag) > LAG_MS)?;
    let unseen: u64 = behind.iter().filter_map(|lag| lag["unseen"].as_u64()).sum();
    Some(format!(
        "it has not seen {} that other homes have; {} has had some for {}",
        counted(unseen, "write", "writes"),
        word(&longest["peer"]),
        span(known_for(&longest) / 1000)
    ))
}

/// Audits are regular; one that is long overdue means that two homes cannot compare what they hold.
fn audits(says: &Json) -> Option<String> {
    let figure = |key: &str| says["audits"][key].as_u64();
    let oldest_ms = figure("oldest_ms")?;
    let is_overdue = oldest_ms > AUDITS_OVERDUE * figure("interval_ms")?.max(60_000);
    is_overdue.then(|| {
        format!(
            "some of its partitions were last found the same at another home {} ago: `gramme repair status` says where",
            span(oldest_ms / 1000)
        )
    })
}

/// Intervals without a sound audit that are worth a word.
const AUDITS_OVERDUE: u64 = 4;
/// What is missing for less is on its way.
const LAG_MS: u64 = 15_000;

fn word(json: &Json) -> String {
    json.as_str().map_or_else(|| json.to_string(), str::to_string)
}

fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut unit = "B";
    for next in units {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    if unit == "B" || size >= 10.0 { format!("{size:.0} {unit}") } else { format!("{size:.1} {unit}") }
}

fn micros(us: u64) -> String {
    if us < 10_000 { format!("{:.1} ms", us as f64 / 1000.0) } else { format!("{} ms", us / 1000) }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(health: [&str; 3]) -> Json {
        let member = |at: usize| {
            json!({
                "name": format!("n{at}"), "zone": format!("z{at}"), "slots": 256, "http": format!("h:{at}"),
                "self": at == 0, "health": health[at], "p99_us": at * 1500,
            })
        };
        json!({
            "cluster": "c1", "version": "0.1.0", "layout": { "n": 3, "partitions": 256 },
            "members": [member(0), member(1), member(2)],
        })
    }

    #[test]
    fn a_node_that_is_refilled_or_lags_says_from_whom() {
        let says = json!({
            "refilling": [
                { "partition": 3, "from": ["n1", "n2"] },
                { "partition": 9, "from": ["n2"] },
            ],
            "behind": [
                { "partition": 3, "peer": "n1", "unseen": 4, "known_for_ms": 2_000 },
                { "partition": 7, "peer": "n2", "unseen": 5, "known_for_ms": 65_000 },
            ],
        });
        assert_eq!(refilling(&says), "2 partitions still want what n1, n2 hold");
        let words = "it has not seen 9 writes that other homes have; n2 has had some for 1 min";
        assert_eq!(lag(&says).as_deref(), Some(words));
        let well =
            json!({ "refilling": [], "behind": [{ "peer": "n1", "unseen": 4, "known_for_ms": 2_000 }] });
        assert_eq!((refilling(&well), lag(&well)), (String::new(), None));
    }

    #[test]
    fn tombstones_that_wait_for_somebody_are_told_with_the_name() {
        let says =
            |count: u64, by: &[&str]| json!({ "store": { "tombstones": count, "reclaim_blocked_by": by } });
        let words =
            "it keeps 3 tombstones until n1 has seen them: a node that is down must come back for that";
        assert_eq!(tombstones(&says(3, &["n1"])).as_deref(), Some(words));
        assert_eq!((tombstones(&says(0, &["n1"])), tombstones(&says(3, &[]))), (None, None));
    }

    #[test]
    fn audits_that_are_long_overdue_are_worth_a_word() {
        let says = |oldest_ms: u64| json!({ "audits": { "oldest_ms": oldest_ms, "interval_ms": 300_000 } });
        assert_eq!(audits(&says(1_200_000)), None);
        let words = "some of its partitions were last found the same at another home 2 h ago: `gramme repair status` says where";
        assert_eq!(audits(&says(7_200_000)).as_deref(), Some(words));
    }

    fn says(standing: &str) -> Result<Json, Error> {
        Ok(json!({
            "node": { "standing": standing, "draining": false, "hints": 0, "in_flight": 2, "uptime_ms": 65_000 },
            "store": { "stored_bytes": 1_536_000, "sync_mean_us": 850, "broken": null },
        }))
    }

    #[test]
    fn a_healthy_cluster_fits_one_screen() {
        let told: BTreeMap<_, _> = (0..3).map(|at| (format!("http://h:{at}"), says("continuous"))).collect();
        let asked = asked(["up"; 3]);
        let expected = "HEALTHY   3 of 3 nodes up; any 1 may fail without failing a request at quorum\n\
            cluster c1  v0.1.0   3 zones, 3 nodes, 256 partitions, N=3\n\
            NODE  ZONE  STATE     OWNS   STORED   HINTS  IN FLIGHT  P99     FSYNC   UPTIME\n\
            n0*   z0    green up  33.3%  1.5 MiB  0      2          -       0.8 ms  1 min\n\
            n1    z1    green up  33.3%  1.5 MiB  0      2          1.5 ms  0.8 ms  1 min\n\
            n2    z2    green up  33.3%  1.5 MiB  0      2          3.0 ms  0.8 ms  1 min\n\
            * was asked; P99 is how long it waits for each of the others";
        assert_eq!(screen(&asked, &members(&asked, &told)), expected);
    }

    #[test]
    fn the_verdict_says_what_may_still_fail() {
        let up = || says("continuous");
        for (health, answers, begins) in [
            (
                ["up", "up", "down"],
                [Some(up()), Some(up()), None],
                "DEGRADED  2 of 3 nodes up; requests at quorum go on, but no further",
            ),
            (["up", "up", "up"], [Some(up()), Some(says("unproven")), Some(up())], "DEGRADED  2 of 3"),
            (
                ["up", "down", "down"],
                [Some(up()), None, None],
                "CRITICAL  1 of 3 nodes up; too few for a quorum",
            ),
            (["up", "suspect", "up"], [Some(up()), Some(up()), Some(up())], "HEALTHY   3 of 3"),
        ] {
            let told: BTreeMap<_, _> = answers
                .into_iter()
                .enumerate()
                .filter_map(|(at, answer)| Some((format!("http://h:{at}"), answer?)))
                .collect();
            let asked = asked(health);
            let screen = screen(&asked, &members(&asked, &told));
            assert!(screen.starts_with(begins), "{screen}");
            assert_eq!(screen.contains("warning"), !begins.starts_with("HEALTHY"), "{screen}");
        }
    }

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!([0, 1023, 1024, 10 << 20].map(bytes), ["0 B", "1023 B", "1.0 KiB", "10 MiB"]);
        assert_eq!([0, 850, 12_345].map(micros), ["0.0 ms", "0.8 ms", "12 ms"]);
        assert_eq!([5, 65, 7200, 200_000].map(span), ["5 s", "1 min", "2 h", "2 d"]);
    }
}
