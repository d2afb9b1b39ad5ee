//! How far the nodes' clocks are apart, as seen from here. An answer that took a while says less: the node read its
//! clock somewhere on the way, so what it says is believed only as far as half the round trip.

use super::Verdict;
use gramme_client::Client;
use gramme_core::limits::CLOCK_AHEAD_MS_MAX;
use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One node's clock against that of this machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reading {
    /// How far it is ahead; negative if it is behind.
    pub(super) ahead_ms: f64,
    /// By how much that may be wrong in either direction.
    pub(super) uncertain_ms: f64,
}

impl Reading {
    /// Of a clock that showed `time_ms` when it was asked from `sent_ms` on by ours, `round_trip_ms` in all. Clocks
    /// are told in whole milliseconds: half of one is added to what is meant and to what is not known.
    fn new(time_ms: u64, sent_ms: f64, round_trip_ms: f64) -> Reading {
        let half = round_trip_ms / 2.0;
        Reading { ahead_ms: time_ms as f64 + 0.5 - (sent_ms + half), uncertain_ms: half + 0.5 }
    }
}

/// A node's name, and its clock as the quickest of a few answers showed it; nothing if it does not answer.
pub(super) async fn read(client: &Client, node: &str) -> Option<(String, Reading)> {
    let mut best: Option<(String, Reading)> = None;
    for _ in 0..LOOKS {
        let (sent_ms, sent) = (wall_ms(), Instant::now());
        let Ok(says) = client.status_of(node).await else { break };
        let round_trip_ms = sent.elapsed().as_secs_f64() * 1000.0;
        let Some(time_ms) = says["machine"]["time_ms"].as_u64() else { break };
        let reading = Reading::new(time_ms, sent_ms, round_trip_ms);
        if best.as_ref().is_none_or(|(_, best)| reading.uncertain_ms < best.uncertain_ms) {
            best = Some((says["node"]["name"].as_str().unwrap_or(node).to_string(), reading));
        }
    }
    best
}

/// What the readings say of the two clocks that are the furthest apart.
pub(super) fn judge(readings: &BTreeMap<String, Reading>) -> (Verdict, String) {
    let order = |a: &(&String, &Reading), b: &(&String, &Reading)| a.1.ahead_ms.total_cmp(&b.1.ahead_ms);
    let (Some(slowest), Some(fastest)) = (readings.iter().min_by(order), readings.iter().max_by(order))
    else {
        return (Verdict::Warn, "no node told its time: start them anew with this version".to_string());
    };
    let apart_ms = fastest.1.ahead_ms - slowest.1.ahead_ms;
    let uncertain_ms =
        if readings.len() == 1 { 0.0 } else { fastest.1.uncertain_ms + slowest.1.uncertain_ms };
    let at_least_ms = apart_ms - uncertain_ms;
    let named = format!("{} is {} ms ahead of {}", fastest.0, apart_ms.round(), slowest.0);
    let because = "`lww` buckets and expiry go by them";
    if at_least_ms > CLOCK_AHEAD_MS_MAX as f64 {
        (
            Verdict::Bad,
            format!(
                "{named}, more than nodes accept of each other: run a time service (chrony, ntpd) on both"
            ),
        )
    } else if at_least_ms > SKEW_MS {
        (Verdict::Warn, format!("{named}: run a time service (chrony, ntpd) on both, for {because}"))
    } else if readings.len() == 1 {
        (Verdict::Ok, "one node answers: there is nothing to compare its clock with".to_string())
    } else {
        let within_ms = (apart_ms + uncertain_ms).ceil();
        (Verdict::Ok, format!("the clocks of {} nodes agree within {within_ms} ms", readings.len()))
    }
}

fn wall_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |span| span.as_secs_f64() * 1000.0)
}

/// A time service keeps clocks within a few milliseconds; this much says that there is none.
const SKEW_MS: f64 = 100.0;
/// The first answer pays for the connection; the quickest of a few is the one to believe.
const LOOKS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(readings: &[(&str, f64, f64)]) -> (Verdict, String) {
        let reading = |&(node, ahead_ms, uncertain_ms): &(&str, f64, f64)| {
            (node.to_string(), Reading { ahead_ms, uncertain_ms })
        };
        judge(&readings.iter().map(reading).collect())
    }

    #[test]
    fn a_clock_is_read_in_the_middle_of_the_way_there_and_back() {
        let reading = Reading::new(10_250, 10_000.0, 20.0);
        assert_eq!(reading, Reading { ahead_ms: 240.5, uncertain_ms: 10.5 });
    }

    #[test]
    fn clocks_are_apart_only_as_far_as_the_round_trip_does_not_explain_it() {
        for (readings, verdict, words) in [
            (
                &[("n0", -1.0, 1.0), ("n1", 2.0, 1.0)][..],
                Verdict::Ok,
                "the clocks of 2 nodes agree within 5 ms",
            ),
            (
                &[("n0", 0.0, 1.0), ("n1", 200.0, 1.0)],
                Verdict::Warn,
                "n1 is 200 ms ahead of n0: run a time service",
            ),
            (&[("n0", 0.0, 1.0), ("n1", 200.0, 150.0)], Verdict::Ok, "agree within 351 ms"),
            (
                &[("n0", 0.0, 1.0), ("n1", -900.0, 1.0), ("n2", 30.0, 1.0)],
                Verdict::Bad,
                "n2 is 930 ms ahead of n1, more than nodes accept",
            ),
            (&[("n0", -5000.0, 1.0)], Verdict::Ok, "nothing to compare"),
            (&[], Verdict::Warn, "no node told its time"),
        ] {
            let (judged, says) = judged(readings);
            assert!(judged == verdict && says.contains(words), "{judged:?} {says}");
        }
    }
}
