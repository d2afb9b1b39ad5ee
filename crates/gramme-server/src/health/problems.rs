//! What is wrong with a node, each with what a person does about it. What mends itself says so.

use super::{Member, State, is_filling};
use crate::figures::{bytes, counted, span};
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;

/// One thing that wants somebody to look.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) what: String,
    pub(super) remedy: String,
}

impl Problem {
    pub(super) fn json(&self) -> Json {
        json!({ "what": self.what, "remedy": self.remedy })
    }
}

pub(super) fn problem(what: impl Into<String>, remedy: impl Into<String>) -> Problem {
    Problem { what: what.into(), remedy: remedy.into() }
}

/// The problems of a member of a cluster of `nodes` that keeps `copies` of everything, the worst first.
pub(super) fn of(member: &Member<'_>, nodes: u64, copies: u64) -> Vec<Problem> {
    let mut found: Vec<Problem> = of_state(member, nodes > copies, copies).into_iter().collect();
    // Of one that does not serve, the rest follows from that.
    if let (true, Ok(says)) = (member.state.serves(), member.told) {
        found.extend(damaged_rows(says, copies));
        found.extend(damaged_partitions(says, copies));
        found.extend(hints(says));
        found.extend(lag(says));
        found.extend(tombstones(says));
        found.extend(audits(says));
    }
    found
}

fn of_state(member: &Member<'_>, has_fallbacks: bool, copies: u64) -> Option<Problem> {
    let says = member.told.as_ref().unwrap_or(&Json::Null);
    Some(match member.state {
        State::Up | State::Filling | State::Suspect => return None,
        State::Down if has_fallbacks => problem(
            "it is down; other nodes take its place, and keep what it misses as hints",
            "start it again, and they hand them over; if its disk is lost, start it with an empty directory, and it is refilled",
        ),
        State::Down => problem(
            "it is down; every node is a home of every key, so nobody keeps hints for it",
            "start it again, and it fetches what it missed from the others; if its disk is lost, start it with an empty directory, and it is refilled",
        ),
        State::CutOff => problem(
            "its HTTP door answers, but the asked node does not reach it as a peer",
            "look at the network between their peer addresses",
        ),
        State::NoAnswer => problem(
            format!(
                "the asked node reaches it as a peer, but not its HTTP door at {}: {}",
                member.described["http"].as_str().unwrap_or("an unknown address"),
                member.told.as_ref().err().map_or("it does not answer", String::as_str)
            ),
            "see that listen.http there, or its http in the cluster file, is an address that the others can use; if it listens everywhere, set listen.advertise there",
        ),
        State::Unproven => unproven(says),
        State::Stopping => problem("it is shutting down", "start it again when you are done with it"),
        State::Slow => problem(
            "it is over ten times slower than its neighbours, or fails where they do not: it is read last, coordinates nothing and still gets every write",
            "look at its disk, its load and its network",
        ),
        State::DiskStalls => {
            problem("its own syncs take over ten times as long as usual", "look at its disk")
        }
        State::Broken => problem(
            format!("its store is broken: {}", says["store"]["broken"].as_str().unwrap_or_default()),
            if copies == 1 {
                "start it again; if that does not help, start it with an empty directory and restore from a backup"
            } else {
                "start it again; if that does not help, start it with an empty directory, and it is refilled"
            },
        ),
        State::Full => problem(
            "its disk has no room: it answers reads, and other nodes take its writes",
            "make room, and it takes writes again",
        ),
    })
}

fn unproven(says: &Json) -> Problem {
    let lacking = refilling(says);
    if !lacking.is_empty() {
        problem(
            format!(
                "it lost something: what it holds counts, what it lacks proves nothing, and it is being refilled: {lacking}"
            ),
            "wait; those that it is refilled from must stay up",
        )
    } else if says["node"]["trust"] != "proving" {
        problem("it has just started, and asks the others what they remember of it", "wait a moment")
    } else {
        problem(
            "its store is new, and it has not yet met every other member with it",
            "start the members that are down",
        )
    }
}

/// Which partitions are being refilled, and whose content they still lack.
fn refilling(says: &Json) -> String {
    let partitions = says["refilling"].as_array().map_or(&[][..], Vec::as_slice);
    if partitions.is_empty() {
        return String::new();
    }
    let from = partitions.iter().flat_map(|partition| partition["from"].as_array().into_iter().flatten());
    let from: BTreeSet<&str> = from.filter_map(Json::as_str).collect();
    let from: Vec<&str> = from.into_iter().collect();
    format!(
        "{} still want what {} hold",
        counted(partitions.len() as u64, "partition", "partitions"),
        from.join(", ")
    )
}

fn damaged_rows(says: &Json, copies: u64) -> Option<Problem> {
    let rows = says["store"]["damaged_rows"].as_u64().filter(|rows| *rows > 0)?;
    let rows = counted(rows, "row", "rows");
    Some(if copies == 1 {
        problem(
            format!("{rows} cannot be read, and there is no other copy"),
            "look at the disk, and write their keys again: `gramme repair status` names some",
        )
    } else {
        problem(
            format!("{rows} cannot be read; other nodes answer for them, and they are mended from there"),
            "look at the disk",
        )
    })
}

fn damaged_partitions(says: &Json, copies: u64) -> Option<Problem> {
    let partitions = says["store"]["damaged_partitions"].as_u64().filter(|partitions| *partitions > 0)?;
    let partitions = counted(partitions, "partition", "partitions");
    Some(if copies == 1 {
        problem(
            format!(
                "parts of its store cannot be read, in {partitions}, and lists and backups of them are refused"
            ),
            "there is no other copy: move its data directory away, start it, and restore from a backup",
        )
    } else {
        problem(
            format!(
                "parts of its store cannot be read, in {partitions}; other nodes answer for them, but who wants everything from this node waits"
            ),
            "stop it, move its data directory away and start it, and it is refilled",
        )
    })
}

/// Hints that are many, or that nobody has come for.
fn hints(says: &Json) -> Option<Problem> {
    let figure = |key: &str| says["node"][key].as_u64().unwrap_or(0);
    let (held, max) = (figure("hint_bytes"), figure("hint_bytes_max"));
    let old_ms = figure("hint_oldest_ms");
    if says["node"]["hint_alarm"] == true {
        return Some(problem(
            format!(
                "it keeps {} of at most {} for nodes that are away; beyond that it keeps nothing more for them",
                bytes(held),
                bytes(max)
            ),
            "bring them back, or raise storage.hints_mb",
        ));
    }
    (old_ms >= HINTS_OLD_MS).then(|| {
        problem(
            format!(
                "it has kept {} for {} for nodes that are away",
                counted(figure("hints"), "hint", "hints"),
                span(old_ms / 1000)
            ),
            "bring them back",
        )
    })
}

/// Homes of a partition that agree compare every few seconds; one that has long lacked something is worth a word, unless
/// that comes to it because the ring changes.
fn lag(says: &Json) -> Option<Problem> {
    if is_filling(says) {
        return None;
    }
    let behind = says["behind"].as_array()?;
    let known_for = |lag: &&Json| lag["known_for_ms"].as_u64().unwrap_or(0);
    let longest = behind.iter().max_by_key(known_for).filter(|lag| known_for(lag) > LAG_MS)?;
    let unseen: u64 = behind.iter().filter_map(|lag| lag["unseen"].as_u64()).sum();
    let peer = longest["peer"].as_str().unwrap_or_default();
    Some(problem(
        format!(
            "it has not seen {} that other homes have; {peer} has had some for {}",
            counted(unseen, "write", "writes"),
            span(known_for(&longest) / 1000)
        ),
        format!("see that it and {peer} reach each other; it fetches them by itself"),
    ))
}

/// Tombstones that cannot go, and for whom they wait.
fn tombstones(says: &Json) -> Option<Problem> {
    let blocking: Vec<&str> =
        says["store"]["reclaim_blocked_by"].as_array()?.iter().filter_map(Json::as_str).collect();
    let count = says["store"]["tombstones"].as_u64().filter(|count| *count > 0)?;
    (!blocking.is_empty()).then(|| {
        problem(
            format!(
                "it keeps {} until {} has seen them",
                counted(count, "tombstone", "tombstones"),
                blocking.join(" and ")
            ),
            "they go once it is up and has taken what it missed; one that is lost for good must be replaced",
        )
    })
}

/// Audits are regular; one that is long overdue means that two homes cannot compare what they hold.
fn audits(says: &Json) -> Option<Problem> {
    let figure = |key: &str| says["audits"][key].as_u64();
    let oldest_ms = figure("oldest_ms")?;
    let is_overdue = oldest_ms > AUDITS_OVERDUE * figure("interval_ms")?.max(60_000);
    is_overdue.then(|| {
        problem(
            format!(
                "some of its partitions were last found the same at another home {} ago",
                span(oldest_ms / 1000)
            ),
            "`gramme repair status` says where",
        )
    })
}

/// Hints this old want somebody to look.
const HINTS_OLD_MS: u64 = 3_600_000;
/// Intervals without a sound audit that are worth a word.
const AUDITS_OVERDUE: u64 = 4;
/// What is missing for less is on its way.
const LAG_MS: u64 = 15_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn what(found: Option<Problem>) -> Option<String> {
        found.map(|problem| problem.what)
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
        assert_eq!(what(lag(&says)).as_deref(), Some(words));
        let well =
            json!({ "refilling": [], "behind": [{ "peer": "n1", "unseen": 4, "known_for_ms": 2_000 }] });
        assert_eq!((refilling(&well), lag(&well)), (String::new(), None));
        let mut fills = says;
        (fills["refilling"], fills["node"]["filling"]) = (json!([]), 3.into());
        assert_eq!(lag(&fills), None, "what it lacks is on its way");
    }

    #[test]
    fn tombstones_that_wait_for_somebody_are_told_with_the_name() {
        let says =
            |count: u64, by: &[&str]| json!({ "store": { "tombstones": count, "reclaim_blocked_by": by } });
        let words = "it keeps 3 tombstones until n1 has seen them";
        assert_eq!(what(tombstones(&says(3, &["n1"]))).as_deref(), Some(words));
        assert_eq!((tombstones(&says(0, &["n1"])), tombstones(&says(3, &[]))), (None, None));
    }

    #[test]
    fn audits_that_are_long_overdue_are_worth_a_word() {
        let says = |oldest_ms: u64| json!({ "audits": { "oldest_ms": oldest_ms, "interval_ms": 300_000 } });
        assert_eq!(audits(&says(1_200_000)), None);
        let words = "some of its partitions were last found the same at another home 2 h ago";
        assert_eq!(what(audits(&says(7_200_000))).as_deref(), Some(words));
    }

    #[test]
    fn hints_are_told_once_they_are_many_or_old() {
        let says = |alarm: bool, oldest_ms: u64| {
            json!({ "node": {
                "hints": 7, "hint_bytes": 900 << 20, "hint_bytes_max": 1 << 30, "hint_oldest_ms": oldest_ms,
                "hint_alarm": alarm,
            } })
        };
        assert_eq!(hints(&says(false, 60_000)), None);
        let many = what(hints(&says(true, 60_000))).unwrap();
        assert!(many.starts_with("it keeps 900 MiB of at most 1.0 GiB"), "{many}");
        let old = what(hints(&says(false, 7_200_000)));
        assert_eq!(old.as_deref(), Some("it has kept 7 hints for 2 h for nodes that are away"));
    }

    #[test]
    fn a_node_may_have_several_problems_and_each_says_what_to_do() {
        let told = Ok(json!({
            "node": { "hint_alarm": true },
            "store": { "full": true, "damaged_rows": 2, "damaged_partitions": 1 },
        }));
        let described = json!({});
        let member = Member { name: "n", described: &described, told: &told, state: State::Full };
        for copies in [1, 3] {
            let found = of(&member, 5, copies);
            assert_eq!(found.len(), 4, "{found:#?}");
            assert!(found.iter().all(|problem| !problem.remedy.is_empty()));
        }
    }
}
