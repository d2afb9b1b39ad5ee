//! What a node says of itself. It is identified by its id alone: it may come back under another address.

use super::{Entry, Name};
use crate::codec::{BadBytes, Reader, Writer};
use crate::hlc::Stamp;
use crate::id::NodeId;
use crate::limits::MEMBER_TEXT_BYTES_MAX;
use alloc::string::{String, ToString};

/// One node's facts; the node itself is the only one who changes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFact {
    /// What people call it.
    pub name: String,
    /// Where peers reach it: `host:port`.
    pub address: String,
    /// Where clients reach its HTTP door: `host:port`.
    pub http: String,
    /// What fails together with it.
    pub zone: String,
    /// The release that it runs.
    pub release: String,
    /// What it can do that not every release can: one bit each.
    pub features: u64,
}

impl NodeFact {
    /// The entry that says so, under its name. `life` is 64 random bits of the node's present life: the same id under
    /// another life at one time is a duplicate, and somebody must look.
    pub fn entry(&self, node: NodeId, stamp: Stamp, life: u64) -> (Name, Entry) {
        let mut w = Writer::new();
        for text in [&self.name, &self.address, &self.http, &self.zone, &self.release] {
            w.slice(text.as_bytes());
        }
        w.varint(self.features);
        (Name::Node(node), Entry { stamp, tie: life, bytes: w.into_bytes() })
    }

    /// Reads the bytes of such an entry. What a newer release appends is skipped; a text that is too long, or would
    /// do something to a terminal, makes all of it unreadable.
    pub fn read(entry: &Entry) -> Result<NodeFact, BadBytes> {
        let mut r = Reader::new(&entry.bytes);
        let mut text = || match r.text()? {
            text if text.len() > MEMBER_TEXT_BYTES_MAX || text.chars().any(char::is_control) => {
                Err(BadBytes::Malformed)
            }
            text => Ok(text.to_string()),
        };
        let (name, address, http, zone, release) = (text()?, text()?, text()?, text()?, text()?);
        Ok(NodeFact { name, address, http, zone, release, features: r.varint()? })
    }
}
