//! Who holds one put: a seat for each home, held by the home itself or by whoever takes its place, so that the
//! number of copies does not drop while homes are away (the paper, 4.6; HH-1, HH-3). Plain arithmetic over names
//! and times.
//!
//! A seat falls vacant when everyone who was asked for it has failed or stayed silent beyond its patience; then
//! the next fallback is to be asked, and after its patience the one after that. Someone who is late still counts
//! once he answers.
//!
//! A home that answered "overloaded" keeps its seat once enough nodes have the put without it: a hint would only
//! add to its load later, and it learns of the put from the other homes (correctness.md 7).

use crate::env::Mono;
use gramme_core::NodeId;
use gramme_core::planted::{self, Bug};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Seats(Vec<Seat>);

#[derive(Debug)]
struct Seat {
    home: NodeId,
    /// Everyone who was asked, in order.
    holders: Vec<(NodeId, Holder)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// Has until then to answer; its place is taken after that.
    Asked(Mono),
    /// Has as much work as it can hold; is waited for until then, as if it might still do it.
    Overloaded(Mono),
    /// Cannot, or does not answer.
    Failed,
    Has,
}

/// How the put as a whole stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// As many nodes as were needed have it.
    Met,
    /// They may yet, with those who were asked.
    Open,
    /// They will not, unless more are asked.
    Unmet,
}

impl Seats {
    /// This home was asked, and is waited for until `until`.
    pub(crate) fn ask_home(&mut self, home: NodeId, until: Mono) {
        self.0.push(Seat { home, holders: vec![(home, Holder::Asked(until))] });
    }

    /// A fallback was asked to sit for a home, and is waited for until `until`.
    pub(crate) fn ask_fallback(&mut self, home: NodeId, fallback: NodeId, until: Mono) {
        if let Some(seat) = self.0.iter_mut().find(|seat| seat.home == home) {
            seat.holders.push((fallback, Holder::Asked(until)));
        }
    }

    /// Whether this node was asked.
    pub(crate) fn was_asked(&self, node: NodeId) -> bool {
        self.asked().any(|asked| asked == node)
    }

    /// This node has it.
    pub(crate) fn has(&mut self, node: NodeId) {
        self.change(node, |_| Holder::Has);
    }

    /// This node has not, and will not.
    pub(crate) fn failed(&mut self, node: NodeId) {
        self.change(node, |before| if before == Holder::Has { before } else { Holder::Failed });
    }

    /// This home has as much work as it can hold.
    pub(crate) fn overloaded(&mut self, node: NodeId) {
        self.change(node, |before| match before {
            Holder::Asked(until) => Holder::Overloaded(until),
            other => other,
        });
    }

    /// The put was answered: homes whose place nobody was asked to take yet have until then.
    pub(crate) fn wait_for_homes(&mut self, until: Mono) {
        for seat in &mut self.0 {
            if let [(_, Holder::Asked(before))] = seat.holders.as_mut_slice() {
                *before = until.max(*before);
            }
        }
    }

    /// This node is not waited for any longer.
    pub(crate) fn give_up(&mut self, node: NodeId, now: Mono) {
        self.change(node, |before| match before {
            Holder::Asked(until) => Holder::Asked(until.min(now)),
            other => other,
        });
    }

    /// No home is.
    pub(crate) fn give_up_homes(&mut self, now: Mono) {
        let homes: Vec<NodeId> = self.0.iter().map(|seat| seat.home).collect();
        homes.into_iter().for_each(|home| self.give_up(home, now));
    }

    /// Everyone who was asked.
    pub(crate) fn asked(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.0.iter().flat_map(|seat| seat.holders.iter().map(|holder| holder.0))
    }

    /// Homes whose seats are vacant, in their order.
    pub(crate) fn vacant(&self, now: Mono, need: Need) -> Vec<NodeId> {
        self.0.iter().filter(|seat| seat.is_vacant(now, need)).map(|seat| seat.home).collect()
    }

    /// When a seat may fall vacant next, if nobody answers before.
    pub(crate) fn next_at(&self, now: Mono) -> Option<Mono> {
        let held = |seat: &&Seat| !seat.holders.iter().any(|holder| holder.1 == Holder::Has);
        let times =
            self.0.iter().filter(held).flat_map(|seat| &seat.holders).filter_map(|holder| match holder.1 {
                Holder::Asked(until) | Holder::Overloaded(until) => Some(until),
                Holder::Failed | Holder::Has => None,
            });
        times.filter(|&until| until > now).min()
    }

    fn change(&mut self, node: NodeId, to: impl Fn(Holder) -> Holder) {
        let holders = self.0.iter_mut().flat_map(|seat| &mut seat.holders);
        holders.filter(|holder| holder.0 == node).for_each(|holder| holder.1 = to(holder.1));
    }
}

impl Seat {
    fn is_vacant(&self, now: Mono, need: Need) -> bool {
        self.holders.iter().all(|&(_, holder)| match holder {
            Holder::Asked(until) => now >= until,
            Holder::Overloaded(_) if planted::on(Bug::HintForOverloaded) => true,
            Holder::Overloaded(until) => match need {
                Need::Met => false,
                Need::Open => now >= until,
                Need::Unmet => true,
            },
            Holder::Failed => true,
            Holder::Has => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);
    const D: NodeId = NodeId(4);
    const E: NodeId = NodeId(5);

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    fn three() -> Seats {
        let mut seats = Seats::default();
        [A, B, C].into_iter().for_each(|home| seats.ask_home(home, at(20)));
        seats.has(A);
        seats
    }

    #[test]
    fn a_silent_home_loses_its_seat_after_its_patience_and_the_silent_fallback_after_its_own() {
        let mut seats = three();
        seats.has(B);
        assert_eq!(seats.vacant(at(19), Need::Open), []);
        assert_eq!(seats.next_at(at(19)), Some(at(20)));
        assert_eq!(seats.vacant(at(20), Need::Open), [C]);
        seats.ask_fallback(C, D, at(40));
        seats.wait_for_homes(at(1000));
        assert_eq!(seats.vacant(at(39), Need::Open), []);
        assert_eq!(seats.vacant(at(40), Need::Open), [C], "the next fallback is due");
        seats.ask_fallback(C, E, at(60));
        seats.has(D);
        assert_eq!(seats.vacant(at(90), Need::Open), [], "late is not never");
        assert_eq!(seats.next_at(at(41)), None);
    }

    #[test]
    fn who_fails_is_replaced_at_once_and_who_has_it_stays() {
        let mut seats = three();
        seats.failed(B);
        assert_eq!(seats.vacant(at(0), Need::Open), [B]);
        seats.has(C);
        seats.failed(C);
        assert_eq!(
            seats.vacant(at(99), Need::Open),
            [B],
            "an acknowledgement stands, whatever comes after it"
        );
    }

    #[test]
    fn an_overloaded_home_keeps_its_seat_once_enough_have_the_put_and_loses_it_below_that() {
        let mut seats = three();
        seats.has(B);
        seats.overloaded(C);
        assert_eq!(seats.vacant(at(5), Need::Open), [], "the others may yet be enough");
        assert_eq!(seats.vacant(at(20), Need::Open), [C]);
        assert_eq!(seats.vacant(at(5), Need::Unmet), [C]);
        assert_eq!(seats.vacant(at(99_999), Need::Met), []);
    }

    #[test]
    fn after_the_answer_a_silent_home_has_until_the_deadline() {
        let mut seats = three();
        seats.has(B);
        seats.wait_for_homes(at(1000));
        assert_eq!(seats.vacant(at(999), Need::Met), []);
        assert_eq!(seats.next_at(at(50)), Some(at(1000)));
        assert_eq!(seats.vacant(at(1000), Need::Met), [C]);
    }

    #[test]
    fn a_seat_that_a_fallback_has_is_not_vacant_though_its_home_failed() {
        let mut seats = three();
        seats.failed(C);
        seats.ask_fallback(C, D, at(40));
        seats.has(D);
        seats.has(B);
        assert_eq!(seats.vacant(at(500), Need::Unmet), []);
        assert!(seats.was_asked(D) && !seats.was_asked(E));
    }
}
