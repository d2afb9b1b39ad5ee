//! What comes to a shard and goes from it because the ring changes: counted for people, and the brake.
//!
//! Nothing of it is kept over a restart: what is still to be fetched, and what is still to be handed over, is what the replicas
//! say of themselves.

use crate::env::{Env, Mono};
use crate::node::Node;
use crate::replica::Replica;
use crate::request::{Incoming, Outgoing, TransfersStatus};
use gramme_core::PartitionId;
use gramme_wire::Pulled;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    paused: Cell<bool>,
    came: RefCell<BTreeMap<PartitionId, Came>>,
    bytes: Cell<u64>,
    window: RefCell<Window>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Came {
    records: u64,
    bytes: u64,
}

/// Bytes of a window of time that is under way, and of the one before it.
#[derive(Debug, Default)]
struct Window {
    began: Mono,
    bytes: u64,
    per_s: u64,
}

impl Window {
    fn add(&mut self, bytes: u64, now: Mono) {
        let span = now.since(self.began);
        if span >= WINDOW {
            let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1);
            self.per_s = self.bytes.saturating_mul(1000) / ms;
            (self.began, self.bytes) = (now, 0);
        }
        self.bytes += bytes;
    }
}

impl Transfers {
    /// Whether nothing is to be fetched or handed over now.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.get()
    }

    /// Sets or takes off the brake.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.set(paused);
    }

    /// A page of a full session has come.
    pub(crate) fn came(&self, partition: PartitionId, pulled: &[Pulled], now: Mono) {
        let bytes =
            pulled.iter().map(|one| (one.key.as_bytes().len() + one.record.len()) as u64).sum::<u64>();
        let mut all = self.came.borrow_mut();
        let came = all.entry(partition).or_default();
        came.records += pulled.len() as u64;
        came.bytes += bytes;
        self.bytes.set(self.bytes.get() + bytes);
        self.window.borrow_mut().add(bytes, now);
    }
}

/// What this shard fetches and hands over.
pub(crate) fn status<E: Env>(node: &Node<E>) -> TransfersStatus {
    let (live, me) = (node.live(), node.id());
    let transfers = &node.0.transfers;
    transfers.window.borrow_mut().add(0, node.0.env.now());
    let comes =
        |partition: PartitionId| live.newest().is_home(partition, me) && !live.reads().is_home(partition, me);
    let incoming = |(partition, replica): (PartitionId, Rc<Replica<E>>)| {
        let co_homes = node.co_homes(partition);
        let left = replica.awaited(&co_homes);
        let came = transfers.came.borrow().get(&partition).copied().unwrap_or_default();
        let done = co_homes.into_iter().filter(|home| !left.contains(home)).collect();
        Incoming { partition, done, left, records: came.records, bytes: came.bytes }
    };
    let homes = node.homes();
    let arrived =
        homes.iter().filter(|(partition, replica)| comes(*partition) && !replica.is_unproven()).count();
    let coming = homes.into_iter().filter(|(_, replica)| replica.is_unproven());
    let incoming: Vec<Incoming> = coming.map(incoming).collect();
    let outgoing = node
        .0
        .left
        .borrow()
        .iter()
        .map(|(&partition, left)| Outgoing { partition, left: left.lacking(&live.homes(partition)) })
        .collect();
    let (bytes, bytes_per_s) = (transfers.bytes.get(), transfers.window.borrow().per_s);
    TransfersStatus { incoming, arrived, outgoing, paused: transfers.is_paused(), bytes, bytes_per_s }
}

const WINDOW: Duration = Duration::from_secs(2);
