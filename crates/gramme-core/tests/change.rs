//! How nodes that hear of each other late come from one layout to the next: nobody writes by less than anyone reads by, and
//! everyone arrives.

#[path = "common/rings.rs"]
mod rings;

use gramme_core::change::{BadLink, Chain, Ground, Link, Progress, Stand, Step, catch_up, stand};
use gramme_core::layout::plan::plan;
use gramme_core::layout::staged::{Change, Staged};
use gramme_core::paxos::{Ballot, Certificate, Decree};
use gramme_core::{Layout, Member, NodeId, Stamp};
use rings::member;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const N: usize = 2;
const Q: usize = 8;

fn first(members: u64) -> Layout {
    let members: Vec<Member> = (1..=members).map(|id| member(id, "z", 1)).collect();
    Layout::first(members, N, Q).expect("a layout")
}

fn staged(layout: &Layout, changes: &[(u64, Change)]) -> Staged {
    let mut all = Staged::new();
    for (at, (node, change)) in changes.iter().enumerate() {
        let stamp = Stamp::from_ms(1 + at as u64);
        all.stage(layout, NodeId(*node), change.clone(), stamp, NodeId(1)).expect("it can be staged");
    }
    all
}

fn decree(lineage: u64, version: u64) -> Decree {
    Decree { lineage, version }
}

/// As if everyone had accepted it.
fn chosen(parent: &Layout, at: Decree, layout: Layout) -> Link {
    let accepted_by = parent.members().iter().map(|member| member.id).collect();
    let ballot = Ballot { round: 1, node: NodeId(1), attempt: 1 };
    let certificate =
        Certificate { decree: at, parent: parent.hash(), hash: layout.hash(), ballot, accepted_by };
    Link { decree: at, layout, ground: Ground::Chosen(certificate) }
}

fn links(parent: &Layout, after: Decree, changes: &[(u64, Change)]) -> Vec<Link> {
    let plan = plan(parent, &staged(parent, changes)).expect("a plan");
    let (mut last, mut at, mut links) = (parent.clone(), after, Vec::new());
    for layout in plan.chain() {
        at = at.next().expect("there are numbers enough");
        links.push(chosen(&last, at, layout.clone()));
        last = layout.clone();
    }
    links
}

/// Nodes that know of each other what they heard last.
struct Crowd {
    nodes: BTreeMap<NodeId, One>,
    dice: u64,
}

struct One {
    chain: Chain,
    mine: Progress,
    said: BTreeMap<NodeId, Progress>,
    /// By what it writes at this moment.
    live: BTreeSet<Decree>,
    up: bool,
}

impl Crowd {
    fn new(first: &Layout, others: &[u64]) -> Crowd {
        let start = Progress::at(decree(0, 1));
        let ids = first.members().iter().map(|member| member.id).chain(others.iter().map(|&id| NodeId(id)));
        let one = |id: NodeId| {
            let chain = Chain::new(Arc::new(first.clone()));
            let live = BTreeSet::from([decree(0, 1)]);
            (id, One { chain, mine: start, said: BTreeMap::new(), live, up: true })
        };
        Crowd { nodes: ids.map(one).collect(), dice: 7 }
    }

    fn draw(&mut self, below: usize) -> usize {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) as usize % below
    }

    fn learn(&mut self, at: u64, links: &[Link]) {
        let one = self.nodes.get_mut(&NodeId(at)).expect("a node");
        links.iter().for_each(|link| _ = one.chain.add(link).expect("a sound link"));
    }

    /// One node does what it can, or hears what another knows.
    fn step(&mut self, links: &[Link]) {
        let ids: Vec<NodeId> = self.nodes.iter().filter(|(_, one)| one.up).map(|(id, _)| *id).collect();
        let (me, other) = (ids[self.draw(ids.len())], ids[self.draw(ids.len())]);
        if self.draw(3) == 0 {
            return self.advance(me);
        }
        let theirs = &self.nodes[&other];
        let knows = theirs.chain.head().0;
        let mut heard = theirs.said.clone();
        heard.insert(other, theirs.mine);
        let one = self.nodes.get_mut(&me).expect("a node");
        for link in links.iter().filter(|link| link.decree <= knows) {
            match one.chain.add(link) {
                Ok(_) | Err(BadLink::NoParent) => {}
                Err(bad) => panic!("{bad}"),
            }
        }
        for (node, progress) in heard.into_iter().filter(|(node, _)| *node != me) {
            let before = one.said.entry(node).or_default();
            *before = before.join(progress);
        }
    }

    fn stand(&self, me: NodeId) -> Stand {
        let one = &self.nodes[&me];
        stand(&one.chain, me, one.mine, &one.said)
    }

    fn advance(&mut self, me: NodeId) {
        {
            let one = self.nodes.get_mut(&me).expect("a node");
            if let Some(there) = catch_up(&one.chain, one.mine, &one.said) {
                one.mine = there;
            }
        }
        let stand = self.stand(me);
        let one = self.nodes.get_mut(&me).expect("a node");
        one.live = stand.live;
        match stand.step {
            Step::Adopt => one.mine.adopted = stand.target,
            Step::Fill if stand.awaited.is_empty() => one.mine.filled = stand.target,
            Step::Read if stand.awaited.is_empty() => one.mine.reads = stand.target,
            _ => {}
        }
        self.check();
    }

    /// Whoever reads by a layout as its member finds there whatever any member writes: of those that are not lost.
    fn check(&self) {
        let members = |one: &One, id: NodeId| {
            let layout = one.chain.layout(one.mine.reads).expect("known");
            layout.member(id).is_some() && one.up
        };
        for (reader, r) in self.nodes.iter().filter(|(id, one)| members(one, **id)) {
            for (writer, w) in self.nodes.iter().filter(|(id, one)| members(one, **id)) {
                assert!(
                    w.live.contains(&r.mine.reads),
                    "node {reader} reads by {}, and node {writer} writes by {:?} alone",
                    r.mine.reads,
                    w.live
                );
            }
        }
    }

    fn run(&mut self, links: &[Link], steps: usize) {
        (0..steps).for_each(|_| self.step(links));
    }

    fn assert_all_at(&self, last: Decree) {
        for (id, one) in self.nodes.iter().filter(|(_, one)| one.up) {
            assert_eq!(one.mine.reads, last, "node {id}: {:?}, {:?}", one.mine, self.stand(*id));
            assert_eq!(one.live, BTreeSet::from([last]), "node {id}");
        }
    }
}

#[test]
fn everyone_comes_through_joins_leaves_and_weights_in_any_order_of_news() {
    for seed in 0..40 {
        let layout = first(4);
        let mut crowd = Crowd::new(&layout, &[5, 6]);
        crowd.dice = seed;
        let mut all =
            links(&layout, decree(0, 1), &[(5, Change::Join(member(5, "z", 1))), (1, Change::Leave)]);
        let last = all.last().expect("a link");
        let more = links(&last.layout, last.decree, &[(6, Change::Join(member(6, "z", 2)))]);
        all.extend(more);
        crowd.learn(2, &all);
        crowd.run(&all, 4000);
        crowd.assert_all_at(all.last().expect("a link").decree);
    }
}

#[test]
fn a_node_that_is_away_is_waited_for_and_one_that_is_lost_is_not() {
    let layout = first(4);
    let mut crowd = Crowd::new(&layout, &[5]);
    let all = links(&layout, decree(0, 1), &[(5, Change::Join(member(5, "z", 1)))]);
    crowd.learn(2, &all);
    crowd.nodes.get_mut(&NodeId(4)).expect("a node").up = false;
    crowd.run(&all, 3000);
    assert!(crowd.nodes.values().all(|one| one.mine.reads == decree(0, 1)), "one has said nothing");
    assert_eq!(crowd.stand(NodeId(2)).awaited, BTreeSet::from([NodeId(4)]), "and it is named");
    // Somebody says that it will not come back: what waits in line is taken as soon as that is known.
    let last = all.last().expect("a link").clone();
    let lost = links(&last.layout, last.decree, &[(4, Change::Lost)]);
    let forced: Vec<Link> = lost
        .iter()
        .map(|link| Link {
            decree: decree(1, link.decree.version),
            ground: Ground::Forced { by: NodeId(2) },
            ..link.clone()
        })
        .collect();
    let all: Vec<Link> = all.into_iter().chain(forced).collect();
    crowd.learn(2, &all);
    crowd.run(&all, 4000);
    crowd.assert_all_at(all.last().expect("a link").decree);
}

#[test]
fn a_change_is_called_off_at_any_moment() {
    for seed in 0..60 {
        let layout = first(4);
        let mut crowd = Crowd::new(&layout, &[5]);
        crowd.dice = seed;
        let mut all = links(&layout, decree(0, 1), &[(5, Change::Join(member(5, "z", 1)))]);
        crowd.learn(2, &all);
        crowd.run(&all, 20 * seed as usize);
        let reads = crowd.nodes[&NodeId(2)].mine.reads;
        let back_to = crowd.nodes[&NodeId(2)].chain.layout(reads).expect("known").clone();
        let last = all.last().expect("a link").clone();
        let at = last.decree.next().expect("a number");
        all.push(chosen(&last.layout, at, last.layout.back_to_that_of(&back_to)));
        crowd.learn(3, &all);
        crowd.run(&all, 4000);
        crowd.assert_all_at(at);
    }
}

#[test]
fn a_stranger_follows_and_a_returned_node_takes_up_where_the_others_are() {
    let layout = first(4);
    let mut crowd = Crowd::new(&layout, &[9]);
    crowd.nodes.get_mut(&NodeId(9)).expect("a node").up = false;
    let all = links(&layout, decree(0, 1), &[(1, Change::Weight(3))]);
    crowd.learn(2, &all);
    crowd.run(&all, 3000);
    crowd.nodes.get_mut(&NodeId(9)).expect("a node").up = true;
    crowd.run(&all, 3000);
    crowd.assert_all_at(all.last().expect("a link").decree);
}

#[test]
fn a_link_is_taken_with_its_proof_alone() {
    let layout = first(4);
    let all = links(&layout, decree(0, 1), &[(1, Change::Weight(3)), (2, Change::Weight(2))]);
    let mut chain = Chain::new(Arc::new(layout.clone()));
    let mut few = all[0].clone();
    if let Ground::Chosen(certificate) = &mut few.ground {
        certificate.accepted_by.truncate(2);
    }
    assert!(matches!(chain.add(&few), Err(BadLink::Unproven(_))));
    assert_eq!(chain.head().0, decree(0, 1));
    assert_eq!(chain.add(&all[0]), Ok(true));
    assert_eq!(chain.add(&all[0]), Ok(false));
    let other = links(&layout, decree(0, 1), &[(3, Change::Weight(5))]);
    assert_eq!(chain.add(&other[0]), Err(BadLink::Contradiction(decree(0, 2))));
    assert_eq!(chain.contradiction(), Some(decree(0, 2)));
}

#[test]
fn links_and_progress_are_read_as_they_were_written_or_not_at_all() {
    let layout = first(3);
    for link in links(&layout, decree(0, 1), &[(1, Change::Weight(3))]) {
        let (name, entry) = link.entry();
        assert_eq!(Link::read(&name, &entry), Ok(link.clone()));
        for cut in 0..entry.bytes.len() {
            let cut = gramme_core::gossip::Entry { bytes: entry.bytes.slice(..cut), ..entry.clone() };
            assert!(Link::read(&name, &cut).is_err());
        }
        let other = gramme_core::gossip::Name::Layout(decree(0, 7), link.layout.hash());
        assert!(Link::read(&other, &entry).is_err(), "under another number");
    }
    let progress = Progress { emptied: decree(2, 9), ..Progress::at(decree(1, 300)) };
    let (_, entry) = progress.entry(NodeId(3), Stamp::from_ms(5), 6);
    assert_eq!(Progress::read(&entry), Ok(progress));
}

#[test]
fn where_nobody_has_said_anything_yet_the_first_change_begins() {
    let one = first(3);
    let mut chain = Chain::new(Arc::new(one.clone()));
    for link in links(&one, decree(0, 1), &[(4, Change::Join(member(4, "z", 1)))]) {
        chain.add(&link).expect("a sound link");
    }
    let stand = stand(&chain, NodeId(1), Progress::at(decree(0, 1)), &BTreeMap::new());
    assert_eq!((stand.target, stand.step), (decree(0, 2), Step::Adopt));
}

#[test]
fn a_stranger_that_has_begun_a_change_is_not_left_behind_in_it() {
    let one = first(3);
    let mut chain = Chain::new(Arc::new(one.clone()));
    for link in links(&one, decree(0, 1), &[(4, Change::Join(member(4, "z", 1)))]) {
        chain.add(&link).expect("a sound link");
    }
    // It has heard of the change in time to write by it, and nobody has waited for it.
    let mine = Progress { adopted: decree(0, 2), ..Progress::at(decree(0, 1)) };
    let said = (1..=4).map(|id| (NodeId(id), Progress::at(decree(0, 2)))).collect();
    assert_eq!(catch_up(&chain, mine, &said), Some(Progress::at(decree(0, 2))));
    // Who was waited for takes the last step by itself.
    let mine = Progress { filled: decree(0, 2), ..mine };
    assert_eq!(catch_up(&chain, mine, &said), None);
}

#[test]
fn who_was_to_go_stayed_and_goes_after_all_is_removed_from_the_last_time_on() {
    let one = first(4);
    let mut chain = Chain::new(Arc::new(one.clone()));
    let leave = [(4, Change::Leave)];
    let mut last = one.clone();
    for link in links(&one, decree(0, 1), &leave) {
        chain.add(&link).expect("a sound link");
        last = link.layout;
    }
    assert!(chain.removed_at(NodeId(4)).is_some());
    let back = last.back_to_that_of(&one);
    let undone = chain.head().0.next().expect("a number");
    chain.add(&chosen(&last, undone, back.clone())).expect("a sound link");
    assert_eq!(chain.removed_at(NodeId(4)), None);
    links(&back, undone, &leave).iter().for_each(|link| _ = chain.add(link).expect("a sound link"));
    assert!(chain.removed_at(NodeId(4)).is_some_and(|at| at > undone), "{:?}", chain.removed_at(NodeId(4)));
}

#[test]
fn a_forced_chain_is_taken_from_its_beginning_by_whoever_hears_of_all_of_it_at_once() {
    let one = first(3);
    let mut chain = Chain::new(Arc::new(one.clone()));
    let (mut parent, mut forced) = (one, Vec::new());
    for (at, id) in [4, 5].into_iter().enumerate() {
        let staged = staged(&parent, &[(id, Change::Join(member(id, "z", 1)))]);
        let layout = plan(&parent, &staged).expect("a plan").chain()[0].clone();
        forced.push(decree(1, 2 + at as u64));
        let link =
            Link { decree: forced[at], layout: layout.clone(), ground: Ground::Forced { by: NodeId(1) } };
        chain.add(&link).expect("a sound link");
        parent = layout;
    }
    let stand = stand(&chain, NodeId(2), Progress::at(decree(0, 1)), &BTreeMap::new());
    assert_eq!(stand.target, forced[0]);
}
