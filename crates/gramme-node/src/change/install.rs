//! A shard takes over the layouts by which it works. Homes that come are opened first, and durably so; then, in one moment,
//! the layouts and the homes change together; homes that go are kept aside for the homes that have come ([`super::leave`]).
//!
//! Invariant: by whatever layouts a flow goes, the homes that they name here are open. A disk that cannot be read for a while,
//! or has no room, is waited for.

use super::leave::Left;
use super::{Installing, Report};
use crate::env::{Env, Fact};
use crate::exchange;
use crate::live::Live;
use crate::node::Node;
use crate::probe::Probe;
use crate::replica::Replica;
use crate::signal::Signal;
use gramme_core::PartitionId;
use gramme_core::limits::FULL_RETRY_MS;
use gramme_core::planted::{self, Bug};
use gramme_storage::EngineError;
use gramme_wire::Standing;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

/// What one shard was handed, and how far it has come with it.
pub(crate) struct Shift {
    handed: RefCell<VecDeque<Arc<Installing>>>,
    arrived: Signal,
    epoch: Cell<u64>,
    /// Homes are being opened: what was left may be neither that any more nor a home yet.
    under_way: Cell<bool>,
    /// Layouts that flows may still hold which began by them.
    older: RefCell<Vec<Weak<Live>>>,
    reported: Cell<Option<Report>>,
    /// How many reports were made.
    reports: Cell<u64>,
}

impl Default for Shift {
    fn default() -> Shift {
        Shift {
            handed: RefCell::default(),
            arrived: Signal::default(),
            epoch: Cell::new(1),
            under_way: Cell::new(false),
            older: RefCell::default(),
            reported: Cell::new(None),
            reports: Cell::new(0),
        }
    }
}

impl Shift {
    /// Something is handed to the shard.
    pub(crate) fn hand(&self, installing: Arc<Installing>) {
        self.handed.borrow_mut().push_back(installing);
        self.arrived.notify();
    }

    /// Whether it is unknown just now what this shard keeps of a partition that is neither home nor left.
    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way.get()
    }

    fn is_drained(&self) -> bool {
        let mut older = self.older.borrow_mut();
        older.retain(|live| live.strong_count() > 0);
        older.is_empty()
    }
}

/// Takes over whatever is handed to the shard, one after the other.
pub(crate) async fn for_ever<E: Env>(node: Node<E>) {
    let shift = &node.0.shift;
    loop {
        let installing = shift.arrived.wait_for(|| shift.handed.borrow_mut().pop_front()).await;
        // What shards tell each other may arrive in any order.
        if installing.epoch <= shift.epoch.get() {
            continue;
        }
        shift.under_way.set(true);
        let Ok(()) = install(&node, &installing).await else {
            // The store is broken, and the process about to end.
            return;
        };
        shift.under_way.set(false);
        report(&node);
    }
}

async fn install<E: Env>(node: &Node<E>, installing: &Installing) -> Result<(), EngineError> {
    let live = Rc::new(installing.live.clone());
    let me = node.id();
    let before = node.live();
    let mut fresh = Vec::new();
    for partition in node.own_partitions().filter(|&partition| live.is_home(partition, me)) {
        match node.home(partition) {
            None => fresh.push((partition, once_possible(node, || acquire(node, partition)).await?)),
            Some(replica) if !live.goes_on_from(&before, partition, me) => {
                once_possible(node, || async { begin_anew(node, &replica) }).await?;
            }
            Some(_) => {}
        }
    }
    once_possible(node, || node.0.store.wait_all()).await?;
    let (came, gone) = change_over(node, live, fresh);
    node.0.shift.epoch.set(installing.epoch);
    (0..came).for_each(|_| node.0.env.probe(Probe::HomeCame));
    (0..gone).for_each(|_| node.0.env.probe(Probe::HomeLeft));
    // Of whom everything is awaited may have changed even where no home has come.
    exchange::fill(node);
    Ok(())
}

/// Tries as often as it takes: a disk that is full or cannot be read is waited for. Fails only with a store that is broken.
async fn once_possible<E: Env, T>(
    node: &Node<E>,
    attempt: impl AsyncFn() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    loop {
        match attempt().await {
            Err(_) if node.0.store.broken().is_none() => {
                let env = &node.0.env;
                env.sleep_until(env.now() + Duration::from_millis(FULL_RETRY_MS)).await;
            }
            done => return done,
        }
    }
}

/// A home that was none for a while missed what was written meanwhile, and nobody kept its tree up. What names the replica is
/// written first: a tree alone would belong to nothing after a crash.
fn begin_anew<E: Env>(node: &Node<E>, replica: &Replica<E>) -> Result<(), EngineError> {
    if !planted::on(Bug::NewHomeTrusted) {
        replica.begin_new()?;
    }
    node.0.store.append_plain([node.0.trees.forget(replica.partition)]).map(drop)
}

/// Opens a home that this node has not been, or was and has left.
async fn acquire<E: Env>(node: &Node<E>, partition: PartitionId) -> Result<Rc<Replica<E>>, EngineError> {
    node.0.trees.watch(&node.0.env, partition).await?;
    let left = node.0.left.borrow_mut().remove(&partition);
    let replica = match &left {
        Some(left) => left.take_back().await,
        None => node.open_home(partition).await?,
    };
    // It has nothing, or has missed what came since it was a home.
    let begun = begin_anew(node, &replica);
    if let (Err(_), Some(left)) = (&begun, left) {
        node.0.left.borrow_mut().insert(partition, left);
    }
    begun.map(|()| replica)
}

/// The moment itself; how many homes came and went.
fn change_over<E: Env>(
    node: &Node<E>,
    live: Rc<Live>,
    fresh: Vec<(PartitionId, Rc<Replica<E>>)>,
) -> (usize, usize) {
    let (me, came) = (node.id(), fresh.len());
    node.0.homes.borrow_mut().extend(fresh);
    let before = node.0.live.replace(live.clone());
    node.0.shift.older.borrow_mut().push(Rc::downgrade(&before));
    drop(before);
    let goes = |partition: &PartitionId| !live.is_home(*partition, me);
    let gone: Vec<PartitionId> = node.0.homes.borrow().keys().copied().filter(goes).collect();
    for &partition in &gone {
        let Some(replica) = node.0.homes.borrow_mut().remove(&partition) else { continue };
        node.0.trees.unwatch(partition);
        node.0.left.borrow_mut().insert(partition, Rc::new(Left::new(replica)));
    }
    for (partition, replica) in node.homes() {
        replica.set_only_home(live.reads().homes(partition) == [me]);
    }
    let known = live.members().iter().filter_map(|&id| live.member(id));
    node.0.detector.borrow_mut().members_are(known.filter(|member| member.id != me));
    (came, gone.len())
}

/// Tells shard 0 how far this one is, if that has changed.
pub(crate) fn report<E: Env>(node: &Node<E>) {
    let shift = &node.0.shift;
    let live = node.live();
    let me = node.id();
    let holds_all = |(partition, replica): (PartitionId, Rc<Replica<E>>)| {
        let hints = node.0.hints.get(partition);
        // What it kept as a fallback it shows as a home; what nobody else could give it, it need not wait for.
        let has_taken_over = hints.is_none_or(|store| store.not_covered(&[me]).is_empty());
        let is_whole = node.life_of(&replica).standing == Standing::Continuous && has_taken_over;
        let is_alone = node.co_homes(partition).is_empty() && !replica.is_new();
        !live.newest().is_home(partition, me) || is_whole || is_alone
    };
    let report = Report {
        shard: node.0.options.shard,
        number: shift.reports.get(),
        epoch: shift.epoch.get(),
        drained: shift.is_drained(),
        filled: node.homes().into_iter().all(holds_all),
        empty: node.0.left.borrow().is_empty() && node.0.hints.is_empty(),
    };
    if shift.reported.get() == Some(report) {
        return;
    }
    let report = Report { number: report.number + 1, ..report };
    shift.reports.set(report.number);
    shift.reported.set(Some(report));
    if node.0.options.shard == 0 {
        super::steps::heard(node, report);
    } else {
        node.0.env.tell_shards(Fact::Report(report));
    }
}
