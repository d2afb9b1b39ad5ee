//! Which node to ask next. A pure opinion, formed from what this client itself met and told the time: a node
//! that failed is asked last for a while, then tried with a single request; success clears it.
//!
//! The retry budget lives here too: retries may not exceed a tenth of the calls beyond a first burst, so that
//! a cluster in trouble is not sent twice its load.

use std::time::{Duration, Instant};

/// Every node that this client knows, and what it met there.
#[derive(Debug)]
pub(crate) struct Nodes {
    nodes: Vec<Known>,
    /// How many of them, from the front, the caller named.
    named: usize,
    /// Where the next call starts among the named, if calls are spread.
    turn: usize,
    spread: bool,
    retry_tenths: u32,
}

#[derive(Debug)]
struct Known {
    base: String,
    failures: u32,
    avoid_until: Option<Instant>,
}

impl Nodes {
    /// The nodes that the caller named, in order of preference.
    pub(crate) fn new(named: Vec<String>, spread: bool) -> Nodes {
        let mut nodes = Nodes {
            nodes: Vec::new(),
            named: 0,
            turn: 0,
            spread,
            retry_tenths: RETRY_BURST * RETRY_COST_TENTHS,
        };
        named.into_iter().for_each(|base| nodes.add(base));
        nodes.named = nodes.nodes.len();
        nodes
    }

    /// Learns of a node, once.
    pub(crate) fn add(&mut self, base: String) {
        if self.nodes.iter().all(|known| known.base != base) {
            self.nodes.push(Known { base, failures: 0, avoid_until: None });
        }
    }

    /// All of them, named ones first.
    pub(crate) fn all(&self) -> Vec<String> {
        self.nodes.iter().map(|known| known.base.clone()).collect()
    }

    /// The order in which one call should try nodes. One whose time of avoidance is over keeps its place for this
    /// call alone.
    pub(crate) fn order(&mut self, now: Instant) -> Vec<String> {
        let count = self.nodes.len();
        let start = if self.spread { self.turn % self.named.max(1) } else { 0 };
        self.turn = self.turn.wrapping_add(1);
        let named = (0..self.named).map(|i| (start + i) % self.named.max(1));
        let (mut good, mut avoided) = (Vec::with_capacity(count), Vec::new());
        for at in named.chain(self.named..count) {
            let known = &mut self.nodes[at];
            match known.avoid_until {
                Some(until) if now < until => avoided.push(known.base.clone()),
                Some(_) => {
                    known.avoid_until = Some(now + avoidance(known.failures));
                    good.push(known.base.clone());
                }
                None => good.push(known.base.clone()),
            }
        }
        good.extend(avoided);
        good
    }

    /// A node broke off, was silent, was not there, or could not serve a call that another node may.
    pub(crate) fn failed(&mut self, base: &str, now: Instant) {
        if let Some(known) = self.nodes.iter_mut().find(|known| known.base == base) {
            // Many calls meet one failure at once; it is counted once.
            if known.avoid_until.is_none_or(|until| now >= until) || known.failures == 0 {
                known.failures = known.failures.saturating_add(1);
            }
            known.avoid_until = Some(now + avoidance(known.failures));
        }
    }

    /// A node did what it was asked, or refused what every node would.
    pub(crate) fn answered(&mut self, base: &str) {
        if let Some(known) = self.nodes.iter_mut().find(|known| known.base == base) {
            known.failures = 0;
            known.avoid_until = None;
        }
    }

    /// Sets one retry aside for a call that begins, if the budget has one.
    pub(crate) fn reserve_retry(&mut self) -> bool {
        self.retry_tenths = (self.retry_tenths + 1).min(RETRY_BURST * RETRY_COST_TENTHS);
        let granted = self.retry_tenths >= RETRY_COST_TENTHS;
        if granted {
            self.retry_tenths -= RETRY_COST_TENTHS;
        }
        granted
    }

    /// Gives back what a call did not need.
    pub(crate) fn return_retry(&mut self) {
        self.retry_tenths = (self.retry_tenths + RETRY_COST_TENTHS).min(RETRY_BURST * RETRY_COST_TENTHS);
    }
}

fn avoidance(failures: u32) -> Duration {
    AVOID_FIRST * 2u32.pow(failures.saturating_sub(1).min(AVOID_DOUBLINGS_MAX))
}

/// Retries that a client may make at once when a node goes away under many calls in flight.
const RETRY_BURST: u32 = 512;
/// Calls that earn one retry.
const RETRY_COST_TENTHS: u32 = 10;
/// How long a node is asked last after its first failure; doubled with each further one.
const AVOID_FIRST: Duration = Duration::from_millis(500);
/// 500 ms doubled four times: a node that has returned is tried again within 8 s.
const AVOID_DOUBLINGS_MAX: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Nodes {
        let mut nodes = Nodes::new(vec!["a".into(), "b".into()], false);
        nodes.add("c".into());
        nodes.add("a".into());
        nodes
    }

    #[test]
    fn named_nodes_come_first_and_learned_ones_once() {
        let now = Instant::now();
        assert_eq!(three().order(now), ["a", "b", "c"]);
    }

    #[test]
    fn a_node_that_failed_is_asked_last_then_tried_by_a_single_call_and_cleared_by_an_answer() {
        let (mut nodes, now) = (three(), Instant::now());
        nodes.failed("a", now);
        assert_eq!(nodes.order(now), ["b", "c", "a"]);
        let later = now + AVOID_FIRST;
        assert_eq!(nodes.order(later)[0], "a", "its time is over: one call tries it");
        assert_eq!(nodes.order(later)[0], "b", "the next call does not wait for that trial");
        nodes.answered("a");
        assert_eq!(nodes.order(later), ["a", "b", "c"]);
    }

    #[test]
    fn a_node_that_keeps_failing_is_tried_ever_more_seldom_but_never_given_up() {
        let (mut nodes, mut now) = (three(), Instant::now());
        for _ in 0..20 {
            nodes.failed("a", now);
            now += AVOID_FIRST * 2u32.pow(AVOID_DOUBLINGS_MAX);
            assert_eq!(nodes.order(now)[0], "a");
        }
    }

    #[test]
    fn spread_calls_take_turns_among_the_named_only() {
        let (mut nodes, now) = (Nodes::new(vec!["a".into(), "b".into()], true), Instant::now());
        nodes.add("c".into());
        let firsts: Vec<String> = (0..4).map(|_| nodes.order(now)[0].clone()).collect();
        assert_eq!(firsts, ["a", "b", "a", "b"]);
    }

    #[test]
    fn retries_stay_within_a_tenth_of_the_calls_after_the_first_burst() {
        let mut nodes = three();
        let granted = (0..RETRY_BURST + 1000).filter(|_| nodes.reserve_retry()).count();
        let earned = (RETRY_BURST as usize + 1000) / 10;
        assert!(granted <= RETRY_BURST as usize + earned, "{granted}");
        let mut unused = three();
        assert!((0..10_000).all(|_| {
            let granted = unused.reserve_retry();
            unused.return_retry();
            granted
        }));
    }
}
