//! What a node remembers of the ring at its start: every shard reads it for itself, before it opens anything.

use crate::env::Env;
use crate::live::Live;
use crate::node::Options;
use crate::pages::Pages;
use crate::probe::Probe;
use crate::rows::{self, KIND_ACCEPTOR, KIND_CLUSTER, decode_known};
use gramme_core::NodeId;
use gramme_core::change::{Chain, Link, Progress, stand};
use gramme_core::gossip::{Gossip, Name};
use gramme_core::paxos::{Acceptor, Decree};
use gramme_storage::{Engine, EngineError};
use std::collections::BTreeMap;

/// See the module.
pub(crate) struct Remembered {
    pub(crate) known: Gossip,
    pub(crate) chain: Chain,
    pub(crate) mine: Progress,
}

impl Remembered {
    /// Reads the rows.
    pub(crate) async fn load<E: Env>(env: &E, options: &Options) -> Result<Remembered, EngineError> {
        let known = load_gossip(env).await?;
        let mut chain = Chain::new(options.layout.clone());
        for (name, entry) in known.entries().filter(|(name, _)| matches!(name, Name::Layout(..))) {
            // Each was sound when it was written; two under one number are kept as the alarm that they are.
            if let Ok(link) = Link::read(name, entry) {
                let _ = chain.add(&link);
            }
        }
        let start = Progress::at(Decree { lineage: 0, version: options.layout.version() });
        let mine = progress_of(&known, options.id).unwrap_or(start);
        Ok(Remembered { known, chain, mine })
    }

    /// Whether this node has gone by no layout but the first, as far as it remembers.
    pub(crate) fn is_at_the_beginning(&self, options: &Options) -> bool {
        self.mine.adopted == Decree { lineage: 0, version: options.layout.version() }
    }

    /// The layouts by which to begin.
    pub(crate) fn live(&self, options: &Options) -> Live {
        let said = all_progress(&self.known, options.id);
        let stand = stand(&self.chain, options.id, self.mine, &said);
        // What was not adopted yet is not written by yet.
        let live = stand.live.into_iter().filter(|decree| *decree <= self.mine.adopted).collect();
        let first = Decree { lineage: 0, version: options.layout.version() };
        Live::of(&self.chain, &live, self.mine.reads, self.mine.adopted, [])
            .unwrap_or_else(|| Live::of_one(first, options.layout.clone()))
    }
}

/// What a node has said of its progress.
pub(crate) fn progress_of(known: &Gossip, node: NodeId) -> Option<Progress> {
    known.get(&Name::Progress(node)).and_then(|entry| Progress::read(entry).ok())
}

/// What every node but this one has said.
pub(crate) fn all_progress(known: &Gossip, me: NodeId) -> BTreeMap<NodeId, Progress> {
    let of = |(name, entry): (&Name, &gramme_core::gossip::Entry)| match name {
        Name::Progress(node) if *node != me => Some((*node, Progress::read(entry).ok()?)),
        _ => None,
    };
    known.entries().filter_map(of).collect()
}

/// The entries that the store remembers.
async fn load_gossip<E: Env>(env: &E) -> Result<Gossip, EngineError> {
    let mut known = Gossip::new();
    let mut pages = Pages::of(rows::node_row(KIND_CLUSTER, &[]), 256, 1 << 20);
    while let Some(page) = pages.next(|scan| env.engine().scan(scan)).await? {
        if page.damaged {
            env.probe(Probe::Corrupt);
        }
        for (_, bytes) in &page.rows {
            match decode_known(bytes) {
                Ok((name, entry)) => _ = known.merge_one(&name, &entry),
                // Every peer knows it: gossip brings it back.
                Err(_) => env.probe(Probe::Corrupt),
            }
        }
    }
    Ok(known)
}

/// The acceptor's memory; `None` if it was lost, and with it the right to answer for the decree that is open.
pub(crate) async fn load_acceptor<E: Env>(env: &E, chain: &Chain) -> Result<Option<Acceptor>, EngineError> {
    let settled = chain.settled();
    let found = match env.engine().get(&rows::node_row(KIND_ACCEPTOR, &[])).await {
        Ok(None) => return Ok(Some(Acceptor::new(settled))),
        Ok(Some(bytes)) => Acceptor::decode(&bytes).ok(),
        Err(EngineError::Corrupt(_)) => None,
        Err(cause) => return Err(cause),
    };
    let Some(mut acceptor) = found else {
        env.probe(Probe::Corrupt);
        return Ok(None);
    };
    // What it knows to be settled is in the chain, or was forgotten with it.
    let _ = acceptor.settle(settled);
    Ok(Some(acceptor))
}
