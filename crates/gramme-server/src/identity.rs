//! Whose data directory this is, and whether what it lacks was ever there.
//!
//! A directory belongs to one member and has a [`StoreId`], made when it is first written. Peers remember the
//! store of every member they have met, durably before they say so. From that follows what a node's *silence*
//! proves (design section 5):
//!
//! ```text
//! Proving     a new store: not every other member has yet said "I never knew you, or with this same store"
//!    |  all of them have                        |  one of them remembers another store
//!    v                                          v
//! Continuous  "I have nothing" is an answer    Lost  the disk was lost, emptied or swapped: what the node
//!    ▲                                           |   holds counts, what it lacks proves nothing
//!    └── every partition was refilled from ──────┘
//!        all its other homes
//! ```
//! Continuous also becomes Lost when a peer has seen this member with another store since: what that one
//! acknowledged is not here. A store that has been refilled knows which others its peers know it by, and is not
//! lost by hearing of those again.
//!
//! Who the others are changes with the ring. A node that asks to join is Proving like any new one; whoever was removed is
//! waited for no more. A store that is Continuous stays so when members come: they cannot have known an earlier one.
//!
//! Invariant: a store is Continuous only if every other member, of the ring as it was at some moment, durably remembers
//! it, and no other whose content was not pulled into it. Nothing here is needed for safety of versions: every start
//! makes new incarnations whatever this module says.
//!
//! Rows and their bytes: `docs/format/identity.md`.

use crate::store::Store;
use gramme_core::codec::{BadBytes, Writer, seal, unseal};
use gramme_core::{NodeId, StoreId};
use gramme_node::Trust;
use gramme_node::rows::{KIND_IDENTITY, KIND_PEER, node_row};
use gramme_storage::{Batch, Engine, EngineError, Scan};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// This node's identity, as its store keeps it.
pub(crate) struct Identity {
    engine: Store,
    node: NodeId,
    store: StoreId,
    trust: Trust,
    /// The other members, by the newest layout that this node knows.
    others: BTreeSet<NodeId>,
    /// Those who have said, in this process life, that they know no other store of ours.
    agreed: BTreeSet<NodeId>,
    /// Other stores that peers know this node by, oldest first.
    elsewhere: Vec<StoreId>,
    /// While lost: the shards that have everything again.
    whole: BTreeSet<usize>,
    peers: BTreeMap<NodeId, Memory>,
}

/// What this node remembers of a peer: the first store it met it with, and the last one that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    first: StoreId,
    other: Option<StoreId>,
}

/// Why a node does not start on a directory. Nothing was changed.
#[derive(Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// It is another member's.
    OtherMember {
        /// Whose it is.
        found: NodeId,
        /// Who the settings say we are.
        expected: NodeId,
    },
    /// A newer release wrote it.
    Newer(u8),
    /// The disk failed.
    Disk(EngineError),
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::OtherMember { found, expected } => write!(
                f,
                "it belongs to member {found}, but node.id says {expected}: give each member its own directory, or correct node.id"
            ),
            IdentityError::Newer(version) => write!(
                f,
                "its identity has format version {version}, which this release does not know: start the newer release"
            ),
            IdentityError::Disk(e) => write!(f, "its identity cannot be read or written: {e}"),
        }
    }
}

impl std::error::Error for IdentityError {}

impl From<EngineError> for IdentityError {
    fn from(e: EngineError) -> IdentityError {
        IdentityError::Disk(e)
    }
}

impl Identity {
    /// Reads the identity of an open store, or gives a new store one, durable when this resolves. A garbled one
    /// is replaced: the store is then taken for lost, and keeps what it holds.
    pub(crate) async fn open(
        engine: Store,
        node: NodeId,
        members: impl IntoIterator<Item = NodeId>,
    ) -> Result<Identity, IdentityError> {
        let others: BTreeSet<NodeId> = members.into_iter().filter(|&member| member != node).collect();
        let peers = read_peers(&engine).await?;
        let found = match engine.get(&node_row(KIND_IDENTITY, &[])).await {
            Ok(Some(bytes)) => Some(decode_identity(&bytes)),
            Ok(None) => None,
            Err(EngineError::Corrupt(_)) => Some(Err(BadBytes::Checksum)),
            Err(e) => return Err(e.into()),
        };
        let fresh = StoreId(crate::random::word());
        let mut elsewhere = Vec::new();
        let (store, trust, is_new) = match found {
            Some(Ok((found, ..))) if found != node => {
                return Err(IdentityError::OtherMember { found, expected: node });
            }
            Some(Err(BadBytes::Version(version))) => return Err(IdentityError::Newer(version)),
            Some(Ok((_, store, trust, known))) => {
                elsewhere = known;
                (store, trust, false)
            }
            Some(Err(_)) => {
                tracing::error!(%node, "the identity of this node's store is garbled: the store is kept as a new one; what it holds counts, what it lacks proves nothing until it is refilled");
                (fresh, Trust::Lost, true)
            }
            None => (fresh, Trust::Proving, true),
        };
        let (agreed, whole) = (BTreeSet::new(), BTreeSet::new());
        let mut identity = Identity { engine, node, store, trust, others, agreed, elsewhere, whole, peers };
        if identity.is_agreed() && identity.trust == Trust::Proving {
            identity.trust = Trust::Continuous;
            identity.save().await?;
        } else if is_new {
            identity.save().await?;
        }
        Ok(identity)
    }

    /// Whether a store has one, be it garbled or another member's: nothing is changed.
    pub(crate) async fn exists(engine: &Store) -> Result<bool, IdentityError> {
        match engine.get(&node_row(KIND_IDENTITY, &[])).await {
            Ok(found) => Ok(found.is_some()),
            Err(EngineError::Corrupt(_)) => Ok(true),
            Err(e) => Err(e.into()),
        }
    }

    /// The data directory's life.
    pub(crate) fn store(&self) -> StoreId {
        self.store
    }

    /// What is known of it.
    pub(crate) fn trust(&self) -> Trust {
        self.trust
    }

    /// A proven peer shows this store. Gives what to tell it: a store that this node has known it by other than
    /// that one, if there is any; else that one, if it is not new. What it shows is durable when this resolves.
    pub(crate) async fn meet(
        &mut self,
        peer: NodeId,
        shown: StoreId,
    ) -> Result<Option<StoreId>, EngineError> {
        let before = self.peers.get(&peer).copied();
        let (now, answer) = match before {
            None => (Memory { first: shown, other: None }, None),
            Some(known @ Memory { first, other: None }) if first == shown => (known, Some(first)),
            Some(known @ Memory { first, other: Some(other) }) if first == shown => (known, Some(other)),
            Some(Memory { first, .. }) => (Memory { first, other: Some(shown) }, Some(first)),
        };
        if before != Some(now) {
            if before.is_some() {
                tracing::error!(%peer, store = %shown, "a member came back with another store: its disk was lost, emptied or swapped; what it lacks proves nothing until it is refilled");
            }
            let mut batch = Batch::new();
            batch.set(node_row(KIND_PEER, &peer.0.to_be_bytes()), encode_memory(now));
            self.engine.commit(batch).await?;
            self.peers.insert(peer, now);
        }
        Ok(answer)
    }

    /// A proven peer has said which store it knows this node by. Gives what is known of this one, if that changed
    /// it; durable when this resolves.
    pub(crate) async fn told(
        &mut self,
        peer: NodeId,
        remembered: Option<StoreId>,
    ) -> Result<Option<Trust>, EngineError> {
        let before = self.trust;
        let known = self.elsewhere.len();
        match remembered {
            Some(other) if other != self.store && !self.elsewhere.contains(&other) => {
                self.trust = Trust::Lost;
                self.elsewhere.push(other);
                self.elsewhere.drain(..self.elsewhere.len().saturating_sub(ELSEWHERE_MAX));
                self.whole.clear();
                self.agreed.remove(&peer);
            }
            // Its content was pulled before this store was trusted again, or will be.
            Some(other) if other != self.store => {}
            _ => {
                self.agreed.insert(peer);
                if self.trust == Trust::Proving && self.is_agreed() {
                    self.trust = Trust::Continuous;
                }
            }
        }
        if before == self.trust && known == self.elsewhere.len() {
            return Ok(None);
        }
        if let Err(e) = self.save().await {
            // Unproven is always a safe thing to be.
            self.trust = if self.trust == Trust::Continuous { before } else { self.trust };
            return Err(e);
        }
        match self.trust {
            Trust::Lost => {
                tracing::error!(node = %self.node, %peer, "a peer knows this node with another store: this node's disk was lost, emptied or swapped; it takes writes, but what it lacks proves nothing until it is refilled")
            }
            _ => self.say_proven(),
        }
        Ok((self.trust != before).then_some(self.trust))
    }

    /// Who the members are from now on. Gives what is known of this store, if that changed it; durable when this
    /// resolves. What cannot be made durable is tried again with the next ring or handshake.
    pub(crate) async fn members_are(
        &mut self,
        members: impl IntoIterator<Item = NodeId>,
    ) -> Result<Option<Trust>, EngineError> {
        self.others = members.into_iter().filter(|&member| member != self.node).collect();
        if self.trust != Trust::Proving || !self.is_agreed() {
            return Ok(None);
        }
        self.trust = Trust::Continuous;
        if let Err(e) = self.save().await {
            self.trust = Trust::Proving;
            return Err(e);
        }
        self.say_proven();
        Ok(Some(self.trust))
    }

    /// A shard of this lost node has refilled every partition that it owns. Gives what is known of the store if
    /// that was the last one; durable when this resolves.
    pub(crate) async fn shard_is_whole(
        &mut self,
        shard: usize,
        shards: usize,
    ) -> Result<Option<Trust>, EngineError> {
        if self.trust != Trust::Lost {
            return Ok(None);
        }
        self.whole.insert(shard);
        if self.whole.len() < shards {
            return Ok(None);
        }
        self.trust = Trust::Continuous;
        if let Err(e) = self.save().await {
            self.trust = Trust::Lost;
            return Err(e);
        }
        tracing::info!(node = %self.node, "every partition was refilled from all its other homes: what this node lacks proves something again");
        Ok(Some(self.trust))
    }

    fn say_proven(&self) {
        tracing::info!(node = %self.node, "every other member has met this store: what this node lacks was never there");
    }

    fn is_agreed(&self) -> bool {
        self.others.is_subset(&self.agreed)
    }

    async fn save(&self) -> Result<(), EngineError> {
        let mut batch = Batch::new();
        batch.set(
            node_row(KIND_IDENTITY, &[]),
            encode_identity(self.node, self.store, self.trust, &self.elsewhere),
        );
        self.engine.commit(batch).await
    }
}

/// A memory that cannot be read is worse than none: the peer is remembered with a store that it cannot have, so
/// that its silence is not trusted on this node's word.
async fn read_peers(engine: &Store) -> Result<BTreeMap<NodeId, Memory>, EngineError> {
    let mut peers = BTreeMap::new();
    let mut after = None;
    loop {
        let prefix = node_row(KIND_PEER, &[]);
        let page = engine.scan(Scan { prefix, after, rows_max: 256, bytes_max: 1 << 20 }).await?;
        for (row, bytes) in &page.rows {
            let Ok(id) = <[u8; 8]>::try_from(&row[3..]) else { continue };
            let peer = NodeId(u64::from_be_bytes(id));
            let memory = decode_memory(bytes).unwrap_or_else(|why| {
                tracing::error!(%peer, %why, "what this node remembered of a member is garbled: its silence is not trusted on this node's word");
                Memory { first: StoreId(crate::random::word()), other: None }
            });
            peers.insert(peer, memory);
        }
        after = page.rows.last().map(|(row, _)| row.clone());
        if !page.more {
            return Ok(peers);
        }
    }
}

fn encode_identity(node: NodeId, store: StoreId, trust: Trust, elsewhere: &[StoreId]) -> Vec<u8> {
    let mut w = Writer::new();
    w.u8(IDENTITY_VERSION);
    w.u64(node.0);
    w.u64(store.0);
    w.u8(match trust {
        Trust::Proving => 0,
        Trust::Continuous => 1,
        Trust::Lost => 2,
    });
    w.u8(elsewhere.len() as u8);
    elsewhere.iter().for_each(|store| w.u64(store.0));
    close(w)
}

fn decode_identity(bytes: &[u8]) -> Result<(NodeId, StoreId, Trust, Vec<StoreId>), BadBytes> {
    let mut r = unseal(bytes, IDENTITY_VERSION)?;
    let (node, store) = (NodeId(r.u64()?), StoreId(r.u64()?));
    let trust = match r.u8()? {
        0 => Trust::Proving,
        1 => Trust::Continuous,
        2 => Trust::Lost,
        _ => return Err(BadBytes::Malformed),
    };
    let count = r.u8()?;
    let elsewhere = (0..count).map(|_| r.u64().map(StoreId)).collect::<Result<_, _>>()?;
    r.end()?;
    Ok((node, store, trust, elsewhere))
}

fn encode_memory(memory: Memory) -> Vec<u8> {
    let mut w = Writer::new();
    w.u8(VERSION);
    w.u64(memory.first.0);
    w.u8(memory.other.is_some().into());
    w.u64(memory.other.map_or(0, |store| store.0));
    close(w)
}

fn decode_memory(bytes: &[u8]) -> Result<Memory, BadBytes> {
    let mut r = unseal(bytes, VERSION)?;
    let first = StoreId(r.u64()?);
    let other = match (r.u8()?, r.u64()?) {
        (0, _) => None,
        (1, store) => Some(StoreId(store)),
        _ => return Err(BadBytes::Malformed),
    };
    r.end()?;
    Ok(Memory { first, other })
}

fn close(mut w: Writer) -> Vec<u8> {
    seal(&mut w, 0);
    w.into_vec()
}

const VERSION: u8 = 1;
/// The first did not tell which other stores peers know this node by.
const IDENTITY_VERSION: u8 = 2;
/// Other stores that are remembered; hearing of one that was forgotten costs a refill.
const ELSEWHERE_MAX: usize = 64;

#[cfg(test)]
mod tests;
