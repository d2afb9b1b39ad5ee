//! How a home is opened: what the disk kept of it is read back.
//!
//! Invariant: whatever is missing or garbled there makes the replica mistrust itself; nothing is guessed.
//!
//! It refuses to take a failing disk for an empty one.

use super::{Replica, Role};
use crate::closing::Ends;
use crate::env::Env;
use crate::exchange::{Continuity, Members};
use crate::pages::Pages;
use crate::probe::Probe;
use crate::rows::{self, KIND_FRONTIER, KIND_MEMBERS, KIND_REPLICA, KIND_SEEN, ReplicaRow};
use crate::store::Store;
use bytes::Bytes;
use gramme_core::planted::{self, Bug};
use gramme_core::{Frontier, Hlc, Incarnation, NodeId, PartitionId, Seen, Stamp};
use gramme_storage::{Engine, EngineError};
use std::cell::RefCell;
use std::rc::Rc;

impl<E: Env> Replica<E> {
    /// A home: reads the seen clock back and takes a fresh incarnation, which is part of the batch being filled.
    pub(crate) async fn open(
        env: E,
        node: NodeId,
        store: Rc<Store<E>>,
        hlc: Rc<RefCell<Hlc>>,
        partition: PartitionId,
        ends: Rc<Ends>,
    ) -> Result<Replica<E>, EngineError> {
        let (seen, last_stamp, garbled) = load_seen(&env, partition).await?;
        let row = load_row(&env, partition).await?;
        let members = load_members(&env, partition).await?;
        let frontier = load_frontier(&env, partition).await?;
        let lost_frontier = frontier.is_none();
        // A stored stamp that is too far ahead is dropped: it only advises.
        if hlc.borrow_mut().observe(last_stamp, env.wall_ms()).is_err() {
            env.probe(Probe::StampAhead);
        }
        let mistrusted = !garbled.is_empty()
            || lost_frontier
            || ends.garbled()
            || matches!(row, Loaded::Garbled)
            || matches!(row, Loaded::Nothing) && !seen.is_empty();
        let replica = Replica::blank(env, node, store, hlc, partition, ends, Role::Home);
        if let Loaded::Row(row) = row {
            let known = Continuity::new(row.life, row.past, row.refilled, replica.env.now());
            *replica.continuity.borrow_mut() = known;
        }
        *replica.seen.borrow_mut() = seen;
        *replica.members.borrow_mut() = members;
        replica.reclaim.set(frontier.unwrap_or_default());
        let reused = replica.seen.borrow().rows().last().map(|(incarnation, row)| (incarnation, row.top()));
        match reused {
            Some((incarnation, top)) if planted::on(Bug::IncarnationReused) => {
                replica.incarnation.set(incarnation);
                replica.counter.set(top);
            }
            _ if mistrusted => {
                replica.store.change_plain(garbled.into_iter().map(|row| (row, None)))?;
                replica.mistrust(0)?;
            }
            _ => replica.renew()?,
        }
        Ok(replica)
    }
}

/// The seen clock, the last stamp stored with it, and the rows of it that are garbled: whoever finds any
/// mistrusts the rest.
async fn load_seen<E: Env>(
    env: &E,
    partition: PartitionId,
) -> Result<(Seen, Stamp, Vec<Bytes>), EngineError> {
    let mut seen = Seen::new();
    let mut last_stamp = Stamp::default();
    let mut garbled = Vec::new();
    let mut pages = Pages::of(rows::row(partition.0, KIND_SEEN, &[]), 512, 1 << 20);
    loop {
        let page = match pages.next(|scan| env.engine().scan(scan)).await {
            Ok(Some(page)) if !page.damaged => page,
            Ok(None) => break,
            Ok(Some(_)) | Err(EngineError::Corrupt(_)) => {
                // Not even the keys can be read: the row of no incarnation stands for them.
                garbled.push(rows::seen_row(partition, KIND_SEEN, Incarnation::default()));
                break;
            }
            Err(cause) => return Err(cause),
        };
        for (row, bytes) in &page.rows {
            let incarnation = <[u8; 8]>::try_from(&rows::rest(row)[..]).ok();
            match incarnation.zip(rows::decode_seen(bytes).ok()) {
                Some((incarnation, (runs, stamp))) => {
                    seen.set_row(Incarnation(u64::from_be_bytes(incarnation)), runs);
                    last_stamp = last_stamp.max(stamp);
                }
                None => garbled.push(row.clone()),
            }
        }
    }
    garbled.iter().for_each(|_| env.probe(Probe::Corrupt));
    Ok((seen, last_stamp, garbled))
}

/// A home replica's own row.
enum Loaded {
    Nothing,
    Row(ReplicaRow),
    Garbled,
}

async fn load_row<E: Env>(env: &E, partition: PartitionId) -> Result<Loaded, EngineError> {
    let found = match env.engine().get(&rows::row(partition.0, KIND_REPLICA, &[])).await {
        Ok(None) => return Ok(Loaded::Nothing),
        Ok(Some(bytes)) => rows::decode_replica(&bytes).ok(),
        Err(EngineError::Corrupt(_)) => None,
        Err(cause) => return Err(cause),
    };
    if found.is_none() {
        env.probe(Probe::Corrupt);
    }
    Ok(found.map_or(Loaded::Garbled, Loaded::Row))
}

async fn load_members<E: Env>(env: &E, partition: PartitionId) -> Result<Members, EngineError> {
    match env.engine().get(&rows::row(partition.0, KIND_MEMBERS, &[])).await {
        Ok(row) => Ok(Members::read(row.as_ref())),
        Err(EngineError::Corrupt(_)) => Ok(Members::default()),
        Err(cause) => Err(cause),
    }
}

/// The reclaim frontier as it was stored; `None` if that is garbled: whatever went below it must not come back,
/// so the replica is as one that has lost something.
async fn load_frontier<E: Env>(env: &E, partition: PartitionId) -> Result<Option<Frontier>, EngineError> {
    match env.engine().get(&rows::row(partition.0, KIND_FRONTIER, &[])).await {
        Ok(None) => Ok(Some(Frontier::none())),
        Ok(Some(bytes)) => Ok(rows::decode_frontier(&bytes).ok()),
        Err(EngineError::Corrupt(_)) => Ok(None),
        Err(cause) => Err(cause),
    }
}
