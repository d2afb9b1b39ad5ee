//! The frame that is being read: values are slices of it.

use crate::frame::WireError;
use crate::message::{Acks, Life, Standing};
use bytes::Bytes;
use gramme_core::Key;
use gramme_core::codec::{BadBytes, Reader};
use gramme_core::frontier::{Frontier, read_frontier};
use gramme_core::seen::{Seen, read_seen};
/// A reader with the buffer that its slices share.
pub(super) struct Source<'a> {
    pub(super) r: Reader<'a>,
    pub(super) whole: &'a Bytes,
}

impl Source<'_> {
    pub(super) fn u16(&mut self) -> Result<u16, BadBytes> {
        Ok(u16::from_le_bytes([self.r.u8()?, self.r.u8()?]))
    }

    pub(super) fn flag(&mut self) -> Result<bool, BadBytes> {
        match self.r.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(BadBytes::Malformed),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, BadBytes> {
        self.r.bytes_of(self.whole)
    }

    pub(super) fn optional_bytes(&mut self) -> Result<Option<Bytes>, BadBytes> {
        if self.flag()? { self.bytes().map(Some) } else { Ok(None) }
    }

    pub(super) fn key(&mut self) -> Result<Key, WireError> {
        Ok(Key::from_joined(self.bytes()?)?)
    }

    pub(super) fn optional_key(&mut self) -> Result<Option<Key>, WireError> {
        if self.flag()? { self.key().map(Some) } else { Ok(None) }
    }

    pub(super) fn standing(&mut self) -> Result<Standing, BadBytes> {
        Ok(if self.flag()? { Standing::Unproven } else { Standing::Continuous })
    }

    pub(super) fn frontier(&mut self) -> Result<Frontier, BadBytes> {
        read_frontier(&mut self.r)
    }

    pub(super) fn seen(&mut self) -> Result<Seen, BadBytes> {
        read_seen(&mut self.r)
    }

    pub(super) fn life(&mut self) -> Result<Life, BadBytes> {
        Ok(Life { number: self.r.u64()?, standing: self.standing()? })
    }

    pub(super) fn acks(&mut self) -> Result<Acks, BadBytes> {
        Ok(Acks { homes: self.r.u8()?, fallbacks: self.r.u8()? })
    }
}
