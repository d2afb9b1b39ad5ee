//! What a look at a cluster shows, by the look before it: rates and percentiles of each node over the time between
//! them, and for how long a node has been silent.
//!
//! Invariant: nothing here asks anybody or reads a clock. The time between two answers of a node is the one by which
//! its own uptime grew: a node gives an answer again for a second, whoever asks, and others may have asked it before.

use super::latency::Histogram;
use serde_json::Value as Json;
use std::time::Duration;

/// One look.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// The answer, as docs/http.md describes it.
    pub(super) overview: Json,
    /// When it came, since the first question.
    pub(super) at: Duration,
    pub(super) rows: Vec<Row>,
}

/// One node of a look.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: String,
    /// When it was last heard; nothing if it has never answered since the first question.
    pub(super) heard: Option<Duration>,
    /// Whether it is part of this answer.
    pub(super) answers: bool,
    /// Gets and puts since its answer before; nothing of one that has answered only once, or is silent.
    pub(super) rates: Option<[Rate; 2]>,
    counted: Option<Counted>,
}

/// Requests of one kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) per_s: f64,
    pub(super) took: Histogram,
}

/// What a node had counted since its start.
#[derive(Clone, Debug)]
struct Counted {
    uptime_ms: u64,
    took: [Histogram; 2],
}

impl View {
    /// The look at `at` that gave `overview`.
    pub(super) fn next(before: Option<&View>, overview: Json, at: Duration) -> View {
        let rows = overview["nodes"].as_array().into_iter().flatten().map(|node| {
            let name = node["name"].as_str().unwrap_or_default();
            let earlier = before.and_then(|view| view.rows.iter().find(|row| row.name == name));
            row(name, earlier, &node["says"], at)
        });
        View { rows: rows.collect(), overview, at }
    }

    /// The nodes of the answer, in the order of the rows.
    pub(super) fn nodes(&self) -> &[Json] {
        self.overview["nodes"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Gets and puts of all nodes; nothing if none has told any.
    pub(super) fn all(&self) -> Option<[Rate; 2]> {
        let mut told = self.rows.iter().filter_map(|row| row.rates.as_ref());
        let mut all = told.next()?.clone();
        for rates in told {
            for (sum, rate) in all.iter_mut().zip(rates) {
                sum.per_s += rate.per_s;
                sum.took.merge(&rate.took);
            }
        }
        Some(all)
    }
}

impl Row {
    /// For how long it has been silent, at `now`; and whether it was so before the first question, and so for longer.
    pub(super) fn silent_for(&self, now: Duration) -> Option<(Duration, bool)> {
        (!self.answers).then(|| (now.saturating_sub(self.heard.unwrap_or_default()), self.heard.is_none()))
    }
}

fn row(name: &str, before: Option<&Row>, says: &Json, at: Duration) -> Row {
    let name = name.to_string();
    let Some(now) = Counted::read(says) else {
        let (heard, counted) = before.map_or((None, None), |row| (row.heard, row.counted.clone()));
        return Row { name, heard, answers: false, rates: None, counted };
    };
    let earlier = before.and_then(|row| row.counted.as_ref());
    if let (Some(row), Some(earlier)) = (before, earlier)
        && row.answers
        && now.uptime_ms < earlier.uptime_ms + SHORT_MS
        && now.uptime_ms + OLDER_MS > earlier.uptime_ms
    {
        return Row { heard: Some(at), ..row.clone() };
    }
    let rates = earlier.map(|earlier| now.rates(earlier));
    Row { name, heard: Some(at), answers: true, rates, counted: Some(now) }
}

impl Counted {
    fn read(says: &Json) -> Option<Counted> {
        let took = |operation: &str| Histogram::read(&says["latency"][operation]).unwrap_or_default();
        Some(Counted { uptime_ms: says["node"]["uptime_ms"].as_u64()?, took: [took("get"), took("put")] })
    }

    fn rates(&self, earlier: &Counted) -> [Rate; 2] {
        // One that has started again has counted from zero, since then.
        let started_again = self.uptime_ms < earlier.uptime_ms;
        let since_ms = if started_again { self.uptime_ms } else { self.uptime_ms - earlier.uptime_ms };
        let rate = |operation: usize| {
            let took = &self.took[operation];
            let took = if started_again { took.clone() } else { took.since(&earlier.took[operation]) };
            Rate { per_s: took.total() as f64 * 1000.0 / since_ms.max(SHORT_MS) as f64, took }
        };
        [rate(0), rate(1)]
    }
}

/// Two answers that are closer than this say nothing of a rate.
const SHORT_MS: u64 = 200;
/// By how much a node may seem to have gone back because another node was asked, which had asked it a little earlier.
const OLDER_MS: u64 = 3000;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn says(uptime_ms: u64, gets: Json, puts: Json) -> Json {
        json!({ "node": { "uptime_ms": uptime_ms }, "latency": { "get": gets, "put": puts } })
    }

    fn look(before: Option<&View>, at_s: u64, says: &[Json]) -> View {
        let node = |(at, says): (usize, &Json)| json!({ "name": format!("n{at}"), "says": says });
        let nodes: Vec<Json> = says.iter().enumerate().map(node).collect();
        View::next(before, json!({ "nodes": nodes }), Duration::from_secs(at_s))
    }

    fn per_s(view: &View, node: usize) -> Option<[f64; 2]> {
        view.rows[node].rates.as_ref().map(|rates| [rates[0].per_s, rates[1].per_s])
    }

    #[test]
    fn two_answers_of_a_node_make_its_rates_by_its_own_clock() {
        let first = look(
            None,
            0,
            &[says(60_000, json!([[100, 500]]), json!([])), says(9_000, json!([]), json!([[800, 40]]))],
        );
        assert!(first.all().is_none(), "one answer says what was before, not what is");
        // Two seconds passed for the nodes, whatever we took for it.
        let second = look(
            Some(&first),
            5,
            &[
                says(62_000, json!([[100, 590], [400, 10]]), json!([])),
                says(11_000, json!([]), json!([[800, 44]])),
            ],
        );
        assert_eq!((per_s(&second, 0), per_s(&second, 1)), (Some([50.0, 0.0]), Some([0.0, 2.0])));
        let [gets, puts] = second.all().unwrap_or_default();
        assert_eq!(
            (gets.per_s, gets.took.quantile_us(0.5), gets.took.quantile_us(0.99)),
            (50.0, Some(100), Some(400))
        );
        assert_eq!((puts.per_s, puts.took.quantile_us(0.999)), (2.0, Some(800)));
    }

    #[test]
    fn an_answer_that_is_given_again_or_a_little_older_changes_nothing() {
        let first = look(None, 0, &[says(60_000, json!([[100, 100]]), json!([]))]);
        let second = look(Some(&first), 1, &[says(61_000, json!([[100, 110]]), json!([]))]);
        let again = look(Some(&second), 2, &[says(61_000, json!([[100, 110]]), json!([]))]);
        assert_eq!(per_s(&again, 0), Some([10.0, 0.0]));
        let older = look(Some(&again), 3, &[says(60_400, json!([[100, 104]]), json!([]))]);
        assert_eq!(per_s(&older, 0), Some([10.0, 0.0]));
        let later = look(Some(&older), 4, &[says(63_000, json!([[100, 150]]), json!([]))]);
        assert_eq!(per_s(&later, 0), Some([20.0, 0.0]), "from what was told last");
    }

    #[test]
    fn a_node_that_falls_silent_keeps_its_row_and_counts_from_zero_when_it_is_back() {
        let first = look(None, 0, &[says(60_000, json!([[100, 100]]), json!([])), Json::Null]);
        let second = look(Some(&first), 3, &[Json::Null, Json::Null]);
        let third = look(Some(&second), 5, &[Json::Null, says(4_000, json!([]), json!([]))]);
        let silent = |view: &View, node: usize, at_s| {
            view.rows[node]
                .silent_for(Duration::from_secs(at_s))
                .map(|(time, longer)| (time.as_secs(), longer))
        };
        assert_eq!(silent(&first, 0, 0), None);
        assert_eq!((silent(&second, 0, 4), silent(&third, 0, 7)), (Some((4, false)), Some((7, false))));
        assert_eq!((silent(&second, 1, 3), silent(&third, 1, 9)), (Some((3, true)), None));
        assert_eq!((per_s(&third, 0), per_s(&third, 1)), (None, None));
        let back = look(Some(&third), 7, &[says(2_000, json!([[100, 30]]), json!([])), Json::Null]);
        assert_eq!(per_s(&back, 0), Some([15.0, 0.0]), "30 gets in the two seconds since its start");
    }
}
