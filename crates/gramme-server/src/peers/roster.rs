//! Which process of each node is connected, and what it says of itself; shared by all shards.
//!
//! Invariant: at most one process life (boot) of a node holds seats at a time, so that two processes that run
//! under one id, by a copied directory or settings file, are never both talked to.

use gramme_core::NodeId;
use gramme_wire::hello::Hello;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// See the module.
#[derive(Default)]
pub(crate) struct Roster {
    present: Mutex<BTreeMap<NodeId, Present>>,
    /// Where clients reach members that are, or were, connected.
    doors: Mutex<BTreeMap<NodeId, Doors>>,
    left: Notify,
}

struct Present {
    boot: u64,
    seats: usize,
}

/// Where clients reach a member: `host:port`; empty if it has no such door.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Doors {
    pub(crate) http: String,
    pub(crate) resp: String,
}

/// Held by each connection to a member for as long as it stands.
pub(crate) struct Seat {
    roster: Arc<Roster>,
    node: NodeId,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seat({})", self.node)
    }
}

impl Roster {
    /// A seat for a connection to this process; `None` if another process of the same id stays connected. One
    /// that has just died gets a moment to be noticed.
    pub(crate) async fn sit(self: &Arc<Self>, peer: &Hello) -> Option<Seat> {
        let patience = tokio::time::sleep(PATIENCE);
        tokio::pin!(patience);
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if let Some(seat) = self.try_sit(peer) {
                return Some(seat);
            }
            tokio::select! {
                () = left => {}
                () = &mut patience => return None,
            }
        }
    }

    /// Where clients reach a member, if it has ever been connected.
    pub(crate) fn doors(&self, node: NodeId) -> Option<Doors> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    fn try_sit(self: &Arc<Self>, peer: &Hello) -> Option<Seat> {
        {
            let mut present = self.present();
            let entry = present.entry(peer.node).or_insert(Present { boot: peer.boot, seats: 0 });
            if entry.boot != peer.boot {
                return None;
            }
            entry.seats += 1;
        }
        let doors = Doors { http: peer.http.clone(), resp: peer.resp.clone() };
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).insert(peer.node, doors);
        Some(Seat { roster: self.clone(), node: peer.node })
    }

    fn present(&self) -> MutexGuard<'_, BTreeMap<NodeId, Present>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut present = self.roster.present();
        if let Some(entry) = present.get_mut(&self.node) {
            entry.seats -= 1;
            if entry.seats == 0 {
                present.remove(&self.node);
                self.roster.left.notify_waiters();
            }
        }
    }
}

/// How long the connections of a process that died may take to be noticed on this machine.
const PATIENCE: Duration = Duration::from_secs(1);
