//! Whether what a home lacks was ever there. A replica keeps its *life* over restarts. When it has lost, or
//! mistrusts, what it had, it begins a new life with a greater number: new incarnation, empty seen clock, no
//! frontier; what its rows hold stays, as the word of a stranger. It is *unproven* until everything that every
//! other home holds was merged into it (correctness.md 2.4).
//!
//! ```text
//! Original   nothing was ever lost    ──┐ a co-home remembers more of it, its seen clock or its own row is
//! Refilled   it is whole again        ──┤ garbled, it meets dots of its own that it forgot, or the server
//!    ▲                                  │ knows that the directory was lost
//!    │ every other home pulled whole    ▼
//!    └───────────────────────────── Unproven   takes writes; merged but not counted in reads
//! ```
//!
//! Invariant: a life's number, its past and its seen clock change in one batch.
//!
//! After a start a home waits for its co-homes' word on what they remember of it, for a moment, before its
//! silence counts: its directory may have been replaced by an older copy. Whoever it has since pulled whole has had it.

use crate::env::{Env, Mono};
use crate::probe::Probe;
use crate::replica::{Replica, disk};
use crate::rows::{self, KIND_FRONTIER, KIND_MEMBERS, KIND_REPLICA, ReplicaRow};
use bytes::Bytes;
use gramme_core::limits::{CHECK_MS, PULL_LEASE_MS};
use gramme_core::planted::{self, Bug};
use gramme_core::reclaim;
use gramme_core::{Frontier, Incarnation, NodeId, Record, Seen};
use gramme_storage::EngineError;
use gramme_wire::{Life, Reason, Remembered, Standing};
use std::collections::BTreeSet;
use std::time::Duration;

/// What has become of a replica so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// It has kept everything since the partition began here.
    Original,
    /// It has lost something, and is being refilled.
    Unproven,
    /// The ring has changed, and the node is a home that has never had everything: it is being filled.
    New,
    /// It had lost something, and has pulled everything from every other home since.
    Refilled,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Continuity {
    pub(crate) life: u64,
    pub(crate) past: Past,
    /// In this life: the homes from which everything was pulled.
    pub(crate) refilled: BTreeSet<NodeId>,
    opened_at: Mono,
    /// Since the start: the co-homes that have said what they remember, or were pulled whole.
    compared: BTreeSet<NodeId>,
    checked: bool,
    serving_until: Mono,
}

impl Continuity {
    /// As it was stored, at a start of the process.
    pub(crate) fn new(life: u64, past: Past, refilled: BTreeSet<NodeId>, now: Mono) -> Continuity {
        let compared = BTreeSet::new();
        let serving_until = Mono::default();
        Continuity { life, past, refilled, opened_at: now, compared, checked: false, serving_until }
    }

    fn is_checked(&self, now: Mono, co_homes: &[NodeId], connected: impl Fn(NodeId) -> bool) -> bool {
        let open_for = now.since(self.opened_at);
        let said = |home: &NodeId| self.compared.contains(home);
        open_for >= Duration::from_millis(CHECK_MS)
            || co_homes.iter().all(said)
            || open_for >= Duration::from_millis(CHECK_MS / 4)
                && co_homes.iter().all(|home| said(home) || !connected(*home))
    }
}

impl<E: Env> Replica<E> {
    /// Who speaks when this replica reports what it has seen; `node` is what the node's directory
    /// proves.
    pub(crate) fn life(&self, node: Standing) -> Life {
        let continuity = self.continuity.borrow();
        let standing = match continuity.past {
            Past::Original => node,
            Past::Unproven | Past::New => Standing::Unproven,
            Past::Refilled => Standing::Continuous,
        };
        Life { number: continuity.life, standing }
    }

    /// Whether the co-homes have had their say since the start; before that its silence proves nothing.
    pub(crate) fn is_checked(
        &self,
        co_homes: impl FnOnce() -> Vec<NodeId>,
        connected: impl Fn(NodeId) -> bool,
    ) -> bool {
        let mut continuity = self.continuity.borrow_mut();
        if !continuity.checked {
            continuity.checked = continuity.is_checked(self.env.now(), &co_homes(), connected);
        }
        continuity.checked
    }

    /// The node's directory is known to be lost: so is what this replica had, unless it has it all again.
    pub(crate) fn lost_unless_refilled(&self) -> Result<(), EngineError> {
        let original = self.continuity.borrow().past == Past::Original;
        if original { self.mistrust(0) } else { Ok(()) }
    }

    /// Whether it has lost something and is being refilled.
    pub(crate) fn is_unproven(&self) -> bool {
        matches!(self.continuity.borrow().past, Past::Unproven | Past::New)
    }

    /// Whether it is filled for the first time.
    pub(crate) fn is_new(&self) -> bool {
        self.continuity.borrow().past == Past::New
    }

    /// The other homes from which not everything was pulled yet, of an unproven replica.
    pub(crate) fn awaited(&self, co_homes: &[NodeId]) -> Vec<NodeId> {
        let continuity = self.continuity.borrow();
        let awaited = |home: &&NodeId| !continuity.refilled.contains(home);
        match continuity.past {
            Past::Unproven | Past::New => co_homes.iter().filter(awaited).copied().collect(),
            Past::Original | Past::Refilled => Vec::new(),
        }
    }

    /// A co-home has said what it remembers of this replica.
    pub(crate) fn was_compared(&self, with: NodeId) {
        self.continuity.borrow_mut().compared.insert(with);
    }

    /// Whether a co-home remembers more of this replica than it knows of itself.
    pub(crate) fn has_forgotten(&self, remembered: &Remembered) -> bool {
        let continuity = self.continuity.borrow();
        if remembered.life == continuity.life {
            return !self.reaches(&remembered.bases);
        }
        remembered.life > continuity.life || continuity.past == Past::Original
    }

    /// Begins a new life, greater than this one and than `other`: what this replica holds is no longer trusted,
    /// and it is refilled from every other home.
    pub(crate) fn mistrust(&self, other: u64) -> Result<(), EngineError> {
        if planted::on(Bug::RestoredTrusted) {
            return Ok(());
        }
        let past = if self.is_new() { Past::New } else { Past::Unproven };
        self.begin_life(past, other)?;
        self.env.probe(Probe::Mistrusted);
        Ok(())
    }

    /// Begins the life of a home that has come with a change of the ring, and is to be filled.
    pub(crate) fn begin_new(&self) -> Result<(), EngineError> {
        self.begin_life(Past::New, 0)
    }

    fn begin_life(&self, past: Past, other: u64) -> Result<(), EngineError> {
        // Whatever the disk says to the rest: its silence no longer counts.
        self.continuity.borrow_mut().past = past;
        let stamp = self.hlc.borrow_mut().next(self.env.wall_ms()).0;
        let life = stamp.max(self.continuity.borrow().life + 1).max(other.saturating_add(1));
        let row =
            ReplicaRow { incarnation: Incarnation(self.env.random()), life, past, refilled: BTreeSet::new() };
        let seen: Vec<Incarnation> = self.seen.borrow().rows().map(|(incarnation, _)| incarnation).collect();
        let removed = seen.into_iter().map(|incarnation| (self.seen_row_key(incarnation), None));
        let replica = rows::row(self.partition.0, KIND_REPLICA, &[]);
        let frontier = rows::row(self.partition.0, KIND_FRONTIER, &[]);
        let others = [(replica, Some(rows::encode_replica(&row))), (frontier, None)];
        self.store.change_plain(removed.chain(others))?;
        *self.seen.borrow_mut() = Seen::new();
        self.reclaim().forget();
        self.incarnation.set(row.incarnation);
        self.counter.set(0);
        let mut continuity = self.continuity.borrow_mut();
        continuity.life = life;
        continuity.refilled.clear();
        Ok(())
    }

    /// Everything that this home holds was merged. With the last of them the replica is whole again, which is
    /// durable when this resolves. If the disk refuses that, the home is pulled from again.
    pub(crate) async fn refilled_from(&self, home: NodeId, co_homes: &[NodeId]) -> Result<(), EngineError> {
        let life = self.continuity.borrow().life;
        self.continuity.borrow_mut().refilled.insert(home);
        let kept = self.keep_refilled(co_homes).await;
        let mut continuity = self.continuity.borrow_mut();
        // Whoever mistrusted it meanwhile has begun a new life.
        if continuity.life != life {
            return kept.map(drop);
        }
        if kept.is_ok() {
            // Whatever it remembers of this replica is here now.
            continuity.compared.insert(home);
        }
        match kept {
            Ok(Past::Refilled) => {
                continuity.past = Past::Refilled;
                self.env.probe(Probe::Refilled);
            }
            Ok(_) => {}
            Err(_) => _ = continuity.refilled.remove(&home),
        }
        kept.map(drop)
    }

    /// Makes durable from whom everything was pulled; what the replica is by that.
    async fn keep_refilled(&self, co_homes: &[NodeId]) -> Result<Past, EngineError> {
        let whole = {
            let refilled = &self.continuity.borrow().refilled;
            planted::on(Bug::RefilledByOne) || co_homes.iter().all(|home| refilled.contains(home))
        };
        let now = self.continuity.borrow().past;
        let past = if whole { Past::Refilled } else { now };
        let (row, value) = self.replica_row_of(self.incarnation.get(), past);
        let batch = self.store.append_plain([(row, value)])?;
        self.store.wait(batch).await?;
        Ok(past)
    }

    /// One step of a refill: a member has sent all it has of this key, which is joined into what is here. What
    /// it has reclaimed goes; what is left here is seen, and so offered to the others.
    pub(crate) async fn settle(
        &self,
        row: &Bytes,
        theirs: Option<&Record>,
        their_frontier: &Frontier,
    ) -> Result<(), Reason> {
        let _lock = self.store.lock(row).await;
        let local = self.store.latest(row).await.map_err(disk)?;
        let local = self.rid_of_void(row, local).await.map_err(disk)?;
        let mine = self.frontier();
        let nothing = Record::new();
        let purged = reclaim::purge(&local.record, theirs.unwrap_or(&nothing), their_frontier, &mine);
        let left = purged.as_ref().unwrap_or(&local.record);
        // What memory has seen and a full disk refuses would never be written.
        self.store.check().map_err(disk)?;
        let fresh = self.note_seen(left.siblings().iter().map(|sibling| sibling.dot));
        match purged {
            Some(record) if record.is_empty() => {
                self.env.probe(Probe::Purged);
                self.remove(row.clone(), &local, fresh).map_err(disk)?;
            }
            Some(record) => {
                self.env.probe(Probe::Purged);
                let kept = std::rc::Rc::new(crate::store::Kept::new(&record));
                self.append(row.clone(), &local, kept, fresh).map_err(disk)?;
            }
            None if fresh.is_empty() => {}
            None => {
                let seen = fresh.into_iter().map(|incarnation| self.seen_row(incarnation));
                self.store.append_plain(seen).map_err(disk)?;
            }
        }
        Ok(())
    }

    /// A pull session is over, and everything in it is durable here: what its sender had seen is seen here too.
    /// Durable when this resolves. `false` if this replica has begun another life since the session began.
    pub(crate) async fn join_seen(&self, sigma: &Seen, life: u64) -> Result<bool, EngineError> {
        if self.continuity.borrow().life != life {
            return Ok(false);
        }
        let sigma = &*self.ends().without_void(sigma);
        let changed: Vec<Incarnation> = {
            let seen = self.seen.borrow();
            let mut changed: Vec<Incarnation> = seen.lacking(sigma).map(|run| run.incarnation).collect();
            changed.dedup();
            changed
        };
        if changed.is_empty() {
            return Ok(true);
        }
        // As with every write: what memory has seen and a full disk refuses would never be written.
        self.store.check()?;
        self.seen.borrow_mut().join(sigma);
        for &incarnation in &changed {
            crate::replica::forget_oldest_exceptions(&mut self.seen.borrow_mut(), incarnation);
        }
        let batch =
            self.store.append_plain(changed.into_iter().map(|incarnation| self.seen_row(incarnation)))?;
        self.store.wait(batch).await?;
        Ok(true)
    }

    /// What this replica has seen and what speaks for it, once all of it is durable.
    pub(crate) async fn durably_seen(&self, node: Standing) -> Result<(Life, Seen), EngineError> {
        let now = (self.life(node), self.seen.borrow().clone());
        self.store.wait_all().await?;
        Ok(now)
    }

    /// A pull session reads here for a while longer.
    pub(crate) fn serve_session(&self, now: Mono) {
        self.continuity.borrow_mut().serving_until = now + Duration::from_millis(PULL_LEASE_MS);
    }

    /// Whether a pull session may be reading here: nothing may be reclaimed meanwhile, or the session's asker
    /// would take what it was not sent for what was never there.
    pub(crate) fn is_serving_session(&self, now: Mono) -> bool {
        now < self.continuity.borrow().serving_until
    }

    /// A co-home has reported what it has durably seen.
    pub(crate) fn note_member(&self, member: NodeId, life: Life, seen: Frontier) {
        self.members.borrow_mut().note(member, life, seen);
    }

    /// The row that remembers them, if they have changed since it was last asked for.
    pub(crate) fn members_to_save(&self) -> Option<(Bytes, Bytes)> {
        let value = self.members.borrow_mut().take_unsaved()?;
        Some((rows::row(self.partition.0, KIND_MEMBERS, &[]), value))
    }

    /// The row that says who this replica is, with this live incarnation.
    pub(crate) fn replica_row(&self, incarnation: Incarnation) -> (Bytes, Bytes) {
        self.replica_row_of(incarnation, self.continuity.borrow().past)
    }

    fn replica_row_of(&self, incarnation: Incarnation, past: Past) -> (Bytes, Bytes) {
        let continuity = self.continuity.borrow();
        let (life, refilled) = (continuity.life, continuity.refilled.clone());
        let row = ReplicaRow { incarnation, life, past, refilled };
        (rows::row(self.partition.0, KIND_REPLICA, &[]), rows::encode_replica(&row))
    }
}
