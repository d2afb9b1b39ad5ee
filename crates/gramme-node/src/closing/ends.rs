//! The ended incarnations of one partition as one node keeps them, whether it is a home of it, keeps hints of it,
//! or neither: a row each, read back at every start.
//!
//! Invariant: whatever is promised to others is durable first.

use crate::env::Env;
use crate::pages::Pages;
use crate::probe::Probe;
use crate::replica::{Replica, Role};
use crate::rows::{self, KIND_END};
use crate::store::Kept;
use bytes::Bytes;
use gramme_core::closed::{self, Closed, End};
use gramme_core::seen::SeenRow;
use gramme_core::{Frontier, Incarnation, Interval, PartitionId, Record, Seen};
use gramme_storage::{Engine, EngineError};
use gramme_wire::Remembered;
use std::borrow::Cow;
use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Those of every partition of a shard.
pub(crate) type AllEnds = BTreeMap<PartitionId, Rc<Ends>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ends {
    partition: PartitionId,
    closed: RefCell<Closed>,
    /// Whether a row could not be read: what was promised here is not known any more.
    garbled: bool,
}

impl Ends {
    /// Reads them back. A garbled row is left for [`Ends::garbled`] to tell of.
    pub(crate) async fn load<E: Env>(env: &E, partition: PartitionId) -> Result<Ends, EngineError> {
        let mut closed = Closed::new();
        let mut garbled = false;
        let mut pages = Pages::of(rows::row(partition.0, KIND_END, &[]), 512, 1 << 20);
        loop {
            let page = match pages.next(|scan| env.engine().scan(scan)).await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                Err(EngineError::Corrupt(_)) => {
                    garbled = true;
                    break;
                }
                Err(cause) => return Err(cause),
            };
            garbled |= page.damaged;
            for (row, value) in &page.rows {
                let incarnation = <[u8; 8]>::try_from(&rows::rest(row)[..]).ok();
                match incarnation.zip(rows::decode_end(value).ok()) {
                    Some((incarnation, end)) => {
                        closed.set(Incarnation(u64::from_be_bytes(incarnation)), end);
                    }
                    None => garbled = true,
                }
            }
        }
        if garbled {
            env.probe(Probe::Corrupt);
        }
        Ok(Ends { partition, closed: RefCell::new(closed), garbled })
    }

    /// Whether some of them were lost: a home is then as one that has lost something.
    pub(crate) fn garbled(&self) -> bool {
        self.garbled
    }

    /// As they are.
    pub(crate) fn closed(&self) -> Ref<'_, Closed> {
        self.closed.borrow()
    }

    /// See [`Closed::freeze`]; the row that makes it last.
    pub(super) fn freeze(
        &self,
        incarnation: Incarnation,
        set: &SeenRow,
        seen: &SeenRow,
    ) -> Option<(Bytes, Bytes)> {
        let frozen = self.closed.borrow_mut().freeze(incarnation, set, seen);
        frozen.then(|| self.row(incarnation))
    }

    /// A set is final; the row that makes this last.
    pub(super) fn close(&self, incarnation: Incarnation, set: SeenRow) -> (Bytes, Bytes) {
        self.closed.borrow_mut().set(incarnation, End { set, closed: true });
        self.row(incarnation)
    }

    fn row(&self, incarnation: Incarnation) -> (Bytes, Bytes) {
        let closed = self.closed.borrow();
        let end = closed.end(incarnation).expect("the caller has just set it");
        (rows::row(self.partition.0, KIND_END, &incarnation.0.to_be_bytes()), rows::encode_end(end))
    }

    /// See [`Closed::admit`].
    pub(crate) fn admit<'a>(&self, record: &'a Record) -> Option<Cow<'a, Record>> {
        self.closed.borrow().admit(record)
    }

    /// Whether a record bears a dot that never was.
    pub(crate) fn bears_void(&self, record: &Record) -> bool {
        let closed = self.closed.borrow();
        !closed.is_empty() && record.siblings().iter().any(|sibling| closed.is_void(sibling.dot))
    }

    /// Whether a seen clock names what never was.
    pub(crate) fn has_void(&self, seen: &Seen) -> bool {
        self.closed.borrow().ends().any(|(incarnation, end)| !beyond(seen, incarnation, &end.set).is_empty())
    }

    /// A seen clock without what is void of it: nobody here will ever have seen that.
    pub(crate) fn without_void<'a>(&self, seen: &'a Seen) -> Cow<'a, Seen> {
        let closed = self.closed.borrow();
        let mut real = Cow::Borrowed(seen);
        for (incarnation, end) in closed.ends() {
            for run in beyond(seen, incarnation, &end.set) {
                real.to_mut().remove(run);
            }
        }
        real
    }
}

/// What is seen of an incarnation beyond a set.
pub(super) fn beyond(seen: &Seen, incarnation: Incarnation, set: &SeenRow) -> Vec<Interval> {
    let runs = seen.row(incarnation).into_iter().flat_map(|row| set.lacking(row));
    runs.map(|(lo, hi)| Interval { incarnation, lo, hi }).collect()
}

impl<E: Env> Replica<E> {
    /// How incarnations of the partition have ended, as far as this node knows.
    pub(crate) fn ends(&self) -> &Ends {
        &self.ends
    }

    /// How far a replica that has seen this has seen everything there is, as far as is known here.
    pub(crate) fn bases_of(&self, seen: &Seen) -> Frontier {
        closed::bases(seen, &self.ends.closed())
    }

    /// What this replica has seen and what it knows to be closed, in 64 bits.
    pub(crate) fn compared_digest(&self) -> u64 {
        self.seen_digest() ^ self.ends.closed().digest()
    }

    /// Whether everything up to these bases was merged. Of an incarnation that is closed for whoever remembers
    /// them, and not yet here, nothing can be told before this replica has learned of that.
    pub(crate) fn reaches(&self, bases: &Frontier) -> bool {
        let own = self.bases_of(&self.seen.borrow());
        let closed = self.ends.closed();
        let reached = |&(incarnation, n): &(Incarnation, u64)| {
            own.base(incarnation) >= n || (n == u64::MAX && !closed.is_closed(incarnation))
        };
        bases.bases().iter().all(reached)
    }

    /// Whether enough is known here of what is closed to tell if what somebody remembers was forgotten.
    pub(crate) fn can_judge(&self, remembered: &Remembered) -> bool {
        let closed = self.ends.closed();
        remembered
            .bases
            .bases()
            .iter()
            .all(|&(incarnation, n)| n != u64::MAX || closed.is_closed(incarnation))
    }

    /// Removes a record here that bears a void dot: only a replica that lost its promise holds any, and the rest
    /// of such a record would keep that write's effect. To be called under the row's lock; what is there then.
    pub(crate) async fn rid_of_void(&self, row: &Bytes, local: Rc<Kept>) -> Result<Rc<Kept>, EngineError> {
        if !self.ends.bears_void(&local.record) {
            return Ok(local);
        }
        self.env.probe(Probe::VoidDropped);
        match self.role() {
            Role::Home => self.remove(row.clone(), &local, [])?,
            Role::Fallback => self.drop_hint(row, &local)?,
        };
        self.store.latest(row).await
    }
}
