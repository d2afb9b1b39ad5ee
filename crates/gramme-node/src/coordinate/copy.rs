//! One page of everything in a partition, for a backup: whole records of all buckets, tombstones included,
//! joined from a quorum of homes, so that a backup holds what a read at that quorum would have shown.

use crate::coordinate::list::gather_page;
use crate::env::{Env, Mono};
use crate::node::Node;
use crate::request::{Copied, CopyPage};
use gramme_core::Key;
use gramme_core::bucket::Level;
use gramme_core::limits::LIST_PAGE_KEYS_MAX;
use gramme_wire::{Body, Failure, Reason};

/// See the module.
pub(crate) async fn copy<E: Env>(node: &Node<E>, page: CopyPage, deadline: Mono) -> Result<Copied, Failure> {
    let invalid = |what: String| Failure::not_applied(Reason::Invalid(what));
    let need = Level::Quorum.resolve(node.layout().n()).map_err(|e| invalid(e.to_string()))?;
    let keys_max = page.keys_max.clamp(1, LIST_PAGE_KEYS_MAX as u32);
    let body = Body::Copy { after: page.after, keys_max };
    let joined = gather_page(node, page.partition, &body, need, deadline).await?;
    let seen = joined.seen();
    let (records, next_after) = joined.finish(keys_max as usize);
    let entries = records
        .into_iter()
        .map(|(key, record)| Key::from_joined(key).map(|key| (key, record)))
        .collect::<Result<_, _>>()
        .map_err(|bad| invalid(format!("a home sent a key that is none: {bad}")))?;
    Ok(Copied { entries, next_after, seen })
}
