//! [`Reconcile`] to bytes and back.

use super::source::Source;
use crate::message::Reconcile;
use crate::outgoing::FrameWriter;
use gramme_core::Stamp;
use gramme_core::codec::BadBytes;
use gramme_core::gossip::{Difference, Line, PARTS, read_entry, write_entry};
use gramme_core::limits::GOSSIP_ENTRIES_MAX;

pub(super) fn tag_of_reconcile(step: &Reconcile) -> u8 {
    match step {
        Reconcile::Digest { .. } => DIGEST,
        Reconcile::Sums { .. } => SUMS,
        Reconcile::Listing { .. } => LISTING,
        Reconcile::Entries(_) => ENTRIES,
    }
}

pub(super) fn write_reconcile(w: &mut FrameWriter<'_>, step: &Reconcile) {
    match step {
        Reconcile::Digest { digest } => w.u64(*digest),
        Reconcile::Sums { sums } => sums.iter().for_each(|&sum| w.u64(sum)),
        Reconcile::Listing { parts, lines } => {
            w.u16(*parts);
            w.varint(lines.len() as u64);
            for line in lines {
                w.u64(line.name);
                w.u64(line.stamp.0);
                w.u32(line.check);
            }
        }
        Reconcile::Entries(Difference { send, want }) => {
            w.varint(want.len() as u64);
            want.iter().for_each(|&name| w.u64(name));
            w.varint(send.len() as u64);
            w.core(|w| send.iter().for_each(|(name, entry)| write_entry(w, name, entry)));
        }
    }
}

/// `None` if the tag is of another message.
pub(super) fn read_reconcile(r: &mut Source<'_>, tag: u8) -> Result<Option<Reconcile>, BadBytes> {
    Ok(Some(match tag {
        DIGEST => Reconcile::Digest { digest: r.r.u64()? },
        SUMS => {
            let mut sums = Box::new([0; PARTS]);
            for sum in sums.iter_mut() {
                *sum = r.r.u64()?;
            }
            Reconcile::Sums { sums }
        }
        LISTING => {
            let parts = r.u16()?;
            let count = r.r.count(GOSSIP_ENTRIES_MAX)?;
            let line = |_| Ok(Line { name: r.r.u64()?, stamp: Stamp(r.r.u64()?), check: r.r.u32()? });
            Reconcile::Listing { parts, lines: (0..count).map(line).collect::<Result<_, BadBytes>>()? }
        }
        ENTRIES => {
            let count = r.r.count(GOSSIP_ENTRIES_MAX)?;
            let want = (0..count).map(|_| r.r.u64()).collect::<Result<_, _>>()?;
            let count = r.r.count(GOSSIP_ENTRIES_MAX)?;
            let send = (0..count).map(|_| read_entry(&mut r.r)).collect::<Result<_, _>>()?;
            Reconcile::Entries(Difference { send, want })
        }
        _ => return Ok(None),
    }))
}

const DIGEST: u8 = 46;
const SUMS: u8 = 47;
const LISTING: u8 = 48;
const ENTRIES: u8 = 49;
