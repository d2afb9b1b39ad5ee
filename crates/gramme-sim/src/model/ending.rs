//! How things end in a walk: reclaim of what everyone has seen, and the close of dead incarnations, one
//! message at a time.

use super::world::{FALLBACK, HOMES, Message, NODES, World};
use gramme_core::closed::{self, Closed, End, agreed, union};
use gramme_core::planted::{self, Bug};
use gramme_core::reclaim::{reclaimable, stable, strip};
use gramme_core::seen::SeenRow;
use gramme_core::{Frontier, Incarnation, Record, Seen};
use std::rc::Rc;

/// A close under way: who, as bits, has frozen the incarnation at this set.
pub(super) struct Proposal {
    incarnation: Incarnation,
    set: SeenRow,
    frozen_by: u8,
    /// It only lets those who froze less take what is missing.
    widens: bool,
}

impl World<'_> {
    /// One pass of a home over its rows, under a frontier as far as the reports go.
    pub(super) fn reclaim(&mut self, at: usize) {
        let node = &self.nodes[at];
        if node.live.is_joining() || node.durable.is_joining() {
            return;
        }
        let own = if planted::on(Bug::BaseBeforeSync) { &node.live } else { &node.durable };
        let own = closed::bases(&own.seen, &own.closed);
        let reports = HOMES.into_iter().map(|home| match &node.live.reported[home] {
            _ if home == at => Some(&own),
            Some((_, base)) => Some(base),
            None => None,
        });
        let seen_by_all = if planted::on(Bug::ReclaimOnOwnBase) { own.clone() } else { stable(reports) };
        let live = &mut self.nodes[at].live;
        live.frontier = live.frontier.join(&seen_by_all);
        for record in &mut live.records {
            if reclaimable(record, &live.frontier) {
                *record = Rc::default();
                self.tally.reclaimed += 1;
            } else if let Some(bare) = strip(record, &live.frontier) {
                *record = Rc::new(bare);
                self.tally.stripped += 1;
            }
        }
        self.tell(|| format!("node {at} reclaims below {:?}", seen_by_all.bases()));
    }

    /// The next step of the close under way, or the first of another.
    pub(super) fn close_somewhere(&mut self) {
        match self.closing.take() {
            Some(proposal) => self.advance(proposal),
            None => {
                let incarnation = Incarnation(1 + self.rng.below(self.lives));
                self.closing = self.propose(incarnation);
            }
        }
    }

    /// What may become final of an incarnation that nobody lives, if every node is there to say so.
    pub(super) fn propose(&mut self, incarnation: Incarnation) -> Option<Proposal> {
        let is_live = |at: &usize| {
            let node = &self.nodes[*at];
            [&node.live, &node.durable].iter().any(|store| store.incarnation == incarnation)
        };
        let is_away = |at: &usize| !self.nodes[*at].alive || self.nodes[*at].live.is_joining();
        let decided = self.finals.iter().any(|(of, _)| *of == incarnation);
        if decided || (0..NODES).any(|at| is_live(&at) || is_away(&at)) {
            return None;
        }
        let rows: Vec<SeenRow> = (0..NODES).map(|at| self.nodes[at].durable.row(incarnation)).collect();
        let (homes, others) = rows.split_at(HOMES.len());
        if let Some(set) = agreed(homes, others).filter(|set| set.top() > 0) {
            return Some(Proposal { incarnation, set, frozen_by: 0, widens: false });
        }
        let is_frozen = (0..NODES).any(|at| self.nodes[at].live.closed.end(incarnation).is_some());
        let set = union(&rows);
        is_frozen.then_some(Proposal { incarnation, set, frozen_by: 0, widens: true })
    }

    /// One node more freezes, and remembers it; with the last one the set is final.
    pub(super) fn advance(&mut self, mut proposal: Proposal) {
        let missing: Vec<usize> = (0..NODES).filter(|at| proposal.frozen_by >> at & 1 == 0).collect();
        if let Some(&at) = missing.get(self.rng.index(missing.len().max(1))) {
            if !self.nodes[at].alive || self.nodes[at].live.is_joining() {
                self.closing = Some(proposal);
                return;
            }
            let unasked = at == FALLBACK && planted::on(Bug::CloseWithoutHints);
            let node = &mut self.nodes[at];
            let seen = if unasked { SeenRow::default() } else { node.live.row(proposal.incarnation) };
            let closed = Rc::make_mut(&mut node.live.closed);
            if !closed.freeze(proposal.incarnation, &proposal.set, &seen) && !unasked {
                return;
            }
            node.durable.closed = node.live.closed.clone();
            proposal.frozen_by |= 1 << at;
        }
        if proposal.frozen_by != (1 << NODES) - 1 {
            self.closing = Some(proposal);
        } else if !proposal.widens {
            self.tally.closed += 1;
            let Proposal { incarnation, set, .. } = proposal;
            self.tell(|| format!("incarnation {} is closed at {set:?}", incarnation.0));
            self.finals.push((incarnation, set));
            self.announce();
        }
    }

    /// Says again what is final, to everyone.
    pub(super) fn announce(&mut self) {
        for (incarnation, set) in self.finals.clone() {
            for to in 0..NODES {
                self.wire.push(Message::Close { to, incarnation, set: set.clone() });
            }
        }
    }

    pub(super) fn learn_ends(&mut self, at: usize, closed: &Closed) {
        for (incarnation, end) in closed.ends().filter(|(_, end)| end.closed) {
            self.end(at, incarnation, &end.set);
        }
    }

    /// Takes a final set for one. Only a replica that lost its content since it froze can hold what is void: it
    /// gives up the whole records, and begins again to pull everything. Those bore dots of its own, so it is a new
    /// incarnation too: whoever still shows them would trip its wire.
    pub(super) fn end(&mut self, at: usize, incarnation: Incarnation, set: &SeenRow) {
        let live = &mut self.nodes[at].live;
        if live.closed.is_closed(incarnation) {
            return;
        }
        Rc::make_mut(&mut live.closed).set(incarnation, End { set: set.clone(), closed: true });
        let closed = live.closed.clone();
        let is_void = |record: &Record| closed.admit(record).is_none();
        let void: Vec<usize> = (0..live.records.len()).filter(|&key| is_void(&live.records[key])).collect();
        for &key in &void {
            live.records[key] = Rc::default();
        }
        if !void.is_empty() {
            self.tell(|| format!("node {at} gives up its records of {void:?}"));
            self.renew(at);
            let live = &mut self.nodes[at].live;
            let left = live.records.iter().flat_map(|record| record.siblings());
            live.seen = Rc::new(left.fold(Seen::new(), |mut seen, sibling| {
                seen.add(sibling.dot);
                seen
            }));
        }
        let live = &mut self.nodes[at].live;
        if !void.is_empty() && at != FALLBACK {
            live.awaits = HOMES.into_iter().filter(|&home| home != at).fold(0, |bits, home| bits | 1 << home);
            live.frontier = Frontier::none();
            let life = self.new_life().0;
            self.nodes[at].live.life = life;
        }
    }
}
