//! How a node comes to know what the others say of themselves, and what it does not believe. The test plays a peer that
//! knows things.

use crate::world::*;
use bytes::Bytes;
use gramme_core::gossip::{Difference, Entry, Gossip, Name, NodeFact};
use gramme_core::limits::{FACT_AHEAD_MS_MAX, GOSSIP_PUSHES};
use gramme_core::paxos::Decree;
use gramme_core::{LayoutHash, NodeId, Stamp};
use gramme_node::request::{NodeKnown, Request, Response};
use gramme_node::rows::{KIND_CLUSTER, node_row};
use gramme_node::{Event, Probe};
use gramme_storage::memory::MemoryEngine;
use gramme_storage::{Batch, Engine};
use gramme_wire::{Body, Reconcile, Standing};
use std::collections::BTreeSet;

fn fact(address: &str) -> NodeFact {
    NodeFact { name: "ada".to_string(), address: address.to_string(), ..NodeFact::default() }
}

/// What node 42, a stranger to the layout, said at this millisecond of the story's wall clock.
fn said_at(ms: u64, address: &str) -> (Name, Entry) {
    fact(address).entry(NodeId(42), Stamp::from_ms(WALL_MS + ms), 7)
}

fn entries(send: Vec<(Name, Entry)>) -> Body {
    Body::Reconcile(Reconcile::Entries(Difference { send, want: Vec::new() }))
}

fn tells(story: &Story, send: Vec<(Name, Entry)>) {
    story.peer_says(story.list[1], 0, 1_000_000, entries(send));
}

fn known(story: &Story) -> Vec<NodeKnown> {
    match story.asks(Request::Nodes).response() {
        Response::Nodes(nodes) => nodes,
        other => panic!("it should say what it knows: {other:?}"),
    }
}

/// The address that it knows of node 42.
fn address_known(story: &Story) -> Option<String> {
    known(story).into_iter().find(|known| known.node == NodeId(42)).map(|known| known.fact.address)
}

/// One whole exchange with a peer that knows this; says in how many steps of the peer.
fn exchange(story: &Story, theirs: &mut Gossip) -> usize {
    let peer = story.list[1];
    story.reconciled();
    let says = |step| story.peer_says(peer, 0, 1_000_000, Body::Reconcile(step));
    says(Reconcile::Digest { digest: theirs.digest() });
    let mut steps = 1;
    loop {
        let heard: Vec<Reconcile> =
            story.reconciled().into_iter().filter(|(to, _)| *to == peer).map(|(_, step)| step).collect();
        if heard.is_empty() {
            return steps;
        }
        assert!(steps < 20, "it should come to an end: {heard:?}");
        for step in heard {
            steps += 1;
            match step {
                Reconcile::Digest { .. } => {}
                Reconcile::Sums { sums } => {
                    let parts = theirs.differing(&sums);
                    says(Reconcile::Listing { parts, lines: theirs.listing(parts) });
                }
                Reconcile::Listing { parts, lines } => {
                    says(Reconcile::Entries(theirs.difference(parts, &lines)));
                }
                Reconcile::Entries(Difference { send, want }) => {
                    send.iter().for_each(|(name, entry)| _ = theirs.merge_one(name, entry));
                    let wanted = theirs.wanted(&want);
                    if !wanted.is_empty() {
                        says(Reconcile::Entries(Difference { send: wanted, want: Vec::new() }));
                    }
                }
            }
        }
    }
}

fn own_entry(story: &Story, theirs: &Gossip) -> Entry {
    theirs.get(&Name::Node(story.node.status().node)).cloned().expect("it has said something of itself")
}

#[test]
fn what_differs_is_fetched_both_ways() {
    let story = Story::at_home();
    let (name, entry) = said_at(0, "ada:1");
    let mut theirs = Gossip::new();
    theirs.merge_one(&name, &entry);
    exchange(&story, &mut theirs);
    assert_eq!(address_known(&story).as_deref(), Some("ada:1"));
    let own = NodeFact::read(&own_entry(&story, &theirs)).expect("readable");
    assert_eq!(own.name, format!("n{}", story.node.status().node.0), "it has told what it is");
    assert_eq!(exchange(&story, &mut theirs), 1, "a digest that is the same is not answered");
}

#[test]
fn quiet_costs_a_digest_a_second() {
    let story = Story::at_home();
    story.reconciled();
    story.pass_ms(10_000);
    let said = story.reconciled();
    assert_eq!(said.len(), 10);
    assert!(said.iter().all(|(_, step)| matches!(step, Reconcile::Digest { .. })), "{said:?}");
}

#[test]
fn a_peer_that_is_back_is_told_a_digest() {
    let story = Story::at_home();
    story.reconciled();
    story.happens(Event::PeerUp(story.list[2]));
    let said = story.reconciled();
    assert!(matches!(said[..], [(to, Reconcile::Digest { .. })] if to == story.list[2]), "{said:?}");
}

#[test]
fn news_travels_at_once_and_once_it_is_durable() {
    let story = Story::at_home();
    story.reconciled();
    story.world.disk.hold_commits(true);
    tells(&story, vec![said_at(0, "ada:1")]);
    assert_eq!(address_known(&story), None);
    assert!(story.reconciled().is_empty(), "a crash may still take it back");
    story.world.disk.hold_commits(false);
    story.world.run();
    assert_eq!(address_known(&story).as_deref(), Some("ada:1"));
    let said = story.reconciled();
    let told: BTreeSet<NodeId> = said.iter().map(|(to, _)| *to).collect();
    assert_eq!(told.len(), GOSSIP_PUSHES);
    for (_, step) in &said {
        let Reconcile::Entries(Difference { send, want }) = step else { panic!("{step:?}") };
        assert_eq!(send, &vec![said_at(0, "ada:1")]);
        assert!(want.is_empty());
    }
    tells(&story, vec![said_at(0, "ada:1")]);
    assert!(story.reconciled().is_empty(), "it is no news any more");
}

#[test]
fn an_older_fact_never_wins() {
    let story = Story::at_home();
    tells(&story, vec![said_at(5, "ada:2")]);
    tells(&story, vec![said_at(4, "ada:1")]);
    assert_eq!(address_known(&story).as_deref(), Some("ada:2"));
    let story = story.with_a_cold_cache();
    assert_eq!(address_known(&story).as_deref(), Some("ada:2"), "nor on the disk");
    tells(&story, vec![said_at(6, "ada:3"), said_at(5, "ada:2")]);
    assert_eq!(address_known(&story).as_deref(), Some("ada:3"));
}

#[test]
fn what_cannot_be_read_or_believed_changes_nothing() {
    let story = Story::at_home();
    tells(&story, vec![said_at(0, "ada:1")]);
    let (before, commits) = (known(&story), story.world.disk.commits());
    let (name, sound) = said_at(1, "ada:2");
    let layout = Name::Layout(Decree { lineage: 0, version: 2 }, LayoutHash(5));
    let strange = vec![
        (name.clone(), Entry { bytes: sound.bytes.slice(..5), ..sound.clone() }),
        (name.clone(), Entry { bytes: Bytes::from_static(b"\xff\xff\xff"), ..sound.clone() }),
        said_at(2, "ada\u{1b}[2J:1"),
        said_at(FACT_AHEAD_MS_MAX + 60_000, "ada:3"),
        (layout, sound.clone()),
        (Name::Staged(Bytes::from_static(b"join 9")), sound),
    ];
    let count = strange.len();
    story.reconciled();
    strange.into_iter().for_each(|entry| tells(&story, vec![entry]));
    assert_eq!(known(&story), before);
    assert_eq!(story.world.probed(Probe::NodeFactRefused), count, "each is counted");
    assert_eq!(story.world.disk.commits(), commits, "and none is kept");
    assert!(story.reconciled().is_empty(), "nor passed on");
}

#[test]
fn a_restart_knows_what_it_knew_but_for_a_garbled_row() {
    let memory = MemoryEngine::new();
    let story = Story::open(0, memory.clone(), Standing::Continuous);
    let other = fact("bob:1").entry(NodeId(43), Stamp::from_ms(WALL_MS), 8);
    tells(&story, vec![said_at(0, "ada:1"), other]);
    let before = known(&story);
    let story = Story::reopened(&story, memory.clone());
    assert_eq!(known(&story), before);
    let name = gramme_core::gossip::name_bytes(&Name::Node(NodeId(43)));
    let mut batch = Batch::new();
    batch.set(node_row(KIND_CLUSTER, &name), &b"garbled"[..]);
    story.world.spawn_task({
        let memory = memory.clone();
        async move { memory.commit(batch).await.expect("memory takes it") }
    });
    story.world.run();
    let story = Story::reopened(&story, memory);
    let left: Vec<NodeId> =
        before.iter().map(|known| known.node).filter(|&node| node != NodeId(43)).collect();
    assert_eq!(known(&story).iter().map(|known| known.node).collect::<Vec<_>>(), left);
    assert_eq!(story.world.probed(Probe::Corrupt), 1);
}

#[test]
fn what_a_node_says_at_its_start_wins_over_what_it_said_before() {
    let story = Story::at_home();
    let mut theirs = Gossip::new();
    exchange(&story, &mut theirs);
    let first = own_entry(&story, &theirs);
    let story = story.with_a_cold_cache();
    exchange(&story, &mut theirs);
    let second = own_entry(&story, &theirs);
    assert!(second.stamp > first.stamp && second.tie != first.tie, "{first:?}, then {second:?}");
    // The same on an empty disk, with a clock that has gone back: what it said is still out there, and later.
    let story = Story::at_home();
    exchange(&story, &mut theirs);
    assert_eq!(own_entry(&story, &theirs), second, "it has only just heard of it");
    story.pass_ms(1_000);
    exchange(&story, &mut theirs);
    assert!(own_entry(&story, &theirs).stamp > second.stamp);
}

#[test]
fn nobody_else_speaks_for_a_node_and_two_under_one_id_answer_each_other_once_a_second() {
    let story = Story::at_home();
    let me = story.node.status().node;
    let before = known(&story);
    for ms in 1..50 {
        tells(&story, vec![fact("elsewhere:1").entry(me, Stamp::from_ms(WALL_MS + 5_000 + ms), 9)]);
    }
    assert_eq!(known(&story), before);
    story.pass_ms(1_000);
    assert_eq!(story.world.probed(Probe::NodeFactOutdone), 1);
    let fact_of_me = |known: Vec<NodeKnown>| known.into_iter().find(|known| known.node == me).map(|k| k.fact);
    assert_eq!(fact_of_me(known(&story)), fact_of_me(before));
    let mut theirs = Gossip::new();
    exchange(&story, &mut theirs);
    assert!(own_entry(&story, &theirs).stamp > Stamp::from_ms(WALL_MS + 5_049), "later than all of that");
    story.pass_ms(5_000);
    assert_eq!(story.world.probed(Probe::NodeFactOutdone), 1);
}

#[test]
fn a_full_disk_takes_no_news_and_gets_it_later() {
    let story = Story::at_home();
    story.world.disk.fill(true);
    tells(&story, vec![said_at(0, "ada:1")]);
    assert_eq!(address_known(&story), None);
    story.world.disk.fill(false);
    story.pass_ms(5_000);
    let mut theirs = Gossip::new();
    let (name, entry) = said_at(0, "ada:1");
    theirs.merge_one(&name, &entry);
    exchange(&story, &mut theirs);
    assert_eq!(address_known(&story).as_deref(), Some("ada:1"));
}
