//! Conditional writes: a strict read, a comparison, and then a put that replaces what was read (correctness.md 3.6).
//!
//! Best effort, and called so: it is a validation before the put, not a constraint. Two writers at two
//! coordinators may both find what they expect; then both writes are kept, as siblings, and none is lost.

use crate::coordinate::get;
use crate::env::{Env, Mono};
use crate::node::Node;
use crate::request::{Get, Got, Health};
use gramme_core::Outcome;
use gramme_core::Record;
use gramme_core::bucket::Level;
use gramme_core::planted::{self, Bug};
use gramme_core::record::checksum;
use gramme_wire::{Expect, Failure, Put, Reason};

/// Reads what the key looks like, from homes alone as far as they are there, and holds it against what the put
/// expects. A retry whose first attempt is among what was read is let through: it will be adopted.
pub(crate) async fn check<E: Env>(
    node: &Node<E>,
    put: &Put,
    expect: Expect,
    deadline: Mono,
) -> Result<Got, Failure> {
    let got = strictly(node, put, deadline)
        .await
        .map_err(|failure| Failure { outcome: Outcome::NotApplied, ..failure })?;
    let holds = was_made(&got.record, put) || looks_like(&got.record, expect, got.now_ms);
    if holds { Ok(got) } else { Err(Failure::not_applied(Reason::Unexpected)) }
}

async fn strictly<E: Env>(node: &Node<E>, put: &Put, deadline: Mono) -> Result<Got, Failure> {
    let partition = node.partition_of(&put.key);
    let settings = node.settings(put.key.bucket());
    let live = node.live();
    let n = live.reads().n();
    let there = |&&home: &&gramme_core::NodeId| node.health(home) != Health::Down && !node.is_silent(home);
    let homes = live.reads().homes(partition).iter().filter(there).count();
    let r = settings.r.resolve(n).unwrap_or(n).max(n / 2 + 1);
    let r = if planted::on(Bug::ConditionLocal) { 1 } else { r };
    let read = Get {
        key: put.key.clone(),
        r: Some(Level::Count(r as u8)),
        pr: r.min(homes) as u8,
        min: None,
        explain: put.explain,
    };
    get(node, read, deadline).await
}

/// Whether this record shows that an earlier attempt at this put was applied.
fn was_made(record: &Record, put: &Put) -> bool {
    let sum = checksum(&put.content);
    record.sibling_of(put.request).is_some_and(|sibling| sibling.checksum == sum)
        || record.spent().iter().any(|spent| spent.request == put.request && spent.checksum == sum)
}

/// Whether a record is what a writer expects.
fn looks_like(record: &Record, expect: Expect, now_ms: u64) -> bool {
    let tagged = |tag| !record.siblings().is_empty() && record.tag() == tag;
    match expect {
        Expect::Absent => record.values(now_ms).next().is_none(),
        Expect::Present => record.values(now_ms).next().is_some(),
        Expect::Tag(tag) => tagged(tag),
        Expect::NotTag(tag) => !tagged(tag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use gramme_core::{Content, Context, Dot, Incarnation, NodeId, RequestId, Sibling, Stamp};

    fn written(incarnation: u64, content: Content) -> Record {
        let sibling = Sibling {
            dot: Dot::new(Incarnation(incarnation), 1),
            checksum: checksum(&content),
            content,
            stamp: Stamp::from_ms(1),
            request: RequestId(u128::from(incarnation)),
            author: NodeId(1),
            ttl_ms: 0,
            content_type: Bytes::new(),
            meta: Vec::new(),
        };
        Record::new().put(&Context::blind(), sibling)
    }

    #[test]
    fn the_whole_matrix() {
        let value = written(1, Content::Value(Bytes::from_static(b"v")));
        let other = written(2, Content::Value(Bytes::from_static(b"w")));
        let tombstone = written(3, Content::Tombstone);
        let siblings = value.join(&other);
        let stale = 0x5e1f;
        // Absent, present, the current tag, a stale tag, not the current tag, not a stale tag.
        for (record, holds) in [
            (Record::new(), [true, false, false, false, true, true]),
            (tombstone, [true, false, true, false, false, true]),
            (value, [false, true, true, false, false, true]),
            (siblings, [false, true, true, false, false, true]),
        ] {
            let current = record.tag();
            let conditions = [
                Expect::Absent,
                Expect::Present,
                Expect::Tag(current),
                Expect::Tag(stale),
                Expect::NotTag(current),
                Expect::NotTag(stale),
            ];
            assert_eq!(conditions.map(|expect| looks_like(&record, expect, 10)), holds, "{record:?}");
        }
    }

    #[test]
    fn what_has_expired_is_absent() {
        let mut sibling = written(1, Content::Value(Bytes::from_static(b"v"))).siblings()[0].clone();
        sibling.ttl_ms = 5;
        let record = Record::new().put(&Context::blind(), sibling);
        assert!(!looks_like(&record, Expect::Absent, 5));
        assert!(looks_like(&record, Expect::Absent, 100));
    }
}
