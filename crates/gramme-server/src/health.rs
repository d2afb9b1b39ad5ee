//! How the cluster is, from what each member says of itself (its `/v1/cluster/status`) and what the asked node
//! thinks of it: a verdict in one line, a state per node, and what is wrong with what to do about it.
//!
//! Invariant: this is the only place where it is decided; `gramme status` and the dashboard show it. It asks
//! nobody, and reads no clock.

mod change;
mod problems;

use crate::figures::counted;
use problems::Problem;
use serde_json::{Value as Json, json};

/// What a member said of itself, or why it said nothing.
pub(crate) type Told = Result<Json, String>;

/// A member, as the asked node describes it and as it describes itself.
struct Member<'a> {
    name: &'a str,
    described: &'a Json,
    told: &'a Told,
    state: State,
}

/// What a member is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    /// It takes over partitions that are not read from it yet.
    Filling,
    Suspect,
    Slow,
    DiskStalls,
    Full,
    Unproven,
    Stopping,
    NoAnswer,
    CutOff,
    Broken,
    Down,
}

impl State {
    fn of(described: &Json, told: &Told) -> State {
        let Ok(says) = told else {
            // Its peers may still reach a node whose HTTP door nobody does.
            return if described["health"] == "down" { State::Down } else { State::NoAnswer };
        };
        if says["store"]["broken"].is_string() {
            State::Broken
        } else if says["store"]["full"] == true {
            State::Full
        } else if says["node"]["draining"] == true {
            State::Stopping
        } else if described["health"] == "down" {
            State::CutOff
        } else if says["node"]["standing"] == "unproven" && !is_filling(says) {
            State::Unproven
        } else if described["degraded"] == true {
            State::Slow
        } else if described["health"] == "suspect" {
            State::Suspect
        } else if says["node"]["disk_stalls"] == true {
            State::DiskStalls
        } else if is_filling(says) {
            State::Filling
        } else {
            State::Up
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Filling => "filling",
            State::Suspect => "suspect",
            State::Slow => "slow",
            State::DiskStalls => "disk stalls",
            State::Full => "full",
            State::Unproven => "unproven",
            State::Stopping => "stopping",
            State::NoAnswer => "no answer",
            State::CutOff => "cut off",
            State::Broken => "broken",
            State::Down => "down",
        }
    }

    /// Green serves as it should, yellow serves or will soon, red does not.
    fn colour(self) -> &'static str {
        match self {
            State::Up | State::Filling => "green",
            State::Down | State::CutOff | State::Broken => "red",
            _ => "yellow",
        }
    }

    /// Whether it counts toward quorums.
    fn serves(self) -> bool {
        matches!(
            self,
            State::Up | State::Filling | State::Slow | State::DiskStalls | State::Suspect | State::Full
        )
    }
}

/// Whether a node lacks nothing but what comes to it because the ring changes, and is read elsewhere until it is there.
fn is_filling(says: &Json) -> bool {
    says["node"]["filling"].as_u64().is_some_and(|partitions| partitions > 0)
        && says["refilling"].as_array().is_some_and(Vec::is_empty)
        && says["node"]["trust"] != "proving"
}

/// The answer of `/v1/cluster/overview`: `asked` is the status of the asked node, `told` what each of its members
/// said, in the order of `asked["members"]`, and `change` how the ring changes.
pub(crate) fn overview(asked: Json, told: &[Told], mut change: Json) -> Json {
    let described = asked["members"].as_array().map_or(&[][..], Vec::as_slice);
    change["problems"] = change::problems(&change, described).iter().map(Problem::json).collect();
    let (verdict, nodes) = {
        let members = members(&asked, told);
        let copies = asked["layout"]["n"].as_u64().unwrap_or(1);
        let mut nodes: Vec<Json> = members.iter().map(|member| node_json(&asked, &members, member)).collect();
        let removed = removed(&change["layout"]);
        if removed.is_some() {
            // Nobody talks to it, and what it says of the others is of no use.
            nodes.iter_mut().for_each(|node| node["problems"] = json!([]));
        }
        (removed.unwrap_or_else(|| verdict(copies, &members)), nodes)
    };
    let (level, sentence) = verdict;
    json!({
        "verdict": { "level": level, "sentence": sentence },
        "nodes": nodes,
        "change": change,
        "asked": asked,
    })
}

fn members<'a>(asked: &'a Json, told: &'a [Told]) -> Vec<Member<'a>> {
    let described = asked["members"].as_array().into_iter().flatten();
    let mut members: Vec<Member<'a>> = described
        .zip(told)
        .map(|(described, told)| Member {
            name: described["name"].as_str().unwrap_or_default(),
            described,
            told,
            state: State::of(described, told),
        })
        .collect();
    members.sort_by_key(|member| member.name);
    members
}

fn node_json(asked: &Json, members: &[Member<'_>], member: &Member<'_>) -> Json {
    let figure = |key: &str| asked["layout"][key].as_f64().unwrap_or(1.0);
    let slots = member.described["slots"].as_f64().unwrap_or(0.0);
    let problems: Vec<Json> =
        problems::of(member, members.len() as u64, figure("n") as u64).iter().map(Problem::json).collect();
    json!({
        "name": member.name,
        "state": member.state.as_str(),
        "colour": member.state.colour(),
        "share": slots / (figure("n") * figure("partitions")),
        "problems": problems,
        "error": member.told.as_ref().err(),
        "described": member.described,
        "says": member.told.as_ref().ok(),
    })
}

/// The verdict of a node that was removed: it is no part of what it is asked about.
fn removed(layout: &Json) -> Option<(&'static str, String)> {
    let name = layout["name"].as_str().filter(|_| layout["is_gone"] == true)?;
    Some((
        "critical",
        format!(
            "{name} was removed from this cluster and sees nothing of it any more: ask a member; to come back it needs an empty directory and a new node.id"
        ),
    ))
}

/// What may still fail: of a key's `n` homes a majority must answer, whichever nodes they are.
fn verdict(n: u64, members: &[Member<'_>]) -> (&'static str, String) {
    let lost = members.iter().filter(|member| !member.state.serves()).count() as u64;
    let up = members.len() as u64 - lost;
    let of_all = format!("{up} of {} up", counted(members.len() as u64, "node", "nodes"));
    let spare = (n - n / 2 - 1).checked_sub(lost);
    match (lost, spare) {
        (0, Some(0)) => {
            ("healthy", format!("{of_all}; with N={n} no node may fail without failing requests"))
        }
        (0, Some(spare)) => {
            ("healthy", format!("{of_all}; any {spare} may fail without failing a request at quorum"))
        }
        (_, Some(0)) => {
            ("degraded", format!("{of_all}; requests at quorum go on, but no further node may fail"))
        }
        (_, Some(spare)) => {
            ("degraded", format!("{of_all}; any {spare} more may fail without failing a request at quorum"))
        }
        (_, None) if up <= n / 2 => (
            "critical",
            format!("{of_all}; too few for a quorum: only requests for fewer answers, as r=1 and w=1, go on"),
        ),
        (_, None) => {
            ("critical", format!("{of_all}; keys whose homes are mostly down cannot be read at quorum"))
        }
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

    fn says(standing: &str) -> Told {
        Ok(json!({
            "node": { "standing": standing, "draining": false, "hints": 0, "in_flight": 2, "uptime_ms": 65_000 },
            "store": { "stored_bytes": 1_536_000, "sync_mean_us": 850, "broken": null },
        }))
    }

    fn silent() -> Told {
        Err("it does not answer".into())
    }

    #[test]
    fn the_verdict_says_what_may_still_fail() {
        let up = || says("continuous");
        for (health, told, level, begins) in [
            (["up"; 3], [up(), up(), up()], "healthy", "3 of 3 nodes up; any 1 may fail without"),
            (
                ["up", "up", "down"],
                [up(), up(), silent()],
                "degraded",
                "2 of 3 nodes up; requests at quorum go on, but no further",
            ),
            (["up"; 3], [up(), says("unproven"), up()], "degraded", "2 of 3 nodes up"),
            (
                ["up", "down", "down"],
                [up(), silent(), silent()],
                "critical",
                "1 of 3 nodes up; too few for a quorum",
            ),
            (["up", "suspect", "up"], [up(), up(), up()], "healthy", "3 of 3"),
        ] {
            let overview = overview(asked(health), &told, json!({}));
            assert_eq!(overview["verdict"]["level"], level);
            let sentence = overview["verdict"]["sentence"].as_str().unwrap();
            assert!(sentence.starts_with(begins), "{sentence}");
            let nodes = overview["nodes"].as_array().unwrap();
            let is_problem = nodes.iter().any(|node| node["problems"][0].is_object());
            assert_eq!(is_problem, level != "healthy", "{overview:#}");
        }
    }

    #[test]
    fn a_node_that_was_removed_says_so_instead_of_judging_the_others() {
        let told = [says("continuous"), says("continuous"), silent()];
        let change = json!({ "layout": { "name": "n0", "is_gone": true } });
        let overview = overview(asked(["up", "down", "down"]), &told, change);
        let sentence = overview["verdict"]["sentence"].as_str().unwrap();
        assert!(sentence.starts_with("n0 was removed from this cluster"), "{sentence}");
        let nodes = overview["nodes"].as_array().unwrap();
        assert!(nodes.iter().all(|node| node["problems"] == json!([])), "{overview:#}");
    }

    #[test]
    fn every_node_has_a_state_a_colour_and_its_share() {
        let overview = overview(
            asked(["up", "down", "up"]),
            &[says("continuous"), says("continuous"), Err("it answers with status 401".into())],
            json!({}),
        );
        let nodes = overview["nodes"].as_array().unwrap();
        let words = |key: &str| nodes.iter().map(|node| node[key].as_str()).collect::<Vec<_>>();
        assert_eq!(words("state"), [Some("up"), Some("cut off"), Some("no answer")]);
        assert_eq!(words("colour"), [Some("green"), Some("red"), Some("yellow")]);
        assert_eq!(words("error"), [None, None, Some("it answers with status 401")]);
        assert!(nodes.iter().all(|node| (node["share"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-9));
        let of_the_silent = nodes[2]["problems"][0]["what"].as_str().unwrap();
        assert!(of_the_silent.contains("h:2") && of_the_silent.contains("status 401"), "{of_the_silent}");
    }

    #[test]
    fn a_node_that_fills_for_a_new_layout_serves_as_it_should() {
        let with = |filling: u64, refilling: Json, trust: &str| {
            let told = Ok(json!({
                "node": { "standing": "unproven", "filling": filling, "trust": trust }, "refilling": refilling,
            }));
            State::of(&json!({ "health": "up" }), &told).as_str()
        };
        assert_eq!(with(3, json!([]), "continuous"), "filling");
        assert_eq!(with(0, json!([]), "continuous"), "unproven", "it has just started");
        assert_eq!(
            with(3, json!([{ "partition": 1 }]), "continuous"),
            "unproven",
            "it lost something besides"
        );
        assert_eq!(with(3, json!([]), "proving"), "unproven", "it knows nobody yet");
    }
}
