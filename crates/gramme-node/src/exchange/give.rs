//! Serving a pull session: what was seen and the frontier are fixed at its start, durable before they are said;
//! then pages of every record with a sibling that the asker has not seen (correctness.md 2.2).
//!
//! Records are sent as they are when their page is made: a newer state holds the past of an older one. So
//! nothing may be *removed* while a session reads: [`Replica::is_serving_session`].
//!
//! Invariant: sessions are few, and one that is not gone on with ends by itself.

use crate::env::{Env, Mono};
use crate::hints::Keeping;
use crate::node::Node;
use crate::probe::Probe;
use crate::replica::{Replica, disk};
use crate::rows::{self, KIND_DATA, KIND_HINT};
use crate::serve::refused;
use bytes::Bytes;
use gramme_core::codec::decode_record;
use gramme_core::limits::{
    PULL_KEYS_MAX, PULL_LEASE_MS, PULL_PAGE_BYTES_MAX, PULL_PAGE_RECORDS_MAX, PULL_SCAN_BYTES_MAX,
    PULLS_SERVED_MAX,
};
use gramme_core::{Frontier, Key, NodeId, PartitionId, Record, Seen};
use gramme_storage::{EngineError, Scan};
use gramme_wire::{Body, Life, PullOf, PullPage, Pulled, Reason, Standing};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// One session as its sender keeps it between pages.
pub(crate) struct Session<E: Env>(Rc<Kept<E>>, Mono);

struct Kept<E: Env> {
    asker: NodeId,
    replica: Rc<Replica<E>>,
    _reading: Option<Keeping<E>>,
    partition: PartitionId,
    kind: u8,
    /// What the asker had seen; `None` if everything is to be sent.
    seen: Option<Seen>,
    /// The rows of all that it lacks, if they are known.
    rows: Option<BTreeSet<Bytes>>,
    frontier: Frontier,
    life: Life,
}

impl<E: Env> Session<E> {
    /// Who asks.
    pub(crate) fn asker(&self) -> NodeId {
        self.0.asker
    }

    /// Whether nobody has gone on with it for so long that it has ended.
    pub(crate) fn is_over(&self, now: Mono) -> bool {
        self.1 <= now
    }
}

/// A peer begins a session; `ask` is a [`Body::Pull`].
pub(crate) async fn begin<E: Env>(node: &Node<E>, from: NodeId, partition: PartitionId, ask: Body) -> Body {
    let Body::Pull { life: theirs, seen, of, full } = ask else { return refused(Reason::Unsuitable) };
    let live = node.live();
    // Whoever is to be a home by a layout that this node has not durably said to write by waits until it has: what was
    // written by older ones alone must be here before it is pulled.
    let is_home = if full { live.is_home_as_said(partition, from) } else { live.is_home(partition, from) };
    if partition.0 as usize >= live.partitions() || !is_home {
        return refused(Reason::Unsuitable);
    }
    // While a session reads a hint store, that is not destroyed: what would be missing from the session would be
    // taken for seen at its end.
    let reading = if of == PullOf::Hints { node.0.hints.read(partition) } else { None };
    let found = match of {
        // A home by a layout that was called off: the asker still goes by that one, and waits for this node's word.
        PullOf::Home if full => node.home(partition).or_else(|| node.left(partition)),
        PullOf::Home => node.home(partition),
        PullOf::Hints => reading.as_ref().map(Keeping::replica).cloned(),
        PullOf::Left => node.left(partition),
    };
    let Some(replica) = found else {
        let is_all = of == PullOf::Home && full && !node.0.shift.is_under_way();
        return if is_all { nothing(node) } else { refused(Reason::Unsuitable) };
    };
    let is_home = of == PullOf::Home && node.home(partition).is_some();
    // After a start it vouches for no frontier until the others have had their word. Whoever gets everything without that
    // cannot tell what was let go by it from what this home never had.
    if full && is_home && !node.is_checked(&replica) {
        return refused(Reason::Unsuitable);
    }
    let now = node.0.env.now();
    {
        let mut serving = node.0.exchange.serving.borrow_mut();
        serving.retain(|_, session| !session.is_over(now));
        if serving.len() >= PULLS_SERVED_MAX {
            return refused(Reason::Overloaded);
        }
    }
    replica.serve_session(now);
    if is_home {
        replica.note_member(from, theirs, replica.bases_of(&seen));
    }
    let frontier = match of {
        PullOf::Home if is_home => node.vouched(&replica),
        // By what it had let go of as a home: it holds all that lived below that.
        PullOf::Home if !replica.is_unproven() => replica.frontier(),
        _ => Frontier::none(),
    };
    let standing = if is_home { node.0.trust.get().standing() } else { Standing::Unproven };
    // What is on its way to the disk is durable before it is said, and in the engine before it is scanned.
    let (life, sigma) = match replica.durably_seen(standing).await {
        Ok(now) => now,
        Err(cause) => return refused(disk(cause)),
    };
    let kind = if of == PullOf::Hints { KIND_HINT } else { KIND_DATA };
    let prefix = rows::row(partition.0, kind, &[]);
    let rows = match full {
        true => None,
        false => node.0.store.recent().rows_of(seen.lacking(&sigma), &prefix, PULL_KEYS_MAX),
    };
    let probe = if rows.is_some() { Probe::PullServedByKeys } else { Probe::PullServedByScan };
    node.0.env.probe(probe);
    let seen = (!full).then_some(seen);
    let kept = Kept { asker: from, replica, _reading: reading, partition, kind, seen, rows, frontier, life };
    let number = node.0.env.random();
    page(node, number, Rc::new(kept), None, Some(sigma)).await
}

/// A whole session in one page: this node is no home, and keeps nothing that it had as one. Whatever that was, every home
/// has had it from this node, the asker too.
fn nothing<E: Env>(node: &Node<E>) -> Body {
    Body::PullReply(PullPage {
        session: node.0.env.random(),
        pulled: Vec::new(),
        next: None,
        sigma: Some(Box::default()),
        frontier: Frontier::none(),
        life: Life { number: 0, standing: Standing::Unproven },
        unreadable: 0,
    })
}

/// The asker of a session goes on with it.
pub(crate) async fn more<E: Env>(node: &Node<E>, from: NodeId, number: u64, after: Key) -> Body {
    let now = node.0.env.now();
    let found = {
        let serving = node.0.exchange.serving.borrow();
        serving.get(&number).filter(|s| !s.is_over(now) && s.asker() == from).map(|session| session.0.clone())
    };
    match found {
        Some(kept) => page(node, number, kept, Some(after), None).await,
        None => refused(Reason::Invalid(
            "this node knows no such pull session, or it has expired: begin a new one".to_string(),
        )),
    }
}

/// A fallback asks what this home has durably seen of a partition.
pub(crate) async fn ask_seen<E: Env>(node: &Node<E>, partition: PartitionId) -> Body {
    let Some(replica) = node.home(partition) else { return refused(Reason::Unsuitable) };
    match replica.durably_seen(node.0.trust.get().standing()).await {
        Ok((life, seen)) => Body::SeenReply { life, seen },
        Err(cause) => refused(disk(cause)),
    }
}

async fn page<E: Env>(
    node: &Node<E>,
    number: u64,
    kept: Rc<Kept<E>>,
    after: Option<Key>,
    sigma: Option<Seen>,
) -> Body {
    let made = match &kept.rows {
        Some(rows) => of_rows(node, &kept, rows, after.as_ref()).await,
        None => of_scan(node, &kept, after.as_ref()).await,
    };
    let Made { pulled, next, unreadable } = match made {
        Ok(made) => made,
        Err(cause) => return refused(disk(cause)),
    };
    let now = node.0.env.now();
    {
        let mut serving = node.0.exchange.serving.borrow_mut();
        if next.is_some() {
            kept.replica.serve_session(now);
            serving.insert(number, Session(kept.clone(), now + Duration::from_millis(PULL_LEASE_MS)));
        } else {
            serving.remove(&number);
        }
    }
    Body::PullReply(PullPage {
        session: number,
        pulled,
        next,
        sigma: sigma.map(Box::new),
        frontier: kept.frontier.clone(),
        life: kept.life,
        unreadable,
    })
}

#[derive(Default)]
struct Made {
    pulled: Vec<Pulled>,
    next: Option<Key>,
    unreadable: u32,
}

impl Made {
    fn is_full(&self, bytes: usize) -> bool {
        bytes >= PULL_PAGE_BYTES_MAX || self.pulled.len() >= PULL_PAGE_RECORDS_MAX
    }
}

/// The records of known rows.
async fn of_rows<E: Env>(
    node: &Node<E>,
    kept: &Kept<E>,
    rows: &BTreeSet<Bytes>,
    after: Option<&Key>,
) -> Result<Made, EngineError> {
    let (mut made, mut bytes) = (Made::default(), 0);
    let after = after.map(|key| rows::key_row(kept.partition, kept.kind, key));
    let mut left = rows.iter().filter(|row| after.as_ref().is_none_or(|after| *row > after)).peekable();
    while let Some(row) = left.next() {
        let Ok(key) = Key::from_joined(rows::rest(row)) else { continue };
        match node.0.store.durable(row).await {
            Ok(found) if kept.wants(&found.record) => {
                bytes += found.encoded.len();
                made.pulled.push(Pulled { key: key.clone(), record: found.encoded.clone() });
            }
            Ok(_) => {}
            Err(EngineError::Corrupt(_)) => made.unreadable += 1,
            Err(cause) => return Err(cause),
        }
        if made.is_full(bytes) && left.peek().is_some() {
            made.next = Some(key);
            break;
        }
    }
    Ok(made)
}

/// The next records of the partition.
async fn of_scan<E: Env>(node: &Node<E>, kept: &Kept<E>, after: Option<&Key>) -> Result<Made, EngineError> {
    let (mut made, mut bytes) = (Made::default(), 0);
    let scan = Scan {
        prefix: rows::row(kept.partition.0, kept.kind, &[]),
        after: after.map(|key| rows::key_row(kept.partition, kept.kind, key)),
        rows_max: PULL_PAGE_RECORDS_MAX,
        bytes_max: PULL_SCAN_BYTES_MAX,
    };
    let found = node.0.store.scan(scan).await?;
    let last = found.rows.len();
    let mut named = None;
    made.unreadable += u32::from(found.damaged);
    for (at, (row, shown)) in found.rows.into_iter().enumerate() {
        let Ok(key) = Key::from_joined(rows::rest(&row)) else {
            made.unreadable += 1;
            if at + 1 == last && found.more {
                // A row without a name is nowhere to go on from: the next page meets it again, and passes it.
                let nameless = || EngineError::Corrupt("no row of a page has a name".to_string());
                made.next = Some(named.ok_or_else(nameless)?);
                break;
            }
            continue;
        };
        named = Some(key.clone());
        // The engine may show what is not yet durable.
        let held = match node.0.store.once_durable(&row).await? {
            Some(kept) => Some((kept.record.clone(), kept.encoded.clone())),
            None => decode(kept.kind, shown),
        };
        match held {
            Some((record, encoded)) if !encoded.is_empty() && kept.wants(&record) => {
                bytes += encoded.len();
                made.pulled.push(Pulled { key: key.clone(), record: encoded });
            }
            Some(_) => {}
            None => {
                node.0.store.damaged(&row, "a record that was to be given to a peer".to_string());
                made.unreadable += 1;
            }
        }
        if made.is_full(bytes) || at + 1 == last {
            made.next = (found.more || at + 1 < last).then_some(key);
            break;
        }
    }
    Ok(made)
}

fn decode(kind: u8, shown: Bytes) -> Option<(Record, Bytes)> {
    if kind == KIND_HINT {
        return rows::decode_hint(&shown).ok().map(|(_, record, encoded)| (record, encoded));
    }
    decode_record(&shown).ok().map(|record| (record, shown))
}

impl<E: Env> Kept<E> {
    /// Whether a record tells the asker anything.
    fn wants(&self, record: &Record) -> bool {
        match &self.seen {
            Some(seen) => record.is_news_to(seen),
            None => !record.is_empty(),
        }
    }
}
