//! Bucket and key as arguments. A key is any bytes; what a shell cannot write is written with `--percent`.

use crate::failure::Failure;
use clap::Args;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// One key of one bucket.
#[derive(Args, Clone, Debug)]
pub(crate) struct KeyArguments {
    /// The bucket; it needs no creation
    pub(crate) bucket: String,
    /// The key
    key: OsString,
    #[command(flatten)]
    notation: Notation,
}

/// How keys are written.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Notation {
    /// Write and read keys percent-encoded, so that any byte can be written: %00, %FF, %25
    #[arg(long)]
    percent: bool,
}

impl KeyArguments {
    /// The key's bytes.
    pub(crate) fn key(&self) -> Vec<u8> {
        self.notation.read(&self.key)
    }

    /// `bucket/key`, as messages name it.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.bucket, readable(&self.key()))
    }

    /// Refuses what no node would take.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        gramme_core::Key::new(&self.bucket, &self.key()).map_err(|bad| Failure::usage(bad.to_string()))?;
        Ok(())
    }
}

impl Notation {
    /// The bytes of a key as it was typed.
    pub(crate) fn read(self, typed: &OsString) -> Vec<u8> {
        match self.percent {
            true => percent_decode(typed.as_bytes()).collect(),
            false => typed.as_bytes().to_vec(),
        }
    }

    /// A key as it is printed for another command to read.
    pub(crate) fn written(self, key: &[u8]) -> Vec<u8> {
        match self.percent {
            true => percent_encode(key, UNPRINTED).to_string().into_bytes(),
            false => key.to_vec(),
        }
    }
}

/// A key for a person's eye.
pub(crate) fn readable(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_string(),
        _ => percent_encode(key, UNPRINTED).to_string(),
    }
}

/// Beyond ASCII everything is encoded anyway.
const UNPRINTED: &AsciiSet = &CONTROLS.add(b'%');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_key_can_be_typed_and_printed() {
        let percent = Notation { percent: true };
        for key in [&b"plain"[..], b"100%", b"\0\xff\n", "ä".as_bytes()] {
            let typed = String::from_utf8(percent.written(key)).unwrap();
            assert_eq!(percent.read(&OsString::from(typed)), key);
        }
        assert_eq!(Notation { percent: false }.read(&OsString::from("100%25")), b"100%25");
    }

    #[test]
    fn names_in_messages_stay_on_one_line() {
        assert_eq!(readable("ärmel".as_bytes()), "ärmel");
        assert_eq!(readable(b"a\nb\xff"), "a%0Ab%FF");
    }
}
