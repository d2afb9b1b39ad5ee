//! One partition on one node: its incarnation, its counter, its seen clock, and the two ways in which a
//! record changes there: a put that it coordinates, and a merge of what others made.
//!
//! A *home* keeps data; a *fallback* keeps hints, in rows of their own, under an incarnation of its own, and
//! never among home data (the paper, 4.6). Both are the same code over different row kinds.
//!
//! Invariant: a dot is minted from a live counter and never from a stored clock; it is in the seen clock, and
//! its record is in the store, in the same batch.
//!
//! It refuses to take a read error for "not found".

mod load;

use crate::closing::Ends;
use crate::env::Env;
use crate::exchange::{Continuity, Members, Past};
use crate::probe::Probe;
use crate::reclaim::Reclaim;
use crate::rows::{self, KIND_DATA, KIND_HINT, KIND_HINT_STORE, KIND_SEEN};
use crate::store::{BatchId, Kept, Store};
use crate::trees::Trees;
use bytes::Bytes;
use gramme_core::bucket::{BucketSettings, Mode};
use gramme_core::codec::decode_record;
use gramme_core::limits::{CLOCK_INTERVALS_MAX, SEEN_RUNS_MAX, SIBLING_BYTES_VALUES_MAX, SIBLINGS_SOFT_MAX};
use gramme_core::planted::{self, Bug};
use gramme_core::reclaim::{Arrival, admit_while_filling, is_amnesia};
use gramme_core::record::{Spent, checksum};
use gramme_core::seen::SeenRow;
use gramme_core::{
    Content, Context, Dot, Frontier, Hlc, Incarnation, Key, NodeId, PartitionId, Record, RequestId, Seen,
    Sibling,
};
use gramme_storage::{EngineError, Scan};
use gramme_wire::{Put, Reason};
use std::cell::{Cell, OnceCell, Ref, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

/// What a replica keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Home data.
    Home,
    /// Hints.
    Fallback,
}

/// See the module.
pub(crate) struct Replica<E: Env> {
    pub(crate) env: E,
    node: NodeId,
    pub(crate) store: Rc<Store<E>>,
    pub(crate) hlc: Rc<RefCell<Hlc>>,
    pub(crate) partition: PartitionId,
    role: Role,
    /// Whether no other node is a home of the partition.
    alone: Cell<bool>,
    pub(crate) incarnation: Cell<Incarnation>,
    pub(crate) counter: Cell<u64>,
    pub(crate) seen: RefCell<Seen>,
    pub(crate) reclaim: Reclaim,
    pub(crate) continuity: RefCell<Continuity>,
    pub(crate) members: RefCell<Members>,
    pub(crate) ends: Rc<Ends>,
    /// What the rows of a fallback take.
    held: Cell<Held>,
    /// The hash trees; set for homes.
    trees: OnceCell<Rc<Trees>>,
}

/// What a fallback's rows take on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) rows: u64,
    /// Keys and values.
    pub(crate) bytes: u64,
    /// How often something was added or changed since the shard was opened.
    pub(crate) changes: u64,
}

/// A write that has taken its place in the store, durable once `batch` is.
pub(crate) struct Minted {
    pub(crate) dot: Dot,
    pub(crate) kept: Rc<Kept>,
    pub(crate) batch: BatchId,
    /// What the writer had seen: the given context, or what a put without one is taken to have seen.
    pub(crate) saw: Context,
}

/// A page of a replica's records.
pub(crate) struct Found {
    /// Keys and encoded records, in order of key.
    pub(crate) rows: Vec<(Key, Bytes)>,
    /// Whether more may follow.
    pub(crate) more: bool,
    /// Whether every row there is could be read. If not, what is missing here proves nothing.
    pub(crate) whole: bool,
}

/// A record that was joined into the store, durable once `batch` is.
pub(crate) struct Merged {
    pub(crate) batch: BatchId,
}

impl<E: Env> Replica<E> {
    /// A fallback without hints, under a fresh incarnation, which is part of the batch being filled. Its seen
    /// clock lives in memory: what is on the disk is told to [`Replica::remember`].
    pub(crate) fn fallback(
        env: E,
        node: NodeId,
        store: Rc<Store<E>>,
        hlc: Rc<RefCell<Hlc>>,
        partition: PartitionId,
        ends: Rc<Ends>,
    ) -> Result<Replica<E>, EngineError> {
        let replica = Replica::blank(env, node, store, hlc, partition, ends, Role::Fallback);
        replica.renew()?;
        Ok(replica)
    }

    fn blank(
        env: E,
        node: NodeId,
        store: Rc<Store<E>>,
        hlc: Rc<RefCell<Hlc>>,
        partition: PartitionId,
        ends: Rc<Ends>,
        role: Role,
    ) -> Replica<E> {
        let born = hlc.borrow_mut().next(env.wall_ms()).0;
        let continuity = Continuity::new(born, Past::Original, BTreeSet::new(), env.now());
        Replica {
            alone: Cell::new(false),
            incarnation: Cell::default(),
            counter: Cell::new(0),
            seen: RefCell::default(),
            continuity: RefCell::new(continuity),
            members: RefCell::default(),
            held: Cell::default(),
            trees: OnceCell::new(),
            reclaim: Reclaim::default(),
            ends,
            env,
            node,
            store,
            hlc,
            partition,
            role,
        }
    }

    /// Takes note of a hint that is on the disk; which homes it is for. One that cannot be read is counted as it
    /// stands there, and is of use to nobody.
    pub(crate) fn remember(&self, row: &Bytes, value: &Bytes) -> Vec<NodeId> {
        let Held { rows, bytes, changes } = self.held.get();
        self.held.set(Held { rows: rows + 1, bytes: bytes + (row.len() + value.len()) as u64, changes });
        match rows::decode_hint(value) {
            Ok((homes, record, _)) => {
                self.follow(&record);
                self.note_seen(record.siblings().iter().map(|sibling| sibling.dot));
                homes
            }
            Err(_) => {
                self.env.probe(Probe::Corrupt);
                Vec::new()
            }
        }
    }

    /// What a fallback's rows take.
    pub(crate) fn held(&self) -> Held {
        self.held.get()
    }

    /// Makes the removal of one hint part of the batch being filled.
    pub(crate) fn drop_hint(&self, row: &Bytes, before: &Kept) -> Result<BatchId, EngineError> {
        let batch = self.store.remove(row.clone(), [])?;
        let Held { rows, bytes, changes } = self.held.get();
        let bytes = bytes.saturating_sub(before.row_bytes(row) as u64);
        self.held.set(Held { rows: rows.saturating_sub(1), bytes, changes: changes + 1 });
        Ok(batch)
    }

    /// A planted fault removes its rows and nothing else.
    pub(crate) fn forget_rows(&self) {
        self.held.set(Held { changes: self.held.get().changes, ..Held::default() });
    }

    /// Runs of its seen clock.
    pub(crate) fn seen_runs(&self) -> usize {
        self.seen.borrow().rows().map(|(_, row)| row.runs().len()).sum()
    }

    /// A new life: no dot of it was ever given, whatever the disk says.
    pub(crate) fn renew(&self) -> Result<(), EngineError> {
        let incarnation = Incarnation(self.env.random());
        let row = match self.role {
            Role::Home => self.replica_row(incarnation),
            Role::Fallback => {
                let row = rows::row(self.partition.0, KIND_HINT_STORE, &[]);
                (row, rows::encode_incarnation(incarnation))
            }
        };
        self.store.append_plain([row])?;
        self.incarnation.set(incarnation);
        self.counter.set(0);
        Ok(())
    }

    /// What it has merged.
    pub(crate) fn seen(&self) -> Ref<'_, Seen> {
        self.seen.borrow()
    }

    /// What its co-homes have reported.
    pub(crate) fn members(&self) -> Ref<'_, Members> {
        self.members.borrow()
    }

    /// The reclaim frontier: what everyone has durably seen, as far as this replica acts on it.
    pub(crate) fn frontier(&self) -> Frontier {
        self.reclaim.frontier()
    }

    /// What it keeps.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// What this replica has seen, in 64 bits.
    pub(crate) fn seen_digest(&self) -> u64 {
        self.seen.borrow().digest()
    }

    /// What is durable here of a key.
    pub(crate) async fn read(&self, key: &Key) -> Result<Rc<Kept>, EngineError> {
        self.store.durable(&self.row(key)).await
    }

    /// Coordinates a write: mints its dot, replaces what its context covers, and makes both part of the batch
    /// being filled. `covers` is what a delete without a context found to replace. A retry of a write that is there
    /// adopts it and covers nothing more: what has come since, the write did not replace. A fallback keeps the
    /// record for the homes `hint_for`. What cannot be read, and of which there is no other copy, it replaces: nobody
    /// else could. `may` is asked last of all, when only the mint is left to do; whatever
    /// fails, and whenever this is dropped before it resolves, nothing was written.
    pub(crate) async fn put(
        &self,
        put: &Put,
        covers: Option<Context>,
        settings: &BucketSettings,
        hint_for: &[NodeId],
        may: impl FnOnce() -> Result<(), Reason>,
    ) -> Result<Minted, Reason> {
        self.check_room()?;
        let row = self.row(&put.key);
        let _lock = self.store.lock(&row).await;
        let found = match self.store.latest(&row).await {
            Ok(local) => self.rid_of_void(&row, local).await,
            Err(cause) => Err(cause),
        };
        may()?;
        let is_lost = matches!(found, Err(EngineError::Corrupt(_))) && self.alone.get();
        let local = if is_lost { self.give_up(&row)? } else { found.map_err(|cause| self.refusal(cause))? };
        if let Some(minted) = self.adopt(put, &row, &local) {
            self.env.probe(Probe::RetryAdopted);
            return Ok(minted);
        }
        let saw = covers.unwrap_or_else(|| context_of(put, &local.record, settings.mode));
        // Between the read of a conditional put and here another may have written.
        let changed = || local.record.siblings().iter().any(|sibling| !saw.clock.covers(sibling.dot));
        if put.expect.is_some() && put.context.is_none() && changed() {
            return Err(Reason::Unexpected);
        }
        let sibling = self.sibling(put, settings, &local.record);
        let dot = sibling.dot;
        // Of a delete that only found what it covers nothing need be kept: without it, that is as gone as with it.
        let mut record = match put.context.is_some() || put.content == Content::Tombstone {
            true => local.record.put(&saw, sibling),
            false => local.record.put_over_found(&saw, sibling),
        };
        record.collapse_retries();
        check_siblings(&local.record, &record, settings)?;
        let hint_for = united(&local.hint_for, hint_for);
        self.mint(row, &local, &record, hint_for, dot, saw)
    }

    /// Coordinates a tombstone in the place of whatever has expired of a key by now, if anything has: it covers
    /// exactly that and bears its stamp, so that no reader sees a difference.
    pub(crate) async fn bury(
        &self,
        key: &Key,
        now_ms: u64,
        request: RequestId,
        may: impl FnOnce() -> Result<(), Reason>,
    ) -> Result<Option<Minted>, Reason> {
        self.check_room()?;
        let row = self.row(key);
        let _lock = self.store.lock(&row).await;
        let local = self.store.latest(&row).await.map_err(|cause| self.refusal(cause))?;
        may()?;
        let Some((saw, stamp)) = local.record.expired(now_ms) else { return Ok(None) };
        let dot = self.next_dot();
        let tombstone = Sibling {
            dot,
            checksum: checksum(&Content::Tombstone),
            content: Content::Tombstone,
            stamp,
            request,
            author: self.node,
            ttl_ms: 0,
            content_type: Bytes::new(),
            meta: Vec::new(),
        };
        let record = local.record.put(&saw, tombstone);
        self.mint(row, &local, &record, Vec::new(), dot, saw).map(Some)
    }

    /// Makes what a write at this coordinator has led to part of the batch being filled.
    fn mint(
        &self,
        row: Bytes,
        local: &Kept,
        record: &Record,
        hint_for: Vec<NodeId>,
        dot: Dot,
        saw: Context,
    ) -> Result<Minted, Reason> {
        check_clock(record)?;
        self.store.check().map_err(disk)?;
        if record.siblings().len() > SIBLINGS_SOFT_MAX {
            self.env.probe(Probe::SiblingsMany);
        }
        self.counter.set(self.counter.get() + 1);
        self.note_seen([dot]);
        self.store.recent().note(dot, &row);
        let kept = Rc::new(Kept { hint_for, ..Kept::new(record) });
        let batch = self.append(row, local, kept.clone(), [dot.incarnation]).map_err(disk)?;
        let batch = if planted::on(Bug::AckBeforeSync) { 0 } else { batch };
        Ok(Minted { dot, kept, batch, saw })
    }

    /// Joins a record that others made into what is here; says in which batch the result is. `stamp` is the
    /// sender's frontier; `hint_for` is the home that this fallback stands in for.
    pub(crate) async fn merge(
        &self,
        key: &Key,
        encoded: &Bytes,
        stamp: &Frontier,
        hint_for: &[NodeId],
    ) -> Result<Merged, Reason> {
        self.merge_if(key, encoded, stamp, hint_for, || Ok(())).await
    }

    /// The same; `may` is asked last of all, when only the append is left to do.
    pub(crate) async fn merge_if(
        &self,
        key: &Key,
        encoded: &Bytes,
        stamp: &Frontier,
        hint_for: &[NodeId],
        may: impl FnOnce() -> Result<(), Reason>,
    ) -> Result<Merged, Reason> {
        self.check_room()?;
        let incoming = self.receive(encoded)?;
        let row = self.row(key);
        let _lock = self.store.lock(&row).await;
        let local = self.store.latest(&row).await.map_err(|cause| self.refusal(cause))?;
        let local = self.rid_of_void(&row, local).await.map_err(disk)?;
        let Some(real) = self.ends.admit(&incoming.record) else {
            self.env.probe(Probe::VoidRefused);
            return Err(Reason::Void);
        };
        may()?;
        self.trip_if_amnesiac(&local.record, &incoming.record)?;
        self.follow(&incoming.record);
        let frontier =
            if planted::on(Bug::StaleBySeen) { self.seen.borrow().bases() } else { self.frontier() };
        let filling = self.reclaim.filling();
        let admitted = match admit_while_filling(&local.record, &real, &frontier, &filling, stamp) {
            Arrival::Join(admitted) => admitted,
            Arrival::Stale => {
                self.env.probe(Probe::StaleIgnored);
                return Ok(Merged { batch: self.store.batch_of(&row) });
            }
        };
        let mut joined = local.record.join(&admitted);
        if joined.heal(&admitted) {
            self.env.probe(Probe::Healed);
        }
        let collapsed = joined.collapse_retries().then(|| self.next_dot());
        if let Some(dot) = collapsed {
            joined = joined.with_event(dot);
        }
        check_clock(&joined)?;
        self.store.check().map_err(disk)?;
        if self.role == Role::Fallback && planted::on(Bug::HintReplacesHint) {
            joined = incoming.record.clone();
        }
        let homes = united(&local.hint_for, hint_for);
        self.counter.set(collapsed.map_or(self.counter.get(), |dot| dot.n));
        let dots = || incoming.record.siblings().iter().map(|sibling| sibling.dot).chain(collapsed);
        let fresh = self.note_seen(dots());
        dots().for_each(|dot| self.store.recent().note(dot, &row));
        if joined == local.record && homes == local.hint_for && fresh.is_empty() {
            return Ok(Merged { batch: self.store.batch_of(&row) });
        }
        if joined.siblings().len() > local.record.siblings().len().max(incoming.record.siblings().len()) {
            self.env.probe(Probe::SiblingsJoined);
        }
        let mut kept = if joined == incoming.record { incoming } else { Kept::new(&joined) };
        kept.hint_for = homes;
        let batch = self.append(row, &local, Rc::new(kept), fresh).map_err(disk)?;
        let batch = if planted::on(Bug::ReplicaAckBeforeSync) { 0 } else { batch };
        Ok(Merged { batch })
    }

    /// Makes a changed record part of the batch being filled, with the rows of the seen clock that it changed. Every
    /// change of a home's record goes this way or the next, and the partition's hash tree changes with it.
    pub(crate) fn append(
        &self,
        row: Bytes,
        before: &Kept,
        kept: Rc<Kept>,
        changed: impl IntoIterator<Item = Incarnation>,
    ) -> Result<BatchId, EngineError> {
        if self.role == Role::Home {
            let others = self.beside(&row, before, &kept.record, changed)?;
            return self.store.append(row, kept, others);
        }
        let is_new = before.encoded.is_empty();
        let replaced = if is_new { 0 } else { before.row_bytes(&row) as u64 };
        let written = kept.row_bytes(&row) as u64;
        let batch = self.store.append(row, kept, [])?;
        let Held { rows, bytes, changes } = self.held.get();
        self.held.set(Held {
            rows: rows + u64::from(is_new),
            bytes: bytes + written - replaced,
            changes: changes + 1,
        });
        Ok(batch)
    }

    /// Makes the removal of a home's record part of the batch being filled; see [`Replica::append`].
    pub(crate) fn remove(
        &self,
        row: Bytes,
        before: &Kept,
        changed: impl IntoIterator<Item = Incarnation>,
    ) -> Result<BatchId, EngineError> {
        let others = self.beside(&row, before, &Record::new(), changed)?;
        self.store.remove(row, others)
    }

    /// What goes into the same batch as a home's record.
    fn beside(
        &self,
        row: &Bytes,
        before: &Kept,
        after: &Record,
        changed: impl IntoIterator<Item = Incarnation>,
    ) -> Result<Vec<(Bytes, Bytes)>, EngineError> {
        // A tree must not hold what the store then refuses.
        self.store.check()?;
        self.reclaim.changed(&before.record, after);
        let mut others: Vec<(Bytes, Bytes)> = changed.into_iter().map(|i| self.seen_row(i)).collect();
        if let Some(trees) = self.trees.get() {
            let key = Key::from_joined(rows::rest(row)).expect("a row is made of its key");
            others.extend(trees.changed(self.partition, &key, &before.record, after));
        }
        Ok(others)
    }

    /// Whether no other node is a home of the partition from now on.
    pub(crate) fn set_only_home(&self, alone: bool) {
        self.alone.set(alone);
    }

    /// What a record shows was seen.
    pub(crate) fn note_all(&self, record: &Record) {
        let mut seen = self.seen.borrow_mut();
        record.siblings().iter().for_each(|sibling| _ = seen.add(sibling.dot));
    }

    /// Whether no other node is a home of the partition.
    pub(crate) fn is_only_home(&self) -> bool {
        self.alone.get()
    }

    /// Why a record here cannot be read or written.
    pub(crate) fn refusal(&self, cause: EngineError) -> Reason {
        match cause {
            EngineError::Corrupt(_) if self.alone.get() => Reason::Damaged,
            cause => disk(cause),
        }
    }

    /// The only copy of a record cannot be read, and is about to be replaced: what it held is gone. A new incarnation,
    /// as in [`Replica::mend`]; all of it is part of the batch being filled.
    fn give_up(&self, row: &Bytes) -> Result<Rc<Kept>, Reason> {
        self.renew().map_err(disk)?;
        let tree = self.trees.get().map(|trees| trees.forget(self.partition));
        self.store.append_plain(tree).map_err(disk)?;
        self.store.mended(row);
        self.env.probe(Probe::Mended);
        Ok(Rc::new(Kept::default()))
    }

    /// Keeps the partition's hash tree true from now on; for homes, before anything changes.
    pub(crate) fn watched_by(&self, trees: Rc<Trees>) {
        // A replica is opened once.
        let _ = self.trees.set(trees);
    }

    /// Overwrites a row that cannot be read with what all its other homes hold of it. A row that can be read after
    /// all stays as it is. The incarnation is a new one afterwards: what was lost may have held dots of the old one,
    /// which a later clock must not claim to have seen.
    pub(crate) async fn mend(&self, key: &Key, record: &Record) -> Result<(), Reason> {
        self.check_room()?;
        if self.ends.bears_void(record) {
            return Err(Reason::Void);
        }
        let row = self.row(key);
        let _lock = self.store.lock(&row).await;
        match self.store.latest(&row).await {
            Err(EngineError::Corrupt(_)) => {}
            Err(cause) => return Err(disk(cause)),
            Ok(_) => {
                self.store.mended(&row);
                return Ok(());
            }
        }
        self.renew().map_err(disk)?;
        self.follow(record);
        let fresh = self.note_seen(record.siblings().iter().map(|sibling| sibling.dot));
        let seen = fresh.into_iter().map(|incarnation| self.seen_row(incarnation));
        // What the row contributed to the hash tree cannot be told any more.
        let tree = self.trees.get().map(|trees| trees.forget(self.partition));
        self.store.append(row.clone(), Rc::new(Kept::new(record)), seen.chain(tree)).map_err(disk)?;
        self.store.mended(&row);
        self.reclaim.walk_again();
        self.env.probe(Probe::Mended);
        Ok(())
    }

    /// One page of records in order of key. The engine may show rows that are not yet durable: those are
    /// waited for, so that nobody is shown what a crash could still take back. Rows that cannot be read are left
    /// out and said so; they do not end the page.
    pub(crate) async fn scan(&self, mut scan: Scan) -> Result<Found, EngineError> {
        let mut found = Found { rows: Vec::new(), more: true, whole: true };
        // A page of damaged rows alone would leave the next one nowhere to begin.
        while found.rows.is_empty() && found.more {
            let page = self.store.scan(scan.clone()).await?;
            found.more = page.more;
            found.whole &= !page.damaged;
            scan.after = page.rows.last().map(|(row, _)| row.clone());
            for (row, shown) in page.rows {
                let durable = self.store.once_durable(&row).await?;
                let bytes = durable.map_or(shown, |kept| kept.encoded.clone());
                // Removed, which the engine does not yet show.
                if bytes.is_empty() {
                    continue;
                }
                match (Key::from_joined(rows::rest(&row)), self.check_stored(&row, &bytes)) {
                    (Ok(key), Ok(())) => found.rows.push((key, bytes)),
                    _ => found.whole = false,
                }
            }
        }
        Ok(found)
    }

    /// Whether a stored record is whole; one that is not is remembered as damaged.
    fn check_stored(&self, row: &Bytes, bytes: &Bytes) -> Result<(), EngineError> {
        let checked = match self.role {
            Role::Home => decode_record(bytes).map(drop),
            Role::Fallback => Ok(()),
        };
        checked.map_err(|bad| self.store.damaged(row, bad.to_string()))
    }

    /// The row of a key here.
    pub(crate) fn row(&self, key: &Key) -> Bytes {
        let kind = match self.role {
            Role::Home => KIND_DATA,
            Role::Fallback if planted::on(Bug::HintAmongHomes) => KIND_DATA,
            Role::Fallback => KIND_HINT,
        };
        rows::key_row(self.partition, kind, key)
    }

    fn check_room(&self) -> Result<(), Reason> {
        self.store.check().map_err(disk)?;
        if self.store.has_room() {
            return Ok(());
        }
        self.env.probe(Probe::Shed);
        Err(Reason::Overloaded)
    }

    fn adopt(&self, put: &Put, row: &Bytes, local: &Rc<Kept>) -> Option<Minted> {
        if planted::on(Bug::RetryForgotten) {
            return None;
        }
        let dot = made_as(&local.record, put)?;
        let saw = put.context.clone().unwrap_or_default();
        Some(Minted { dot, kept: local.clone(), batch: self.store.batch_of(row), saw })
    }

    /// The name of the next event here, which is minted once the counter is set to it.
    fn next_dot(&self) -> Dot {
        Dot::new(self.incarnation.get(), self.counter.get() + 1)
    }

    fn sibling(&self, put: &Put, settings: &BucketSettings, local: &Record) -> Sibling {
        let mut dot = self.next_dot();
        if self.role == Role::Fallback
            && planted::on(Bug::FallbackMintsFromClock)
            && let Some(last) = local.clock.intervals().last()
        {
            dot = Dot::new(last.incarnation, last.hi + 1);
        }
        Sibling {
            dot,
            checksum: checksum(&put.content),
            content: put.content.clone(),
            stamp: self.hlc.borrow_mut().next(self.env.wall_ms()),
            request: put.request,
            author: self.node,
            ttl_ms: put.ttl_ms.unwrap_or(settings.ttl_ms),
            content_type: put.content_type.clone(),
            meta: put.meta.clone(),
        }
    }

    /// Decodes what came from elsewhere into bytes of its own, and refuses what its coordinator did not write.
    fn receive(&self, encoded: &Bytes) -> Result<Kept, Reason> {
        let own = Bytes::copy_from_slice(encoded);
        let refused = |what: String| {
            self.env.probe(Probe::Corrupt);
            Reason::Invalid(format!("a peer sent a record that cannot be stored: {what}"))
        };
        let record = decode_record(&own).map_err(|bad| refused(bad.to_string()))?;
        match record.siblings().iter().find(|sibling| !sibling.verifies()) {
            Some(sibling) if !planted::on(Bug::AuditSpreadsCorrupt) => {
                Err(refused(format!("the value of {} fails its checksum", sibling.dot)))
            }
            _ => Ok(Kept { record, encoded: own, hint_for: Vec::new() }),
        }
    }

    /// Dots of my live incarnation that I do not remember: I have lost something (correctness.md 1.3).
    fn trip_if_amnesiac(&self, local: &Record, incoming: &Record) -> Result<(), Reason> {
        let forgot = is_amnesia(local, incoming, self.incarnation.get(), &self.frontier());
        if forgot && !planted::on(Bug::NoTripwire) {
            self.env.probe(Probe::Tripwire);
            match self.role {
                Role::Home => self.mistrust(0).map_err(disk)?,
                Role::Fallback => self.renew().map_err(disk)?,
            }
        }
        Ok(())
    }

    fn follow(&self, record: &Record) {
        let newest = record.siblings().iter().map(|sibling| sibling.stamp).max().unwrap_or_default();
        if self.hlc.borrow_mut().observe(newest, self.env.wall_ms()).is_err() {
            self.env.probe(Probe::StampAhead);
        }
    }

    /// Adds dots to the seen clock; which rows of it have changed.
    pub(crate) fn note_seen(&self, dots: impl IntoIterator<Item = Dot>) -> Vec<Incarnation> {
        let mut seen = self.seen.borrow_mut();
        let mut changed = Vec::new();
        for dot in dots {
            if seen.add(dot) && !changed.contains(&dot.incarnation) {
                changed.push(dot.incarnation);
            }
        }
        // What a fallback forgot to have, it would be destroyed with.
        for &incarnation in changed.iter().filter(|_| self.role == Role::Home) {
            forget_oldest_exceptions(&mut seen, incarnation);
        }
        changed
    }

    /// The row of one incarnation's part of the seen clock.
    pub(crate) fn seen_row_key(&self, incarnation: Incarnation) -> Bytes {
        rows::seen_row(self.partition, KIND_SEEN, incarnation)
    }

    /// The same with its value.
    pub(crate) fn seen_row(&self, incarnation: Incarnation) -> (Bytes, Bytes) {
        let seen = self.seen.borrow();
        let runs = seen.row(incarnation).cloned().unwrap_or_default();
        let value = rows::encode_seen(&runs, self.hlc.borrow().last());
        (self.seen_row_key(incarnation), value)
    }
}

/// Homes that a hint is for, each once, in order.
fn united(before: &[NodeId], more: &[NodeId]) -> Vec<NodeId> {
    let mut homes: Vec<NodeId> = before.iter().chain(more).copied().collect();
    homes.sort_unstable();
    homes.dedup();
    homes
}

/// What a put is taken to have seen: its context; without one, nothing in a `siblings` bucket, and what the
/// coordinator sees in an `lww` bucket.
fn context_of(put: &Put, local: &Record, mode: Mode) -> Context {
    match (&put.context, mode) {
        (Some(context), _) => context.clone(),
        (None, Mode::Siblings) if !planted::on(Bug::BlindSupersedes) => Context::blind(),
        (None, _) => Context::of(local, None),
    }
}

/// The dot under which a record shows that this write was made: its sibling's, or none in particular if someone
/// who had seen it has overwritten it. `None` if the record knows nothing of it.
pub(crate) fn made_as(record: &Record, put: &Put) -> Option<Dot> {
    let sum = checksum(&put.content);
    match record.sibling_of(put.request) {
        Some(sibling) if sibling.checksum == sum => Some(sibling.dot),
        _ => {
            let is_it = |spent: &Spent| spent.request == put.request && spent.checksum == sum;
            record.spent().iter().any(is_it).then(Dot::default)
        }
    }
}

/// Sibling limits bind coordinators, and only puts that do not shrink the set (design section 3).
fn check_siblings(before: &Record, after: &Record, settings: &BucketSettings) -> Result<(), Reason> {
    let bytes_max = settings.value_bytes_max as usize * SIBLING_BYTES_VALUES_MAX;
    let too_many = after.siblings().len() as u64 > settings.siblings_max
        && after.siblings().len() >= before.siblings().len();
    let too_large = after.content_bytes() > bytes_max && after.content_bytes() >= before.content_bytes();
    if too_many || too_large { Err(Reason::TooManySiblings(before.siblings().len() as u32)) } else { Ok(()) }
}

/// Keeps a row within [`SEEN_RUNS_MAX`]: the base and the newer half of what lies above its holes.
pub(crate) fn forget_oldest_exceptions(seen: &mut Seen, incarnation: Incarnation) {
    let Some(runs) = seen.row(incarnation).map(SeenRow::runs).filter(|runs| runs.len() > SEEN_RUNS_MAX)
    else {
        return;
    };
    let newer = &runs[runs.len() - SEEN_RUNS_MAX / 2..];
    let kept = SeenRow::from_runs(runs[..1].iter().chain(newer).copied());
    seen.set_row(incarnation, kept);
}

/// A clock that no reader would accept is never written.
fn check_clock(record: &Record) -> Result<(), Reason> {
    let intervals = record.clock.intervals().len();
    if intervals <= CLOCK_INTERVALS_MAX {
        return Ok(());
    }
    Err(Reason::Invalid(format!(
        "the key's clock would have {intervals} intervals, and {CLOCK_INTERVALS_MAX} are the most that can be stored"
    )))
}

/// What a failing engine means for a request.
pub(crate) fn disk(cause: EngineError) -> Reason {
    match cause {
        EngineError::Busy => Reason::Overloaded,
        cause => Reason::Disk(cause.to_string()),
    }
}
