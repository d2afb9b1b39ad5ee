//! What a reader has seen, given back to it as an opaque token, and handed in again with a write: the
//! write then replaces exactly that (the paper, 4.1 and 4.4).
//!
//! A token is bound to its cluster (a 64-bit MAC under the cluster's secret) and to its key. One that is
//! garbled, forged, of another cluster or of another key is refused; it is never taken for "empty", since
//! that would turn an update into a blind write.

use crate::clock::{Clock, Interval};
use crate::codec::{BadBytes, Reader, Writer};
use crate::hlc::Stamp;
use crate::id::{Dot, Incarnation, Key, NodeId, RequestId};
use crate::limits::{CONTEXT_INTERVALS_MAX, SPENT_MAX};
use crate::record::{Record, Sibling, Spent};
use alloc::string::String;
use alloc::vec::Vec;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use core::fmt;
use core::hash::Hasher;
use siphasher::sip::SipHasher24;

/// The cluster's secret, under which contexts are signed.
pub type Secret = [u8; 16];

/// What a reader has seen of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The clock of the merged read.
    pub clock: Clock,
    /// The replica that answered that read fastest; it should coordinate the write (EX-12).
    pub preferred: Option<NodeId>,
    /// The writes whose siblings were shown, so that their late retries are recognised.
    pub requests: Vec<Spent>,
}

impl Context {
    /// A reader who has seen nothing: a blind write.
    pub const fn blind() -> Context {
        Context { clock: Clock::new(), preferred: None, requests: Vec::new() }
    }

    /// The context of a reader who was shown `record`.
    pub fn of(record: &Record, preferred: Option<NodeId>) -> Context {
        let shown = record.siblings().iter().map(|s| s.dot);
        Context { clock: bounded(&record.clock, shown), preferred, requests: record.requests_seen() }
    }

    /// What a writer has seen afterwards: what it had seen before and its own write, *never* the record's
    /// clock, which would cover siblings that it was not shown. The write's own request is among what was
    /// seen: a twin that a retry left elsewhere must not return beside what overwrites it.
    pub fn after_put_of(&self, written: &Sibling, coordinator: NodeId) -> Context {
        let mut clock = self.clock.clone();
        clock.add_dot(written.dot);
        Context {
            clock: bounded(&clock, [written.dot]),
            preferred: Some(coordinator),
            requests: alloc::vec![written.spent()],
        }
    }

    /// The token, for this key under this cluster's secret. URL-safe.
    pub fn to_token(&self, key: &Key, secret: &Secret) -> String {
        let mut w = Writer::new();
        w.u8(VERSION);
        w.u64(key_hash(key));
        w.u64(self.preferred.map_or(0, |node| node.0));
        w.varint(self.clock.intervals().len() as u64);
        for i in self.clock.intervals() {
            w.u64(i.incarnation.0);
            w.varint(i.lo);
            w.varint(i.hi - i.lo);
        }
        w.varint(self.requests.len() as u64);
        for s in &self.requests {
            w.u128(s.request.0);
            w.u64(s.checksum);
            w.u64(s.stamp.0);
        }
        let mac = mac(w.as_slice(), secret);
        w.u64(mac);
        URL_SAFE_NO_PAD.encode(w.as_slice())
    }

    /// Reads a token back for this key.
    pub fn from_token(token: &str, key: &Key, secret: &Secret) -> Result<Context, BadContext> {
        let bytes = URL_SAFE_NO_PAD.decode(token.trim()).map_err(|_| BadContext::Garbled)?;
        let body_len = bytes.len().checked_sub(8).ok_or(BadContext::Garbled)?;
        let (body, signature) = bytes.split_at(body_len);
        if body.first() != Some(&VERSION) {
            return Err(BadContext::Version);
        }
        // One comparison of two numbers, so that its time tells nothing about the signature.
        let signature = Reader::new(signature).u64().map_err(|_| BadContext::Garbled)?;
        if signature != mac(body, secret) {
            return Err(BadContext::Garbled);
        }
        let (context, of_key) = read_body(body).map_err(|_| BadContext::Garbled)?;
        if of_key != key_hash(key) { Err(BadContext::OtherKey) } else { Ok(context) }
    }
}

/// Why a token was refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadContext {
    /// Not a token, cut short, altered, or signed by another cluster.
    Garbled,
    /// A token of a format that this release does not know.
    Version,
    /// A sound token, but of another key.
    OtherKey,
}

impl fmt::Display for BadContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadContext::Garbled => {
                "the context is garbled or was made by another cluster: read the key again and use the context of that answer"
            }
            BadContext::Version => {
                "the context has a format that this release does not know: read the key again and use the context of that answer"
            }
            BadContext::OtherKey => {
                "the context belongs to another key: use the one that came with this key's last read or write"
            }
        })
    }
}

impl core::error::Error for BadContext {}

fn read_body(body: &[u8]) -> Result<(Context, u64), BadBytes> {
    let mut r = Reader::new(body);
    r.u8()?;
    let of_key = r.u64()?;
    let preferred = Some(NodeId(r.u64()?)).filter(|node| node.0 != 0);
    let count = r.count(CONTEXT_INTERVALS_MAX)?;
    let mut intervals = Vec::with_capacity(count);
    for _ in 0..count {
        let incarnation = Incarnation(r.u64()?);
        let lo = r.varint()?;
        let hi = lo.checked_add(r.varint()?).ok_or(BadBytes::Malformed)?;
        intervals.push(Interval { incarnation, lo, hi });
    }
    let count = r.count(SPENT_MAX)?;
    let mut requests = Vec::with_capacity(count);
    for _ in 0..count {
        let (request, checksum, stamp) = (RequestId(r.u128()?), r.u64()?, Stamp(r.u64()?));
        requests.push(Spent { request, checksum, stamp, turn: 0, shown: true });
    }
    r.end()?;
    Ok((Context { clock: Clock::from_intervals(intervals), preferred, requests }, of_key))
}

/// A clock that fits a token. One of too many runs keeps those of the siblings that its reader was shown,
/// or of its own write: a context that says less drops less, and what it leaves behind joins away with the
/// states that overwrote it. Refusing the token would leave the key unwritable for ever.
fn bounded(clock: &Clock, needed: impl IntoIterator<Item = Dot>) -> Clock {
    if clock.intervals().len() <= CONTEXT_INTERVALS_MAX {
        return clock.clone();
    }
    let needed = clock.runs_holding(needed);
    Clock::from_intervals(needed.intervals().iter().take(CONTEXT_INTERVALS_MAX).copied())
}

fn key_hash(key: &Key) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key.as_bytes())
}

fn mac(body: &[u8], secret: &Secret) -> u64 {
    let mut sip = SipHasher24::new_with_key(secret);
    sip.write(body);
    sip.finish()
}

const VERSION: u8 = 1;
