//! How what each node says of itself reaches every other one, with nobody in charge (the paper, 4.8.2; design section
//! 4): each second a digest to one random peer, and at once to a few whatever was news. What is reconciled, and how few
//! bytes that takes, is [`gramme_core::gossip`]'s; here is who is told, and what is believed.
//!
//! Invariant: what has arrived is durable before it is known: before it is passed on, shown, or acted upon. One task
//! takes entries, one after the other, so that the row of a name always holds the one that won.
//!
//! A node speaks for itself under a life that is new at every start. If anyone knows something later of it, said by an
//! earlier life or by a node that runs under its id, it says its own again, later than that.
//!
//! It refuses what it cannot read, what is stamped too far ahead, and what others say of this node; a layout without its
//! proof; and whatever is about nodes that were removed long ago.

use crate::change::{commit, stage, steps};
use crate::env::Env;
use crate::gossip;
use crate::node::{Node, Options};
use crate::probe::Probe;
use crate::request::NodeKnown;
use crate::rows::{self, KIND_CLUSTER, encode_known};
use crate::signal::Signal;
use crate::store::Store;
use gramme_core::change::{BadLink, Chain, Link, Progress};
use gramme_core::gossip::{Difference, Entry, Gossip, Name, NodeFact, entry_bytes, name_bytes};
use gramme_core::limits::{
    FACT_AHEAD_MS_MAX, GOSSIP_MS, GOSSIP_PUSHES, GOSSIP_WAITING_BYTES_MAX, REMOVED_KNOWN_VERSIONS,
};
use gramme_core::{Hlc, NodeId, Stamp};
use gramme_storage::EngineError;
use gramme_wire::{Body, Reconcile};
use std::cell::{Cell, Ref, RefCell};
use std::time::Duration;

/// What this node knows of the cluster; of shard 0 alone.
#[derive(Default)]
pub(crate) struct ClusterGossip {
    known: RefCell<Gossip>,
    /// Arrived, and not yet taken.
    waiting: RefCell<Vec<(Name, Entry)>>,
    waiting_bytes: Cell<usize>,
    arrival: Signal,
    /// This process, among all that run or ran under this node's id.
    life: u64,
    /// The latest stamp of what was said of this node by another life, if that is later than what this one has said.
    outdone: Cell<Option<Stamp>>,
    /// What others know of this node's progress, if that is later than what this life has said: with the disk it may have
    /// lost what it had said.
    progress_outdone: Cell<Option<(Stamp, Progress)>>,
}

impl ClusterGossip {
    /// What the store remembers, and what this node says of itself from now on.
    pub(crate) fn open<E: Env>(
        env: &E,
        options: &Options,
        mut known: Gossip,
        store: &Store<E>,
        hlc: &RefCell<Hlc>,
    ) -> Result<ClusterGossip, EngineError> {
        if options.shard != 0 {
            return Ok(ClusterGossip::default());
        }
        let (wall_ms, life) = (env.wall_ms(), env.random());
        let name = Name::Node(options.id);
        // What was said with a clock far ahead was believed by nobody; if it was, this node will hear of it.
        if known.get(&name).is_some_and(|before| is_too_far_ahead(before.stamp, wall_ms)) {
            known.forget(&name);
        }
        let stamp = known.stamp_over(&name, hlc.borrow_mut().next(wall_ms));
        let (name, own) = options.fact.entry(options.id, stamp, life);
        if NodeFact::read(&own).is_ok() {
            match store.append_plain([row(&name, &own)]) {
                // It is this node's own word, and said at each start: there is nothing to lose.
                Ok(_) | Err(EngineError::Full) => known.merge_one(&name, &own),
                Err(cause) => return Err(cause),
            };
        } else {
            // Names or addresses that are too long: nobody would believe it.
            env.probe(Probe::NodeFactRefused);
        }
        Ok(ClusterGossip { known: RefCell::new(known), life, ..ClusterGossip::default() })
    }

    /// What is known of every node, in order of id.
    pub(crate) fn nodes(&self, wall_ms: u64) -> Vec<NodeKnown> {
        let known = self.known.borrow();
        let of_node = |(name, entry): (&Name, &Entry)| match name {
            Name::Node(node) => NodeFact::read(entry).ok().map(|fact| NodeKnown {
                node: *node,
                fact,
                age: Duration::from_millis(wall_ms.saturating_sub(entry.stamp.ms())),
            }),
            Name::Layout(..) | Name::Staged(_) | Name::Progress(_) => None,
        };
        known.entries().filter_map(of_node).collect()
    }

    /// Everything that is known.
    pub(crate) fn known(&self) -> Ref<'_, Gossip> {
        self.known.borrow()
    }

    /// Says how far this node has come, unless that is on its way already, or known.
    pub(crate) fn say_progress(&self, me: NodeId, progress: Progress, now: Stamp) {
        let name = Name::Progress(me);
        let stamp = self.known.borrow().stamp_over(&name, now);
        let (name, entry) = progress.entry(me, stamp, self.life);
        let is_same = |other: &Entry| other.bytes == entry.bytes;
        let waits = self.waiting.borrow().iter().any(|(other, entry)| *other == name && is_same(entry));
        if !waits && !self.known.borrow().get(&name).is_some_and(is_same) {
            self.keep(name, entry);
        }
    }

    /// Keeps an entry for the task that takes it; says whether there was room.
    pub(crate) fn keep(&self, name: Name, entry: Entry) -> bool {
        let bytes = self.waiting_bytes.get() + entry_bytes(&name, &entry);
        let mut waiting = self.waiting.borrow_mut();
        if bytes > GOSSIP_WAITING_BYTES_MAX && !waiting.is_empty() {
            return false;
        }
        self.waiting_bytes.set(bytes);
        waiting.push((name, entry));
        drop(waiting);
        self.arrival.notify();
        true
    }

    /// Whether an entry may be believed, by what it says and when. A clock that is ahead is followed as far as what
    /// was believed before: the node that has it must be heard once it was put right.
    fn is_believable(&self, name: &Name, entry: &Entry, wall_ms: u64) -> bool {
        let before = self.known.borrow().get(name).map_or(0, |known| known.stamp.ms());
        let reads = match name {
            Name::Node(_) => NodeFact::read(entry).is_ok(),
            Name::Progress(_) => Progress::read(entry).is_ok(),
            Name::Staged(_) => stage::is_sound(name, entry),
            // Its proof is looked at when its turn comes: its parent may have arrived with it.
            Name::Layout(..) => return Link::read(name, entry).is_ok(),
        };
        reads && !is_too_far_ahead(entry.stamp, wall_ms.max(before))
    }
}

/// Each second, one random peer.
pub(crate) async fn for_ever<E: Env>(node: Node<E>) {
    let env = node.0.env.clone();
    loop {
        env.sleep_until(env.now() + Duration::from_millis(GOSSIP_MS)).await;
        say_again_if_outdone(&node);
        steps::look(&node);
        if let Some(peer) = some_peers(&node, 1).pop() {
            greet(&node, peer);
        }
    }
}

/// Makes durable what has arrived, then knows it and passes it on.
pub(crate) async fn take_for_ever<E: Env>(node: Node<E>) {
    let gossip = &node.0.cluster;
    loop {
        let some = || Some(gossip.waiting.take()).filter(|arrived| !arrived.is_empty());
        let arrived = gossip.arrival.wait_for(some).await;
        gossip.waiting_bytes.set(0);
        let mut news = gossip.known.borrow().clone();
        let mut chain = node.0.changing.chain.borrow().clone();
        let taken = take(&node, arrived, &mut news, &mut chain);
        if taken.is_empty() {
            continue;
        }
        let forgotten = forget_the_past(&mut news, &mut chain);
        let rows = taken.iter().map(|(name, entry)| row(name, entry)).map(|(row, value)| (row, Some(value)));
        let removed = forgotten.iter().map(|name| (rows::node_row(KIND_CLUSTER, &name_bytes(name)), None));
        // What a disk refuses comes again with the next exchange.
        let Ok(batch) = node.0.store.change_plain(rows.chain(removed)) else { continue };
        if node.0.store.wait(batch).await.is_err() {
            continue;
        }
        let before = node.0.changing.chain.borrow().settled();
        let now = chain.settled();
        *gossip.known.borrow_mut() = news;
        *node.0.changing.chain.borrow_mut() = chain;
        if before != now {
            commit::learn(&node, now);
        }
        node.0.changing.news.notify();
        steps::look(&node);
        taken.iter().for_each(|_| node.0.env.probe(Probe::NodeFactTaken));
        for peer in some_peers(&node, GOSSIP_PUSHES) {
            tell(&node, peer, Reconcile::Entries(Difference { send: taken.clone(), want: Vec::new() }));
        }
    }
}

/// Which of these entries are news and may be believed; they are merged into `news`, and layouts into `chain`.
fn take<E: Env>(
    node: &Node<E>,
    mut arrived: Vec<(Name, Entry)>,
    news: &mut Gossip,
    chain: &mut Chain,
) -> Vec<(Name, Entry)> {
    // Parents before what follows them; then once more back from the last, where the beginning is forgotten.
    arrived.sort_by(|one, other| one.0.cmp(&other.0));
    let back: Vec<(Name, Entry)> =
        arrived.iter().rev().filter(|(name, _)| matches!(name, Name::Layout(..))).cloned().collect();
    let mut taken = Vec::new();
    let firsts = arrived.len();
    for (at, (name, entry)) in arrived.into_iter().chain(back).enumerate() {
        if !news.is_news(&name, &entry) || is_of_the_past(chain, &name) {
            continue;
        }
        if matches!(name, Name::Layout(..)) {
            let added = Link::read(&name, &entry).ok().map(|link| chain.add(&link));
            match added {
                Some(Ok(_)) => node.0.env.probe(Probe::LayoutTaken),
                // Both are kept, everywhere, as the alarm that they are.
                Some(Err(BadLink::Contradiction(_))) => node.0.env.probe(Probe::LayoutContradicted),
                // It has another chance.
                Some(Err(_)) | None if at < firsts => continue,
                Some(Err(BadLink::NoParent | BadLink::Unproven(_))) | None => {
                    node.0.env.probe(Probe::NodeFactRefused);
                    continue;
                }
            }
        }
        if news.merge_one(&name, &entry) {
            taken.push((name, entry));
        }
    }
    taken
}

/// Whether an entry is about a node that was removed, and says nothing that anyone needs: a staged change of it, or
/// anything once that is many layouts ago. All forget the same, since all know the same layouts.
fn is_of_the_past(chain: &Chain, name: &Name) -> bool {
    let head = chain.head();
    let long_ago = |node: NodeId| {
        let at = chain.removed_at(node);
        at.is_some_and(|at| at.version + REMOVED_KNOWN_VERSIONS < head.0.version)
    };
    match name {
        Name::Layout(..) => false,
        Name::Staged(key) => {
            let node = key.get(..8).and_then(|id| <[u8; 8]>::try_from(id).ok()).map(u64::from_le_bytes);
            node.is_some_and(|node| head.1.removed().contains(&NodeId(node)))
        }
        Name::Node(node) | Name::Progress(node) => long_ago(*node),
    }
}

/// Forgets what is of the past, and layouts of which gossip knows no more.
fn forget_the_past(news: &mut Gossip, chain: &mut Chain) -> Vec<Name> {
    let old = |(name, _): (&Name, &Entry)| is_of_the_past(chain, name).then(|| name.clone());
    let forgotten: Vec<Name> = news.entries().filter_map(old).collect();
    forgotten.iter().for_each(|name| news.forget(name));
    let first = news.entries().find_map(|(name, _)| match name {
        Name::Layout(decree, _) => Some(*decree),
        _ => None,
    });
    if let Some(first) = first.filter(|_| chain.line().count() > gramme_core::limits::CHAIN_MAX) {
        chain.forget_before(first);
    }
    forgotten
}

/// Tells a peer what is known here, in short.
pub(crate) fn greet<E: Env>(node: &Node<E>, peer: NodeId) {
    let digest = node.0.cluster.known.borrow().digest();
    tell(node, peer, Reconcile::Digest { digest });
}

/// A peer has taken a step of an exchange: the next one, if there is a difference.
pub(crate) fn hear<E: Env>(node: &Node<E>, from: NodeId, step: Reconcile) {
    // Only a peer that runs another program speaks to another shard of it.
    if node.0.options.shard != 0 {
        return;
    }
    let answer = {
        let known = node.0.cluster.known.borrow();
        match &step {
            Reconcile::Digest { digest } => {
                (*digest != known.digest()).then(|| Reconcile::Sums { sums: Box::new(known.sums()) })
            }
            Reconcile::Sums { sums } => Some(known.differing(sums))
                .filter(|&parts| parts != 0)
                .map(|parts| Reconcile::Listing { parts, lines: known.listing(parts) }),
            Reconcile::Listing { parts, lines } => Some(known.difference(*parts, lines))
                .filter(|difference| *difference != Difference::default())
                .map(Reconcile::Entries),
            Reconcile::Entries(Difference { want, .. }) => Some(known.wanted(want))
                .filter(|send| !send.is_empty())
                .map(|send| Reconcile::Entries(Difference { send, want: Vec::new() })),
        }
    };
    if let Some(answer) = answer {
        tell(node, from, answer);
    }
    if let Reconcile::Entries(Difference { send, .. }) = step {
        send.into_iter().for_each(|(name, entry)| consider(node, name, entry));
    }
}

/// A peer has sent an entry.
fn consider<E: Env>(node: &Node<E>, name: Name, entry: Entry) {
    let gossip = &node.0.cluster;
    if !gossip.known.borrow().is_news(&name, &entry) {
        return;
    }
    if name == Name::Node(node.id()) {
        return gossip.outdone.set(gossip.outdone.get().max(Some(entry.stamp)));
    }
    if name == Name::Progress(node.id()) {
        if let Ok(progress) = Progress::read(&entry) {
            let before = gossip.progress_outdone.get();
            let stamp = before.map_or(entry.stamp, |(stamp, _)| stamp.max(entry.stamp));
            let progress = before.map_or(progress, |(_, before)| before.join(progress));
            gossip.progress_outdone.set(Some((stamp, progress)));
        }
        return;
    }
    if !gossip.is_believable(&name, &entry, node.0.env.wall_ms()) {
        return node.0.env.probe(Probe::NodeFactRefused);
    }
    if !gossip.keep(name, entry) {
        node.0.env.probe(Probe::Shed);
    }
}

/// Says what this node is once more, later than what another life is known to have said: at most once a second, for
/// two nodes that run under one id would answer each other for ever.
fn say_again_if_outdone<E: Env>(node: &Node<E>) {
    let gossip = &node.0.cluster;
    if let Some((outdone, theirs)) = gossip.progress_outdone.take() {
        let mine = steps::mine(node, &gossip.known());
        let now = node.0.hlc.borrow_mut().next(node.0.env.wall_ms());
        let stamp = now.max(Stamp(outdone.0.saturating_add(1)));
        let (name, entry) = mine.join(theirs).entry(node.id(), stamp, gossip.life);
        gossip.keep(name, entry);
    }
    let Some(outdone) = gossip.outdone.take() else { return };
    let now = node.0.hlc.borrow_mut().next(node.0.env.wall_ms());
    let stamp = now.max(Stamp(outdone.0.saturating_add(1)));
    let (name, entry) = node.0.options.fact.entry(node.id(), stamp, gossip.life);
    node.0.env.probe(Probe::NodeFactOutdone);
    gossip.keep(name, entry);
}

fn row(name: &Name, entry: &Entry) -> (bytes::Bytes, bytes::Bytes) {
    (rows::node_row(KIND_CLUSTER, &name_bytes(name)), encode_known(name, entry))
}

fn is_too_far_ahead(stamp: Stamp, wall_ms: u64) -> bool {
    stamp.ms() > wall_ms.saturating_add(FACT_AHEAD_MS_MAX)
}

/// So many random peers, each once.
fn some_peers<E: Env>(node: &Node<E>, count: usize) -> Vec<NodeId> {
    let mut peers: Vec<NodeId> = node.peers().collect();
    if peers.len() > count {
        for at in 0..count {
            let other = at + (node.0.env.random() % (peers.len() - at) as u64) as usize;
            peers.swap(at, other);
        }
        peers.truncate(count);
    }
    peers
}

fn tell<E: Env>(node: &Node<E>, peer: NodeId, step: Reconcile) {
    gossip::tell(node, peer, Body::Reconcile(step));
}
